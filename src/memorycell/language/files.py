"""Text files, also gzipped ones, in the encoding that the user names."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

from memorycell.errors import DataError, counted, quote
from memorycell.reading import decode_text, normalise

MAX_UNPACKED_BYTES = 1 << 30
"""Of a gzipped file."""
MAX_NUL_SHARE = 0.01
"""More NUL characters mean another encoding, or no text."""
NOT_FILE_ENCODINGS = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined"}
"""Python codecs that do not decode files."""


def read_file(path: Path, encoding: str | None = None, notes: list[str] | None = None) -> str:
    """The normalised text of a file; see `normalise` and `read_decoded`."""
    return normalise(read_decoded(path, encoding, notes))


def read_lines(
    path: Path, encoding: str | None = None, notes: list[str] | None = None
) -> list[str]:
    """The normalised lines of a file, where the number of a line matters: a line ends with LF or
    CRLF, or with CR in a file without LF. See `read_decoded`.
    """
    text = read_decoded(path, encoding, notes)
    if "\n" not in text:
        return normalise(text).removesuffix("\n").split("\n")
    lines = text.removesuffix("\n").split("\n")
    lines = [line.removesuffix("\r") for line in lines]
    inside = sum("\r" in line for line in lines)
    if inside and notes is not None:
        notes.append(
            f"{path.name}: {counted(inside, 'lines')}: a carriage return inside is read as a space"
        )
    return [normalise(line.replace("\r", " ")) for line in lines]


def read_decoded(path: Path, encoding: str | None = None, notes: list[str] | None = None) -> str:
    """The text of a file as it is; NUL characters are removed, with a line in `notes`.

    encoding   by default UTF-8, or UTF-16 or UTF-32 with a byte order mark

    Raises `DataError` for a file that cannot be read, is not text in the encoding, or is blank.
    """
    data = read_bytes(path)
    text = decode_text(data, str(path), encoding)
    if not text.strip():
        raise DataError(f"{path}: contains no text")
    count = text.count("\0")
    if count > MAX_NUL_SHARE * len(text):
        raise DataError(f"{path}: contains {count:,} NUL characters: not a text in this encoding")
    if count and notes is not None:
        notes.append(f"{path.name}: {count:,} NUL characters removed")
    return text.replace("\0", "")


def input_text(source: str | None) -> str:
    """The normalised text of a prediction's input. Raises `DataError` for half characters: bytes of
    a command line that are not UTF-8, or halves of surrogate pairs.
    """
    text = normalise(source or "")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"predict: character {error.start + 1} is {quote(text[error.start])}, not UTF-8 text"
        ) from None
    return text


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, unpacked if its name ends with .gz. Raises `DataError`."""
    try:
        if path.suffix.lower() != ".gz":
            return path.read_bytes()
        with gzip.open(path) as file:
            data = file.read(MAX_UNPACKED_BYTES + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a complete gzipped file ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) > MAX_UNPACKED_BYTES:
        raise DataError(f"{path}: more than {MAX_UNPACKED_BYTES:,} bytes unpacked; split the file")
    return data


def is_blank(path: Path) -> bool:
    """Whether a file holds no text but whitespace. Raises `DataError` where it cannot be read."""
    return not read_bytes(path).strip(b" \t\r\n\0\xff\xfe\xef\xbb\xbf")


def unpacked_name(path: Path) -> str:
    """The name of a file in lower case, without .gz."""
    return path.name.lower().removesuffix(".gz")


def check_encoding(encoding: str | None) -> None:
    """Raises ValueError for a setting that does not name an encoding of text."""
    if encoding is None:
        return
    try:
        known = codecs.lookup(encoding).name not in NOT_FILE_ENCODINGS
        b" ".decode(encoding, "replace")
    except (LookupError, ValueError):
        known = False
    if not known:
        raise ValueError(
            f"encoding={quote(encoding)}: unknown; try utf-8, cp1252, latin-1, utf-16, shift-jis"
        )
