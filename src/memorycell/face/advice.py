"""Errors for Python programs: they advise keyword arguments instead of command line options."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from memorycell.application.advice import SETTING
from memorycell.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")

OPTION = re.compile(r"(?<![\w-])--(to|precision|minutes|epochs|out|state|input|resume|device)\b")
BARE = re.compile(r"-?\d[\d.]*|[A-Z]|…|")
"""Values that are written as they are: numbers, a letter that stands for one, nothing."""
YES_NO = {"yes": "True", "true": "True", "no": "False", "false": "False"}


def with_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with `as_arguments` of the messages of its `UserError`s."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except UserError as error:
            message = as_arguments(str(error))
            if message == str(error):
                raise
            raise type(error)(message) from None

    return wrapped


def as_arguments(message: str) -> str:
    """A message with keyword arguments, `every="5m"`, instead of options, `--set every=5m`."""
    return OPTION.sub(r"\1", SETTING.sub(_argument, message))


def _argument(match: re.Match[str]) -> str:
    value = match["value"]
    if value in YES_NO:
        value = YES_NO[value]
    elif not BARE.fullmatch(value):
        value = '"' + value.strip("'") + '"'
    return f"{match['train'] or ''}{match['name']}={value}"
