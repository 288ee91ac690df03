"""Omniglot, which handwriting and drawing both use."""

from memorycell.application.named_dataset import NamedDataset

OMNIGLOT = NamedDataset(
    "omniglot",
    "pen strokes of 136 characters of five alphabets, by 20 writers; writers 16 to 20 are the test"
    " split",
    "MIT",
    "B. Lake, R. Salakhutdinov & J. Tenenbaum (2015), Human-level concept learning, Science 350",
    paths=("handwriting/omniglot-strokes-small1.zip", "omniglot-strokes-small1.zip"),
    settings={"held_out": "writer>15", "checked": "writer=15"},
)
