"""Settings and options as keyword arguments, with the names of the command line's --set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_type_hints

import msgspec
import numpy as np

from memorycell.errors import UserError, quote
from memorycell.ops import binding
from memorycell.setting_fields import parse_settings, suggestion
from memorycell.tables.column_lists import join_names

S = TypeVar("S")


def typed_options(kind: type[S], options: Mapping[str, Any], task: str) -> S:
    """Options of one kind. Raises `UserError`."""
    (value,) = with_options([kind()], options, task)
    result: S = value
    return result


def with_options(defaults: Sequence[Any], options: Mapping[str, Any], task: str) -> list[Any]:
    """Each dataclass value with some fields replaced; text is read as on the command line.

    Raises `UserError` for an unknown name, with the nearest one, and for a value of another type or
    out of range.
    """
    known = [field.name for value in defaults for field in dataclasses.fields(value)]
    for name in options:
        if name not in known:
            there_are = f"there are {', '.join(known)}" if known else "there are none"
            advice = suggestion(name, known).strip() or there_are
            raise UserError(f"{task} has no setting {quote(name)}; {advice}")
    texts = {name: value for name, value in options.items() if isinstance(value, str)}
    typed = {name: value for name, value in options.items() if name not in texts}
    try:
        values = parse_settings(defaults, texts)
    except UserError as error:
        raise UserError(str(error).removeprefix("--set ")) from None
    return [_replaced(value, typed) for value in values]


def check_precision(precision: str) -> None:
    """Raises `UserError` for an unknown precision."""
    if precision not in binding.PRECISIONS:
        raise UserError(f"precision={quote(precision)}: expected {', '.join(binding.PRECISIONS)}")


def check_range(name: str, value: Any, low: float, high: float) -> None:
    """Raises `UserError` where a value is not a number in a range; None is allowed."""
    if value is not None and not (
        isinstance(value, (int, float, np.number))
        and not isinstance(value, bool)
        and low <= value <= high
    ):
        raise UserError(f"{name}={quote(value)}: expected a number {low:,} to {high:,}")


def _plain(value: Any) -> Any:
    """A value as --set has it: numpy's numbers as Python's, lists as text with commas, names that
    have commas in quotes.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return join_names(str(_plain(item)) for item in value)
    return value


def _replaced(default: Any, options: Mapping[str, Any]) -> Any:
    hints = get_type_hints(type(default))
    values = {}
    for field in dataclasses.fields(default):
        if field.name not in options:
            continue
        given = _plain(options[field.name])
        try:
            values[field.name] = msgspec.convert(given, hints[field.name])
        except msgspec.ValidationError as error:
            raise UserError(f"{field.name}={quote(given)}: {str(error).replace('`', '')}") from None
    try:
        return dataclasses.replace(default, **values)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from None
