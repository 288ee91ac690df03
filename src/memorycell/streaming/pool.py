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
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from memorycell.errors import StateError
from memorycell.state import State, fingerprint
from memorycell.streaming import spill as spilling
from memorycell.streaming.stepping import Stepper, WeightGuard, stepper

CLOSED, SPILLED = -2, -1


class Pool:
    """Live sequences of a layer or a model: `slot = pool.open()`, `y = pool.step(slots, x)`,
    `pool.close(slot)`.

    module      a memorycell layer or a `Model`; its weights are packed once: changes take effect
                after `refresh()`, and steps are refused while it trains
    capacity    initial number of sessions the block has room for
    precision   of the products: "float32", "bfloat16" or "int8"
    spill       a folder for the states of idle sessions. The sessions it already contains are open
                under their old slots
    resident    largest number of sessions in memory, with a folder: the sessions idle longest are
                spilled automatically

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
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity: expected 1 or more, got {capacity}")
        if resident is not None and (resident < 1 or spill is None):
            raise ValueError(
                f"resident: expected 1 or more, and a folder to spill to, got {resident}"
            )
        self.module = module
        self.stepper: Stepper = stepper(module, precision)
        self._guard = WeightGuard(module)
        self.width = self.stepper.layout.width
        self.resident = resident
        self._block = np.zeros((0, self.width), np.float32)
        self._slot_of = np.zeros(0, np.int64)  # by row: its slot, or -1
        self._row_of = np.zeros(0, np.int64)  # by slot: its row, or CLOSED or SPILLED
        self._last_used = np.zeros(0, np.int64)  # by slot: the clock at its last step
        self._next_row = self._next_slot = 0  # the first that was never used
        self._free_rows: list[int] = []  # used before and free
        self._free_slots: list[int] = []
        self._clock = 0
        self._grow_rows(capacity if resident is None else min(capacity, resident))
        self._grow_slots(capacity)
        self._folder: spilling.SpillFolder | None = None
        if spill is not None:
            self._folder = spilling.SpillFolder(Path(spill), self.fingerprint, self.width)
            stored = self._folder.slots
            if len(stored):
                self._next_slot = int(stored[-1]) + 1
                self._grow_slots(self._next_slot)
                self._row_of[stored] = SPILLED
                self._free_slots = np.setdiff1d(np.arange(self._next_slot), stored).tolist()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        """Shut the pool down if it has a folder; the sessions of a pool without one end."""
        if self._folder is not None:
            self.shutdown()

    def refresh(self) -> None:
        """Pack the module's current weights, in evaluation mode; the states are kept."""
        self.stepper = stepper(self.module, self.stepper.precision)
        self._guard = WeightGuard(self.module)

    def __len__(self) -> int:
        return int((self._row_of != CLOSED).sum())

    def __contains__(self, slot: int) -> bool:
        return 0 <= slot < len(self._row_of) and int(self._row_of[slot]) != CLOSED

    @property
    def slots(self) -> np.ndarray:
        """The open sessions, [n] int64."""
        return np.flatnonzero(self._row_of != CLOSED)

    @property
    def nbytes(self) -> int:
        """Bytes of memory of the states and their bookkeeping."""
        extra = 0 if self._folder is None else spilling.BYTES_PER_SLOT * len(self._row_of)
        return (
            self._block.nbytes
            + self._slot_of.nbytes
            + self._row_of.nbytes
            + self._last_used.nbytes
            + extra
        )

    @property
    def fingerprint(self) -> str:
        """Identifies the weights and the precision that a saved state belongs to."""
        return fingerprint(self.module, self.stepper.precision)

    # ---- sessions --------------------------------------------------------------------------------

    def open(self, state: State | None = None) -> int:
        """Open a session with a zero state or the given state of one sequence; returns its slot."""
        if state is None:
            return int(self._open(1)[0])
        rows = self.stepper.layout.rows(state)
        if len(rows) != 1:
            raise StateError(
                f"state: expected one sequence, got {len(rows)}; use state.select([k])"
            )
        return int(self._open(1, rows)[0])

    def open_many(self, count: int) -> np.ndarray:
        """Open `count` sessions with zero states; returns their slots [count] int64."""
        return self._open(count)

    def _open(self, count: int, states: np.ndarray | None = None) -> np.ndarray:
        reused = [self._free_slots.pop() for _ in range(min(count, len(self._free_slots)))]
        new = np.arange(self._next_slot, self._next_slot + count - len(reused))
        slots = np.concatenate([np.array(reused, np.int64), new])
        self._next_slot += len(new)
        self._grow_slots(self._next_slot)
        # With a limit on sessions in memory, the first are spilled before the last are opened.
        limit = self.resident or max(1, count)
        for k in range(0, count, limit):
            chunk = slots[k : k + limit]
            rows = self._take_rows(len(chunk), chunk)
            self._place(chunk, rows, 0.0 if states is None else states[k : k + limit])
        return slots

    def fork(self, slot: int) -> int:
        """Open a session with a copy of another's state."""
        return self.open(self.state([slot]))

    def close(self, slot: int) -> None:
        """End a session; its slot may be reused."""
        self._check(np.array([slot]))
        row = int(self._row_of[slot])
        if row >= 0:
            self._slot_of[row] = -1
            self._free_rows.append(row)
        if self._folder is not None:
            self._folder.mark_closed([slot])
        self._row_of[slot] = CLOSED
        self._free_slots.append(int(slot))

    def step(self, slots: Sequence[int] | np.ndarray, x: Any) -> Any:
        """One step of the given sessions, each at most once: x [n, I] -> y [n, ...]; a tensor gives
        a tensor.

        Raises ValueError for a closed or repeated slot and for another shape of x, and RuntimeError
        if the module was in training mode after its weights were packed (see `refresh`); the
        sessions are then unchanged.
        """
        self._guard.check()
        if isinstance(x, Tensor):
            return torch.from_numpy(self.step(slots, x.detach().to("cpu", torch.float32).numpy()))
        slots = np.ascontiguousarray(slots, np.int64)
        x = np.ascontiguousarray(x, np.float32)
        if x.shape != (*slots.shape, self.stepper.input_size) or slots.ndim != 1:
            raise ValueError(
                f"x: expected [{len(slots)}, {self.stepper.input_size}], got {list(x.shape)}"
            )
        if self._folder is not None:
            self._check(slots)
            self._load_spilled(slots)
            self._clock += 1
            self._last_used[slots] = self._clock
        try:
            if (slots < 0).any():
                raise IndexError
            return self.stepper.step_many(self._block, self._row_of[slots], x)
        except (IndexError, ValueError):
            self._check(slots)  # an error in terms of slots, not rows
            if len(np.unique(slots)) < len(slots):
                raise ValueError("slots: expected each slot at most once") from None
            raise

    def state(self, slots: Sequence[int] | np.ndarray) -> State:
        """A copy of the states of sessions, batched in that order."""
        return self.stepper.layout.state(self._rows(np.asarray(slots, np.int64)))

    def set_state(self, slots: Sequence[int] | np.ndarray, state: State) -> None:
        """Set the states of sessions from a batch. Raises `StateError` for another shape."""
        slots = np.asarray(slots, np.int64)
        rows = self.stepper.layout.rows(state)
        self._check(slots)
        if len(rows) != len(slots):
            raise StateError(f"state: expected {len(slots)} sequences, got {len(rows)}")
        self._load_spilled(slots)
        self._block[self._row_of[slots]] = rows

    # ---- files -----------------------------------------------------------------------------------

    def save(self, path: str | Path, slots: Sequence[int] | None = None) -> None:
        """Write the states of the given sessions, or of all, to one file."""
        chosen = self.slots if slots is None else np.asarray(slots, np.int64)
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
        state, _ = State.load(path, fingerprint=self.fingerprint)
        rows = self.stepper.layout.rows(state)
        return self._open(len(rows), rows).tolist()

    def spill(self, slots: Sequence[int] | np.ndarray) -> None:
        """Write sessions to the folder and free their memory. They are safe from a crash when this
        returns, and are read back when next needed.
        """
        if self._folder is None:
            raise ValueError("spill: the pool has no folder; Pool(…, spill=FOLDER)")
        chosen = np.unique(np.asarray(slots, np.int64))
        self._check(chosen)
        for chunk in self._chunks(chosen[self._row_of[chosen] >= 0]):
            rows = self._row_of[chunk]
            self._folder.write(chunk, self._block[rows])
            self._row_of[chunk] = SPILLED
            self._slot_of[rows] = -1
            self._free_rows += rows.tolist()
        self._folder.flush()

    def shutdown(self) -> None:
        """Spill all sessions and unlock the folder; the next pool with this folder continues them.
        The pool must not be used afterwards.
        """
        try:
            self.spill(self.slots)
        finally:
            if self._folder is not None:
                self._folder.release()

    # ---- rows and slots --------------------------------------------------------------------------

    def _check(self, slots: np.ndarray) -> None:
        inside = (slots >= 0) & (slots < len(self._row_of))
        wrong = np.flatnonzero(~inside)
        if not len(wrong):
            wrong = np.flatnonzero(self._row_of[slots] == CLOSED)
        if len(wrong):
            raise ValueError(f"slots: {slots[wrong[0]]} is not open")

    def _rows(self, slots: np.ndarray) -> np.ndarray:
        """The states [n, width] of sessions in memory or on disk; does not move them."""
        self._check(slots)
        rows = self._row_of[slots]
        result = self._block[np.maximum(rows, 0)]
        spilled = np.flatnonzero(rows == SPILLED)
        if len(spilled):
            assert self._folder is not None
            result[spilled] = self._folder.read(slots[spilled])
        return result

    def _load_spilled(self, slots: np.ndarray) -> None:
        spilled = np.unique(slots[self._row_of[slots] == SPILLED])
        if self.resident is not None and len(slots) > self.resident:
            raise ValueError(
                f"slots: {len(slots)} at once, but at most {self.resident} are kept in memory"
                " (resident)"
            )
        if not len(spilled):
            return
        assert self._folder is not None
        for chunk in self._chunks(spilled):
            states = self._folder.read(chunk)  # first, so that a damaged file changes nothing
            self._place(chunk, self._take_rows(len(chunk), slots), states)

    def _chunks(self, slots: np.ndarray) -> list[np.ndarray]:
        """Slots in chunks of at most `MAX_FILE_BYTES` of states."""
        size = max(1, spilling.MAX_FILE_BYTES // (4 * self.width))
        return [slots[k : k + size] for k in range(0, len(slots), size)]

    def _place(self, slots: np.ndarray, rows: np.ndarray, states: np.ndarray | float) -> None:
        self._block[rows] = states
        self._row_of[slots] = rows
        self._slot_of[rows] = slots
        self._clock += 1
        self._last_used[slots] = self._clock

    def _take_rows(self, count: int, needed: np.ndarray) -> np.ndarray:
        """`count` free rows; if necessary, spill the sessions idle longest except those needed."""
        short = count - len(self._free_rows) - (len(self._block) - self._next_row)
        if short > 0:
            self._grow_rows(len(self._block) + short)
            short = count - len(self._free_rows) - (len(self._block) - self._next_row)
        if short > 0:  # at the limit `resident`
            idle = np.setdiff1d(self._slot_of[self._slot_of >= 0], needed)
            # More than necessary, so that not every step writes a file.
            number = min(len(idle), max(short, len(self._block) // 8))
            self.spill(idle[np.argsort(self._last_used[idle], kind="stable")[:number]])
        reused = [self._free_rows.pop() for _ in range(min(count, len(self._free_rows)))]
        new = np.arange(self._next_row, self._next_row + count - len(reused))
        self._next_row += len(new)
        return np.concatenate([np.array(reused, np.int64), new])

    def _grow_rows(self, required: int) -> None:
        size = len(self._block)
        new = max(required, 2 * size)
        if self.resident is not None:
            new = min(new, self.resident)
        if new > size:
            # In place if the system can move pages: there are never two blocks.
            self._block.resize((new, self.width), refcheck=False)
            self._slot_of = np.append(self._slot_of, np.full(new - size, -1))

    def _grow_slots(self, required: int) -> None:
        size = len(self._row_of)
        if required > size:
            new = max(required, 2 * size)
            self._row_of = np.append(self._row_of, np.full(new - size, CLOSED))
            self._last_used = np.append(self._last_used, np.zeros(new - size, np.int64))
