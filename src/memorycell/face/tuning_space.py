"""The search space as users write it: `lr=loguniform(1e-3,1e-2)`, or a TOML file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from memorycell.application.contract import AnyApplication
from memorycell.application.search_space import (
    Choice,
    Distribution,
    SearchSpace,
    Uniform,
    Value,
    default_space,
)
from memorycell.application.train_settings import TrainSettings
from memorycell.errors import UserError, quote
from memorycell.face.options import with_options
from memorycell.reading import read_text
from memorycell.setting_fields import parse_number

DISTRIBUTION = re.compile(r"\s*(\w+)\s*\((.*)\)\s*")
EXPECTED = "expected loguniform(low,high), uniform(low,high), logint(low,high), int(low,high) or"
EXPECTED += " choice(a,b,…)"
NOT_SEARCHED = {"seed": "the best settings are repeated with several seeds, see --seeds"}


def read_spaces(options: Sequence[str]) -> dict[str, Any]:
    """The texts of --space: key=distribution, or the name of a TOML file of them."""
    space: dict[str, Any] = {}
    for text in options:
        if text.endswith(".toml"):
            space |= read_toml(Path(text))
            continue
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--space {text}: expected key=distribution or a .toml file")
        space[key.strip()] = value
    return space


def read_toml(path: Path) -> dict[str, Any]:
    """Key -> text of a distribution or list of choices. Raises `UserError`."""
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: is not TOML ({error})") from None


def search_space(
    application: AnyApplication,
    given: Mapping[str, Any],
    settings: Any,
    train_settings: TrainSettings,
    fixed: Sequence[str] = (),
) -> SearchSpace:
    """The application's search space with the user's: `given` maps settings to a distribution, its
    text or a list of choices. Settings that are `fixed` are not searched.

    Raises `UserError` for an unknown setting and an impossible value.
    """
    space = {key: value for key, value in default_space(application).items() if key not in fixed}
    for key, value in given.items():
        if key in fixed:
            raise UserError(f"{key}: is fixed and searched; leave out one of the two")
        if key in NOT_SEARCHED:
            raise UserError(f"space {key}: not searched; {NOT_SEARCHED[key]}")
        space[key] = _distribution(application.name, key, value, [settings, train_settings])
    if not space:
        raise UserError("space: nothing is searched")
    return space


def to_json(space: SearchSpace) -> dict[str, dict[str, Any]]:
    """The space for a worker process."""
    return {key: dict(vars(value)) for key, value in space.items()}


def from_json(space: Mapping[str, Mapping[str, Any]]) -> SearchSpace:
    """What `to_json` gave."""
    return {k: Choice(**v) if "values" in v else Uniform(**v) for k, v in space.items()}


def _distribution(task: str, key: str, given: Any, defaults: Sequence[Any]) -> Distribution:
    try:
        if isinstance(given, (Uniform, Choice)):
            distribution: Distribution = given
        elif isinstance(given, (list, tuple)):
            distribution = Choice(list(given))
        elif isinstance(given, str):
            distribution = _parsed(task, key, given, defaults)
        else:
            raise ValueError(f"{quote(given)}: {EXPECTED}")
        for value in distribution.examples:
            with_options(defaults, {key: value}, task)
    except UserError as error:
        raise UserError(f"space {quote(key)[1:-1]}: {error}") from None
    except ValueError as error:
        raise UserError(f"space {quote(key)[1:-1]}={error}") from None
    return distribution


def _parsed(task: str, key: str, text: str, defaults: Sequence[Any]) -> Distribution:
    match = DISTRIBUTION.fullmatch(text)
    name = match[1] if match else ""
    parts = [part.strip() for part in match[2].split(",")] if match else []
    if name == "choice":
        return Choice([_typed(task, key, part, defaults) for part in parts])
    if name not in ("uniform", "loguniform", "int", "logint") or len(parts) != 2:
        raise ValueError(f"{quote(text)[1:-1]}: {EXPECTED}")
    low, high = (parse_number(part, float) for part in parts)
    return Uniform(low, high, log=name.startswith("log"), whole=name.endswith("int"))


def _typed(task: str, key: str, text: str, defaults: Sequence[Any]) -> Value:
    """A value as --set reads it."""
    values = with_options(defaults, {key: text}, task)
    value: Value = next(getattr(v, key) for v in values if hasattr(v, key))
    return value
