"""What a session's snapshot holds besides the state of its layers, checked when it is restored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from memorycell.errors import StateError
from memorycell.setting_fields import from_json

T = TypeVar("T")
MAX_TOTAL_ERROR = 1e-2
"""Of the sum of saved probabilities."""


def read_extra(
    kind: type[T], extra: Mapping[str, Any], task: str, vocabulary: int | None = None
) -> T:
    """The JSON values of a snapshot as a dataclass value; those under "log_p" are checked to be the
    log-probabilities of a vocabulary of this size, where it is given. Raises `StateError`.
    """
    try:
        saved = from_json(kind, extra)
        if vocabulary is not None:
            _check_log_p(extra["log_p"], vocabulary)
    except ValueError as error:
        raise StateError(f"not the state of a {task} session ({error}); start without it") from None
    return saved


def _check_log_p(log_p: Sequence[float], size: int) -> None:
    """Raises ValueError."""
    values = np.array(log_p, np.float64)
    if len(values) != size:
        raise ValueError(f"log_p: expected {size:,} values, got {len(values):,}")
    if not np.isfinite(values).all() or values.max() > MAX_TOTAL_ERROR:
        raise ValueError("log_p: expected finite values, none above 0")
    if abs(np.exp(values).sum() - 1) > MAX_TOTAL_ERROR:
        raise ValueError("log_p: the probabilities do not add up to 1")
