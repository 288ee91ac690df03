"""Atomic writes, output folders, and tensors in safetensors files."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memorycell.errors import UserError
from memorycell.settings import parse_json

if TYPE_CHECKING:
    from torch import Tensor

METADATA_KEY = "memorycell"
"""Of the JSON text in a safetensors file's metadata."""


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


def read_tensors(data: bytes) -> tuple[Any, dict[str, Tensor]]:
    """(JSON values under `METADATA_KEY` or None, tensors) from the bytes of a safetensors file.

    The tensors are copies: a file that is overwritten later changes nothing. Raises ValueError.
    """
    import safetensors.torch

    try:
        tensors = safetensors.torch.load(data)
        header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
        note = (header.get("__metadata__") or {}).get(METADATA_KEY)
    except (safetensors.SafetensorError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from None
    return None if note is None else parse_json(note), tensors
