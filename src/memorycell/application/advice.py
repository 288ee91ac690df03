"""The advice in errors of trained models: settings of training are not options of other verbs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from memorycell.application.contract import AnyApplication
from memorycell.errors import UserError
from memorycell.setting_fields import parse_settings

SETTING = re.compile(
    r"(?P<train>train (?:with |without )?)?--set (?P<name>\w+)="
    r"(?P<value>'[^']*'|(?<=decimal=)[.,]|[^\s;)]*[^\s;),.]|)"
)
"""A setting in a message, with what is before and after its name."""


@contextmanager
def training_advice(application: AnyApplication, options: Any) -> Iterator[None]:
    """Raises `UserError` with the advice "--set group=COLUMN in training" instead of "--set
    group=COLUMN" for settings of training that are not among the options of the verb.

    options   of the verb, a dataclass value
    """
    names = {field.name for field in dataclasses.fields(options)}
    settings = {field.name for field in dataclasses.fields(application.settings)}

    def amended(match: re.Match[str]) -> str:
        name, value = match["name"], match["value"]
        if match["train"] or name not in settings:
            return match[0]
        if name in names and _is_taken(options, name, value):
            return match[0]
        return f"{match[0]} in training"

    try:
        yield
    except UserError as error:
        message = SETTING.sub(amended, str(error))
        if message == str(error):
            raise
        raise type(error)(message) from None


def _is_taken(options: Any, name: str, value: str) -> bool:
    """Whether an option may have a value: the `every` of a forecast is a number of steps, that of
    training a time such as 5m.
    """
    try:
        parse_settings([options], {name: value.strip("'")})
    except UserError:
        return value in ("", "…")
    return True
