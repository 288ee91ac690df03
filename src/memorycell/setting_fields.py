"""Settings: dataclasses whose fields the user sets with --set key=value, or that a file stores as
JSON. Values are checked against the types of the fields.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from memorycell.errors import UserError, quote

S = TypeVar("S")
YES_NO = {"yes": True, "true": True, "no": False, "false": False}
TYPE_NAMES = {bool: "yes or no", int: "a whole number", float: "a number"}
"""The names of types in messages."""
MAX_COUNT = 10_000_000
MAX_COUNTS = {"hidden": 16_384, "layers": 64, "embedding": 16_384, "beam": 1_000}
"""Upper bounds of settings that several applications have; those of the others are MAX_COUNT."""
MAX_NUMBER = 1e12
"""Bound of the magnitude of numbers in --set."""
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
DECIMAL_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


def check_counts(settings: Any, *names: str) -> None:
    """Raises ValueError if a field is not from 1 to its upper bound; None is allowed."""
    check_ranges(settings, **{name: (1, MAX_COUNTS.get(name, MAX_COUNT)) for name in names})


def check_ranges(settings: Any, **ranges: tuple[float, float]) -> None:
    """Raises ValueError if a field is not a number from its lower to its upper bound; None is
    allowed, NaN is not.
    """
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        if value is None:
            continue
        if isinstance(value, (bool, str)) or not low <= value <= high:
            raise ValueError(f"{name}={quote(value)}: expected {low:,} to {high:,}")


def check_choices(settings: Any, **choices: Sequence[str | None]) -> None:
    """Raises ValueError if a field is not one of its choices."""
    for name, allowed in choices.items():
        value = getattr(settings, name)
        if value not in allowed:
            raise ValueError(f"{name}={value}: expected {', '.join(c for c in allowed if c)}")


def parse_number(text: str, kind: type[int] | type[float]) -> int | float:
    """A number in ASCII digits, without underscores, finite. Raises ValueError."""
    pattern = WHOLE_NUMBER if kind is int else DECIMAL_NUMBER
    if pattern.fullmatch(text):
        number = kind(text)
        if math.isfinite(number):
            return number
    raise ValueError(f"{quote(text)} is not {TYPE_NAMES[kind]}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """A question with the known name nearest to a mistyped one; empty where none is near."""
    near = difflib.get_close_matches(name.lower(), known, n=1)
    return f"did you mean {near[0]}? " if near else ""


def parse_settings(defaults: Sequence[Any], pairs: Mapping[str, str]) -> list[Any]:
    """Each dataclass value with some fields replaced by key=value pairs; each key belongs to one.
    Raises `UserError`.
    """
    known = {field.name: type(value) for value in defaults for field in dataclasses.fields(value)}
    for key in pairs:
        if key not in known:
            raise UserError(
                f"--set {quote(key)[1:-1]}: no such setting; {suggestion(key, known)}there are"
                f" {', '.join(sorted(known))}"
            )
    result = []
    for default in defaults:
        kind = type(default)
        hints = get_type_hints(kind)
        values = {
            key: _convert(key, text, hints[key])
            for key, text in pairs.items()
            if known[key] is kind
        }
        try:
            result.append(dataclasses.replace(default, **values))
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"--set {error}") from None
    return result


def parse_json(text: str | bytes, max_bytes: int = 64 << 20) -> Any:
    """JSON as plain values. Raises ValueError for text that is not JSON, larger than `max_bytes`,
    nested too deeply, or that holds NaN, infinity or a number beyond float64.
    """
    if len(text) > max_bytes:
        raise ValueError(f"{len(text):,} bytes of JSON, more than {max_bytes:,}")
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ValueError(str(error)) from None


def from_json(kind: type[S], values: Any) -> S:
    """A dataclass value from `parse_json`'s values: each field has the type that the class gives
    it, strictly (an int is also a float, a list a tuple), and its own checks run. Ranges are part
    of a type: `Annotated[int, msgspec.Meta(ge=1)]`.

    Raises ValueError, which names the field, also for missing fields and for unknown ones, at every
    level.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"expected an object, got {quote(values)}")
    try:
        _check_names(kind, values, "")
        return msgspec.convert(dict(values), kind)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except msgspec.ValidationError as error:
        raise ValueError(str(error).replace("`", "").replace("$.", "")) from None


def _check_names(hint: Any, value: Any, where: str) -> None:
    """Raises ValueError for a field that a dataclass within the type does not have. msgspec ignores
    the unknown fields of dataclasses.
    """
    if not _has_fields(hint):
        return
    if dataclasses.is_dataclass(hint):
        if isinstance(value, Mapping):
            hints = _field_hints(hint)  # type: ignore[arg-type]
            for name, item in value.items():
                if name not in hints:
                    raise ValueError(f"unknown field {quote(f'{where}{name}')}")
                _check_names(hints[name], item, f"{where}{name}.")
        return
    inner = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        for option in inner:
            is_object = dataclasses.is_dataclass(option) or get_origin(option) in (dict, Mapping)
            if is_object == isinstance(value, Mapping):
                _check_names(option, value, where)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check_names(inner[-1], item, f"{where}{quote(key)[1:-1]}.")
    elif isinstance(value, (list, tuple)):
        is_row = get_origin(hint) is tuple and inner[-1] is not Ellipsis
        for k, item in enumerate(value):
            _check_names(inner[min(k, len(inner) - 1)] if is_row else inner[0], item, where)


@cache
def _has_fields(hint: Any) -> bool:
    """Whether values of a type contain objects with fields."""
    return dataclasses.is_dataclass(hint) or any(
        _has_fields(inner) for inner in get_args(hint) if inner is not hint
    )


@cache
def _field_hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def settings_from_json(kind: type[S], values: Mapping[str, Any]) -> S:
    """Settings as a model file stores them; bool settings were "yes" and "no" in earlier versions.

    Raises ValueError; see `from_json`.
    """
    hints = get_type_hints(kind)
    return from_json(
        kind,
        {
            key: YES_NO.get(value, value)
            if isinstance(value, str) and bool in _options(hints.get(key))
            else value
            for key, value in values.items()
        },
    )


def _options(hint: Any) -> tuple[Any, ...]:
    """The types that a field may have."""
    return getattr(hint, "__args__", (hint,))


def _convert(key: str, text: str, hint: Any) -> Any:
    options = _options(hint)
    # For text settings "none" is a value: no inputs, no calendar.
    words = ("",) if str in options else ("", "none")
    if type(None) in options and text.lower() in words:
        return None
    if bool in options and text.lower() in YES_NO:
        return YES_NO[text.lower()]
    for kind in (int, float):
        if kind in options:
            try:
                number = parse_number(text, kind)
            except ValueError:
                continue
            if abs(number) > MAX_NUMBER:
                raise UserError(f"--set {key}={text}: expected at most {MAX_NUMBER:g}")
            return number
    if str in options:
        return text
    expected = " or ".join(TYPE_NAMES.get(o, o.__name__) for o in options if o is not type(None))
    raise UserError(f"--set {key}={text}: expected {expected}")
