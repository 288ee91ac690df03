"""Arrays on disk that are made once and then memory-mapped: for data larger than memory.

A folder of arrays is written under a temporary name and renamed, below `cache_folder`. Its name has
a hash of what it was made from, so that changed files or settings give another folder. Mapped
arrays take no memory of their own: the operating system reads pages when they are used, and drops
them when it needs the memory.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from memorycell.errors import UserError

try:
    import fcntl
except ModuleNotFoundError:  # not on Windows, where processes may make the same folder twice
    fcntl = None  # type: ignore[assignment]

VERSION = 1
"""Of the arrays; a folder of another version is made again."""
DESCRIPTION = "arrays.json"


def cache_folder() -> Path:
    """MEMORYCELL_CACHE, by default XDG_CACHE_HOME/memorycell/arrays, ~/.cache without that."""
    if given := os.environ.get("MEMORYCELL_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "memorycell" / "arrays"


def file_states(paths: Sequence[Path]) -> list[list[Any]]:
    """[path, bytes, time of the last change in ns] of files: other values mean other content."""
    found = [(str(path.absolute()), path.stat()) for path in paths]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in found]


class ArrayWriter:
    """Writes the arrays of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, IO[bytes]] = {}
        self.arrays: dict[str, tuple[str, list[int]]] = {}
        """Name -> dtype and shape."""

    def append(self, name: str, rows: np.ndarray) -> None:
        """Add rows [n, …] to an array; all have the same dtype and shape."""
        if name not in self._files:
            self._files[name] = (self.folder / name).open("wb", buffering=1 << 18)
            self.arrays[name] = (rows.dtype.str, [0, *rows.shape[1:]])
        dtype, shape = self.arrays[name]
        assert rows.dtype.str == dtype
        assert list(rows.shape[1:]) == shape[1:]
        self._files[name].write(np.ascontiguousarray(rows).data)
        shape[0] += len(rows)

    def create(self, name: str, shape: Sequence[int], dtype: type | np.dtype[Any]) -> np.ndarray:
        """A new array that is written in any order."""
        kind = np.dtype(dtype)
        self.arrays[name] = (kind.str, list(shape))
        size = math.prod(shape) * kind.itemsize
        with (self.folder / name).open("wb") as file:
            if size and hasattr(os, "posix_fallocate"):  # else a full disk would kill the process
                os.posix_fallocate(file.fileno(), 0, size)
            file.truncate(size)
        return _mapped(self.folder / name, kind.str, list(shape), "r+")

    def finished(self, name: str) -> np.ndarray:
        """An array whose rows are all written, for reading."""
        if name in self._files:
            self._files.pop(name).close()
        dtype, shape = self.arrays[name]
        return _mapped(self.folder / name, dtype, shape, "r")

    def remove(self, name: str) -> None:
        """Delete an array that was of use on the way."""
        if name in self._files:
            self._files.pop(name).close()
        del self.arrays[name]
        (self.folder / name).unlink()

    def close(self) -> None:
        """Close the files."""
        with ExitStack() as stack:
            for file in self._files.values():
                stack.callback(file.close)
        self._files.clear()


class ArrayFolder(Mapping[str, np.ndarray]):
    """The arrays of a folder, mapped for reading when they are asked for.

    notes   the JSON values that were returned by the function that wrote them
    """

    def __init__(self, folder: Path) -> None:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        self.folder, self.notes = folder, description["notes"]
        self._arrays: dict[str, tuple[str, list[int]]] = description["arrays"]
        self._open: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._open:
            self._open[name] = _mapped(self.folder / name, *self._arrays[name], "r")
        return self._open[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def array_folder(
    name: str, made_from: object, write: Callable[[ArrayWriter], dict[str, Any]]
) -> ArrayFolder:
    """The folder of arrays that were made from `made_from`, JSON values; `write` makes them where
    there is none, and returns notes. Processes that need the same one wait for the first.

    Raises `UserError` where it cannot be written.
    """
    text = json.dumps([VERSION, made_from], sort_keys=True, default=str)
    folder = cache_folder() / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(f"{folder.name}.lock")):
            if not (folder / DESCRIPTION).exists():
                _write(folder, write)
            return ArrayFolder(folder)
    except OSError as error:
        raise UserError(
            f"{folder.parent}: arrays of the data cannot be written there"
            f" ({error.strerror or error}); set MEMORYCELL_CACHE to a folder with more space"
        ) from None


def _write(folder: Path, write: Callable[[ArrayWriter], dict[str, Any]]) -> None:
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    for left in folder.parent.glob(f"{folder.name}.*.tmp"):  # of processes that were killed
        shutil.rmtree(left, ignore_errors=True)
    temporary.mkdir()
    writer = ArrayWriter(temporary)
    try:
        notes = write(writer)
        writer.close()
        description = {"notes": notes, "arrays": writer.arrays}
        (temporary / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")
        temporary.rename(folder)
    except BaseException:
        writer.close()
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait for other processes that make the same folder."""
    with path.open("w") as file:
        if fcntl is not None:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        yield


def _mapped(path: Path, dtype: str, shape: list[int], mode: Any) -> np.ndarray:
    if 0 in shape:  # nothing can be mapped
        return np.zeros(shape, dtype)
    return np.memmap(path, np.dtype(dtype), mode, shape=tuple(shape))
