"""A line with a bar in the output of a notebook's cell, which needs no widgets."""

from __future__ import annotations

import html
import time
from importlib import import_module
from typing import Any

UPDATE_EVERY_S = 0.2


class NotebookLine:
    """A line that is replaced at every `show`, at most five times per second."""

    def __init__(self) -> None:
        display: Any = import_module("IPython.display")
        # None where a program runs on a notebook's server without a cell
        self._handle = display.display({"text/plain": "reading"}, raw=True, display_id=True)
        self._shown = 0.0

    def show(self, text: str, share: float | None) -> None:
        """A text, and the completed share 0 … 1 as a bar; None: unknown."""
        if time.monotonic() - self._shown < UPDATE_EVERY_S:
            return
        self._shown = time.monotonic()
        value = "" if share is None else f' value="{share:.3f}"'
        bar = f"<progress max=1{value}></progress> {html.escape(text)}"
        percent = "" if share is None else f"{share:.0%} "
        self._update({"text/html": bar, "text/plain": percent + text})

    def close(self) -> None:
        """Leave nothing of it."""
        self._update({"text/html": "", "text/plain": ""})

    def _update(self, data: dict[str, str]) -> None:
        if self._handle is not None:
            self._handle.update(data, raw=True)
