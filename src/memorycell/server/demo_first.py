"""Train the models of --demo before workers start: `python -m memorycell.server.demo_first`.

The supervisor does without PyTorch, and each worker then finds the models in the cache.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading

from memorycell.server.demo import train_demos
from memorycell.server.logs import set_up_logging


def main() -> int:
    """Train what is not in the cache; SIGTERM ends it."""
    set_up_logging(sys.argv[1])
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
    train_demos(None, logging.getLogger("memorycell.server").info, stopped=stopped.is_set)
    return 0


if __name__ == "__main__":
    sys.exit(main())
