"""The named public datasets of this application."""

from memorycell.application.datasets import NamedDataset

DATASETS = (
    NamedDataset(
        "jsb",
        "382 chorales by J. S. Bach, a frame a quarter note; 229 to train on, 76 and 77 held out",
        "public domain music",
        "N. Boulanger-Lewandowski et al. (2012), arXiv:1206.6392; C. Huang, JSB-Chorales-dataset",
        paths=("music/jsb-chorales-quarter.json", "jsb-chorales-quarter.json"),
    ),
    NamedDataset(
        "jsb-16th",
        "the same chorales, a frame a sixteenth note",
        "public domain music",
        "N. Boulanger-Lewandowski et al. (2012), arXiv:1206.6392; C. Huang, JSB-Chorales-dataset",
        paths=("music/jsb-chorales-16th.json", "jsb-chorales-16th.json"),
        settings={"frames": 4},
    ),
)
