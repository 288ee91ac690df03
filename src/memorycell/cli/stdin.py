"""Standard input as lines, bytes or one text. Everything here raises `UserError` where stdin is
closed or cannot be read, and `DataError`, with the line, where it is not UTF-8 text.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

from memorycell.errors import DataError, UserError

MAX_LINE_CHARS = 1 << 20
"""Length of a line, so that input without newlines does not fill the memory."""
CHUNK_BYTES = 1 << 16


def lines() -> Iterator[str]:
    """The lines without their newlines, as soon as each is complete."""
    stream = _open()
    count = 0
    while line := _read(stream):
        count += 1
        if len(line) > MAX_LINE_CHARS:
            raise DataError(f"stdin, line {count}: longer than {MAX_LINE_CHARS:,} characters")
        _check_unicode(line, count)
        yield line.rstrip("\r\n")


def chunks() -> Iterator[bytes]:
    """Bytes as they arrive."""
    stream = _open().buffer
    while True:
        try:
            data = stream.read1(CHUNK_BYTES)  # type: ignore[attr-defined]
        except OSError as error:
            raise _unreadable(error) from None
        if not data:
            return
        yield data


def text() -> str:
    """All of it, normalised as a text file is."""
    from memorycell.reading import normalise

    return normalise("\n".join(lines()))


def _open() -> io.TextIOWrapper:
    """sys.stdin, read as UTF-8 with or without a byte order mark."""
    if sys.stdin is None:
        raise UserError("stdin is closed; give the input through a pipe, or < FILE")
    if isinstance(sys.stdin, io.TextIOWrapper):
        # With surrogateescape, bytes that are not UTF-8 are refused in their line, not before.
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="surrogateescape")
    return sys.stdin  # type: ignore[return-value]


def _read(stream: io.TextIOWrapper) -> str:
    try:
        return stream.readline(MAX_LINE_CHARS + 1)
    except OSError as error:
        raise _unreadable(error) from None


def _unreadable(error: OSError) -> UserError:
    return UserError(f"stdin: cannot be read ({error.strerror or error})")


def _check_unicode(line: str, number: int) -> None:
    if line.isascii():
        return
    try:
        line.encode()
    except UnicodeEncodeError as error:
        byte = ord(line[error.start]) - 0xDC00
        raise DataError(
            f"stdin, line {number}: byte 0x{byte:02x} is not UTF-8; convert it first: iconv -f"
            " CP1252 -t UTF-8"
        ) from None
