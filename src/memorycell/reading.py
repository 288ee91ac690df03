"""Reading what people have: text in any encoding, and a count of what could not be used."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from memorycell.errors import DataError, counted, quote

MAX_SKIPPED = 0.05
"""Share of the data that a reader may leave out without lossy=true."""
BYTE_ORDER_MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


@dataclass
class Losses:
    """What a reader left out, repaired or guessed, counted by reason.

    unit   what is counted, in the plural: "rows", "notes"
    """

    unit: str
    skipped: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)

    def skip(self, reason: str, count: int = 1) -> None:
        """Count what was left out. The reason completes "12 rows left out: …"."""
        self.skipped[reason] += count

    def repair(self, what: str, count: int = 1) -> None:
        """Count what was repaired or guessed. `what` completes "12 rows: …"."""
        self.repaired[what] += count

    def notes(self, total: int) -> list[str]:
        """One line per reason; `total` is the number of units in the input."""
        return [
            f"{count:,} of {total:,} {self.unit} left out: {reason}"
            for reason, count in self.skipped.items()
            if count
        ] + [
            f"{counted(count, self.unit)}: {what}" for what, count in self.repaired.items() if count
        ]

    def check(self, total: int, where: str, lossy: bool = False) -> None:
        """Raises `DataError` where more than `MAX_SKIPPED` of the input was left out, unless the
        user accepted it with lossy=true.
        """
        count = sum(self.skipped.values())
        if lossy or count <= MAX_SKIPPED * total:
            return
        reason = max(self.skipped, key=self.skipped.__getitem__)
        raise DataError(
            f"{where}: {count:,} of {total:,} {self.unit} would be left out ({reason}); correct"
            " them, or accept the loss: --set lossy=true"
        )


def read_text(path: Path, encoding: str | None = None) -> str:
    """The normalised text of a file; see `decode_text`. Raises `DataError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    text = decode_text(data, str(path), encoding)
    if not text.strip():
        raise DataError(f"{path}: contains no text")
    return normalise(text)


def decode_text(data: bytes, where: str, encoding: str | None = None) -> str:
    """Bytes as text without a byte order mark. By default their encoding is UTF-8, or UTF-16 or
    UTF-32 with a byte order mark.

    Raises `DataError`, with the line and the byte where the encoding is wrong.
    """
    if encoding is None:
        _check_utf16(data, where)
        marks = (name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark))
        encoding = next(marks, "utf-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{where}: line {line}: byte {error.start} (0x{data[error.start]:02x}) is not"
            f" {encoding.removesuffix('-sig')}; set the encoding: --set encoding=cp1252"
        ) from None
    except (LookupError, ValueError):  # unknown, or not an encoding of text
        raise DataError(
            f"{where}: unknown encoding {quote(encoding)}; try utf-8, cp1252, latin-1, shift-jis"
        ) from None
    if "\0" in text[:10_000] and encoding == "utf-8-sig":
        raise DataError(f"{where}: contains NUL bytes, not a text file")
    return text.removeprefix("\ufeff")


def normalise(text: str) -> str:
    """Unicode NFC with LF as newline, without byte order marks and NUL characters."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "").replace("\0", "")
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _check_utf16(data: bytes, where: str) -> None:
    """Raises `DataError` for UTF-16 without a byte order mark: half of the bytes of Latin text are
    NUL.
    """
    start = data[:4000]
    if data.startswith(tuple(BYTE_ORDER_MARKS)) or 4 * start.count(0) < max(len(start), 1):
        return
    odd, even = start[1::2].count(0), start[::2].count(0)
    if odd > 10 * even or even > 10 * odd:
        name = "utf-16-le" if odd > even else "utf-16-be"
        raise DataError(
            f"{where}: looks like UTF-16 without a byte order mark: --set encoding={name}"
        )
