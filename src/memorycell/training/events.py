"""What a training run reports while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from memorycell.application.contract import Metrics


@dataclass(frozen=True)
class Step:
    """One optimiser step.

    steps     of the run; None before it is planned
    seconds   since the run began, with those before it was resumed
    speed     steps of the data (characters, words, rows) per second in this epoch
    """

    epoch: int
    epochs: int | None
    step: int
    steps: int | None
    loss: float
    seconds: float
    speed: float


@dataclass(frozen=True)
class Epoch:
    """One epoch.

    best            lowest selection metric so far
    best_baseline   the best baseline's selection metric; None where it has none
    warning         about the gradients, or None
    """

    epoch: int
    epochs: int
    loss: float
    valid: Metrics
    best: float
    best_baseline: float | None
    seconds: float
    speed: float
    warning: str | None


OnEvent: TypeAlias = Callable[[Step | Epoch], None]
Log: TypeAlias = Callable[[str], None]


def ignore(event: object) -> None:
    """For a run that nobody follows."""
