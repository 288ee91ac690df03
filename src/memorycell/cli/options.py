"""Options and arguments that several verbs have, and the ranges of their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from memorycell.errors import UserError


def whole(low: int, high: int) -> Any:
    """The settings of an option that is a whole number in a range, for `typer.Option`."""
    return _ranged(int, low, high)


def number(low: float, high: float) -> Any:
    """As `whole`, for any finite number."""
    return _ranged(float, low, high)


def _ranged(kind: type[int] | type[float], low: float, high: float) -> dict[str, Any]:
    expected = f"expected {'a whole number' if kind is int else 'a number'} {low:,} to {high:,}"

    def parse(text: str | float) -> float:
        from memorycell.setting_fields import parse_number

        try:
            value = parse_number(text, kind) if isinstance(text, str) else text
        except ValueError as error:
            raise typer.BadParameter(f"{error}; {expected}") from None
        if not low <= value <= high:
            raise typer.BadParameter(f"{value}: {expected}")
        return value

    return {"parser": parse, "metavar": "N" if kind is int else "X"}


AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")
]
ModelPath = Annotated[Path, typer.Argument(metavar="FILE", help="A model file (.safetensors).")]
Data = Annotated[
    str | None, typer.Argument(metavar="[DATA]", help="A file, or the name of a dataset.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.")
]
MINUTES = number(0.01, 100_000)
Minutes = Annotated[
    float | None,
    typer.Option("--minutes", help="Approximate training time in minutes.", **MINUTES),
]
Device = Annotated[
    str | None,
    typer.Option("--device", help="Where to train: cpu, cuda, mps [default: cuda, else cpu]."),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="Processes that share the work [default: 1].", **whole(1, 1024)),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Run on a Ray cluster: auto, HOST:PORT, ray://HOST:PORT, or local.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", **whole(0, 2**32 - 1))]


def key_values(settings: list[str] | None) -> dict[str, str]:
    """The pairs of --set. Raises `UserError`."""
    pairs = {}
    for text in settings or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text}: expected key=value")
        pairs[key.strip()] = value.strip()
    return pairs
