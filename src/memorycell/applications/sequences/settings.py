"""Settings of the sequences application."""

from __future__ import annotations

from dataclasses import dataclass

from memorycell.applications.sequences.model_config import (
    ENCODERS,
    INTERVALS,
    SequenceModelConfig,
)
from memorycell.applications.sequences.reading_options import ReadOptions
from memorycell.applications.sequences.sequence_set import TargetKind
from memorycell.models.pooling import POOLINGS
from memorycell.setting_fields import check_choices, check_counts, check_ranges

AUGMENTATIONS = ("none", "light", "strong")
MAX_MEMBERS = 20
MAX_PATCH = 256


@dataclass(frozen=True)
class SequencesSettings(ReadOptions):
    """Settings for --set, besides those of `ReadOptions`.

    split       shares of training, validation and test sequences, where the data have no parts
    split_seed  of the split
    patch       rows that are one step of the recurrent part; by default as many as give about 20
                steps, 1 for targets at every step
    changes     the changes of numbers from row to row are inputs too
    encoder     none, or conv: causal convolutions over the rows, joined with the recurrent part; by
                default chosen by trials
    channels    of the convolutions
    stride      rows that are one step of the convolutions, a divisor of patch; by default a power
                of 2 with which a typical sequence has at most 128 steps
    pooling     how the steps become one answer: attention, max, mean or last; by default attention
    interval    of numbers: quantiles, or student (Student's t)
    quantiles   number of quantiles of a number
    bidirectional   more accurate, but cannot run live
    cell, hidden, layers, dropout, zoneout, weight_drop, smoothing   the recurrent part and the head
    members     networks that are averaged; by default 10 with up to 300 training sequences and 5
                with up to 1,000 where there is no validation part, each then trained without a
                tenth or a fifth of them, else 1
    augment     none, light or strong; by default chosen by trials
    balance     weight classes by their rarity
    mix         mix in a linear classifier on random convolutions, for one class per sequence, where
                that is better on sequences that neither learnt from
    unknown     classes that are not learnt, as names or patterns, separated by commas: a third is
                trained on as none of the classes, a third sets the probability below which the
                answer is "unknown", a third measures it
    false_acceptance   share of the second third's sequences that may get a label all the same
    window      steps per training window, for targets at every step
    warm_up     of a window's first steps without loss, for targets at every step
    batch       sequences, or windows, per batch
    """

    split: str = "0.7,0.15,0.15"
    split_seed: int = 0
    patch: int | None = None
    changes: bool = True
    encoder: str | None = None
    channels: int = 32
    stride: int | None = None
    pooling: str | None = None
    interval: str = "quantiles"
    quantiles: int = 15
    bidirectional: bool = False
    cell: str = "lstm"
    hidden: int = 64
    layers: int = 1
    dropout: float = 0.3
    zoneout: float = 0.0
    weight_drop: float = 0.0
    smoothing: float = 0.0
    members: int | None = None
    augment: str | None = None
    balance: bool = False
    mix: bool = True
    unknown: str | None = None
    false_acceptance: float = 0.05
    window: int = 365
    warm_up: int = 60
    batch: int = 16

    def __post_init__(self) -> None:
        check_counts(self, "hidden", "channels", "layers", "window", "batch")
        check_ranges(
            self,
            split_seed=(0, 2**31),
            patch=(1, MAX_PATCH),
            stride=(1, MAX_PATCH),
            members=(1, MAX_MEMBERS),
            quantiles=(1, 99),
            warm_up=(0, 100_000),
        )
        check_choices(
            self,
            pooling=(None, *POOLINGS),
            interval=INTERVALS,
            encoder=(None, *ENCODERS),
            augment=(None, *AUGMENTATIONS),
        )
        if not 0 < self.false_acceptance < 1:
            raise ValueError(f"false_acceptance={self.false_acceptance}: expected 0 to 1")
        _ = self.shares
        patch = self.stride or 1
        self.model_config("class", patch, 2, members=self.members or 1, patch=patch)  # the rest

    @property
    def shares(self) -> tuple[float, float, float]:
        """`split` as numbers. Raises ValueError."""
        try:
            train, valid, test = (float(part) for part in self.split.split(","))
        except ValueError:
            raise ValueError(
                f"split={self.split}: expected three shares, as in 0.7,0.15,0.15"
            ) from None
        if not (0 < train < 1 and 0 <= valid < 1 and 0 < test < 1 and train + valid + test < 1.001):
            raise ValueError(f"split={self.split}: expected shares that add up to 1")
        return train, valid, test

    def model_config(
        self,
        kind: TargetKind,
        inputs: int,
        outputs: int,
        *,
        members: int,
        patch: int = 1,
        row_size: int = 1,
    ) -> SequenceModelConfig:
        """The configuration of the model; see `SequenceModelConfig`."""
        return SequenceModelConfig(
            target=kind,
            input_size=inputs,
            outputs=outputs,
            members=members,
            pooling=self.pooling or "attention",
            interval=self.interval,
            quantiles=self.quantiles,
            bidirectional=self.bidirectional,
            smoothing=self.smoothing,
            encoder=self.encoder or "none",
            channels=self.channels,
            patch=patch,
            row_size=row_size,
            stride=self.stride or 1,
            hidden_size=self.hidden,
            cell=self.cell,
            num_layers=self.layers,
            dropout=self.dropout,
            zoneout=self.zoneout,
            weight_drop=self.weight_drop,
        )
