"""Settings that speech and handwriting share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from memorycell.errors import UserError
from memorycell.models.classifier import ClassifierConfig
from memorycell.models.pooling import POOLINGS
from memorycell.setting_fields import check_choices
from memorycell.signals.splitting import ReadSettings, SplitSettings
from memorycell.signals.transcriber import TranscriberConfig


@dataclass(frozen=True)
class SignalSettings(ReadSettings, SplitSettings):
    """Settings of a model of signals, besides `ReadSettings` and `SplitSettings`.

    head         classes (one per example), text (CTC), or auto: classes where there are few
                 distinct labels, each with several examples
    unit         of text: char, or piece (subwords, sentencepiece)
    vocabulary   maximum number of units
    direction    forward: can run live; both: bidirectional, more accurate
    pooling      how a classifier reduces a sequence to one vector: attention, max or last
    cell, hidden, layers   of the recurrent stack
    dropout, weight_drop, smoothing   probabilities
    members      networks that are trained together, whose probabilities are averaged; of classes
    unknown      classes without a label, as names or patterns, separated by commas, such as
                 "seven,eight,nine" or "noise*": a third is trained on as none of the labels, a
                 third sets the probability below which the answer is "unknown", a third measures it
    false_acceptance   share of the second third's examples that may get a label all the same
    budget       steps per batch, padding included
    """

    head: str = "auto"
    unit: str = "char"
    vocabulary: int = 200
    direction: str = "forward"
    pooling: str = "attention"
    cell: str = "lstm"
    hidden: int = 128
    layers: int = 2
    dropout: float = 0.3
    weight_drop: float = 0.0
    smoothing: float = 0.0
    members: int = 1
    unknown: str | None = None
    false_acceptance: float = 0.05
    budget: int = 1500

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(
            self,
            head=("auto", "classes", "text"),
            direction=("forward", "both"),
            pooling=POOLINGS,
            unit=("char", "piece"),
        )
        check_ranges(
            self, vocabulary=(1, 50_000), hidden=(1, 8192), layers=(1, 32), budget=(1, 10_000_000)
        )
        if not 0 < self.false_acceptance < 1:
            raise ValueError(f"false_acceptance={self.false_acceptance}: expected 0 to 1")
        self.model_config(10, 3, classes=True)  # checks the rest

    def model_config(
        self, inputs: int, outputs: int, *, classes: bool
    ) -> ClassifierConfig | TranscriberConfig:
        """The configuration of a classifier, or of a transcriber. Raises `UserError` for several
        transcribers: their letters are at different steps, so that an average has none.
        """
        if not classes and self.members > 1:
            raise UserError(
                f"members={self.members}: only for classes, and these data have transcripts; use"
                " members=1"
            )
        shared: dict[str, Any] = {
            "input_size": inputs,
            "hidden_size": self.hidden,
            "cell": self.cell,
            "num_layers": self.layers,
            "dropout": self.dropout,
            "weight_drop": self.weight_drop,
            "bidirectional": self.direction == "both",
        }
        if not classes:
            return TranscriberConfig(vocabulary=outputs, **shared)
        return ClassifierConfig(
            vocabulary=0,
            classes=outputs,
            pooling=self.pooling,
            smoothing=self.smoothing,
            members=self.members,
            **shared,
        )


def check_ranges(settings: Any, **ranges: tuple[int, int]) -> None:
    """Raises ValueError if a field is outside its range, both ends included; None is allowed."""
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:
            raise ValueError(f"{name}={value}: expected {low:,} to {high:,}")
