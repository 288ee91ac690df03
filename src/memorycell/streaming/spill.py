"""The sessions of a pool on disk: a crash loses none that were written.

    FOLDER/spill-000007.safetensors    slots [n], states [n, width], a checksum [n] of each state;
                                       in the metadata, the closed sessions of which older files
                                       still contain a copy

A file is written atomically and never changed. Of several copies of a slot the newest is current. A
file is deleted when it has no current copy; when most copies are outdated, the oldest files are
rewritten. A session closed after the last file was written reappears if the process is killed.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from memorycell.errors import StateError
from memorycell.files import write_atomically

FORMAT = "memorycell-spill-1"
MAX_FILE_BYTES = 4 << 20
"""Bytes of states per file; writing it takes twice this memory."""
BYTES_PER_SLOT = 16
"""Bytes of memory per slot."""


class SpillFolder:
    """The sessions of one pool on disk. Raises `StateError` for a folder of other weights, or one
    that another pool uses.
    """

    def __init__(self, folder: Path, fingerprint: str, width: int) -> None:
        self._folder, self._fingerprint, self._width = folder, fingerprint, width
        self._file = np.zeros(0, np.int32)  # by slot: the file of the current copy, or 0
        self._row = np.zeros(0, np.int32)  # by slot: its row in that file
        self._copies = np.zeros(0, np.int32)  # by slot: copies in all files
        self._closed = np.zeros(0, np.int32)  # by slot: 1 if closed while copies of it exist
        self._rows: dict[int, int] = {}  # file -> number of copies
        self._current: dict[int, int] = {}  # file -> number of current copies
        self._recorded: set[int] = set()  # closed sessions listed in the last file
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _Lock(folder)
        except OSError as error:
            raise StateError(f"{folder}: cannot be used to spill to ({error})") from None
        try:
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
        return np.flatnonzero(self._file)

    def write(self, slots: np.ndarray, states: np.ndarray) -> None:
        """Write the states [n, width] of sessions; they are on disk when this returns."""
        self._grow(slots)
        self._closed[slots] = 0
        closed = np.flatnonzero(self._closed)
        note = {"format": FORMAT, "fingerprint": self._fingerprint, "closed": closed.tolist()}
        tensors = {"slots": slots.astype(np.int64), "states": states, "checks": _checksums(states)}
        number = self._last + 1
        write_atomically(
            self._path(number), safetensors.numpy.save(tensors, {"memorycell": json.dumps(note)})
        )
        self._last, self._recorded = number, set(closed.tolist())
        self._register(number, slots)
        self._delete_outdated()
        # While most copies are outdated, rewrite the oldest file.
        while sum(self._rows.values()) > 4 * sum(self._current.values()) + 4096:
            moved = np.flatnonzero(self._file == min(self._rows))
            self.write(moved, self.read(moved))

    def flush(self) -> None:
        """Record the closed sessions on disk if they are not recorded yet."""
        if set(np.flatnonzero(self._closed).tolist()) - self._recorded:
            self.write(np.zeros(0, np.int64), np.zeros((0, self._width), np.float32))

    def read(self, slots: np.ndarray) -> np.ndarray:
        """The states [n, width] of sessions. Raises `StateError` with a damaged file's path."""
        result = np.empty((len(slots), self._width), np.float32)
        file_numbers, file_rows = self._file[slots], self._row[slots]
        for number in np.unique(file_numbers):
            index = np.flatnonzero(file_numbers == number)
            path, rows = self._path(int(number)), file_rows[index]
            try:
                with safetensors.safe_open(path, framework="np") as file:
                    lowest, highest = int(rows.min()), int(rows.max()) + 1
                    result[index] = file.get_slice("states")[lowest:highest][rows - lowest]
                    checksums = file.get_tensor("checks")[rows]
            except (safetensors.SafetensorError, OSError, ValueError) as error:
                raise StateError(
                    f"{path}: damaged ({error}); close its sessions: {slots[index].tolist()[:9]}"
                ) from None
            damaged = np.flatnonzero(_checksums(result[index]) != checksums)
            if len(damaged):
                raise StateError(
                    f"{path}: the state of session {slots[index[damaged[0]]]} is damaged; close it"
                )
        return result

    def mark_closed(self, slots: Sequence[int]) -> None:
        """Mark sessions as closed: their copies are outdated."""
        self._grow(np.asarray(slots))
        for slot in slots:
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
        try:
            with safetensors.safe_open(path, framework="np") as file:
                note = json.loads((file.metadata() or {}).get("memorycell", "null"))
                slots = file.get_tensor("slots")
                shape = file.get_slice("states").get_shape()
            closed = np.array(note["closed"], np.int64)
            if (
                note["format"] != FORMAT
                or shape != [len(slots), self._width]
                or (np.append(slots, closed) < 0).any()
            ):
                raise ValueError("not sessions of this model")
        except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise StateError(
                f"{path}: damaged, or not sessions of this model ({error}); move it away"
            ) from None
        if note["fingerprint"] != self._fingerprint:
            raise StateError(
                f"{path}: sessions of other weights or another precision ({note['fingerprint']},"
                f" not {self._fingerprint}); spill to another folder"
            )
        self.mark_closed(closed.tolist())
        self._recorded = set(note["closed"])
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
            try:
                with safetensors.safe_open(path, framework="np") as file:
                    self._copies[file.get_tensor("slots")] -= 1
            except (safetensors.SafetensorError, OSError, ValueError, IndexError):
                pass  # damaged: its sessions remain listed as closed, which is harmless
            path.unlink(missing_ok=True)
            del self._current[number], self._rows[number]
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
    try:
        return sorted(
            int(path.stem.removeprefix("spill-")) for path in folder.glob("spill-*.safetensors")
        )
    except (OSError, ValueError) as error:
        raise StateError(f"{folder}: cannot be used to spill to ({error})") from None


def _checksums(states: np.ndarray) -> np.ndarray:
    return np.array([zlib.crc32(row.tobytes()) for row in states], np.uint32)


class _Lock:
    """Locks a folder for this process; the system unlocks it when the process ends."""

    _handle = -1

    def __init__(self, folder: Path) -> None:
        self._handle = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
        try:
            import fcntl

            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # no locks on this system
            pass
        except OSError:
            self.release()
            raise StateError(f"{folder}: another pool uses this folder; spill to another") from None

    def release(self) -> None:
        """Unlock the folder."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    __del__ = release
