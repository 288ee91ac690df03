"""Stream: one live sequence, one step at a time, in constant memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy import ascontiguousarray, ndarray
from torch import Tensor, nn

from memorycell.errors import StateError
from memorycell.files import write_atomically
from memorycell.state import State, fingerprint, read_state_file
from memorycell.streaming.arguments import FLOAT32, as_count, as_inputs
from memorycell.streaming.finite import (
    ADVICE,
    NonFiniteError,
    OnNonfinite,
    check_policy,
    check_states,
    describe,
    finite_step,
)
from memorycell.streaming.stepping import Stepper, WeightGuard, stepper

MAX_HISTORY = 1 << 24


class Stream:
    """Runs a layer or a model live: `y = stream.step(x)`, with a state that can be read, set, saved
    and forked.

    module          a memorycell layer or a `Model`, put into evaluation mode. Its weights are
                    packed once: changes take effect after `refresh()`, and steps are refused while
                    it trains
    precision       of the products: "float32", "bfloat16" or "int8"; states, sums and gates are
                    float32
    history         number of steps that `rewind` can undo
    on_nonfinite    for a step whose input has NaN or infinity, or whose state overflows: "raise"
                    refuses it, "skip" leaves it out, "reset" leaves it out and begins a new
                    sequence. The state is never NaN or infinite; a step left out gives NaN

    nonfinite_steps counts the steps left out. Steps give the same outputs as the full sequence.
    Raises ValueError for a bidirectional layer.
    """

    def __init__(
        self,
        module: nn.Module,
        precision: str = "float32",
        *,
        history: int = 16,
        on_nonfinite: OnNonfinite = "raise",
    ) -> None:
        check_policy(on_nonfinite)
        as_count("history", history, 0, MAX_HISTORY)
        self.module = module
        self.on_nonfinite = on_nonfinite
        self.stepper: Stepper = stepper(module, precision)
        self._guard = WeightGuard(module)
        self._start(history)

    def refresh(self) -> None:
        """Pack the module's current weights, in evaluation mode; the state is kept."""
        self.stepper = stepper(self.module, self.stepper.precision)
        self._guard = WeightGuard(self.module)
        self._step_finite = finite_step(self.stepper, large=not check_states(self.row))

    def _start(self, history: int) -> None:
        self._ring = np.zeros((history + 1, self.stepper.layout.width), np.float32)
        self._row = 0
        self._steps = 0  # since the state was set
        self._oldest = 0  # the number of steps after which the history begins
        self.nonfinite_steps = 0
        self._step_finite = finite_step(self.stepper)
        self._shape = (self.stepper.input_size,)

    @overload
    def step(self, x: Tensor) -> Tensor: ...

    @overload
    def step(self, x: np.ndarray | Sequence[float]) -> np.ndarray: ...

    def step(self, x: Any) -> Any:
        """One step, x [I] -> y [H], or several at once, x [T, I] -> y [T, H], with equal outputs.

        A tensor gives a tensor, an array or a list an array; float32. For a model, y is the output
        of its forward at each step. Raises ValueError for another shape or type, `NonFiniteError`
        (a ValueError) for NaN and infinity, see `on_nonfinite`, and RuntimeError if the module was
        in training mode after its weights were packed, see `refresh`. The state is then unchanged.
        """
        self._guard.check()
        if type(x) is ndarray and x.dtype is FLOAT32:
            x = ascontiguousarray(x)
        elif isinstance(x, Tensor):
            plain = x.dtype is torch.float32 and x.is_cpu and not x.requires_grad
            return torch.from_numpy(self.step(x.numpy() if plain else as_inputs(x)))
        else:
            x = as_inputs(x)
        shape = x.shape
        if shape == self._shape:
            count = 1
        elif len(shape) == 2 and shape[1] == self._shape[0] and shape[0]:
            count = shape[0]
        else:
            raise ValueError(
                f"x: expected [{self._shape[0]}] or [T, {self._shape[0]}], got {list(shape)}"
            )
        y, row = self._step_finite(self._ring, self._row, x)
        if row < 0:
            return self._step_each(x)
        self._row = row
        self._steps += count
        return y

    def _step_each(self, x: np.ndarray) -> np.ndarray:
        """`step` where an input is not finite or a state overflows: step by step."""
        start, row, before = self._steps, self._row, self._ring[self._row].copy()
        steps = x.reshape(-1, *self._shape)
        self._forget(len(steps))
        outputs: list[np.ndarray | None] = []
        for step in steps:
            y, after = self._step_finite(self._ring, self._row, step)
            outputs.append(y if after >= 0 else None)
            if after >= 0:
                self._row, self._steps = after, self._steps + 1
            elif self.on_nonfinite == "raise":
                number, self._steps = self._steps + 1, start
                self._row, self._ring[row] = row, before
                self._forget(len(steps))
                raise NonFiniteError(f"x: step {number}: {describe(step)}; {ADVICE}")
            elif self.on_nonfinite == "reset":
                self.reset()
        missing = self._missing_output()
        self.nonfinite_steps += sum(y is None for y in outputs)
        y = np.stack([missing if y is None else y for y in outputs])
        return y if x.ndim == 2 else y[0]

    def _forget(self, count: int) -> None:
        """Shorten the history by what `count` steps that were not taken may have overwritten."""
        kept = max(0, len(self._ring) - 1 - count)
        self._oldest = max(self._oldest, self._steps - kept)

    def _missing_output(self) -> np.ndarray:
        """The output of a step that was left out: NaN."""
        ring = np.zeros((1, self.stepper.layout.width), np.float32)
        y, _ = self.stepper.step_one(ring, 0, np.zeros(self._shape, np.float32))
        return np.full_like(y, np.nan)

    @property
    def row(self) -> np.ndarray:
        """The state as a row of floats [1, width] in the stepper's layout; a view that the next
        steps overwrite.
        """
        return self._ring[self._row : self._row + 1]

    @property
    def state(self) -> State:
        """A copy of the current state. Setting it raises `StateError` for another shape, and for
        NaN and infinity.
        """
        return self.stepper.layout.state(self.row)

    @state.setter
    def state(self, state: Sequence[Tensor]) -> None:
        rows = self.stepper.layout.rows(state)
        if len(rows) != 1:
            raise StateError(
                f"state: expected one sequence, got {len(rows)}; use state.select([k])"
            )
        self._step_finite = finite_step(self.stepper, large=not check_states(rows))
        self._ring[self._row], self._steps, self._oldest = rows[0], 0, 0

    def advance(self, row: np.ndarray) -> None:
        """Take a step that was computed elsewhere from `row`: the state is then the given row
        [width], which is finite.
        """
        self._row = (self._row + 1) % len(self._ring)
        self._ring[self._row] = row
        self._steps += 1

    def reset(self) -> None:
        """Begin a new sequence: zero the state and clear the history."""
        self._ring[self._row], self._steps, self._oldest = 0, 0, 0
        self._step_finite = finite_step(self.stepper)

    def rewind(self, n: int = 1) -> None:
        """Undo the last n steps. Raises ValueError beyond the history, which setting the state
        clears.
        """
        available = min(self._steps - self._oldest, len(self._ring) - 1)
        n = as_count("rewind", n, 0, MAX_HISTORY)
        if n > available:
            raise ValueError(
                f"rewind: expected 0..{available} steps, got {n}; keep more with history={n}"
            )
        self._row, self._steps = (self._row - n) % len(self._ring), self._steps - n
        self._oldest = self._steps - (available - n)

    def fork(self) -> Stream:
        """An independent stream with the same state and history; the packed weights are shared."""
        other = object.__new__(type(self))
        other.module, other.stepper, other._guard = self.module, self.stepper, self._guard
        other.on_nonfinite = self.on_nonfinite
        other._start(len(self._ring) - 1)
        other._ring[...], other._row = self._ring, self._row
        other._steps, other._oldest = self._steps, self._oldest
        other._step_finite = self._step_finite
        return other

    def snapshot(self, **extra: Any) -> bytes:
        """The state and JSON values, as bytes for `restore` on a stream of the same weights and
        precision. The history is not included.
        """
        return self.state.to_bytes(fingerprint=self.fingerprint, extra=extra)

    def restore(self, data: bytes) -> dict[str, Any]:
        """Set the state to that of a snapshot and return the JSON values stored with it.

        Raises `StateError` for damaged bytes and for other weights or another precision; the stream
        is then unchanged.
        """
        self.state, extra = State.from_bytes(data, fingerprint=self.fingerprint)
        return extra

    def save(self, path: str | Path, **extra: Any) -> None:
        """Write a snapshot to a file, atomically. Raises `UserError`."""
        write_atomically(Path(path), self.snapshot(**extra))

    def load(self, path: str | Path) -> dict[str, Any]:
        """Restore the snapshot in a file and return the JSON values stored with it. Raises
        `StateError`; the stream is then unchanged.
        """
        try:
            return self.restore(read_state_file(path))
        except StateError as error:
            raise StateError(f"{path}: {error}") from None

    @property
    def fingerprint(self) -> str:
        """Identifies the weights and the precision that a saved state belongs to."""
        return fingerprint(self.module, self.stepper.precision)
