"""The life of worker processes: they end with the process that started them, also if it is killed,
and divide its cores.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

from memorycell.training.events import Log
from memorycell.training.threads import SHARE

LOOK_EVERY_S = 0.5
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
"""The environment variables that limit the threads of one process."""


def end_with(parent: int) -> None:
    """End this process at once when its parent is no longer `parent`. Ctrl-C, which a terminal
    sends to both, is the parent's affair.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def cores() -> int:
    """The cores that this process may use."""
    with contextlib.suppress(AttributeError):  # not on this system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def note_workers(workers: int, log: Log) -> None:
    """Say where there are more workers than cores, which is allowed."""
    if workers > cores():
        log(f"{workers} workers share {cores()} cores")


def threads_of(workers: int) -> dict[str, str]:
    """Environment variables by which every worker has its share of the cores. Those that are set
    stay, and the first of them decides for the others. A single worker without any needs none.
    """
    given = next((os.environ[name] for name in THREADS if name in os.environ), None)
    if given is None and workers == 1:
        return {}
    share = given or str(max(cores() // workers, 1))
    variables = {name: share for name in THREADS if name not in os.environ}
    return variables if given else {**variables, SHARE: share}


@contextlib.contextmanager
def environment(variables: dict[str, str], *restored: str) -> Iterator[None]:
    """Set environment variables meanwhile; `restored` are set by others within."""
    before = {name: os.environ.get(name) for name in (*variables, *restored)}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
