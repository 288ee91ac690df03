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
    NamedDataset(
        "chorales",
        "402 chorales by J. S. Bach as scores of four voices: rhythm, metre, key and fermatas",
        "public domain music; encodings of the music21 corpus, free for research and teaching",
        "M. S. Cuthbert & C. Ariza (2010), music21, ISMIR; encoded by M. Greentree and others",
        package=("music21", "corpus/bach", "music21"),
        settings={"view": "score"},
    ),
    NamedDataset(
        "essen",
        "7,953 folk songs of one voice, most of them German and Chinese, a phrase per line",
        "free for research and teaching, see license.txt in its folder",
        "H. Schaffrath (1995), The Essen Folksong Collection, ed. D. Huron",
        package=("music21", "corpus/essenFolksong", "music21"),
        # About 7% of the tunes have no single metre, or bars that do not fit it.
        settings={"view": "score", "lossy": True},
    ),
)
