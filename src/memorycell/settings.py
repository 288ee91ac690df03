"""Settings: dataclasses whose fields the user sets with --set key=value, or that a file stores as
JSON. Values are checked against the types of the fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_type_hints

import msgspec

from memorycell.errors import UserError, quote

S = TypeVar("S")
YES_NO = {"yes": True, "true": True, "no": False, "false": False}
TYPE_NAMES = {bool: "yes or no", int: "a whole number", float: "a number"}
"""The names of types in messages."""


def check_counts(settings: Any, *names: str) -> None:
    """Raises ValueError if a field is below 1; None is allowed."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}: expected 1 or more")


def check_choices(settings: Any, **choices: Sequence[str | None]) -> None:
    """Raises ValueError if a field is not one of its choices."""
    for name, allowed in choices.items():
        if getattr(settings, name) not in allowed:
            raise ValueError(
                f"{name}={getattr(settings, name)}: expected {', '.join(c for c in allowed if c)}"
            )


def parse_settings(defaults: Sequence[Any], pairs: Mapping[str, str]) -> list[Any]:
    """Each dataclass value with some fields replaced by key=value pairs; each key belongs to one.
    Raises `UserError`.
    """
    known = {field.name: type(value) for value in defaults for field in dataclasses.fields(value)}
    for key in pairs:
        if key not in known:
            raise UserError(f"--set {key}: no such setting; there are {', '.join(sorted(known))}")
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

    Raises ValueError, which names the field, also for unknown and missing fields.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"expected an object, got {quote(values)}")
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in names:
            raise ValueError(f"unknown field {quote(name)}")
    try:
        return msgspec.convert(dict(values), kind)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except msgspec.ValidationError as error:
        raise ValueError(str(error).replace("`", "").replace("$.", "")) from None


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
                return kind(text)
            except ValueError:
                continue
    if str in options:
        return text
    expected = " or ".join(TYPE_NAMES.get(o, o.__name__) for o in options if o is not type(None))
    raise UserError(f"--set {key}={text}: expected {expected}")
