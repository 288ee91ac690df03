"""Tables as JSON: an object a line, or one array of objects. Objects within objects become columns
named "outer.inner".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from memorycell.errors import DataError, quote
from memorycell.reading import decode_text
from memorycell.settings import parse_json

if TYPE_CHECKING:
    import polars as pl

MAX_LINE_BYTES = 10_000_000
MAX_ARRAY_BYTES = 1 << 30
NAN = re.compile(rb"(?<=[:,\[])\s*NaN\s*(?=[,}\]])")
"""What Python writes into files for a missing number; it is not JSON."""
MAX_DEPTH = 8
"""Of objects within objects that become columns."""


def read_json_lines(data: bytes, where: str, encoding: str | None = None) -> pl.DataFrame:
    """The table of lines that each hold an object. Raises `DataError` with the line."""
    import polars as pl

    text = _utf8(data, where, encoding)
    for number, line in enumerate(text.split(b"\n") if len(text) > MAX_LINE_BYTES else (), 1):
        if len(line) > MAX_LINE_BYTES:
            raise DataError(
                f"{where}: line {number} has {len(line):,} bytes, more than {MAX_LINE_BYTES:,}"
            )
    if not text.strip():
        raise DataError(f"{where}: is empty; expected an object a line")
    if text.lstrip().startswith(b"["):
        return read_json_array(text, where)
    reason = ""
    for candidate in (text, NAN.sub(b"null", text)):
        try:
            return pl.read_ndjson(candidate, infer_schema_length=None)
        except pl.exceptions.PolarsError as error:
            reason = reason or str(error).splitlines()[0]
    for number, line in enumerate(text.split(b"\n"), 1):
        if line.strip():
            try:
                parse_row(NAN.sub(b"null", line))
            except ValueError as error:
                problem = quote(str(error))[1:-1]
                raise DataError(f"{where}: line {number}: is not JSON ({problem})") from None
    raise DataError(f"{where}: is not a readable table ({quote(reason)[1:-1]})")


def read_json_array(data: bytes, where: str, encoding: str | None = None) -> pl.DataFrame:
    """The table of an array of objects, of an object of equally long arrays, or of an object that
    holds one such array. Raises `DataError`.
    """
    import polars as pl

    text = _utf8(data, where, encoding)
    try:
        values = parse_json(text, MAX_ARRAY_BYTES)
    except ValueError as error:
        if re.match(rb"\s*\{.*\}\s*\n\s*\{", text):
            return read_json_lines(text, where)
        raise DataError(f"{where}: is not JSON ({quote(str(error))[1:-1]})") from None
    if isinstance(values, dict):
        arrays = [v for v in values.values() if isinstance(v, list) and v]
        objects = [v for v in arrays if isinstance(v[0], dict)]
        if len(objects) == 1:
            values = objects[0]
    try:
        if isinstance(values, list) and values and all(isinstance(v, dict) for v in values):
            return pl.DataFrame(values, infer_schema_length=None, strict=False)
        if isinstance(values, dict) and len({len(v) for v in arrays}) == 1 == len(values) / len(
            arrays
        ):
            return pl.DataFrame(values, strict=False)
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: is not a table ({quote(str(error))[1:-1]})") from None
    raise DataError(f"{where}: expected an array of objects, as in [{{...}}, {{...}}]")


def parse_row(text: str | bytes) -> dict[str, Any]:
    """The object of a line, as columns. Raises ValueError."""
    values = parse_json(text)
    if not isinstance(values, dict):
        raise ValueError("expected an object with a value for each column")
    return dict(flattened_row(values))


def flattened_row(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row in which objects have become columns "outer.inner", as in `flattened`."""
    if not any(isinstance(value, dict) for value in row.values()):
        return row
    result: dict[str, Any] = {}
    for name, value in row.items():
        if not isinstance(value, dict):
            result[name] = value
        else:
            inner = flattened_row(value)
            result |= {f"{name}.{key}": v for key, v in inner.items() if f"{name}.{key}" not in row}
    return result


def flattened(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    """A frame in which structs have become columns "outer.inner"."""
    import polars as pl

    for _ in range(MAX_DEPTH):
        structs = [c for c in frame.columns if isinstance(frame[c].dtype, pl.Struct)]
        if not structs:
            return frame
        parts: list[pl.Series] = []
        for c in frame.columns:
            column = frame[c]
            if c in structs:
                inner = column.struct.unnest()
                parts += [inner[k].alias(f"{c}.{k}") for k in inner.columns]
            else:
                parts.append(column)
        names = [part.name for part in parts]
        if len(set(names)) < len(names):
            repeated = next(name for name in names if names.count(name) > 1)
            raise DataError(f"{where}: two columns are called {quote(repeated)}; rename one")
        frame = pl.DataFrame(parts)
    raise DataError(f"{where}: objects within objects, deeper than {MAX_DEPTH}")


def _utf8(data: bytes, where: str, encoding: str | None) -> bytes:
    if encoding is None and data.isascii():
        return data
    return decode_text(data, where, encoding).encode("utf-8", "replace")
