"""Atomic writes and output folders."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from memorycell.errors import UserError


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a temporary file in the same folder, flush it to disk, then rename it: readers see the
    old file or the new one, never a partial one.

    Raises `UserError` if the folder is missing or not writable or the disk is full; the old file is
    then unchanged.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); nothing was changed"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def make_folder(folder: Path) -> Path:
    """Create the folder and its parents if missing, and return it. Raises `UserError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be created ({error.strerror or error}); nothing was changed"
        ) from None
    return folder
