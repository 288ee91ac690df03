"""The fixtures that several applications of signals use."""

from signal_data import *  # noqa: F403
