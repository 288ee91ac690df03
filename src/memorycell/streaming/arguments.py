"""Arguments of streams and pools as arrays: inputs and session numbers. Anything else is refused
with a ValueError that names the argument.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from torch import Tensor

from memorycell.errors import quote

FLOAT32, INT64 = np.dtype(np.float32), np.dtype(np.int64)
MAX_SLOTS = 1 << 24
"""Sessions of a pool, which bounds the size of its tables."""


def as_inputs(x: Any) -> np.ndarray:
    """Inputs as contiguous float32: an array, a tensor, or lists of numbers. A number beyond
    float32 becomes infinite.
    """
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        x = x.float().numpy() if not x.is_complex() else x.numpy()
    try:
        array = np.asarray(x)
    except (ValueError, TypeError):  # lists of different lengths
        raise ValueError(f"x: expected numbers in rows of one length, got {quote(x)}") from None
    if array.dtype.kind not in "fiub":
        raise ValueError(f"x: expected numbers, got {array.dtype}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, np.float32)


def as_slots(slots: Any) -> np.ndarray:
    """Session numbers as contiguous int64 [n]; whether they are open is not checked."""
    if isinstance(slots, (list, tuple)) and {bool, np.bool_} & set(map(type, slots)):
        raise ValueError(f"slots: expected whole numbers, got {quote(slots)}")
    try:
        array = np.asarray(slots)
    except (ValueError, TypeError, RuntimeError):
        raise ValueError(f"slots: expected whole numbers, got {quote(slots)}") from None
    if array.ndim == 1 and not array.size:
        return np.zeros(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(
            f"slots: expected whole numbers [n], got {array.dtype} {list(array.shape)}"
        )
    if array.dtype.kind == "u" and int(array.max()) >= MAX_SLOTS:
        raise ValueError(f"slots: {array.max()} is not open")
    return np.ascontiguousarray(array, np.int64)


def as_count(name: str, value: Any, lowest: int, highest: int = MAX_SLOTS) -> int:
    """A whole number in a range."""
    try:
        number = operator.index(value) if not isinstance(value, (bool, np.bool_)) else -1
    except TypeError:
        number = -1
    if not lowest <= number <= highest:
        raise ValueError(f"{name}: expected a whole number {lowest}..{highest}, got {quote(value)}")
    return number


def distinct(slots: np.ndarray) -> bool:
    """Whether no session number is repeated."""
    return len(np.unique(slots)) == len(slots)
