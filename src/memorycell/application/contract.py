"""What a task is, and what training needs of a task's data."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from memorycell.application.datasets import Source
from memorycell.application.modelfile import ModelFile
from memorycell.errors import ModelFileError
from memorycell.settings import check_choices

Metrics = dict[str, float]


@dataclass(frozen=True)
class TrainSettings:
    """How a model is trained, whatever the task. Change one with --set key=value.

    epochs      passes over the training data; where not said, 24, or as many as it takes for 400
                steps (200 at most); with --minutes, as many as fit
    lr          highest learning rate of AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101): linear
                warm-up over the first epoch, cosine decay over the rest
    clip        longest gradient; longer ones are shortened to it (Pascanu et al. 2012,
                arXiv:1211.5063)
    precision   of the products in training: float32, or bfloat16 with states, sums and weights in
                float32; auto: bfloat16 where the processor multiplies it
    average     decay of the running average of the weights, which is what is evaluated and saved
    patience    epochs without a better validation score before training stops; a third of them
                where not said
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
        check_choices(self, precision=("float32", "bfloat16", "auto"))


class Problem(ABC):
    """A task's data, read, split and encoded: what the training loop and the evaluation ask for."""

    codec: Any
    """What the model file keeps of how the data are read."""
    notes: list[str]
    """What was found in the data, and what was decided, in lines for people."""

    @abstractmethod
    def build(self) -> Any:
        """A new model with start values."""

    @abstractmethod
    def epoch(self, seed: int) -> Iterator[Any]:
        """One pass over the training data, in an order that depends on the seed alone."""

    def validate(self, model: Any) -> Metrics:
        """The metrics after an epoch, on "valid"; `Task.watch` is among them."""
        return self.score(model, "valid")

    @abstractmethod
    def score(self, model: Any, split: str, precision: str = "float32") -> Metrics:
        """The metrics on "train", "valid" or "test", with the recurrent part's products in a
        precision.
        """

    @abstractmethod
    def sample(self, steps: int) -> np.ndarray:
        """So many steps of the test part's inputs, [T, F] float32: what a model is proved on."""

    @abstractmethod
    def baselines(self, split: str) -> dict[str, Metrics]:
        """The same metrics of the simple methods."""

    @abstractmethod
    def info(self) -> dict[str, Any]:
        """JSON values for the model file: the data's name and fingerprint, the split, the settings."""

    def task(self, task: Task) -> Task:
        """The task as these data have it: with another primary metric where the usual one cannot be
        had.
        """
        return task

    def arrays(self) -> dict[str, Tensor]:
        """Tensors for the model file: the fitted baselines, where they are kept."""
        return {}

    def held(self, epoch: int) -> tuple[str, ...]:
        """How the names of the parameters begin that are not trained in an epoch."""
        return ()

    def finish(self, model: Any) -> None:
        """What is left to be set, on the validation part, once the best weights are chosen."""
        return

    def reading(self) -> Any:
        """Of the test part, for a look inside: a text, or what a model of signals reads."""
        return ""

    def details(self, model: Any, split: str) -> dict[str, Any]:
        """What a person would also see beside the metrics: JSON values."""
        return {}


def settings_of(file: ModelFile, kind: type) -> Any:
    """The settings a model was trained with. Raises `ModelFileError` where its description is not
    whole.
    """
    try:
        str(file.info["data"]), str(file.info["fingerprint"])
        return kind(**file.info["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"the model file's description of its training is not whole ({error!r}); train it anew"
        ) from None


def with_source(settings: Any, source: Source | None) -> Any:
    """The settings, with a named set's own where a person has not said otherwise."""
    if source is None:
        return settings
    default = type(settings)()
    own = {k: v for k, v in source.settings.items() if getattr(settings, k) == getattr(default, k)}
    return dataclasses.replace(settings, **own)


@dataclass(frozen=True)
class Task:
    """An application: what comes in, what goes out, the real data it is shown on, the simple
    methods it must beat.
    """

    name: str
    about: str
    reads: str
    source: str
    """The named data set that is used when none is given."""
    primary: str
    """The metric that counts."""
    settings: type
    """A dataclass: what --set can change besides `TrainSettings`, with its defaults."""
    prepare: Callable[..., Problem]
    """(data, settings) -> Problem"""
    reopen: Callable[..., Problem]
    """(data or None, ModelFile) -> Problem: the same for a trained model, to evaluate it."""
    baselines: tuple[str, ...]
    training: TrainSettings = TrainSettings()
    """Where the task's defaults differ from `TrainSettings`."""
    higher: bool = False
    """Whether more of the primary metric is better."""
    watch: str = ""
    """The metric by which the best epoch is chosen, lower is better; the primary one where not
    said.
    """
    minutes: float | None = None
    """How long `train` takes where neither --minutes nor epochs is given; None: a plan in epochs.
    """

    def best(self, scores: Mapping[str, Metrics]) -> str:
        """The method with the best primary metric."""
        return sorted(scores, key=lambda name: scores[name][self.primary], reverse=self.higher)[0]

    def skill(self, ours: float, simple: float) -> float:
        """Relative improvement of the primary metric over a simple method's."""
        if simple == 0:
            return 0.0 if ours == 0 else -1.0
        return ours / simple - 1 if self.higher else 1 - ours / simple
