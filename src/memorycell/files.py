"""Files that are whole or absent."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from memorycell.errors import UserError


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write beside the target, flush to the disk, then rename: readers see the old file or the new
    one, never half of it.

    Raises `UserError` when the folder is missing, not writable or the disk is full; the old file is
    then untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(beside, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); nothing was changed"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(beside)


def made_folder(folder: Path) -> Path:
    """The folder, made where it was missing. Raises `UserError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be made ({error.strerror or error}); nothing was changed"
        ) from None
    return folder
