"""The public datasets of music."""

from memorycell.application.named_dataset import NamedDataset

DATASETS = (
    NamedDataset(
        "jsb",
        "382 chorales by J. S. Bach, one frame per quarter note; 229 for training, 76 for"
        " validation, 77 for testing",
        "public domain music",
        "N. Boulanger-Lewandowski et al. (2012), arXiv:1206.6392; C. Huang, JSB-Chorales-dataset",
        paths=("music/jsb-chorales-quarter.json", "jsb-chorales-quarter.json"),
    ),
    NamedDataset(
        "jsb-16th",
        "the same chorales, one frame per sixteenth note",
        "public domain music",
        "N. Boulanger-Lewandowski et al. (2012), arXiv:1206.6392; C. Huang, JSB-Chorales-dataset",
        paths=("music/jsb-chorales-16th.json", "jsb-chorales-16th.json"),
        settings={"frames": 4},
    ),
)
