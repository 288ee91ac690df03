"""Whether what a verb will write can be written, checked before its work."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from memorycell.errors import UserError

PAGE = (".html", ".htm")
"""The suffixes of pages."""
MODEL = (".safetensors",)
"""The suffix of model files."""


def check_file(
    option: str, path: Path | None, suffixes: Sequence[str] = (), inputs: Sequence[object] = ()
) -> None:
    """Raises `UserError` where a file cannot be written, has none of the suffixes (if there are
    any), or is one of the inputs.

    option   names the file in messages: "--out"
    """
    if path is None:
        return
    if suffixes and path.suffix.lower() not in suffixes:
        raise UserError(f"{option} {path}: expected a name that ends in {' or '.join(suffixes)}")
    if path.is_dir():
        raise UserError(f"{option} {path}: is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise UserError(f"{option} {path}: is not a regular file; name another")
    if not path.parent.is_dir():
        raise UserError(
            f"{option} {path}: there is no folder {path.parent}; make it, or name another file"
        )
    for given in inputs:
        if isinstance(given, (str, Path)) and _same(path, given):
            raise UserError(f"{option} {path}: is the input, which it would replace; name another")
    _try(option, path)


def check_folder(option: str, folder: Path | None) -> None:
    """Raises `UserError` where a folder cannot be created or written into."""
    if folder is None:
        return
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UserError(f"{option} {folder}: cannot be created ({existing} is not a folder)")
    _try(option, folder if existing == folder else existing / folder.relative_to(existing).parts[0])


def _try(option: str, path: Path) -> None:
    """Create and remove a file with the longest name that writing `path` needs, beside it."""
    folder, name = (path, "x") if path.is_dir() else (path.parent, path.name)
    trial = folder / f".{name}.resume.{secrets.token_hex(4)}.part"
    try:
        with open(trial, "xb"):
            pass
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be written ({error.strerror or error})") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(trial)


def _same(path: Path, other: str | Path) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):
        return False
