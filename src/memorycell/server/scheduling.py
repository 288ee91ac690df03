"""When the next batch begins.

Without a window, at the next turn of the event loop: what arrived in this turn is then together.
With a window, under load, up to the window later, but not once the batch is as large as usual.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

BUSY_SHARE = 0.5
"""Of the time; above it batches wait to fill."""
SMOOTHING = 0.1


class Scheduler:
    """Calls `run` once for any number of `schedule`; `window_s` is the longest wait."""

    def __init__(self, run: Callable[[], None], window_s: float) -> None:
        self._callback, self._window_s = run, window_s
        self._handle: asyncio.Handle | None = None
        self._waits = False
        self.settled = False
        """Whether the next run is certain: `schedule` would change nothing."""
        self._usual = 1.0  # rows of a batch
        self._share = 0.0  # of time in batches
        self._last = time.perf_counter()

    def schedule(self, rows: int) -> None:
        """Run soon; `rows` wait."""
        if self._handle is not None:
            if self._waits and rows >= self._usual:
                self._handle.cancel()
                self._soon()
            return
        if self._window_s and self._share > BUSY_SHARE and rows < self._usual:
            loop = asyncio.get_running_loop()
            self._handle, self._waits = loop.call_later(self._window_s, self._run), True
        else:
            self._soon()

    def _soon(self) -> None:
        self._handle, self._waits = asyncio.get_running_loop().call_soon(self._run), False
        self.settled = True

    def _run(self) -> None:
        self._handle, self.settled = None, False
        started = time.perf_counter()
        self._callback()
        if self._window_s:
            ended = time.perf_counter()
            share = (ended - started) / max(ended - self._last, 1e-9)
            self._share += SMOOTHING * (share - self._share)
            self._last = ended

    def batch_started(self, rows: int) -> None:
        """Note the size of a batch."""
        if self._window_s:
            self._usual += SMOOTHING * (rows - self._usual)
