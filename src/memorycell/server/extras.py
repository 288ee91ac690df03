"""Models that are no files: the story, and those of --demo."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memorycell.errors import UserError
from memorycell.server.context import LOG
from memorycell.server.loading import Source
from memorycell.server.served import served_entry

if TYPE_CHECKING:
    import asyncio

    from memorycell.server.registry import Registry

STOP_S = 5


def add_story(registry: Registry) -> None:
    """Serve the article's story."""
    from memorycell.server import story

    registry.add_entry(served_entry(story.NAME, story.NAME, story.open_story, story.about()))


def start_demo(registry: Registry, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """Train and serve small models in a thread of their own; gives what stops it."""
    from memorycell.server.demo import train_demos

    ended = threading.Event()

    async def add(name: str, path: Path) -> None:
        try:
            await registry.add_source(Source(name, path, "file"))
        except UserError as error:
            LOG.warning("demo %s: %s", name, error)

    def on_ready(name: str, path: Path) -> None:
        import asyncio

        asyncio.run_coroutine_threadsafe(add(name, path), loop)

    def on_progress(name: str, state: dict[str, Any]) -> None:
        loop.call_soon_threadsafe(registry.progress.__setitem__, name, state)

    def run() -> None:
        try:
            train_demos(None, LOG.info, on_ready, on_progress, stopped=ended.is_set)
        except Exception as error:
            LOG.error("demo: training failed", exc_info=error)

    thread = threading.Thread(target=run, name="memorycell-demo", daemon=True)
    thread.start()

    def stop() -> None:
        ended.set()
        thread.join(STOP_S)  # a thread inside the engine at the process's end aborts it

    return stop
