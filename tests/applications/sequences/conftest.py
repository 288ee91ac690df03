"""Small labelled sequences to train on."""

from sequence_data import *  # noqa: F403
