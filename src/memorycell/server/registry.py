"""The models of a server by name and version, and what happens when their files change."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from memorycell.errors import UserError
from memorycell.server.compute import Compute
from memorycell.server.context import LOG
from memorycell.server.loading import Source
from memorycell.server.problems import Problem
from memorycell.server.served import ServedModel

OnVersion = Callable[[ServedModel, "ServedModel | None"], Awaitable[None]]
"""Called with a new version and the one it replaces."""
Stamp = tuple[int, int, int]


class Registry:
    """Loads models and replaces them.

    versions    name -> the versions that are in use, the newest last
    on_version  see `OnVersion`
    """

    def __init__(self, sources: Sequence[Source], compute: Compute, on_version: OnVersion) -> None:
        names = [source.name for source in sources]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"{name}: two files of this name; use NAME=FILE")
        self._sources = {source.name: source for source in sources}
        self._compute, self._on_version = compute, on_version
        self.versions: dict[str, list[ServedModel]] = {}
        self._stamps: dict[str, Stamp | None] = {}
        self._latest: dict[str, int] = {}
        self._loading = asyncio.Lock()
        self.progress: dict[str, dict[str, Any]] = {}
        """Name -> progress of models that are being trained."""

    def models(self) -> list[ServedModel]:
        """The newest version of each."""
        return [versions[-1] for versions in self.versions.values()]

    def model(self, name: str, version: int | None = None) -> ServedModel:
        """A model. Raises `Problem` 404."""
        for served in reversed(self.versions.get(name, ())):
            if version is None or served.version == version:
                return served
        there_are = ", ".join(self.versions) or "none"
        what = name if version is None else f"{name} in version {version}"
        raise Problem("no-such-model", f"{what[:80]!r} is not served; there are: {there_are}")

    def with_fingerprint(self, name: str, fingerprint: str, precision: str) -> ServedModel | None:
        """The version that a stored session belongs to."""
        for served in reversed(self.versions.get(name, ())):
            if served.fingerprint_of(precision) == fingerprint:
                return served
        return None

    def add_entry(self, served: ServedModel) -> None:
        """Serve something that is no file."""
        self.versions.setdefault(served.name, []).append(served)

    async def add_source(self, source: Source) -> ServedModel:
        """Serve another file. Raises `UserError`."""
        self._sources[source.name] = source
        return await self.reload(source.name)

    async def load_all(self) -> None:
        """Read all files. Raises `UserError` for the first that cannot be read."""
        for name in self._sources:
            await self.reload(name)

    async def reload(self, name: str) -> ServedModel:
        """Read a model's file again; it replaces the version before. Raises `UserError`, and the
        old version continues.
        """
        source = self._sources.get(name)
        if source is None:
            self.model(name)
            raise Problem("bad-request", f"{name} is not served from a file")
        async with self._loading:
            self._stamps[name] = _stamp(source.path)
            version = self._latest.get(name, 0) + 1
            try:
                served = await self._compute.call(lambda: source.load(version))
            except Exception as error:
                current = self.versions.get(name)
                if not isinstance(error, UserError):
                    LOG.error("%s: cannot be loaded", source.path, exc_info=error)
                    error = UserError(f"{source.path}: cannot be loaded ({type(error).__name__})")
                if current:
                    current[-1].problem = f"{error}; version {current[-1].version} continues"
                    LOG.warning("%s: %s", name, current[-1].problem)
                raise error from None
            self._latest[name] = version
            versions = self.versions.setdefault(name, [])
            previous = versions[-1] if versions else None
            if previous is not None and previous.fingerprint == served.fingerprint:
                previous.problem = None  # the same weights
                self._latest[name] = version - 1
                return previous
            versions.append(served)
            await self._on_version(served, previous)
            self.drop_unused()
            return served

    def drop_unused(self) -> None:
        """Forget old versions without sessions."""
        for versions in self.versions.values():
            versions[:-1] = [served for served in versions[:-1] if served.sessions > 0]

    async def watch(self, interval_s: float) -> None:
        """Reload files that change, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            for name, source in list(self._sources.items()):
                stamp = _stamp(source.path)
                if stamp is not None and stamp != self._stamps.get(name):
                    try:
                        served = await self.reload(name)
                        LOG.info("%s: version %d", name, served.version)
                    except UserError as error:
                        LOG.warning("%s: not reloaded: %s", name, error)
            self.drop_unused()


def _stamp(path: Path) -> Stamp | None:
    """Changes when a file is replaced or written; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
