"""Pool: many live sequences of one model, stepped together, in one block of memory and on disk.

A session is a number, its slot. Its state is a row of `Pool.width` float32 values. In memory a pool
takes

    4 · width + 24 bytes     for every session the block has room for; the block grows by doubling,
                             in place
    16 bytes                 more for every slot with a folder to spill to; spilled sessions take
                             these and 16 of the 24

and at most 12 MB for a moment while sessions are spilled or brought back. `Pool.nbytes` is the sum.
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

    module      a recurrent layer of ours, or a `Model`; its weights are packed once: later changes
                are seen after `refresh()`, and no step is taken while it trains
    capacity    sessions the block has room for at first
    precision   of the products: "float32", "bfloat16" or "int8"
    spill       a folder for the states of idle sessions. One that holds sessions gives them back
                under their old slots
    resident    sessions kept in memory at most, where there is a folder: those idle longest make
                room for others, unseen

    Stepping a session gives the bits that a `Stream` of the same precision gives, whatever its
    company (on the native engine). Not for use by several threads at once.
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
        self._slot_of = np.zeros(0, np.int64)  # by row: whose it is, or -1
        self._row_of = np.zeros(0, np.int64)  # by slot: its row, or CLOSED or SPILLED
        self._used = np.zeros(0, np.int64)  # by slot: when it was last stepped
        self._fresh_row = self._fresh_slot = 0  # from here on none was ever used
        self._free_rows: list[int] = []  # used before, and free again
        self._free_slots: list[int] = []
        self._clock = 0
        self._grow_rows(capacity if resident is None else min(capacity, resident))
        self._grow_slots(capacity)
        self._folder: spilling.SpillFolder | None = None
        if spill is not None:
            self._folder = spilling.SpillFolder(Path(spill), self.fingerprint, self.width)
            kept = self._folder.slots
            if len(kept):
                self._fresh_slot = int(kept[-1]) + 1
                self._grow_slots(self._fresh_slot)
                self._row_of[kept] = SPILLED
                self._free_slots = np.setdiff1d(np.arange(self._fresh_slot), kept).tolist()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        """Shut the pool down if it has a folder; the sessions of a pool without one end."""
        if self._folder is not None:
            self.shutdown()

    def refresh(self) -> None:
        """Take the module's weights as they are now, in evaluation mode; the sessions' states stay."""
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
        """Bytes of memory the states and their bookkeeping take."""
        extra = 0 if self._folder is None else spilling.OVERHEAD * len(self._row_of)
        return (
            self._block.nbytes
            + self._slot_of.nbytes
            + self._row_of.nbytes
            + self._used.nbytes
            + extra
        )

    @property
    def fingerprint(self) -> str:
        """The weights and the precision that a saved state belongs to."""
        return fingerprint(self.module, self.stepper.precision)

    # ---- sessions --------------------------------------------------------------------------------

    def open(self, state: State | None = None) -> int:
        """A new session, at zero or in the given state of one sequence; returns its slot."""
        if state is None:
            return int(self._open(1)[0])
        rows = self.stepper.layout.rows(state)
        if len(rows) != 1:
            raise StateError(
                f"state: expected one sequence, got {len(rows)}; use state.select([k])"
            )
        return int(self._open(1, rows)[0])

    def open_many(self, count: int) -> np.ndarray:
        """So many new sessions at zero: their slots [count] int64."""
        return self._open(count)

    def _open(self, count: int, states: np.ndarray | None = None) -> np.ndarray:
        again = [self._free_slots.pop() for _ in range(min(count, len(self._free_slots)))]
        fresh = np.arange(self._fresh_slot, self._fresh_slot + count - len(again))
        slots = np.concatenate([np.array(again, np.int64), fresh])
        self._fresh_slot += len(fresh)
        self._grow_slots(self._fresh_slot)
        # With a limit on what is in memory, the first must go before the last come.
        most = self.resident or max(1, count)
        for k in range(0, count, most):
            part = slots[k : k + most]
            self._place(
                part,
                self._take_rows(len(part), part),
                0.0 if states is None else states[k : k + most],
            )
        return slots

    def fork(self, slot: int) -> int:
        """A new session in the state of another."""
        return self.open(self.state([slot]))

    def close(self, slot: int) -> None:
        """End a session; its slot may be given to another."""
        self._check(np.array([slot]))
        row = int(self._row_of[slot])
        if row >= 0:
            self._slot_of[row] = -1
            self._free_rows.append(row)
        if self._folder is not None:
            self._folder.forget([slot])
        self._row_of[slot] = CLOSED
        self._free_slots.append(int(slot))

    def step(self, slots: Sequence[int] | np.ndarray, x: Any) -> Any:
        """One step of the given sessions, each at most once: x [n, I] -> y [n, ...]; a tensor gives
        a tensor.

        Raises ValueError for a slot that is closed or named twice and for x of another shape, and
        RuntimeError where the module has been trained since its weights were packed (see
        `refresh`); nothing was stepped then.
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
            self._bring_back(slots)
            self._clock += 1
            self._used[slots] = self._clock
        try:
            if (slots < 0).any():
                raise IndexError
            return self.stepper.many(self._block, self._row_of[slots], x)
        except (IndexError, ValueError):
            self._check(slots)  # says it in terms of slots
            if len(np.unique(slots)) < len(slots):
                raise ValueError("slots: one is named twice") from None
            raise

    def state(self, slots: Sequence[int] | np.ndarray) -> State:
        """The states of sessions, batched in that order: a copy."""
        return self.stepper.layout.state(self._rows(np.asarray(slots, np.int64)))

    def set_state(self, slots: Sequence[int] | np.ndarray, state: State) -> None:
        """Put sessions into the states of a batch. Raises `StateError` for another shape."""
        slots = np.asarray(slots, np.int64)
        rows = self.stepper.layout.rows(state)
        self._check(slots)
        if len(rows) != len(slots):
            raise StateError(f"state: expected {len(slots)} sequences, got {len(rows)}")
        self._bring_back(slots)
        self._block[self._row_of[slots]] = rows

    # ---- files -----------------------------------------------------------------------------------

    def save(self, path: str | Path, slots: Sequence[int] | None = None) -> None:
        """Write the states of the given sessions, or of all, to one file."""
        chosen = self.slots if slots is None else np.asarray(slots, np.int64)
        if not len(chosen):
            raise StateError(f"{path}: there is no session to save")
        self.state(chosen).save(
            path, fingerprint=self.fingerprint, extra={"slots": chosen.tolist()}
        )

    def load(self, path: str | Path) -> list[int]:
        """Open the sessions of a file that `save` wrote, in its order, under new slots, which are
        returned.

        Raises `StateError` for a file of other weights or precision, or a damaged one; the pool is
        then as it was.
        """
        state, _ = State.load(path, fingerprint=self.fingerprint)
        rows = self.stepper.layout.rows(state)
        return self._open(len(rows), rows).tolist()

    def spill(self, slots: Sequence[int] | np.ndarray) -> None:
        """Write sessions to the folder and free their memory; when this returns, no crash loses
        them.

        They come back by themselves when they are next needed.
        """
        if self._folder is None:
            raise ValueError("spill: the pool has no folder; Pool(…, spill=FOLDER)")
        chosen = np.unique(np.asarray(slots, np.int64))
        self._check(chosen)
        for piece in self._pieces(chosen[self._row_of[chosen] >= 0]):
            rows = self._row_of[piece]
            self._folder.write(piece, self._block[rows])
            self._row_of[piece] = SPILLED
            self._slot_of[rows] = -1
            self._free_rows += rows.tolist()
        self._folder.flush()

    def shutdown(self) -> None:
        """Spill all sessions and let go of the folder: the next pool with this folder has them.
        Then the pool is at its end.
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
        """The states of sessions [n, width], wherever they are, which they stay."""
        self._check(slots)
        rows = self._row_of[slots]
        result = self._block[np.maximum(rows, 0)]
        away = np.flatnonzero(rows == SPILLED)
        if len(away):
            assert self._folder is not None
            result[away] = self._folder.read(slots[away])
        return result

    def _bring_back(self, slots: np.ndarray) -> None:
        away = np.unique(slots[self._row_of[slots] == SPILLED])
        if self.resident is not None and len(slots) > self.resident:
            raise ValueError(
                f"slots: {len(slots)} at once, but at most {self.resident} are kept in memory"
                " (resident)"
            )
        if not len(away):
            return
        assert self._folder is not None
        for piece in self._pieces(away):
            states = self._folder.read(piece)  # first: a damaged file changes nothing
            self._place(piece, self._take_rows(len(piece), slots), states)

    def _pieces(self, slots: np.ndarray) -> list[np.ndarray]:
        """Slots so many at a time that their states take little memory twice."""
        most = max(1, spilling.PIECE_BYTES // (4 * self.width))
        return [slots[k : k + most] for k in range(0, len(slots), most)]

    def _place(self, slots: np.ndarray, rows: np.ndarray, states: np.ndarray | float) -> None:
        self._block[rows] = states
        self._row_of[slots] = rows
        self._slot_of[rows] = slots
        self._clock += 1
        self._used[slots] = self._clock

    def _take_rows(self, count: int, needed: np.ndarray) -> np.ndarray:
        """Rows without a session; sessions idle longest are spilled for them, but for those needed."""
        short = count - len(self._free_rows) - (len(self._block) - self._fresh_row)
        if short > 0:
            self._grow_rows(len(self._block) + short)
            short = count - len(self._free_rows) - (len(self._block) - self._fresh_row)
        if short > 0:  # no more than `resident` are to be in memory
            idle = np.setdiff1d(self._slot_of[self._slot_of >= 0], needed)
            # Some more than asked for, so that not every step writes a file.
            share = min(len(idle), max(short, len(self._block) // 8))
            self.spill(idle[np.argsort(self._used[idle], kind="stable")[:share]])
        again = [self._free_rows.pop() for _ in range(min(count, len(self._free_rows)))]
        fresh = np.arange(self._fresh_row, self._fresh_row + count - len(again))
        self._fresh_row += len(fresh)
        return np.concatenate([np.array(again, np.int64), fresh])

    def _grow_rows(self, wanted: int) -> None:
        size = len(self._block)
        new = (
            max(wanted, 2 * size)
            if self.resident is None
            else min(self.resident, max(wanted, 2 * size))
        )
        if new > size:
            # In place, where the system can move pages: there are never two blocks.
            self._block.resize((new, self.width), refcheck=False)
            self._slot_of = np.append(self._slot_of, np.full(new - size, -1))

    def _grow_slots(self, wanted: int) -> None:
        size = len(self._row_of)
        if wanted > size:
            new = max(wanted, 2 * size)
            self._row_of = np.append(self._row_of, np.full(new - size, CLOSED))
            self._used = np.append(self._used, np.zeros(new - size, np.int64))
