"""The fixtures that several applications of texts use."""

from text_data import *  # noqa: F403
