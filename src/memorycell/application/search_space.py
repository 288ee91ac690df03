"""What `tune` searches: a range or choices for each setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from memorycell.application.contract import AnyApplication

Value: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True)
class Uniform:
    """A number from low to high.

    log     uniform in its logarithm
    whole   a whole number
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"{self}: expected low < high")
        if self.log and self.low <= 0:
            raise ValueError(f"{self}: expected low > 0 for a logarithm")
        if self.whole and not (float(self.low).is_integer() and float(self.high).is_integer()):
            raise ValueError(f"{self}: expected whole numbers")

    def __str__(self) -> str:
        name = f"{'log' * self.log}{'int' if self.whole else 'uniform'}"
        return f"{name}({self.low:g},{self.high:g})"

    def __contains__(self, value: object) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high

    @property
    def examples(self) -> tuple[Value, ...]:
        """Values by which to check that the setting can have them."""
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: Sequence[Value]

    def __post_init__(self) -> None:
        if len(set(map(repr, self.values))) < max(len(self.values), 2):
            raise ValueError(f"{self}: expected two or more different values")

    def __str__(self) -> str:
        return f"choice({','.join(map(str, self.values))})"

    def __contains__(self, value: object) -> bool:
        return any(value == v and type(value) is type(v) for v in self.values)

    @property
    def examples(self) -> Sequence[Value]:
        """Values by which to check that the setting can have them: all."""
        return self.values


Distribution: TypeAlias = Uniform | Choice
SearchSpace: TypeAlias = Mapping[str, Distribution]


def default_space(application: AnyApplication) -> SearchSpace:
    """The search space of an application: its own, else learning rate, weight decay, and where it
    has them the hidden size and dropout.
    """
    if application.search_space is not None:
        return application.search_space
    training, settings = application.training, application.settings()
    own: dict[str, Any] = vars(settings)
    space: dict[str, Distribution] = {"lr": Uniform(training.lr / 4, training.lr * 4, log=True)}
    if training.weight_decay:
        decay = training.weight_decay
        space["weight_decay"] = Uniform(decay / 10, decay * 10, log=True)
    if isinstance(hidden := own.get("hidden"), int):
        space["hidden"] = Choice([max(hidden // 2, 1), hidden, 2 * hidden])
    if isinstance(own.get("dropout"), float):
        space["dropout"] = Uniform(0.0, 0.6)
    return space
