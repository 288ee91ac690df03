"""Small drawings to train on."""

from signal_data import *  # noqa: F403
