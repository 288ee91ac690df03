"""The settings of a task, listed: `memorycell.settings`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from html import escape
from typing import Any, Literal

from memorycell.application import catalogue
from memorycell.errors import UserError, quote

Verb = Literal["train", "predict", "session"]


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting of a task.

    type      the Python type, as it is annotated: "int | None"
    meaning   from the documentation of the settings' class
    """

    name: str
    type: str
    default: Any
    meaning: str


class SettingList(list[Setting]):
    """Settings, which print as a table."""

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Name -> `{"type", "default", "meaning"}`."""
        fields = ("type", "default", "meaning")
        return {s.name: {field: getattr(s, field) for field in fields} for s in self}

    def __repr__(self) -> str:
        if not self:
            return "no settings"
        name = max(len(s.name) for s in self)
        kind = max(len(s.type) for s in self)
        default = max(len(repr(s.default)) for s in self)
        return "\n".join(
            f"{s.name:{name}}  {s.type:{kind}}  {s.default!r:{default}}  {s.meaning}".rstrip()
            for s in self
        )

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("name", "type", "default", "meaning"))
        rows = "".join(
            "<tr>"
            + "".join(
                f'<td style="text-align: left">{escape(cell)}</td>'
                for cell in (s.name, s.type, repr(s.default), s.meaning)
            )
            + "</tr>"
            for s in self
        )
        return f"<table><tr>{head}</tr>{rows}</table>"


def settings(task: str, verb: Verb = "train") -> SettingList:
    """The settings of a task with their types, defaults and meanings.

    verb   "train": those of `memorycell.train`; "predict", "session": the options of `Trained`'s
           methods of that name

    Raises `UserError` for an unknown task or verb, and for a task whose package is missing.
    """
    application = catalogue.load(task)
    kinds = {
        "train": (application.settings(), application.training),
        "predict": (application.predict_options(),),
        "session": (application.stream_options(),),
    }
    if verb not in kinds:
        raise UserError(f"settings: expected {', '.join(kinds)}, got {quote(verb)}")
    return SettingList(setting for value in kinds[verb] for setting in _settings_of(value))


def _settings_of(value: Any) -> Iterator[Setting]:
    meanings = _meanings(type(value))
    for field in dataclasses.fields(value):
        kind = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", "")
        yield Setting(field.name, kind, getattr(value, field.name), meanings.get(field.name, ""))


def _meanings(kind: type) -> dict[str, str]:
    """Field -> its meaning, from the docstrings of a class and of those that it inherits from, in
    lines "name, other   meaning".
    """
    meanings: dict[str, str] = {}
    for owner in filter(dataclasses.is_dataclass, reversed(kind.__mro__)):
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
