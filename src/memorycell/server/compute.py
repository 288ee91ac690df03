"""Where computation runs: what is short on the event loop, what is long in one thread.

The native engine and PyTorch release the interpreter's lock while they compute, so that the event
loop continues. Handing work to a thread costs about 0.1 ms; a batch that is shorter than that many
times over runs at once.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
MAX_INLINE_US = 2000.0
"""Estimated duration of a batch that still runs on the event loop."""
SWITCH_INTERVAL_S = 0.0005
"""How long a thread may keep the interpreter's lock when another waits for it."""


class Compute:
    """One thread for everything that is long, so that no two computations use one model at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = ThreadPoolExecutor(1, "memorycell-compute")
        sys.setswitchinterval(SWITCH_INTERVAL_S)

    async def call(self, function: Callable[[], T]) -> T:
        """Run a function in the thread."""
        return await self._loop.run_in_executor(self._thread, function)

    def start(self, function: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Run a function in the thread; `done` is called on the event loop."""

        def run() -> None:
            result: T | BaseException
            try:
                result = function()
            except BaseException as error:
                result = error
            self._loop.call_soon_threadsafe(done, result)

        self._thread.submit(run)

    def close(self) -> None:
        """Wait for what runs, and end the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)


class Cost:
    """A running estimate of what one unit of work costs, in microseconds."""

    def __init__(self, first_us: float) -> None:
        self.us = first_us

    def is_short(self, units: int) -> bool:
        """Whether work should run on the event loop."""
        return self.us * units <= MAX_INLINE_US

    def measured(self, units: int, seconds: float) -> None:
        """Note the duration of work."""
        own = seconds * 1e6 / max(units, 1)
        self.us += (0.5 if own > self.us else 0.1) * (own - self.us)
