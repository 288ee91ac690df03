"""Requests to a tensor lane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

OK, NO_HANDLE, REFUSED, QUEUE_FULL, IN_USE, DEADLINE, STORE_FULL, STORE_UNAVAILABLE = range(8)
"""Status of a row."""


class Reply(Protocol):
    """Takes the answer of a request, on the event loop."""

    def __call__(self, y: bytes, status: np.ndarray | None) -> None:
        """y: the outputs, rows of float32; status: [n] uint8, None: all are OK."""


class Work:
    """Rows of different sessions: slots [n], or an int for one; row: inputs as bytes."""

    __slots__ = ("count", "deadline", "reply", "row", "slots")

    def __init__(
        self,
        slots: int | np.ndarray,
        row: bytes | memoryview,
        count: int,
        reply: Reply,
        deadline: float = 0.0,
    ) -> None:
        self.slots, self.row, self.count, self.reply = slots, row, count, reply
        self.deadline = deadline


class Call:
    """A function that needs a session between two of its steps; `units` is its length in steps."""

    __slots__ = ("count", "deadline", "done", "function", "slots", "units")

    def __init__(
        self, slot: int, function: Callable[[], Any], done: Callable[[Any], None], units: int
    ) -> None:
        self.slots, self.function, self.done, self.units = slot, function, done, units
        self.count, self.deadline = 1, 0.0
