"""The named public datasets of this application."""

from memorycell.signals.omniglot import OMNIGLOT

DATASETS = (OMNIGLOT,)
