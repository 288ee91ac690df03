"""The named public datasets of this application."""

from memorycell.application.named_dataset import NamedDataset

DATASETS = (
    NamedDataset(
        "tinyshakespeare",
        "1.1 million characters of Shakespeare's plays",
        "public domain",
        "A. Karpathy (2015), char-rnn",
        paths=("text/tinyshakespeare.txt", "tinyshakespeare.txt"),
    ),
)
