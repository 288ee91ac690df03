"""What requests say, read and checked."""

from __future__ import annotations

import base64
import binascii
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import orjson

from memorycell.application.contract import Item
from memorycell.errors import quote
from memorycell.server.problems import Problem
from memorycell.server.sessions import OpenOptions
from memorycell.setting_fields import from_json

ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
CHOICES = {
    "input": ("items", "tensors"),
    "precision": ("float32", "bfloat16", "int8"),
    "durable": ("none", "step", "interval"),
}
MAX_HISTORY = 5000
MAX_TTL_S = 1e9
MAX_ITEMS = 100_000
MAX_PATH_CHARS = 4096


@dataclass(frozen=True)
class _Opening:
    """The body of POST sessions."""

    id: str | None = None
    input: Literal["items", "tensors"] | None = None
    precision: Literal["float32", "bfloat16", "int8"] = "float32"
    durable: Literal["none", "step", "interval"] = "none"
    ttl_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_TTL_S)] | None = None
    history: Annotated[int, msgspec.Meta(ge=0, le=MAX_HISTORY)] = 0
    options: dict[str, Any] = field(default_factory=dict)
    state: str | None = None


def parse_json(body: bytes) -> Any:
    """JSON values. Raises `Problem` 400."""
    try:
        return orjson.loads(body)
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise Problem("bad-request", f"the body is not JSON ({str(error)[:120]})") from None


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object; of an empty body, an empty one. Raises `Problem` 400."""
    values = parse_json(body) if body.strip() else {}
    if not isinstance(values, dict):
        raise Problem("bad-request", "expected a JSON object")
    return values


def parse_opening(values: Mapping[str, Any], owner: str) -> OpenOptions:
    """How to open a session. Raises `Problem` 400."""
    if "history" in values:
        values = {**values, "history": _whole(values["history"])}
    for name, choices in CHOICES.items():
        if values.get(name) is not None and values[name] not in choices:
            expected, got = ", ".join(choices), quote(values[name])
            raise Problem("bad-request", f"{name}: expected one of {expected}, got {got}")
    try:
        opening = from_json(_Opening, values)
    except ValueError as error:
        raise Problem("bad-request", f"sessions: {error}") from None
    if opening.id is not None:
        check_id(opening.id)
    check_no_paths(opening.options)
    state = None if opening.state is None else decode_base64(opening.state, "state")
    return OpenOptions(
        opening.id,
        opening.input,
        opening.precision,
        opening.durable,
        opening.ttl_s,
        opening.history,
        opening.options,
        owner,
        state,
    )


def check_id(id: str) -> str:
    """The id of a session. Raises `Problem` 400."""
    if not ID.fullmatch(id):
        raise Problem("bad-request", f"id {quote(id)}: expected 1 to 64 of A-Z a-z 0-9 _ . : -")
    return id


def decode_base64(text: Any, name: str) -> bytes:
    """Raises `Problem` 400."""
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, TypeError, binascii.Error):
        raise Problem("bad-request", f"{name}: expected base64") from None


def parse_item(value: Any) -> Item:
    """What a session of items reads. Raises `Problem` 422."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        if len(value) == 1 and "base64" in value:
            return decode_base64(value["base64"], "base64")
        return value
    if isinstance(value, list):  # a point [x, y]
        return orjson.dumps(value).decode()
    raise Problem(
        "unusable-input",
        'expected a string, an object, or {"base64": "…"} for bytes, got'
        f" {'null' if value is None else type(value).__name__}",
    )


def parse_items(values: Any, *, tensors: bool) -> list[Any]:
    """A list of items. Raises `Problem`."""
    if not isinstance(values, list):
        raise Problem("bad-request", "items: expected a list")
    if len(values) > MAX_ITEMS:
        raise Problem("too-large", f"items: at most {MAX_ITEMS:,} per request")
    return values if tensors else [parse_item(value) for value in values]


def whole_number(text: Any, name: str, low: int = 0, high: int = 2**53) -> int:
    """Of a query, or of JSON. Raises `Problem` 400."""
    if isinstance(text, str) and re.fullmatch(r"[0-9]{1,16}", text):
        text = int(text)
    text = _whole(text)
    if not isinstance(text, int) or isinstance(text, bool) or not low <= text <= high:
        raise Problem("bad-request", f"{name}: expected a whole number {low} to {high}")
    return text


def _whole(value: Any) -> Any:
    """130.0 as 130, as JSON Schema reads it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check_no_paths(options: Mapping[str, Any]) -> None:
    """Raises `Problem` 400 for options that name a file of the server."""
    for name, value in options.items():
        if not isinstance(value, str) or "\0" in value or len(value) > MAX_PATH_CHARS:
            continue
        path = Path(value)
        try:
            named = path.is_file() or (os.sep in value and path.parent.is_dir())
        except OSError:
            continue
        if named:
            raise Problem("bad-request", f"options: {name}: files of the server are not read")


def seconds_of(ms: Any) -> float | None:
    """A deadline in milliseconds. Raises `Problem` 400."""
    if ms is None:
        return None
    try:
        value = float(ms) if not isinstance(ms, bool) else math.nan
    except (ValueError, TypeError):
        value = math.nan
    if not 0 < value <= 3.6e6:
        raise Problem("bad-request", "deadline_ms: expected a number above 0, at most 3600000")
    return value / 1000


def flag(value: Any) -> bool:
    """Yes or no, of a query or of JSON."""
    return value in (True, 1, "1", "true", "yes")
