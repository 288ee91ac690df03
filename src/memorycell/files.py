"""Atomic writes, output folders, and tensors in safetensors files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import fcntl
except ImportError:  # no file locks on this system
    fcntl = None  # type: ignore[assignment]  # the module is optional

from memorycell.errors import UserError
from memorycell.setting_fields import parse_json

if TYPE_CHECKING:
    from torch import Tensor

METADATA_KEY = "memorycell"
"""Of the JSON text in a safetensors file's metadata."""
NO_CHECKSUM = "0" * 64
"""Stands for the checksum while it is computed: SHA-256 of all bytes, in hexadecimal digits."""
TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.part", re.DOTALL)
"""The name of a temporary file: that of the file it replaces, and random digits."""


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a temporary file in the same folder, flush it to disk, rename it, and flush the folder:
    readers see the old file or the new one, never a partial one, also after a crash.

    A process that is killed may leave its temporary file, `.NAME.….part`; the next write of the
    same file deletes it. Raises `UserError` if the folder is missing or not writable or the disk is
    full; the old file is then unchanged.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        with _temporary_file(path) as (descriptor, temporary):
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            os.fsync(descriptor)
            os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); nothing was changed"
        ) from None
    remove_orphans(path.parent, re.escape(path.name))
    _sync_folder(path)


def remove_orphans(folder: Path, names: str) -> None:
    """Delete the temporary files of writers that were killed; `names` is a regular expression for
    the names of the files that they wrote.

    A temporary file is locked while its writer lives; without locks nothing is deleted.
    """
    if fcntl is None:
        return
    with contextlib.suppress(OSError):
        for found in os.listdir(folder):
            match = TEMPORARY.fullmatch(found)
            if match and re.fullmatch(names, match["name"]):
                _remove_unlocked(folder / found)


def make_folder(folder: Path) -> Path:
    """Create the folder and its parents if missing, and return it. Raises `UserError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be created ({error.strerror or error}); nothing was changed"
        ) from None
    return folder


def tensors_to_bytes(tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> bytes:
    """A safetensors file with JSON values under `METADATA_KEY`, and in them "checksum", SHA-256 of
    all bytes. Raises ValueError for values that `read_tensors` would refuse: NaN and infinity.
    """
    import safetensors.torch

    # The checksum comes first: the values of others may contain the same text.
    text = json.dumps({"checksum": NO_CHECKSUM, **note})
    parse_json(text)
    copies = {n: tensor.detach().cpu().contiguous().clone() for n, tensor in tensors.items()}
    data = safetensors.torch.save(copies, {METADATA_KEY: text})
    start, end = _checksum_position(data, NO_CHECKSUM)
    return b"".join([data[:start], _checksum(data, start, end).encode(), data[end:]])


def read_tensors(data: bytes) -> tuple[Any, dict[str, Tensor]]:
    """(JSON values under `METADATA_KEY` or None, tensors) from the bytes of a safetensors file.

    The tensors are copies: a file that is overwritten later changes nothing. A checksum is verified
    where there is one; files of earlier versions have none. Raises ValueError.
    """
    import safetensors.torch

    try:
        tensors = safetensors.torch.load(data)
        header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
        text = (header.get("__metadata__") or {}).get(METADATA_KEY)
    except (
        safetensors.SafetensorError,
        AttributeError,
        LookupError,
        TypeError,
        RuntimeError,
        OverflowError,
    ) as error:
        raise ValueError(str(error)) from None
    note = None if text is None else parse_json(text)
    if isinstance(note, dict) and "checksum" in note:
        start, end = _checksum_position(data, note["checksum"])
        if _checksum(data, start, end) != note["checksum"]:
            raise ValueError("its checksum does not match")
    return note, tensors


def _checksum(data: bytes, start: int, end: int) -> str:
    """SHA-256 of a file, with `NO_CHECKSUM` in the place of the checksum."""
    view = memoryview(data)
    digest = hashlib.sha256(view[:start])
    digest.update(NO_CHECKSUM.encode())
    digest.update(view[end:])
    return digest.hexdigest()


def _checksum_position(data: bytes, checksum: object) -> tuple[int, int]:
    """Where a checksum begins and ends: its first occurrence is in the metadata. Raises
    ValueError.
    """
    if not isinstance(checksum, str) or len(checksum) != len(NO_CHECKSUM) or not checksum.isascii():
        raise ValueError("not a checksum")
    start = data.index(checksum.encode())
    return start, start + len(checksum)


@contextlib.contextmanager
def _temporary_file(path: Path) -> Iterator[tuple[int, Path]]:
    """(descriptor, path) of a new, locked file beside `path`; deleted at the end if it still has
    its name.
    """
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _BINARY, 0o666)
        try:
            # Another process may have locked and deleted it before this one locked it.
            if _lock(descriptor) and os.fstat(descriptor).st_nlink:
                yield descriptor, temporary
                return
        finally:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                os.unlink(temporary)


_BINARY = getattr(os, "O_BINARY", 0)  # of Windows


def _lock(descriptor: int) -> bool:
    """Lock a file for as long as it is open; False if another process has locked it."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            pass
    return True


def _remove_unlocked(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(temporary)
        finally:
            os.close(descriptor)


def _sync_folder(path: Path) -> None:
    """Flush the folder of a file that was written, so that its name survives a power failure."""
    try:
        descriptor = os.open(path.parent, os.O_RDONLY)
    except OSError:  # not on this system, or the folder is not readable
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # not on this file system
            raise UserError(
                f"{path}: written, but its folder cannot be flushed to disk ({error.strerror})"
            ) from None
    finally:
        os.close(descriptor)
