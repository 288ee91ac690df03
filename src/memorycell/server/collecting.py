"""Fewer searches for garbage in cycles while a server runs.

With Python's defaults, a thousand waiting messages start a search every few hundred messages, a
fifth of the processor time; and a search through everything, models and libraries included, stops
all sessions for tens of milliseconds. What a server allocates per message is freed by counting
references; cycles come from exceptions and closed connections, which are few.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

NEW_OBJECTS = 100_000
"""More containers than were freed since the last search start one."""
YOUNG, MIDDLE = 20, 20
"""Searches of a generation before the next older one is searched."""


@contextmanager
def rare_collections() -> Iterator[None]:
    """Leave what exists out of searches, and search rarely; as before at the end."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, YOUNG, MIDDLE)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
