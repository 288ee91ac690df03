"""Keep what a library in Rust prints when it panics off the terminal."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

STDERR = 2
_lock = threading.Lock()


@contextmanager
def without_panic_text(*panics: type[BaseException]) -> Iterator[None]:
    """Collect what is written to the process's standard error, and write it there at the end, but
    not where one of `panics` is raised: its text says all.

    Rust prints a panic and its stack before the exception is raised in Python.
    """
    with _lock, tempfile.TemporaryFile() as collected:
        try:
            original = os.dup(STDERR)
        except OSError:  # it is closed
            yield
            return
        try:
            with suppress(OSError, ValueError, AttributeError):
                sys.stderr.flush()
            os.dup2(collected.fileno(), STDERR)
            try:
                yield
            except panics:
                collected.truncate(0)
                raise
            finally:
                os.dup2(original, STDERR)
                collected.seek(0)
                with suppress(OSError):
                    os.write(STDERR, collected.read())
        finally:
            os.close(original)
