"""The configuration of a sequence model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from memorycell.applications.sequences.heads import params_per_output
from memorycell.applications.sequences.mixture import MAX_BIASES, MAX_DILATION, MAX_DILATIONS
from memorycell.applications.sequences.sequence_set import TARGET_KINDS, TargetKind
from memorycell.models.merging import MERGEABLE_CELLS
from memorycell.models.model import ModelConfig
from memorycell.models.pooling import POOLINGS, pooled_size

INTERVALS = ("quantiles", "student")
ENCODERS = ("none", "conv")
MAX_MEMBERS = 100
MAX_CHANNELS = 4096


@dataclass(frozen=True, kw_only=True)
class SequenceModelConfig(ModelConfig):
    """The configuration of a sequence model; see `ModelConfig`.

    target      what is predicted, see `TargetKind`
    outputs     classes, labels or numbers
    members     networks whose answers are averaged
    pooling     over time, see `memorycell.models.pooling`; not used for a target at every step
    interval    of numbers: "quantiles", or "student" (Student's t)
    quantiles   of a number
    smoothing   label smoothing of classes (Szegedy et al. 2016)
    encoder     none, or conv: causal convolutions read the rows, joined with the recurrent part
    channels    of the convolutions
    patch, row_size   rows per step, and inputs per row, which are the first inputs of a step; for
                the convolutions alone
    stride      rows that are one step of the convolutions; divides patch
    mix_dilations, mix_biases   of the random convolutions that are mixed with the networks, see
                `RandomConvolutions`; no dilations: none are
    """

    target: TargetKind
    input_size: int
    outputs: int
    members: int = 1
    pooling: str = "attention"
    interval: str = "quantiles"
    quantiles: int = 15
    bidirectional: bool = False
    smoothing: float = 0.0
    encoder: str = "none"
    channels: int = 32
    patch: int = 1
    row_size: int = 1
    stride: int = 1
    mix_dilations: tuple[int, ...] = ()
    mix_biases: int = 1

    counts: ClassVar[tuple[str, ...]] = (
        *ModelConfig.counts,
        "input_size",
        "outputs",
        "members",
        "quantiles",
        "channels",
        "patch",
        "row_size",
        "stride",
        "mix_biases",
    )
    probabilities: ClassVar[tuple[str, ...]] = (*ModelConfig.probabilities, "smoothing")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, allowed in {
            "target": TARGET_KINDS,
            "pooling": POOLINGS,
            "interval": INTERVALS,
            "encoder": ENCODERS,
        }.items():
            value = vars(self)[name]
            if value not in allowed:
                raise ValueError(f"{name}: expected {', '.join(allowed)}, got {value!r}")
        if self.members > MAX_MEMBERS or self.quantiles > 999:
            raise ValueError("members: at most 100; quantiles: at most 999")
        if self.quantiles % 2 == 0:
            raise ValueError(f"quantiles: expected an odd number, got {self.quantiles}")
        if self.members > 1 and self.cell not in MERGEABLE_CELLS:
            raise ValueError(
                f"members={self.members}: not with the cell {self.cell}; use members=1, or one of"
                f" {', '.join(MERGEABLE_CELLS)}"
            )
        if self.encoder == "conv" and self.every_step:
            raise ValueError("encoder=conv: not for a target at every step; use encoder=none")
        if self.encoder == "conv" and self.patch * self.row_size > self.input_size:
            raise ValueError("patch, row_size: more inputs per step than input_size")
        if self.encoder == "conv" and self.patch % self.stride:
            raise ValueError(f"stride={self.stride}: expected a divisor of patch={self.patch}")
        if self.channels > MAX_CHANNELS:
            raise ValueError(f"channels: at most {MAX_CHANNELS:,}")
        if self.mix_dilations:
            self._check_mixture()

    def _check_mixture(self) -> None:
        dilations = self.mix_dilations
        if self.target != "class" or self.patch * self.row_size > self.input_size:
            raise ValueError("mix_dilations: only for one class per sequence, read row by row")
        if len(dilations) > MAX_DILATIONS or not all(1 <= d <= MAX_DILATION for d in dilations):
            raise ValueError(
                f"mix_dilations: expected at most {MAX_DILATIONS} of 1 to {MAX_DILATION}"
            )
        if self.mix_biases > MAX_BIASES:
            raise ValueError(f"mix_biases: at most {MAX_BIASES}")

    @property
    def every_step(self) -> bool:
        """Whether there is an answer of its own at every step."""
        return self.target in ("step_class", "step_number")

    @property
    def numeric(self) -> bool:
        """Whether numbers are predicted."""
        return self.target in ("number", "step_number")

    @property
    def params(self) -> int:
        """Values that the network gives for each output."""
        return params_per_output(self.target, self.interval, self.quantiles)

    @property
    def member_state(self) -> int:
        """Pooled values that a member carries from step to step."""
        return 0 if self.every_step else pooled_size(self.pooling, self.hidden_size)
