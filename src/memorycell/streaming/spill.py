"""The sessions of a pool on disk: a crash loses none that were written.

    FOLDER/spill-000007.safetensors    see `spill_file`
    FOLDER/lock                        locked by the pool that uses the folder

A file is written atomically and never changed. Of several copies of a slot the newest is current. A
file is deleted when it has no current copy; when most copies are outdated, the oldest files are
rewritten. A session closed after the last file was written reappears if the process is killed.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from memorycell.errors import StateError, quote
from memorycell.files import remove_orphans, write_atomically
from memorycell.streaming.arguments import MAX_SLOTS, as_slots, distinct
from memorycell.streaming.lock import FolderLock
from memorycell.streaming.spill_file import FORMAT, encode, read_index, read_states

FILE_NAME = re.compile(r"spill-(?P<number>[0-9]{6,9})\.safetensors")
MAX_FILE_BYTES = 4 << 20
"""Bytes of states per file; writing it takes twice this memory."""
BYTES_PER_SLOT = 16
"""Bytes of memory per slot."""


class SpillFolder:
    """The sessions of one pool on disk. Raises `StateError` for a folder of other weights, or one
    that another pool uses; after `release`, and in a forked child, every method raises it.
    """

    def __init__(self, folder: Path, fingerprint: str, width: int) -> None:
        self._folder, self._fingerprint, self._width = folder, fingerprint, width
        self._file = np.zeros(0, np.int32)  # by slot: the file of the current copy, or 0
        self._row = np.zeros(0, np.int32)  # by slot: its row in that file
        self._copies = np.zeros(0, np.int32)  # by slot: copies in all files
        self._closed = np.zeros(0, np.int32)  # by slot: 1 if closed while copies of it exist
        self._rows: dict[int, int] = {}  # file -> number of copies
        self._current: dict[int, int] = {}  # file -> number of current copies
        self._formats: dict[int, str] = {}  # file -> its format
        self._recorded: set[int] = set()  # closed sessions listed in the last file
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(folder)
        except OSError as error:
            raise StateError(f"{folder}: cannot be used to spill to ({error})") from None
        try:
            remove_orphans(folder, FILE_NAME.pattern)
            numbers = _file_numbers(folder)
            self._last = numbers[-1] if numbers else 0
            for number in numbers:
                self._read_index(number)
            self._delete_outdated()
        except StateError:
            self.release()
            raise

    @property
    def slots(self) -> np.ndarray:
        """The sessions on disk, [n] int64."""
        self.check_held()
        return np.flatnonzero(self._file)

    @property
    def held(self) -> bool:
        """Whether the folder is this process's."""
        return self._lock.held

    def check_held(self) -> None:
        """Raises `StateError` if the folder is not, or no longer, this process's."""
        if not self.held:
            raise StateError(
                f"{self._folder}: this pool was shut down, or belongs to the process that opened"
                " it; open another"
            )

    def write(self, slots: np.ndarray, states: np.ndarray) -> None:
        """Write the states [n, width] float32 of different sessions; they are on disk when this
        returns. Raises ValueError for other arrays.
        """
        self.check_held()
        slots = as_slots(slots)
        if not ((slots >= 0) & (slots < MAX_SLOTS)).all() or not distinct(slots):
            raise ValueError(f"slots: expected different numbers in 0..{MAX_SLOTS - 1}")
        if states.dtype != np.float32 or states.shape != (len(slots), self._width):
            raise ValueError(
                f"states: expected float32 [{len(slots)}, {self._width}], got"
                f" {states.dtype} {list(states.shape)}"
            )
        self._grow(slots)
        closed = self._closed.copy()
        closed[slots] = 0
        listed = np.flatnonzero(closed).tolist()
        number = self._last + 1
        content = encode(number, self._fingerprint, listed, slots, np.ascontiguousarray(states))
        write_atomically(self._path(number), content)
        self._closed[slots] = 0
        self._last, self._recorded, self._formats[number] = number, set(listed), FORMAT
        self._register(number, slots)
        self._delete_outdated()
        # While most copies are outdated, rewrite the oldest file.
        while sum(self._rows.values()) > 4 * sum(self._current.values()) + 4096:
            moved = np.flatnonzero(self._file == min(self._rows))
            self.write(moved, self.read(moved))

    def flush(self) -> None:
        """Record the closed sessions on disk if they are not recorded yet."""
        self.check_held()
        if set(np.flatnonzero(self._closed).tolist()) - self._recorded:
            self.write(np.zeros(0, np.int64), np.zeros((0, self._width), np.float32))

    def read(self, slots: np.ndarray) -> np.ndarray:
        """The states [n, width] of sessions. Raises `StateError` with a damaged file's path, and
        ValueError for a session that is not on disk.
        """
        self.check_held()
        slots = as_slots(slots)
        unknown = np.setdiff1d(slots, self.slots)
        if len(unknown):
            raise ValueError(f"slots: {unknown[0]} is not in the folder")
        result = np.empty((len(slots), self._width), np.float32)
        numbers, rows = self._file[slots], self._row[slots]
        for number in np.unique(numbers).tolist():
            index = np.flatnonzero(numbers == number)
            result[index] = read_states(
                self._path(number), slots[index], rows[index], self._formats[number]
            )
        return result

    def mark_closed(self, slots: Sequence[int]) -> None:
        """Mark sessions as closed: their copies are outdated."""
        self.check_held()
        for slot in slots:
            if slot >= len(self._copies):
                continue
            if self._copies[slot]:
                self._closed[slot] = 1
            if self._file[slot]:
                self._current[int(self._file[slot])] -= 1
                self._file[slot] = 0
        self._delete_outdated()

    def release(self) -> None:
        """Unlock the folder for another pool."""
        self._lock.release()

    def _read_index(self, number: int) -> None:
        path = self._path(number)
        note, slots = read_index(path, number, self._width)
        if note.fingerprint != self._fingerprint:
            raise StateError(
                f"{path}: sessions of other weights or another precision"
                f" ({quote(note.fingerprint)}, not {self._fingerprint}); spill to another folder"
            )
        self._formats[number] = note.format
        self.mark_closed(note.closed)
        self._recorded = set(note.closed)
        self._grow(slots)
        self._closed[slots] = 0
        self._register(number, slots)

    def _register(self, number: int, slots: np.ndarray) -> None:
        """Make the copies in a file the current ones."""
        previous = self._file[slots]
        for file, count in zip(*np.unique(previous[previous > 0], return_counts=True), strict=True):
            self._current[int(file)] -= int(count)
        self._file[slots], self._row[slots] = number, np.arange(len(slots))
        self._copies[slots] += 1
        self._rows[number] = self._current[number] = len(slots)

    def _delete_outdated(self) -> None:
        """Delete the files without a current copy, except the last: it has the next number and the
        list of closed sessions.
        """
        for number in [n for n, count in self._current.items() if not count and n != self._last]:
            path = self._path(number)
            # Of a damaged file, the sessions remain listed as closed, which is harmless.
            with contextlib.suppress(StateError):
                self._copies[read_index(path, number, self._width)[1]] -= 1
            path.unlink(missing_ok=True)
            del self._current[number], self._rows[number], self._formats[number]
        self._closed[self._copies <= 0] = 0

    def _grow(self, slots: np.ndarray) -> None:
        size, required = len(self._file), int(slots.max(initial=-1)) + 1
        if required > size:
            added = np.zeros(max(required, 2 * size) - size, np.int32)
            self._file, self._row, self._copies, self._closed = (
                np.append(a, added) for a in (self._file, self._row, self._copies, self._closed)
            )

    def _path(self, number: int) -> Path:
        return self._folder / f"spill-{number:06}.safetensors"


def _file_numbers(folder: Path) -> list[int]:
    """The numbers of the spill files in a folder, ascending."""
    numbers = []
    try:
        for path in folder.glob("spill-*.safetensors"):
            match = FILE_NAME.fullmatch(path.name)
            if match is None or int(match["number"]) == 0:
                raise StateError(f"{path}: not a name of a spill file; move it away")
            numbers.append(int(match["number"]))
    except OSError as error:
        raise StateError(f"{folder}: cannot be used to spill to ({error})") from None
    return sorted(numbers)
