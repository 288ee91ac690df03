"""The files of an export, written into a folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from memorycell.files import make_folder, write_atomically

MAX_NAME_CHARS = 100
"""Of a name of files and of what they define."""
STANDARD_HEADERS = ("math", "stddef", "stdio")
"""Of C, without suffix: no exported header may take the place of one that it includes."""


@dataclass(frozen=True)
class Exported:
    """The files by name, and sizes in bytes by name (of C: flash_bytes of constants, state_bytes,
    stack_bytes of a step's local arrays).
    """

    files: Mapping[str, str | bytes]
    sizes: Mapping[str, int] = field(default_factory=dict)


def identifier(name: str) -> str:
    """A name as an ASCII identifier, for files and what they define."""
    name = re.sub(r"\W", "_", name[:MAX_NAME_CHARS], flags=re.ASCII)
    if name.isidentifier() and name.lower() not in STANDARD_HEADERS:
        return name
    return f"m_{name}"[:MAX_NAME_CHARS]


def write(contents: Mapping[str, str | bytes], folder: Path) -> list[str]:
    """Write files into a folder, which is created if missing; return their paths. Raises
    `UserError` where the folder cannot be written.
    """
    make_folder(folder)
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return [str(folder / name) for name in contents]
