"""From when a text is unlike those that a language model was trained on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from memorycell.errors import ModelFileError

LIMITS = "limits"
"""The array of a model file: the largest nats per token of a likely text [1] float32."""
WINDOW = 50
"""Tokens of the validation texts that the limit is fitted on."""
MIN_TOKENS = 20
"""Of a text that is judged."""
UNSURE_SHARE = 0.02
"""Of the validation texts' windows."""


def fit_limit(nats: np.ndarray) -> tuple[dict[str, Tensor], str]:
    """(the array of a model file, a note) from the nats [N] of the validation split's tokens."""
    windows = nats[: len(nats) // WINDOW * WINDOW].reshape(-1, WINDOW).mean(1)
    if not len(windows):
        return {}, "too short a validation split to say when a text is unlike the training text"
    limit = float(np.quantile(windows, 1 - UNSURE_SHARE))
    note = (
        f"unsure above {limit:.2f} nats per token: {UNSURE_SHARE:.0%} of the validation split, in"
        f" parts of {WINDOW} tokens"
    )
    return {LIMITS: torch.tensor([limit])}, note


def is_unsure(arrays: Mapping[str, Tensor], nats: np.ndarray) -> bool:
    """Whether a text with these nats per token [T] is unlike the training text; not where it is
    short. Raises `ModelFileError`.
    """
    if LIMITS not in arrays or len(nats) < MIN_TOKENS:
        return False
    if arrays[LIMITS].shape != (1,):
        raise ModelFileError("the limits of the model are damaged; copy the file again")
    return float(nats.mean()) > float(arrays[LIMITS])
