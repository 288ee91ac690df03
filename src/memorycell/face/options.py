"""Settings and options as keyword arguments, with the names of the command line's --set."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_type_hints

import msgspec

from memorycell.application import catalogue
from memorycell.application.contract import TrainSettings
from memorycell.errors import UserError, quote
from memorycell.settings import parse_settings

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
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise UserError(f"{task} has no setting {quote(name)}; {hint}")
    texts = {name: value for name, value in options.items() if isinstance(value, str)}
    typed = {name: value for name, value in options.items() if name not in texts}
    return [_replaced(value, typed) for value in parse_settings(defaults, texts)]


def _replaced(default: Any, options: Mapping[str, Any]) -> Any:
    hints = get_type_hints(type(default))
    values = {}
    for field in dataclasses.fields(default):
        if field.name not in options:
            continue
        try:
            values[field.name] = msgspec.convert(options[field.name], hints[field.name])
        except msgspec.ValidationError as error:
            raise UserError(
                f"{field.name}={quote(options[field.name])}: {str(error).replace('`', '')}"
            ) from None
    try:
        return dataclasses.replace(default, **values)
    except ValueError as error:
        raise UserError(str(error)) from None


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting of a task: its type in words, its default, and what it means."""

    name: str
    type: str
    default: Any
    meaning: str


class SettingList(list[Setting]):
    """Settings that print as a table."""

    def __repr__(self) -> str:
        width = max(len(setting.name) for setting in self)
        return "\n".join(
            f"{s.name:{width}}  {s.type}, default {s.default!r}\n{'':{width}}  {s.meaning}"
            for s in self
        )


def settings(task: str) -> SettingList:
    """The settings of a task: those of its data and model, and those of training. Raises
    `UserError`.
    """
    application = catalogue.load(task)
    return SettingList(
        Setting(field.name, str(field.type), getattr(value, field.name), meaning)
        for value in (application.settings(), application.training)
        for meanings in [_meanings(type(value))]
        for field in dataclasses.fields(value)
        for meaning in [meanings.get(field.name, "")]
    )


def _meanings(kind: type) -> dict[str, str]:
    """Field -> its meaning, from docstrings with lines "name, other   meaning" of the class and
    those it inherits from.
    """
    meanings: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if owner is TrainSettings or dataclasses.is_dataclass(owner):
            names: list[str] = []
            for line in (owner.__doc__ or "").splitlines()[1:]:
                text = line.strip()
                head, gap, rest = text.partition("  ")
                if gap and not line.startswith(" " * 8):
                    names = [name.strip() for name in head.split(",")]
                    meanings |= {name: rest.strip() for name in names}
                elif not text:
                    names = []
                else:
                    for name in names:
                        meanings[name] += f" {text}"
    return meanings
