"""The public dataset of drawing."""

from memorycell.signals.omniglot import OMNIGLOT

DATASETS = (OMNIGLOT,)
