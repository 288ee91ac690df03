"""Pool: many live sequences of one model, stepped together, in one block of memory and on disk.

A session is identified by a number, its slot. Its state is a row of `Pool.width` float32 values. A
pool takes

    4 · width + 24 bytes     per session that the block has room for; the block grows in place, by
                             doubling
    16 bytes                 more per slot with a spill folder; a spilled session takes these and 16
                             of the 24

and at most 12 MB temporarily while sessions are spilled or read back. `Pool.nbytes` is the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np
import torch
from torch import Tensor, nn

from memorycell.errors import StateError
from memorycell.state import State, fingerprint
from memorycell.streaming.arguments import FLOAT32, as_count, as_inputs, as_slots, distinct
from memorycell.streaming.finite import (
    ADVICE,
    INFINITY,
    NonFiniteError,
    OnNonfinite,
    all_finite,
    check_policy,
    describe,
    safe_limit,
)
from memorycell.streaming.sessions import Sessions
from memorycell.streaming.spill import SpillFolder
from memorycell.streaming.stepping import Stepper, WeightGuard, stepper


class Pool:
    """Live sequences of a layer or a model: `slot = pool.open()`, `y = pool.step(slots, x)`,
    `pool.close(slot)`.

    module          a memorycell layer or a `Model`; its weights are packed once: changes take
                    effect after `refresh()`, and steps are refused while it trains
    capacity        initial number of sessions the block has room for
    precision       of the products: "float32", "bfloat16" or "int8"
    spill           a folder for the states of idle sessions. The sessions it already contains are
                    open under their old slots
    resident        largest number of sessions in memory, with a folder: the sessions idle longest
                    are spilled automatically
    on_nonfinite    for a session whose input has NaN or infinity, or whose state overflows: "raise"
                    refuses the call, "skip" leaves the session out, "reset" leaves it out and
                    zeroes its state. A session left out gives NaN; `nonfinite_steps` counts them

    On the native engine, stepping a session is bitwise equal to a `Stream` of the same precision,
    for any set of sessions in the call. As a context manager, a pool with a folder is shut down at
    the end. Not thread-safe.
    """

    def __init__(
        self,
        module: nn.Module,
        capacity: int = 64,
        precision: str = "float32",
        *,
        spill: str | Path | None = None,
        resident: int | None = None,
        on_nonfinite: OnNonfinite = "raise",
    ) -> None:
        check_policy(on_nonfinite)
        as_count("capacity", capacity, 1)
        if resident is not None and (as_count("resident", resident, 1) and spill is None):
            raise ValueError(f"resident: expected a folder to spill to, got resident={resident}")
        self.on_nonfinite, self.nonfinite_steps = on_nonfinite, 0
        self.module = module
        self.stepper: Stepper = stepper(module, precision)
        self._guard, self._limit = WeightGuard(module), safe_limit(self.stepper)
        self.width = self.stepper.layout.width
        self._calls = 0
        self._folder: SpillFolder | None = None
        if spill is not None:
            self._folder = SpillFolder(Path(spill), self.fingerprint, self.width)
        self._sessions = Sessions(self.width, capacity, resident, self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        """Shut the pool down if it has a folder; the sessions of a pool without one end."""
        if self._folder is not None and self._folder.held:
            self.shutdown()

    def refresh(self) -> None:
        """Pack the module's current weights, in evaluation mode; the states are kept."""
        self._check_usable()
        self.stepper = stepper(self.module, self.stepper.precision)
        self._guard, self._limit = WeightGuard(self.module), safe_limit(self.stepper)

    def adopt(self, other: Pool) -> None:
        """Continue all sessions with the weights of another pool, whose states have the same
        layout. Raises ValueError for another one.
        """
        self._check_usable()
        if self.stepper.layout.sizes != other.stepper.layout.sizes:
            raise ValueError("adopt: expected a model with the same layout of its state")
        self.module, self.stepper = other.module, other.stepper
        self._guard, self._limit = other._guard, other._limit

    def __len__(self) -> int:
        return len(self.slots)

    def __contains__(self, slot: object) -> bool:
        self._check_usable()
        if not isinstance(slot, (int, np.integer)) or isinstance(slot, bool):
            return False
        return int(slot) in self._sessions

    @property
    def slots(self) -> np.ndarray:
        """The open sessions, [n] int64."""
        self._check_usable()
        return self._sessions.slots

    @property
    def nbytes(self) -> int:
        """Bytes of memory of the states and their bookkeeping."""
        self._check_usable()
        return self._sessions.nbytes

    @property
    def fingerprint(self) -> str:
        """Identifies the weights and the precision that a saved state belongs to."""
        return fingerprint(self.module, self.stepper.precision)

    # ---- sessions --------------------------------------------------------------------------------

    def open(self, state: State | None = None) -> int:
        """Open a session with a zero state or the given state of one sequence; returns its slot."""
        self._check_usable()
        if state is None:
            return int(self._sessions.open(1)[0])
        rows = self.stepper.layout.rows(state)
        if len(rows) != 1:
            raise StateError(
                f"state: expected one sequence, got {len(rows)}; use state.select([k])"
            )
        return int(self._sessions.open(1, rows)[0])

    def open_many(self, count: int) -> np.ndarray:
        """Open `count` sessions with zero states; returns their slots [count] int64."""
        self._check_usable()
        return self._sessions.open(as_count("count", count, 0))

    def fork(self, slot: int) -> int:
        """Open a session with a copy of another's state."""
        return self.open(self.state([slot]))

    def close(self, slot: int) -> None:
        """End a session; its slot may be reused."""
        self._check_usable()
        slots = as_slots([slot])
        self._sessions.check(slots)
        self._sessions.close(int(slots[0]))

    def step(self, slots: Sequence[int] | np.ndarray, x: Any) -> Any:
        """One step of the given sessions, each at most once: x [n, I] -> y [n, ...]; a tensor gives
        a tensor.

        Raises ValueError for a closed or repeated slot and for another shape or type of x,
        `NonFiniteError` (a ValueError) for NaN and infinity, see `on_nonfinite`, and RuntimeError
        if the module was in training mode after its weights were packed, see `refresh`; the
        sessions are then unchanged.
        """
        self._check_usable()
        self._guard.check()
        if isinstance(x, Tensor):
            return torch.from_numpy(self.step(slots, as_inputs(x)))
        slots = as_slots(slots)
        if type(x) is np.ndarray and x.dtype is FLOAT32:
            x = np.ascontiguousarray(x)
        else:
            x = as_inputs(x)
        if x.shape != (len(slots), self.stepper.input_size):
            raise ValueError(
                f"x: expected [{len(slots)}, {self.stepper.input_size}], got {list(x.shape)}"
            )
        sessions = self._sessions
        try:
            rows = sessions.rows(slots)
            squares = np.vdot(x, x)
            if squares < self._limit and not sessions.large:
                y = self.stepper.step_many(sessions.block, rows, x)
            else:
                finite = squares < INFINITY or all_finite(x)
                y = self._step_checked(slots, rows, x, finite=finite)
        except (IndexError, ValueError) as error:
            if not isinstance(error, NonFiniteError):
                sessions.check(slots)  # an error in terms of slots, not rows
                if not distinct(slots):
                    raise ValueError("slots: expected each slot at most once") from None
            raise
        self._calls += 1
        return y

    def _step_checked(
        self, slots: np.ndarray, rows: np.ndarray, x: np.ndarray, *, finite: bool
    ) -> np.ndarray:
        """`step` for inputs that may not be finite and states that may overflow."""
        block = self._sessions.block
        if finite:
            before, stepped = block.take(rows, 0), np.arange(len(rows))
            y = self.stepper.step_many(block, rows, x)
            if all_finite(block.take(rows, 0)):
                return y
            left_out = np.zeros(len(rows), bool)
        else:
            self._sessions.check(slots)
            if not distinct(slots):
                raise ValueError("slots: expected each slot at most once")
            left_out = ~np.isfinite(x).all(1)
            if self.on_nonfinite == "raise":
                self._refuse(slots, x, left_out)
            before, stepped = block[rows], np.flatnonzero(~left_out)
            y = self._step_rows(rows[stepped], x[stepped])
        left_out[stepped] = ~np.isfinite(block[rows[stepped]]).all(1)
        if self.on_nonfinite == "raise":
            block[rows] = before
            self._refuse(slots, x, left_out)
        block[rows[left_out]] = 0 if self.on_nonfinite == "reset" else before[left_out]
        self.nonfinite_steps += int(left_out.sum())
        result = np.full((len(rows), *y.shape[1:]), np.nan, np.float32)
        result[stepped] = y
        result[left_out] = np.nan
        return result

    def _step_rows(self, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """`Stepper.step_many` for any number of rows, also none."""
        if len(rows):
            return self.stepper.step_many(self._sessions.block, rows, x)
        nobody = np.zeros((1, self.width), np.float32)
        zeros = np.zeros((1, self.stepper.input_size), np.float32)
        return self.stepper.step_many(nobody, np.zeros(1, np.int64), zeros)[:0]

    def _refuse(self, slots: np.ndarray, x: np.ndarray, wrong: np.ndarray) -> NoReturn:
        k = int(wrong.argmax())
        raise NonFiniteError(
            f"x: step {self._calls + 1} of the pool, session {slots[k]}: {describe(x[k])}; {ADVICE}"
        )

    def state(self, slots: Sequence[int] | np.ndarray) -> State:
        """A copy of the states of sessions, batched in that order."""
        self._check_usable()
        return self.stepper.layout.state(self._sessions.states(as_slots(slots)))

    def set_state(self, slots: Sequence[int] | np.ndarray, state: State) -> None:
        """Set the states of sessions from a batch. Raises `StateError` for another shape, and for
        NaN and infinity; the sessions are then unchanged.
        """
        self._check_usable()
        slots = as_slots(slots)
        rows = self.stepper.layout.rows(state)
        self._sessions.check(slots)
        if len(rows) != len(slots):
            raise StateError(f"state: expected {len(slots)} sequences, got {len(rows)}")
        if not distinct(slots):
            raise ValueError("slots: expected each slot at most once")
        self._sessions.set_states(slots, rows)

    def rows(self, slots: Sequence[int] | np.ndarray) -> np.ndarray:
        """A copy of the states of sessions as rows [n, width] in the stepper's layout."""
        self._check_usable()
        return self._sessions.states(as_slots(slots))

    def set_rows(self, slots: Sequence[int] | np.ndarray, rows: np.ndarray) -> None:
        """Set the states of different sessions from rows [n, width] float32. Raises `StateError`
        for NaN and infinity.
        """
        self._check_usable()
        self._sessions.set_states(as_slots(slots), rows)

    # ---- files -----------------------------------------------------------------------------------

    def save(self, path: str | Path, slots: Sequence[int] | None = None) -> None:
        """Write the states of the given sessions, or of all, to one file."""
        chosen = self.slots if slots is None else as_slots(slots)
        if not len(chosen):
            raise StateError(f"{path}: no session to save")
        self.state(chosen).save(
            path, fingerprint=self.fingerprint, extra={"slots": chosen.tolist()}
        )

    def load(self, path: str | Path) -> list[int]:
        """Open the sessions of a file that `save` wrote; returns their new slots, in the file's
        order.

        Raises `StateError` for a damaged file and for other weights or another precision; the pool
        is then unchanged.
        """
        self._check_usable()
        state, _ = State.load(path, fingerprint=self.fingerprint)
        rows = self.stepper.layout.rows(state)
        return self._sessions.open(len(rows), rows).tolist()

    def spill(self, slots: Sequence[int] | np.ndarray) -> None:
        """Write sessions to the folder and free their memory. They are safe from a crash when this
        returns, and are read back when next needed.
        """
        if self._folder is None:
            raise ValueError("spill: the pool has no folder; Pool(…, spill=FOLDER)")
        self._check_usable()
        chosen = np.unique(as_slots(slots))
        self._sessions.check(chosen)
        self._sessions.spill(chosen)

    def shutdown(self) -> None:
        """Spill all sessions and unlock the folder; the next pool with this folder continues them.
        Every method raises `StateError` afterwards. If the sessions cannot be written, the pool
        keeps them and the folder.
        """
        self.spill(self.slots)
        if self._folder is not None:
            self._folder.release()

    def _check_usable(self) -> None:
        if self._folder is not None:
            self._folder.check_held()
