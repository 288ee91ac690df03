"""Where the states of a pool's sessions are: rows of one block of memory, or files of a folder."""

from __future__ import annotations

import numpy as np

from memorycell.streaming import spill as spilling
from memorycell.streaming.arguments import MAX_SLOTS
from memorycell.streaming.finite import check_states

CLOSED, SPILLED = -2, -1


class Sessions:
    """The states of open sessions by slot.

    block       [R, width] float32: the states in memory; a row that is free may contain anything
    resident    largest number of rows, or None
    large       whether a state was set that may overflow at the next step; see `finite`
    """

    def __init__(
        self,
        width: int,
        capacity: int,
        resident: int | None = None,
        folder: spilling.SpillFolder | None = None,
    ) -> None:
        self.width, self.resident, self.large = width, resident, False
        self._folder = folder
        self.block = np.zeros((0, width), np.float32)
        self._slot_of = np.zeros(0, np.int64)  # by row: its slot, or -1
        self._row_of = np.zeros(0, np.int64)  # by slot: its row, or CLOSED or SPILLED
        self._last_used = np.zeros(0, np.int64)  # by slot: the clock at its last step
        self._next_row = self._next_slot = 0  # the first that was never used
        self._free_rows: list[int] = []  # used before and free
        self._free_slots: list[int] = []
        self._clock = 0
        self._grow_rows(capacity if resident is None else min(capacity, resident))
        self._grow_slots(capacity)
        if folder is not None and len(folder.slots):
            stored = folder.slots
            self._next_slot = int(stored[-1]) + 1
            self._grow_slots(self._next_slot)
            self._row_of[stored] = SPILLED
            self._free_slots = np.setdiff1d(np.arange(self._next_slot), stored).tolist()

    @property
    def slots(self) -> np.ndarray:
        """The open sessions, [n] int64."""
        return np.flatnonzero(self._row_of != CLOSED)

    def __contains__(self, slot: int) -> bool:
        return 0 <= slot < len(self._row_of) and int(self._row_of[slot]) != CLOSED

    @property
    def nbytes(self) -> int:
        """Bytes of memory of the states and their bookkeeping."""
        extra = 0 if self._folder is None else spilling.BYTES_PER_SLOT * len(self._row_of)
        arrays = (self.block, self._slot_of, self._row_of, self._last_used)
        return sum(array.nbytes for array in arrays) + extra

    def check(self, slots: np.ndarray) -> None:
        """Raises ValueError for a slot that is not open."""
        inside = (slots >= 0) & (slots < len(self._row_of))
        wrong = np.flatnonzero(~inside)
        if not len(wrong):
            wrong = np.flatnonzero(self._row_of[slots] == CLOSED)
        if len(wrong):
            raise ValueError(f"slots: {slots[wrong[0]]} is not open")

    def open(self, count: int, states: np.ndarray | None = None) -> np.ndarray:
        """Open sessions with zero states, or with states [count, width]; returns their slots.

        Raises `StateError` for NaN and infinity, and ValueError for more than `MAX_SLOTS` sessions.
        """
        if states is not None:
            self._note_large(states)
        free = min(count, len(self._free_slots))
        if self._next_slot + count - free > MAX_SLOTS:
            raise ValueError(f"open: expected at most {MAX_SLOTS:,} sessions")
        reused = self._free_slots[len(self._free_slots) - free :][::-1]
        new = np.arange(self._next_slot, self._next_slot + count - free)
        slots = np.concatenate([np.array(reused, np.int64), new])
        self._grow_slots(self._next_slot + len(new))
        # With a limit on sessions in memory, the first are spilled before the last are opened.
        limit = self.resident or max(1, count)
        try:
            for k in range(0, count, limit):
                chunk = slots[k : k + limit]
                rows = self._take_rows(len(chunk), chunk)
                self._place(chunk, rows, 0.0 if states is None else states[k : k + limit])
        except BaseException:  # such as a full disk: none is open
            for slot in slots[self._row_of[slots] != CLOSED].tolist():
                self._free(slot)
            raise
        del self._free_slots[len(self._free_slots) - free :]
        self._next_slot += len(new)
        return slots

    def close(self, slot: int) -> None:
        """End a session; its slot may be reused."""
        self._free(slot)
        self._free_slots.append(slot)

    def rows(self, slots: np.ndarray) -> np.ndarray:
        """The rows [n] of sessions, in memory from now on: those on disk are read back."""
        if self._folder is not None:
            self.check(slots)
            self._load_spilled(slots)
            self._clock += 1
            self._last_used[slots] = self._clock
        elif (slots < 0).any():
            self.check(slots)
        return self._row_of[slots]

    def states(self, slots: np.ndarray) -> np.ndarray:
        """The states [n, width] of sessions in memory or on disk; does not move them."""
        self.check(slots)
        rows = self._row_of[slots]
        if not len(self.block):
            return np.zeros((0, self.width), np.float32)
        result: np.ndarray = self.block[np.maximum(rows, 0)]
        spilled = np.flatnonzero(rows == SPILLED)
        if len(spilled):
            assert self._folder is not None
            result[spilled] = self._folder.read(slots[spilled])
        return result

    def set_states(self, slots: np.ndarray, states: np.ndarray) -> None:
        """Set the states of sessions. Raises `StateError` for NaN and infinity."""
        self.check(slots)
        self._note_large(states)
        self.block[self.rows(slots)] = states

    def spill(self, slots: np.ndarray) -> None:
        """Write sessions to the folder and free their rows; all are on disk when this returns."""
        assert self._folder is not None
        for chunk in self._chunks(slots[self._row_of[slots] >= 0]):
            rows = self._row_of[chunk]
            self._folder.write(chunk, self.block[rows])
            self._row_of[chunk] = SPILLED
            self._slot_of[rows] = -1
            self._free_rows += rows.tolist()
        self._folder.flush()

    # ---- rows and slots --------------------------------------------------------------------------

    def _note_large(self, states: np.ndarray) -> None:
        if not check_states(states):
            self.large = True

    def _free(self, slot: int) -> None:
        row = int(self._row_of[slot])
        if self._folder is not None:
            self._folder.mark_closed([slot])
        if row >= 0:
            self._slot_of[row] = -1
            self._free_rows.append(row)
        self._row_of[slot] = CLOSED

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
            self._note_large(states)
            self._place(chunk, self._take_rows(len(chunk), slots), states)

    def _chunks(self, slots: np.ndarray) -> list[np.ndarray]:
        """Slots in chunks of at most `MAX_FILE_BYTES` of states."""
        size = max(1, spilling.MAX_FILE_BYTES // (4 * self.width))
        return [slots[k : k + size] for k in range(0, len(slots), size)]

    def _place(self, slots: np.ndarray, rows: np.ndarray, states: np.ndarray | float) -> None:
        self.block[rows] = states
        self._row_of[slots] = rows
        self._slot_of[rows] = slots
        self._clock += 1
        self._last_used[slots] = self._clock

    def _take_rows(self, count: int, needed: np.ndarray) -> np.ndarray:
        """`count` free rows; if necessary, spill the sessions idle longest except those needed."""
        short = count - len(self._free_rows) - (len(self.block) - self._next_row)
        if short > 0:
            self._grow_rows(len(self.block) + short)
            short = count - len(self._free_rows) - (len(self.block) - self._next_row)
        if short > 0:  # at the limit `resident`
            idle = np.setdiff1d(self._slot_of[self._slot_of >= 0], needed)
            # More than necessary, so that not every step writes a file.
            number = min(len(idle), max(short, len(self.block) // 8))
            self.spill(idle[np.argsort(self._last_used[idle], kind="stable")[:number]])
        reused = [self._free_rows.pop() for _ in range(min(count, len(self._free_rows)))]
        new = np.arange(self._next_row, self._next_row + count - len(reused))
        self._next_row += len(new)
        return np.concatenate([np.array(reused, np.int64), new])

    def _grow_rows(self, required: int) -> None:
        size = len(self.block)
        new = max(required, 2 * size)
        if self.resident is not None:
            new = min(new, self.resident)
        if new > size:
            # In place if the system can move pages: there are never two blocks.
            self.block.resize((new, self.width), refcheck=False)
            self._slot_of = np.append(self._slot_of, np.full(new - size, -1))

    def _grow_slots(self, required: int) -> None:
        size = len(self._row_of)
        if required > size:
            new = max(required, 2 * size)
            self._row_of = np.append(self._row_of, np.full(new - size, CLOSED))
            self._last_used = np.append(self._last_used, np.zeros(new - size, np.int64))
