"""Which inputs and states are safe to step with: NaN, infinity and overflow in a live sequence.

A state that is not finite never recovers. `Stream` and `Pool` therefore check every input and
state: a `Stream` of layers in the engine, see `finite_step`; others at the cost of one dot product:
x·x is below the stepper's `safe_limit` for ordinary inputs. Otherwise the inputs and the states
after the step are checked value by value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy import vdot

from memorycell.errors import DataError, StateError
from memorycell.state import State
from memorycell.streaming.stepping import Bounded, LayerStepper, Stepper

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
    bounded = isinstance(stepper, Bounded) and stepper.bounded
    return np.float32(SAFE_NORM**2) if bounded else UNKNOWN


StepFinite = Callable[[np.ndarray, int, np.ndarray], tuple[np.ndarray, int]]


def finite_step(stepper: Stepper, *, large: bool = False) -> StepFinite:
    """`Stepper.step_one` for inputs that may not be finite and states that may overflow: (y, row of
    the new state). The row is negative if an input or a new state is NaN or infinite; the state in
    the old row is then unchanged, and others may have been overwritten.

    large   whether the state may be beyond `SAFE_NORM`
    """
    if isinstance(stepper, LayerStepper):
        return stepper.step_finite
    limit = UNKNOWN if large else safe_limit(stepper)

    def step(ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        squares = vdot(x, x)
        if squares < limit:
            return stepper.step_one(ring, row, x)
        if not (squares < INFINITY or np.isfinite(x).all()):
            return x, -1
        before = ring[row].copy()
        y, after = stepper.step_one(ring, row, x)
        # In several steps the state may overflow and recover. A head may give NaN by itself.
        if all_finite(ring[after]) and (all_finite(y) or (x.ndim == 1 and not np.isnan(y).any())):
            return y, after
        ring[row] = before
        return y, -1

    return step


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
