"""Tables as JSON: an object a line, or one array of objects. Objects within objects become columns
named "outer.inner".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from memorycell.errors import DataError, quote
from memorycell.reading import decode_text
from memorycell.setting_fields import parse_json

if TYPE_CHECKING:
    import polars as pl

MAX_LINE_BYTES = 10_000_000
MAX_ARRAY_BYTES = 1 << 30
NAN = re.compile(rb"(?<=[:,\[])\s*NaN\s*(?=[,}\]])")
"""What Python writes into files for a missing number; it is not JSON."""
BETWEEN = re.compile(r"[\s,]*")
"""Between objects."""
MAX_DEPTH = 8
"""Of objects within objects that become columns."""


def read_json_lines(data: bytes, where: str, encoding: str | None = None) -> pl.DataFrame:
    """The table of lines that each hold an object, with or without a comma at the end; also of
    objects over several lines one after another, and of one array. Raises `DataError` with the
    line.
    """
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
    for candidate in (text, NAN.sub(b"null", text)):
        try:
            return pl.read_ndjson(candidate, infer_schema_length=None)
        except pl.exceptions.PolarsError:
            continue
    return _frame(_objects(text, where), where)


def read_json_array(data: bytes, where: str, encoding: str | None = None) -> pl.DataFrame:
    """The table of an array of objects, of an object of equally long arrays, or of an object that
    holds one such array. Raises `DataError`.
    """
    import polars as pl

    text = _utf8(data, where, encoding)
    try:
        values = parse_json(_lenient(text), MAX_ARRAY_BYTES)
    except ValueError as error:
        if re.match(rb"\s*\{", text) and re.search(rb"\}\s*,?\s*\n\s*\{", text):
            return read_json_lines(text, where)
        problem = f"{_line_of(str(error), _lenient(text))}is not JSON ({quote(str(error))[1:-1]})"
        raise DataError(f"{where}: {problem}") from None
    if isinstance(values, dict):
        arrays = [v for v in values.values() if isinstance(v, list) and v]
        objects = [v for v in arrays if isinstance(v[0], dict)]
        if len(objects) == 1:
            values = objects[0]
    if isinstance(values, list) and values and all(isinstance(v, dict) for v in values):
        return _frame(values, where)
    try:
        if isinstance(values, dict) and len({len(v) for v in arrays}) == 1 == len(values) / len(
            arrays
        ):
            return pl.DataFrame(values, strict=False)
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: is not a table ({quote(str(error))[1:-1]})") from None
    raise DataError(f"{where}: expected an array of objects, as in [{{...}}, {{...}}]")


def _objects(text: bytes, where: str) -> list[dict[str, Any]]:
    """The objects of a text, each in one line or over several. Raises `DataError`."""
    decoded, objects, end = text.decode(), list[dict[str, Any]](), 0
    decoder = json.JSONDecoder(parse_constant=_constant)
    while (start := BETWEEN.match(decoded, end).end()) < len(decoded):  # type: ignore[union-attr]
        try:
            value, end = decoder.raw_decode(decoded, start)
            if not isinstance(value, dict):
                raise ValueError("expected an object with a value for each column")
        except RecursionError:
            raise DataError(f"{where}: is not JSON (JSON is nested too deeply)") from None
        except ValueError as error:
            at = error.pos if isinstance(error, json.JSONDecodeError) else start
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            number = decoded.count("\n", 0, at) + 1
            raise DataError(
                f"{where}: line {number}: is not JSON ({quote(reason)[1:-1]})"
            ) from None
        objects.append(value)
    return objects


def _constant(name: str) -> None:
    """What Python writes for a number that is not finite; NaN is a missing value."""
    if name != "NaN":
        raise ValueError(f"{name} is not a number of JSON")


def _frame(rows: list[dict[str, Any]], where: str) -> pl.DataFrame:
    """The table of objects. Raises `DataError`, also where a column holds objects or lists in some
    rows only: the others would be lost.
    """
    import polars as pl

    kinds: dict[str, tuple[type, int]] = {}
    for number, row in enumerate(rows, 1):
        for name, value in row.items():
            if value is None:
                continue
            kind = type(value) if isinstance(value, (dict, list)) else object
            first, at = kinds.setdefault(name, (kind, number))
            if first is not kind:
                raise DataError(
                    f"{where}: column {quote(name)} holds {_kind(first)} in object {at:,}, but"
                    f" {_kind(kind)} in object {number:,}"
                )
    try:
        return pl.DataFrame(rows, infer_schema_length=None, strict=False)
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: is not a table ({quote(str(error))[1:-1]})") from None


def _kind(kind: type) -> str:
    return "an object" if kind is dict else "an array" if kind is list else "a plain value"


def _lenient(text: bytes) -> bytes:
    """An array that Python or a person wrote: NaN for a missing number, a comma at its end."""
    return re.sub(rb",(\s*\])\s*\Z", rb"\1", NAN.sub(b"null", text))


def _line_of(reason: str, text: bytes) -> str:
    """The line of the byte in a message of the JSON parser, such as "line 3: "; else ""."""
    found = re.search(r"byte (\d+)", reason)
    return "" if found is None else f"line {text[: int(found[1])].count(10) + 1}: "


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
