"""Where a pool's idle sessions are kept on disk, so that a crash loses none of those that were
written.

    FOLDER/spill-000007.safetensors    slots [n], states [n, width], a checksum [n] of each state;
                                       and in its metadata the sessions closed by then of which
                                       older files still hold a copy

A file is written beside and renamed, then never changed. Of several copies of a slot the newest
counts. A file goes when none of its copies counts any more; where files hold many more copies than
count, the oldest are written anew. A session that was closed after the last file was written comes
back if the process is killed.
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
PIECE_BYTES = 4 << 20
"""A file holds so many bytes of states at most, which are in memory twice while it is written."""
OVERHEAD = 16
"""Bytes of memory a slot takes."""


class SpillFolder:
    """The sessions of one pool on disk. Raises `StateError` for a folder of other weights or
    another process's.
    """

    def __init__(self, folder: Path, fingerprint: str, width: int) -> None:
        self._folder, self._fingerprint, self._width = folder, fingerprint, width
        self._file = np.zeros(0, np.int32)  # by slot: the file of the copy that counts, or 0
        self._row = np.zeros(0, np.int32)  # by slot: its row there
        self._copies = np.zeros(0, np.int32)  # by slot: copies in all files
        self._closed = np.zeros(
            0, np.int32
        )  # by slot: 1 when it was closed while there were copies of it
        self._rows: dict[int, int] = {}  # file -> copies in it
        self._live: dict[int, int] = {}  # file -> copies in it that count
        self._told: set[int] = set()  # closed sessions that the last file names
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _Lock(folder)
        except OSError as error:
            raise StateError(f"{folder}: cannot be used to spill to ({error})") from None
        try:
            numbers = _file_numbers(folder)
            self._last = numbers[-1] if numbers else 0
            for number in numbers:
                self._adopt(number)
            self._clear()
        except StateError:
            self.release()
            raise

    @property
    def slots(self) -> np.ndarray:
        """The sessions that are here, [n] int64."""
        return np.flatnonzero(self._file)

    def write(self, slots: np.ndarray, states: np.ndarray) -> None:
        """Keep the states [n, width] of sessions; on return they are on the disk."""
        self._fit(slots)
        self._closed[slots] = 0
        closed = np.flatnonzero(self._closed)
        note = {"format": FORMAT, "fingerprint": self._fingerprint, "closed": closed.tolist()}
        tensors = {"slots": slots.astype(np.int64), "states": states, "checks": _checks(states)}
        number = self._last + 1
        write_atomically(
            self._path(number), safetensors.numpy.save(tensors, {"memorycell": json.dumps(note)})
        )
        self._last, self._told = number, set(closed.tolist())
        self._take(number, slots)
        self._clear()
        while (
            sum(self._rows.values()) > 4 * sum(self._live.values()) + 4096
        ):  # mostly copies that do not count
            oldest = min(self._rows)
            again = np.flatnonzero(self._file == oldest)
            self.write(again, self.read(again))

    def flush(self) -> None:
        """Write down which sessions were closed, if that is not said yet."""
        if set(np.flatnonzero(self._closed).tolist()) - self._told:
            self.write(np.zeros(0, np.int64), np.zeros((0, self._width), np.float32))

    def read(self, slots: np.ndarray) -> np.ndarray:
        """The states [n, width] of sessions. Raises `StateError` naming the file that is damaged."""
        result = np.empty((len(slots), self._width), np.float32)
        numbers, places = self._file[slots], self._row[slots]
        for number in np.unique(numbers):
            at = np.flatnonzero(numbers == number)
            path, rows = self._path(int(number)), places[at]
            try:
                with safetensors.safe_open(path, framework="np") as file:
                    lowest, highest = int(rows.min()), int(rows.max()) + 1
                    result[at] = file.get_slice("states")[lowest:highest][rows - lowest]
                    checks = file.get_tensor("checks")[rows]
            except (safetensors.SafetensorError, OSError, ValueError) as error:
                raise StateError(
                    f"{path}: damaged ({error}); close its sessions: {slots[at].tolist()[:9]}"
                ) from None
            wrong = np.flatnonzero(_checks(result[at]) != checks)
            if len(wrong):
                raise StateError(
                    f"{path}: the state of session {slots[at[wrong[0]]]} is damaged; close it"
                )
        return result

    def forget(self, slots: Sequence[int]) -> None:
        """These sessions are closed: what is written of them counts no more."""
        self._fit(np.asarray(slots))
        for slot in slots:
            if self._copies[slot]:
                self._closed[slot] = 1
            if self._file[slot]:
                self._live[int(self._file[slot])] -= 1
                self._file[slot] = 0
        self._clear()

    def release(self) -> None:
        """Let another pool have the folder."""
        self._lock.release()

    def _adopt(self, number: int) -> None:
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
        self.forget(closed.tolist())
        self._told = set(note["closed"])
        self._fit(slots)
        self._closed[slots] = 0
        self._take(number, slots)

    def _take(self, number: int, slots: np.ndarray) -> None:
        """The copies of a file are the newest."""
        before = self._file[slots]
        for other, count in zip(*np.unique(before[before > 0], return_counts=True), strict=True):
            self._live[int(other)] -= int(count)
        self._file[slots], self._row[slots] = number, np.arange(len(slots))
        self._copies[slots] += 1
        self._rows[number] = self._live[number] = len(slots)

    def _clear(self) -> None:
        """Remove the files of which nothing counts; the last stays: it has the number to go on
        from, and who is closed.
        """
        for number in [n for n, live in self._live.items() if not live and n != self._last]:
            path = self._path(number)
            try:
                with safetensors.safe_open(path, framework="np") as file:
                    self._copies[file.get_tensor("slots")] -= 1
            except (safetensors.SafetensorError, OSError, ValueError, IndexError):
                pass  # damaged: its sessions stay named as closed, which does no harm
            path.unlink(missing_ok=True)
            del self._live[number], self._rows[number]
        self._closed[self._copies <= 0] = 0

    def _fit(self, slots: np.ndarray) -> None:
        size, wanted = len(self._file), int(slots.max(initial=-1)) + 1
        if wanted > size:
            more = np.zeros(max(wanted, 2 * size) - size, np.int32)
            self._file, self._row, self._copies, self._closed = (
                np.append(a, more) for a in (self._file, self._row, self._copies, self._closed)
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


def _checks(states: np.ndarray) -> np.ndarray:
    return np.array([zlib.crc32(row.tobytes()) for row in states], np.uint32)


class _Lock:
    """Holds a folder for this process; the system lets go of it when the process ends."""

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
        """Let others have it."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    __del__ = release
