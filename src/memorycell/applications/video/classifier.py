"""ClipClassifier = patches of a frame and of its change -> ConvLSTM -> mean over the grid and over
the frames so far -> scores of the classes; or several such networks, whose probabilities are
averaged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.applications.video.member_states import join_states, split_state
from memorycell.applications.video.model import FrameConfig
from memorycell.models.members import mean_log_p
from memorycell.models.model import Model
from memorycell.nn.conv import of_conv_cell
from memorycell.nn.conv_step import ConvStepper
from memorycell.nn.regularise import dropout
from memorycell.state import State


@dataclass(frozen=True, kw_only=True)
class ClassConfig(FrameConfig):
    """The configuration of a classifier of clips; see `FrameConfig`."""

    classes: int

    counts: ClassVar[tuple[str, ...]] = (*FrameConfig.counts, "classes")


class ClassBatch(NamedTuple):
    """Clips of one class each.

    frames    [B, T, height, width] float32 in 0 … 1, padded at the end
    lengths   [B] int64
    target    [B] int64
    carry     False: no state is carried
    """

    frames: Tensor
    lengths: Tensor
    target: Tensor
    carry: bool = False

    @property
    def steps(self) -> int:
        """Frames, padding not counted."""
        return int(self.lengths.sum())


class ClipClassifier(Model[ClassBatch]):
    """The log-probabilities of the classes after every frame."""

    kind = "clip"
    config_class = ClassConfig
    config: ClassConfig

    def __init__(self, config: ClassConfig) -> None:
        super().__init__()
        self.config = config
        self.recurrent = of_conv_cell(
            config.cell,
            2 * config.patch**2,
            config.hidden_size,
            config.kernel,
            config.num_layers,
            batch_first=True,
            size=config.grid,
            forget_bias=config.forget_bias if config.cell in ("lstm", "peephole") else None,
        )
        self.head = nn.Linear(2 * config.hidden_size, config.classes)
        single = replace(config, members=1)
        self.others = nn.ModuleList(ClipClassifier(single) for _ in range(config.members - 1))

    @property
    def networks(self) -> list[ClipClassifier]:
        """The members; the first is the model itself."""
        return [self, *(cast(ClipClassifier, other) for other in self.others)]

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros: h and c, `past` [1, B, height, width], `total` [1, B, 2·C], the sum of the
        features, and `count` [1, B, 1], the frames so far; of several members see `join_states`.
        """
        return join_states([one._initial_state(batch_size) for one in self.networks])

    def _initial_state(self, batch_size: int) -> State:
        layers = self.recurrent.initial_state(batch_size).asdict()
        zeros = layers["h"].new_zeros
        return State(
            **layers,
            past=zeros(1, batch_size, self.config.height, self.config.width),
            total=zeros(1, batch_size, 2 * self.config.hidden_size),
            count=zeros(1, batch_size, 1),
        )

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        *,
        trace: bool = False,
        backend: str | None = None,
    ) -> Any:
        """Frames x [B, T, height, width], or as rows [B, T, height·width] -> (log-probabilities
        [B, T, classes], the state); with `trace` also the trace of the layers, of the first member.

        `backend` is accepted for `prove`; there is one.
        """
        state = self.initial_state(len(x)) if state is None else state
        states = split_state(state, self.config.members)
        results = [
            one.first(x, before, trace=trace and one is self)
            for one, before in zip(self.networks, states, strict=True)
        ]
        y = mean_log_p([result[0] for result in results])
        return (y, join_states([result[1] for result in results]), *results[0][2:])

    def first(self, x: Tensor, state: State | None = None, *, trace: bool = False) -> Any:
        """As `forward`, of the first network alone."""
        c = self.config
        x = x.reshape(*x.shape[:2], c.height, c.width)
        before = (self._initial_state(len(x)) if state is None else state).asdict()
        first = torch.where(before["count"][0, :, :, None] < 0.5, x[:, 0], before["past"][0])
        change = x - torch.cat([first[:, None], x[:, :-1]], 1)
        rows, columns = c.grid
        sides = (0, columns * c.patch - c.width, 0, rows * c.patch - c.height)
        seen = F.pad(torch.stack([x, change], 2).flatten(0, 1), sides, mode="replicate")
        patches = F.pixel_unshuffle(seen, c.patch).unflatten(0, x.shape[:2])
        layers = State(**{n: before[n] for n in ("h", "c") if n in before})
        hidden, after, *traces = self.recurrent(patches, layers, trace=trace)
        features = torch.cat([hidden.mean((3, 4)), hidden.amax((3, 4))], 2)
        total = before["total"][0, :, None] + features.cumsum(1)
        steps = torch.arange(1, x.shape[1] + 1, device=x.device)[:, None]
        count = before["count"][0, :, None] + steps
        pooled = dropout(total / count, c.dropout, self.training)
        y = F.log_softmax(self.head(pooled), -1)
        result = State(
            **after.asdict(),
            past=x[None, :, -1],
            total=total[None, :, -1],
            count=count[None, :, -1],
        )
        return (y, result, *traces)

    def loss(self, batch: ClassBatch, state: State | None) -> tuple[Tensor, None]:
        """Mean negative log-likelihood of the class after the last frame, in nats; of the members,
        their mean.
        """
        total = batch.frames.new_zeros(())
        for one in self.networks:
            y, _ = one.first(batch.frames)
            last = y[torch.arange(len(y)), batch.lengths - 1]
            total = total + F.nll_loss(last, batch.target)
        return total / self.config.members, None

    def stepper(self, precision: str = "float32") -> ConvStepper:
        """See `Model`; an input is a frame as a row of height·width numbers."""
        return ConvStepper(self, (self.config.height * self.config.width,), precision)

    def random_inputs(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """See `Model`: brightness in 0 … 1."""
        return rng.random(shape, np.float32)

    def onnx_head(self) -> str:
        """See `Model`."""
        return "not for convolutional layers"

    def c_head(self) -> str:
        """See `Model`."""
        return "not for convolutional layers"
