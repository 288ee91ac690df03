"""Ports of the loopback interface for servers that tests start, also again on the same port."""

from __future__ import annotations

import atexit
import functools
import itertools
import socket
from collections.abc import Iterator

FIRST, LAST = 20_000, 32_000
"""Below those that Linux gives to connections and to servers without a port of their own, which
could take a port between the choice and the start of the server, and while it is restarted.
"""
BLOCK = 100


def free_port() -> int:
    """A port that no other process of tests gets, and that nothing uses now."""
    return next(_ports())


@functools.cache
def _ports() -> Iterator[int]:
    first = _claim_block()

    def free() -> Iterator[int]:
        for number in itertools.cycle(range(first + 1, first + BLOCK)):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if _bound(probe, number):
                    yield number

    return free()


def _claim_block() -> int:
    """The first port of a block; a socket holds it while this process runs."""
    for first in range(FIRST, LAST, BLOCK):
        guard = socket.socket()
        if _bound(guard, first):
            atexit.register(guard.close)
            return first
        guard.close()
    raise RuntimeError(f"no block of {BLOCK} ports between {FIRST} and {LAST} is free")


def _bound(probe: socket.socket, number: int) -> bool:
    try:
        probe.bind(("127.0.0.1", number))
    except OSError:
        return False
    return True
