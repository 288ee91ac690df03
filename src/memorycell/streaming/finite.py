"""Which inputs and states are safe to step with: NaN, infinity and overflow in a live sequence.

A state that is not finite never recovers. `Stream` and `Pool` therefore check every input, at the
cost of one dot product: x·x is below the stepper's `safe_limit` for ordinary inputs. Otherwise the
input and the state after the step are checked value by value.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy import vdot

from memorycell.errors import DataError, StateError
from memorycell.state import State
from memorycell.streaming.stepping import LayerStepper, Stepper

OnNonfinite = Literal["raise", "skip", "reset"]
"""What happens to a step whose input has NaN or infinity, or whose state overflows: it is refused,
left out, or left out and the state is zero afterwards.
"""
ADVICE = "on_nonfinite='skip' leaves such steps out"
SAFE_NORM = 1e9
"""A bounded layer with inputs up to this norm, and states up to this magnitude, cannot overflow."""

INFINITY = np.float32(np.inf)
UNKNOWN = np.float32(0)
"""A limit that no input is below."""


class NonFiniteError(DataError, ValueError):
    """A step was refused: its input has NaN or infinity, or its state overflows."""


def check_policy(on_nonfinite: str) -> None:
    """Raises ValueError for another value than those of `OnNonfinite`."""
    if on_nonfinite not in get_args(OnNonfinite):
        raise ValueError(
            f"on_nonfinite: expected one of {', '.join(get_args(OnNonfinite))}, got"
            f" {on_nonfinite!r}"
        )


def safe_limit(stepper: Stepper) -> np.float32:
    """The x·x below which a step of finite states up to `SAFE_NORM` cannot overflow; 0 where that
    is not known. Float32, since numpy compares equal types fastest.
    """
    bounded = isinstance(stepper, LayerStepper) and stepper.bounded
    return np.float32(SAFE_NORM**2) if bounded else UNKNOWN


def all_finite(values: np.ndarray) -> bool:
    """Whether no value is NaN or infinite."""
    # The dot product is quick. It also overflows for finite values above 1e19.
    return bool(vdot(values, values) < INFINITY or np.isfinite(values).all())


def check_states(rows: np.ndarray) -> bool:
    """Whether states to be set are at most `SAFE_NORM`. Raises `StateError` for NaN and
    infinity.
    """
    if not all_finite(rows):
        raise StateError("state: NaN or infinity; start a new state")
    return bool(np.abs(rows).max(initial=0.0) <= SAFE_NORM)


def check_bounded(state: State) -> None:
    """Raises `StateError` for values beyond `SAFE_NORM`, which no model with bounded inputs has."""
    if any(float(tensor.abs().max()) > SAFE_NORM for tensor in state if tensor.numel()):
        raise StateError(f"state: values beyond {SAFE_NORM:g}; start a new state")


def describe(x: np.ndarray) -> str:
    """What is wrong with the input [I] of a refused step."""
    wrong = np.flatnonzero(~np.isfinite(x))
    if len(wrong):
        return f"x[{wrong[0]}] is {x[wrong[0]]}, not a finite float32"
    largest: Any = np.abs(x).max()
    return f"the state overflows; the largest input is {largest:.3g}"
