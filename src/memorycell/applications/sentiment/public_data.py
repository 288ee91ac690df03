"""The named public datasets of this application."""

from memorycell.application.named_dataset import NamedDataset

DATASETS = (
    NamedDataset(
        "sst",
        "Stanford Sentiment Treebank: sentences of film reviews as trees, every phrase labelled"
        " 0 to 4",
        "research use",
        "R. Socher et al. (2013), Recursive deep models for semantic compositionality, EMNLP",
        paths=("sentiment/sst", "sst"),
    ),
)
