"""What a task is, and what training needs of a task's data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, get_type_hints

import numpy as np
from torch import Tensor

from memorycell.errors import UserError

Metrics = dict[str, float]


@dataclass(frozen=True)
class TrainSettings:
    """How a model is trained, whatever the task. Change one with --set key=value.

    epochs      passes over the training data; where not said, 24, or as many as it takes for 400 steps (200 at most);
                with --minutes, as many as fit
    lr          highest learning rate of AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101): linear warm-up over the
                first epoch, cosine decay over the rest
    clip        longest gradient; longer ones are shortened to it (Pascanu et al. 2012, arXiv:1211.5063)
    precision   of the products in training: float32, or bfloat16 with states, sums and weights in float32
    average     decay of the running average of the weights, which is what is evaluated and saved
    patience    epochs without a better validation score before training stops; a third of them where not said
    """

    epochs: int | None = None
    lr: float = 4e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    average: float = 0.99
    patience: int | None = None
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision={self.precision}: expected float32 or bfloat16")


class Problem(Protocol):
    """A task's data, read, split and encoded: what the training loop and the evaluation ask for."""

    codec: Any
    notes: list[str]
    """What was found in the data, and what was decided, in lines for people."""

    def build(self) -> Any:
        """A new model with start values."""

    def epoch(self, seed: int) -> Iterator[Any]:
        """One pass over the training data, in an order that depends on the seed alone."""

    def score(self, model: Any, split: str, precision: str = "float32") -> Metrics:
        """The metrics on "train", "valid" or "test", with the recurrent part's products in a precision."""

    def sample(self, steps: int) -> np.ndarray:
        """So many steps of the test part's inputs, [T, F] float32: what a model is proved on."""

    def baselines(self, split: str) -> dict[str, Metrics]:
        """The same metrics of the simple methods."""

    def info(self) -> dict[str, Any]:
        """JSON values for the model file: the data's name and fingerprint, the split, the settings."""

    def arrays(self) -> dict[str, Tensor]:
        """Tensors for the model file: the fitted baselines."""


@dataclass(frozen=True)
class Task:
    """An application: what comes in, what goes out, the real data it is shown on, the simple methods it must beat."""

    name: str
    about: str
    reads: str
    source: str
    """The named data set that is used when none is given."""
    primary: str
    """The metric that counts; lower is better."""
    settings: type
    """A dataclass: what --set can change besides `TrainSettings`, with its defaults."""
    prepare: Callable[..., Problem]
    """(data, settings) -> Problem"""
    reopen: Callable[..., Problem]
    """(data or None, ModelFile) -> Problem: the same for a trained model, to evaluate it."""
    baselines: tuple[str, ...]
    training: TrainSettings = TrainSettings()
    """Where the task's defaults differ from `TrainSettings`."""
    minutes: float | None = None
    """How long `train` takes where neither --minutes nor epochs is given; None: a plan in epochs."""


def parse_settings(defaults: Sequence[Any], pairs: Mapping[str, str]) -> list[Any]:
    """Each dataclass value with some fields replaced by key=value pairs; each key belongs to one. Raises `UserError`."""
    known = {field.name: type(value) for value in defaults for field in dataclasses.fields(value)}
    for key in pairs:
        if key not in known:
            raise UserError(f"--set {key}: no such setting; there are {', '.join(sorted(known))}")
    result = []
    for default in defaults:
        kind = type(default)
        hints = get_type_hints(kind)
        values = {key: _convert(key, text, hints[key]) for key, text in pairs.items() if known[key] is kind}
        try:
            result.append(dataclasses.replace(default, **values))
        except ValueError as error:
            raise UserError(f"--set {error}") from None
    return result


def _convert(key: str, text: str, hint: Any) -> Any:
    options = getattr(hint, "__args__", (hint,))
    if type(None) in options and text.lower() in ("none", ""):
        return None
    for kind in (int, float):
        if kind in options:
            try:
                return kind(text)
            except ValueError:
                continue
    if str in options:
        return text
    expected = " or ".join(o.__name__ for o in options if o is not type(None))
    raise UserError(f"--set {key}={text}: expected {expected}")
