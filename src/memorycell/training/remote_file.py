"""A file at a URL of any storage that fsspec knows: file://, s3://, gs://, memory://, …"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from memorycell.errors import UserError, quote


class RemoteFile:
    """The methods of a `Path` that checkpoints need, for a file at a URL.

    All raise `UserError` where the storage cannot be used: a package is missing, access is denied,
    there is no network.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        with self._reported("used"):
            import fsspec  # type: ignore[import-untyped]  # PyTorch depends on it

            found: tuple[Any, str] = fsspec.core.url_to_fs(url)
            self._system, self._path = found

    def __str__(self) -> str:
        return self.url

    def exists(self) -> bool:
        """Whether there is such a file."""
        with self._reported("read"):
            self._system.invalidate_cache()  # listings may be of earlier
            return bool(self._system.exists(self._path))

    def read_bytes(self) -> bytes:
        """All bytes."""
        with self._reported("read"):
            return bytes(self._system.cat_file(self._path))

    def write_bytes(self, content: bytes) -> None:
        """Write another name, and rename it: readers see the old file or the new one."""
        temporary = f"{self._path}.{secrets.token_hex(4)}.part"
        with self._reported("written"):
            self._system.makedirs(self._system._parent(self._path), exist_ok=True)
            self._system.pipe_file(temporary, content)
            self._system.mv(temporary, self._path)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the file."""
        with self._reported("deleted"):
            if not missing_ok or self._system.exists(self._path):
                self._system.rm_file(self._path)

    def version(self) -> str | None:
        """Changes when the file is written again; None where there is none."""
        if not self.exists():
            return None
        with self._reported("read"):
            return str(self._system.ukey(self._path))

    @contextmanager
    def _reported(self, verb: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # every storage has errors of its own
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(
                f"{self.url}: cannot be {verb} ({quote(reason[0])[1:-1]}); nothing was changed"
            ) from None
