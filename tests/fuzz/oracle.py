"""What may happen to a mutated input: it works, or an error of memorycell says why in one line."""

import contextlib
import resource
import signal
import warnings
from collections.abc import Callable, Iterator
from types import FrameType

from memorycell.errors import UserError

MAX_LINE_CHARS = 300
MAX_CPU_S = 100.0
"""Of one input."""
MAX_MORE_BYTES = 4 << 30
"""Of address space, above what the process had before."""


class SilentChangeError(Exception):
    """A damaged input was taken and gave other results."""


class _TooSlow(BaseException):
    """Raised by a timer; no handler of `Exception` stops it."""


def verdict(check: Callable[[], None]) -> str | None:
    """None, or what is wrong with how an input was treated."""
    try:
        with warnings.catch_warnings(), bounded():
            warnings.simplefilter("ignore")
            check()
    except UserError as error:
        return _wrong_message(error)
    except _TooSlow:
        return f"more than {MAX_CPU_S:g} s of processor time"
    except SilentChangeError as error:
        return f"silent change: {error}"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, and the panics of libraries written in Rust
        return f"{type(error).__name__}: {place_of(error)}: {str(error)[:200]!r}"
    return None


def _wrong_message(error: UserError) -> str | None:
    text = str(error)
    if not text or not text.isprintable():
        return f"{type(error).__name__}: {place_of(error)}: not one line: {text[:200]!r}"
    if len(text) >= MAX_LINE_CHARS:
        return f"{type(error).__name__}: {place_of(error)}: {len(text)} characters: {text[:120]!r}"
    return None


def place_of(error: BaseException) -> str:
    """The innermost line of memorycell in a traceback."""
    place, step = "?", error.__traceback__
    while step is not None:
        name = step.tb_frame.f_code.co_filename
        if "/memorycell/" in name and "/tests/" not in name:
            place = f"{name.rpartition('/memorycell/')[2]}:{step.tb_lineno}"
        step = step.tb_next
    return place


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Bounds of processor time and of memory."""

    def too_slow(_number: int, _frame: FrameType | None) -> None:
        raise _TooSlow

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as status:
        size = int(status.read().split()[0]) * resource.getpagesize()
    before = signal.signal(signal.SIGVTALRM, too_slow)
    resource.setrlimit(resource.RLIMIT_AS, (size + MAX_MORE_BYTES, hard))
    signal.setitimer(signal.ITIMER_VIRTUAL, MAX_CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, before)
