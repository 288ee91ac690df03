"""Ctrl-C, SIGTERM and SIGHUP raise KeyboardInterrupt, but not in the middle of a step or a save."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType, TracebackType

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within it the signals raise KeyboardInterrupt. One that whoever started the program ignores,
    as nohup does SIGHUP, stays ignored. No effect outside the main thread.
    """
    uninterrupted.stopping = False
    before = {}
    with contextlib.suppress(ValueError):  # not in the main thread
        for kind in SIGNALS:
            if signal.getsignal(kind) is not signal.SIG_IGN:
                before[kind] = signal.signal(kind, _on_signal)
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


class Uninterrupted:
    """A context in which a signal waits; it raises KeyboardInterrupt at the end."""

    def __init__(self) -> None:
        self.active = False
        self.waiting = False
        self.stopping = False

    def __enter__(self) -> None:
        self.active = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.active = False
        if self.waiting:
            self.waiting = False
            if error is None:
                self.stopping = True
                raise KeyboardInterrupt


uninterrupted = Uninterrupted()
"""There is one command line, and so one such context; it is not nested."""


def _on_signal(signum: int, frame: FrameType | None) -> None:
    """Supervisors and terminals send SIGTERM and SIGHUP together: the second changes nothing."""
    if uninterrupted.active:
        uninterrupted.waiting = True
    elif not uninterrupted.stopping or signum == signal.SIGINT:
        uninterrupted.stopping = True
        raise KeyboardInterrupt
