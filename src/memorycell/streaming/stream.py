"""Stream: one live sequence, one step at a time, in constant memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn

from memorycell.errors import StateError
from memorycell.files import write_atomically
from memorycell.state import State, fingerprint, read_state_file
from memorycell.streaming.stepping import Stepper, WeightGuard, stepper


class Stream:
    """Runs a layer or a model live: `y = stream.step(x)`, with a state that can be read, set, saved
    and forked.

    module      a memorycell layer or a `Model`, put into evaluation mode. Its weights are packed
                once: changes take effect after `refresh()`, and steps are refused while it trains
    precision   of the products: "float32", "bfloat16" or "int8"; states, sums and gates are float32
    history     number of steps that `rewind` can undo

    Steps give the same outputs as the full sequence. Raises ValueError for a bidirectional layer.
    """

    def __init__(self, module: nn.Module, precision: str = "float32", *, history: int = 16) -> None:
        self.module = module
        self.stepper: Stepper = stepper(module, precision)
        self._guard = WeightGuard(module)
        self._start(history)

    def refresh(self) -> None:
        """Pack the module's current weights, in evaluation mode; the state is kept."""
        self.stepper = stepper(self.module, self.stepper.precision)
        self._guard = WeightGuard(self.module)
        self._step_one = self.stepper.step_one

    def _start(self, history: int) -> None:
        self._ring = np.zeros((history + 1, self.stepper.layout.width), np.float32)
        self._row = 0
        self._steps = 0
        self._step_one = self.stepper.step_one
        self._width = self.stepper.input_size

    @overload
    def step(self, x: Tensor) -> Tensor: ...

    @overload
    def step(self, x: np.ndarray | Sequence[float]) -> np.ndarray: ...

    def step(self, x: Any) -> Any:
        """One step, x [I] -> y [H], or several at once, x [T, I] -> y [T, H], with equal outputs.

        A tensor gives a tensor, an array or a list an array; float32. For a model, y is the output
        of its forward at each step. Raises ValueError for another shape, and RuntimeError if the
        module was in training mode after its weights were packed; see `refresh`.
        """
        self._guard.check()
        if isinstance(x, Tensor):
            if x.requires_grad or x.dtype is not torch.float32 or not x.is_cpu:
                x = x.detach().to("cpu", torch.float32)
            return torch.from_numpy(self.step(x.numpy()))
        x = np.ascontiguousarray(x, np.float32)
        shape = x.shape
        if len(shape) > 2 or shape[-1] != self._width or shape[0] == 0:
            raise ValueError(
                f"x: expected [{self._width}] or [T, {self._width}], got {list(shape)}"
            )
        y, self._row = self._step_one(self._ring, self._row, x)
        self._steps += 1 if len(shape) == 1 else shape[0]
        return y

    @property
    def row(self) -> np.ndarray:
        """The state as a row of floats [1, width] in the stepper's layout; a view that the next
        steps overwrite.
        """
        return self._ring[self._row : self._row + 1]

    @property
    def state(self) -> State:
        """A copy of the current state. Setting it raises `StateError` for another shape."""
        return self.stepper.layout.state(self.row)

    @state.setter
    def state(self, state: Sequence[Tensor]) -> None:
        rows = self.stepper.layout.rows(state)
        if len(rows) != 1:
            raise StateError(
                f"state: expected one sequence, got {len(rows)}; use state.select([k])"
            )
        self._ring[self._row], self._steps = rows[0], 0

    def reset(self) -> None:
        """Begin a new sequence: zero the state and clear the history."""
        self._ring[self._row], self._steps = 0, 0

    def rewind(self, n: int = 1) -> None:
        """Undo the last n steps. Raises ValueError beyond the history, which setting the state
        clears.
        """
        available = min(self._steps, len(self._ring) - 1)
        if not 0 <= n <= available:
            raise ValueError(
                f"rewind: expected 0..{available} steps, got {n}; keep more with history={n}"
            )
        self._row, self._steps = (self._row - n) % len(self._ring), available - n

    def fork(self) -> Stream:
        """An independent stream with the same state and history; the packed weights are shared."""
        other = object.__new__(type(self))
        other.module, other.stepper, other._guard = self.module, self.stepper, self._guard
        other._start(len(self._ring) - 1)
        other._ring[...], other._row, other._steps = self._ring, self._row, self._steps
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
