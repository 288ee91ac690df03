"""Detector = recurrent stack -> the predicted distribution of the next row; or several such
networks, whose distributions are averaged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.applications.anomaly.head import NextRow, NextRowStep, mean_rows
from memorycell.models.batches import LaneBatch, known_targets
from memorycell.models.members import MembersStepper, check_members, join_states, split_state
from memorycell.models.model import ModelConfig, SteppedModel, carried, windows
from memorycell.state import Layout, State
from memorycell.streaming.stepping import LayerStepper, Stepper

MAX_CHUNK_STEPS = 2048
"""Steps per forward pass of `Detector.run`."""
MAX_SCALES = 12
INPUT_LIMIT = 3.0
"""Z-scores enter the recurrent part as tanh(z / INPUT_LIMIT)."""


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(ModelConfig):
    """The configuration of a detector; see `ModelConfig` and `NextRow`.

    columns   numbers per row, K
    sizes     ids of each of the C category columns; V is their sum
    window    previous rows that the head reads directly, W
    smooth    time constant, in rows, of the exponential average of the deviates
    scales    number R of time constants, smooth, 2 · smooth, …; see `ScoreFunction`
    budget    target fraction of normal rows that are flagged
    static    weight of the static deviation in the score; see `ScoreFunction`
    own_score   whether a recording has its own distributions of the score, from settling rows
    members   networks, whose distributions are averaged; see `memorycell.models.members`
    """

    input_size: int
    columns: int
    sizes: tuple[int, ...] = ()
    window: int = 8
    smooth: int = 1
    scales: int = 1
    budget: float = 0.001
    static: float = 0.0
    own_score: bool = False
    members: int = 1

    counts: ClassVar[tuple[str, ...]] = (
        *ModelConfig.counts,
        "input_size",
        "columns",
        "window",
        "smooth",
        "scales",
    )
    probabilities: ClassVar[tuple[str, ...]] = (*ModelConfig.probabilities, "budget")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sizes", tuple(self.sizes))
        if any(not isinstance(size, int) or not 1 <= size <= 100_000 for size in self.sizes):
            raise ValueError(f"sizes: expected whole numbers of 1 or more, got {self.sizes!r}")
        if self.input_size < 2 * self.columns + sum(self.sizes):
            raise ValueError(
                f"input_size: {self.input_size} is too few for {self.columns} columns, their"
                " changes and the categories"
            )
        if isinstance(self.static, bool) or not 0 <= self.static <= 1:
            raise ValueError(f"static: expected a number from 0 to 1, got {self.static!r}")
        if not isinstance(self.own_score, bool):
            raise ValueError(f"own_score: expected true or false, got {self.own_score!r}")
        if self.scales > MAX_SCALES:
            raise ValueError(f"scales: expected 1 to {MAX_SCALES}, got {self.scales}")
        if not self.budget:
            raise ValueError("budget: expected a fraction above 0")
        check_members(self.members)


class Detector(SteppedModel[LaneBatch]):
    """Predicts the distribution of the next row from the rows so far.

    It also stores the parameters of the anomaly score, see `ScoreFunction`: the mean `center` [S]
    and inverse covariance `inverse` [S, S] of the averaged deviates, S = K + C, with `static` also
    those of the averaged readings, [K] and [K, K], and the threshold, above which a row is an
    anomaly. With several time constants the means and inverse covariances have a first axis R.
    """

    kind = "detector"
    config_class = DetectorConfig
    config: DetectorConfig
    center: Tensor
    inverse: Tensor
    static_center: Tensor
    static_inverse: Tensor
    threshold: Tensor

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.recurrent = config.stack(config.input_size)
        self.head = NextRow(config.hidden_size, config.columns, config.sizes, config.window)
        sizes = {"": config.columns + len(config.sizes)}
        if config.static:
            sizes["static_"] = config.columns
        scales = () if config.scales == 1 else (config.scales,)
        for name, size in sizes.items():
            self.register_buffer(f"{name}center", torch.zeros(*scales, size))
            self.register_buffer(f"{name}inverse", torch.eye(size).expand(*scales, -1, -1).clone())
        self.register_buffer("threshold", torch.zeros(()))
        single = replace(config, members=1)
        self.others = nn.ModuleList(Detector(single) for _ in range(config.members - 1))

    @property
    def networks(self) -> list[Detector]:
        """The members; the first is the model itself, which has the score of all."""
        return [self, *(cast(Detector, other) for other in self.others)]

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros, of every member: h, c, and `window` [W - 1, B, K], the z-scores of the last W - 1
        rows.
        """
        return join_states([one._initial_state(batch_size) for one in self.networks])

    def _initial_state(self, batch_size: int) -> State:
        state = self.recurrent.initial_state(batch_size)
        past = self.config.window - 1
        return State(
            **state.asdict(), window=state[0].new_zeros(past, batch_size, self.config.columns)
        )

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        reset: Tensor | None = None,
        *,
        backend: str | None = None,
    ) -> tuple[Tensor, State]:
        """Inputs x [B, T, F], reset [B, T] bool -> (y [B, T, 2 K + V], see `NextRow`, state)."""
        state = self.initial_state(x.shape[0]) if state is None else state
        states = split_state(state, self.config.members)
        steps = [
            one.first(x, before, reset, backend)
            for one, before in zip(self.networks, states, strict=True)
        ]
        y = mean_rows([y for y, _ in steps], self.config.columns, self.config.sizes)
        return y, join_states([after for _, after in steps])

    def first(
        self,
        x: Tensor,
        state: State | None = None,
        reset: Tensor | None = None,
        backend: str | None = None,
    ) -> tuple[Tensor, State]:
        """As `forward`, of the first network alone."""
        state = self._initial_state(x.shape[0]) if state is None else state
        k = self.config.columns
        window, past = windows(x[..., :k], state.window, reset)
        limited = torch.cat([torch.tanh(x[..., : 2 * k] / INPUT_LIMIT), x[..., 2 * k :]], -1)
        hidden, final = carried(self.recurrent, limited, state, reset=reset, backend=backend)
        hidden = F.dropout(hidden, self.config.dropout, self.training)
        return self.head(hidden, window), State(**final, window=past)

    def loss(self, batch: LaneBatch, state: State | None) -> tuple[Tensor, None]:
        """Mean negative log-likelihood of the next row, in nats per known column; of the members,
        their mean.
        """
        known = (~batch.target.isnan()).sum().clamp(min=1)
        total = batch.x.new_zeros(())
        for one in self.networks:
            y, _ = one.first(batch.x, None, batch.reset)
            total = total + one.head.nats(y, batch.target).sum() / known
        return total / self.config.members, None

    def loss_count(self, batch: LaneBatch) -> int:
        """See `Model`: known columns."""
        return known_targets(batch.target)

    @torch.inference_mode()
    def run(self, x: np.ndarray, *, precision: str = "float32") -> np.ndarray:
        """Inputs x [N, F] of one recording -> y [N, 2 K + V] float32."""
        self.eval()
        if precision != "float32":
            stepper = self.stepper(precision)
            return stepper.step_one(np.zeros((1, stepper.layout.width), np.float32), 0, x)[0]
        state, parts = None, []
        for begin in range(0, len(x), MAX_CHUNK_STEPS):
            y, state = self(torch.from_numpy(x[None, begin : begin + MAX_CHUNK_STEPS]), state)
            parts.append(y[0].numpy())
        return np.concatenate(parts)

    def native_stepper(self, precision: str) -> Stepper:
        """See `SteppedModel`."""
        steppers = [DetectorStepper(one, precision) for one in self.networks]
        columns, sizes = self.config.columns, self.config.sizes
        if len(steppers) == 1:
            return steppers[0]
        return MembersStepper(
            steppers,
            lambda y: mean_rows([torch.from_numpy(one) for one in y], columns, sizes).numpy(),
        )


class DetectorStepper:
    """A `Detector` for single steps. In the state row of a sequence, the window of past z-scores
    follows h and c.
    """

    def __init__(self, model: Detector, precision: str) -> None:
        config = model.config
        self.input_size, self.precision = config.input_size, precision
        self._past, self._columns = config.window - 1, config.columns
        self._layers = LayerStepper(model.recurrent, precision, self._past * config.columns)
        self.bounded = self._layers.bounded  # the limited inputs are not larger than the inputs
        self.layout = Layout({**self._layers.layout.sizes, "window": (self._past, config.columns)})
        self._window = self.layout.slices["window"]
        self._step_layers, self._hidden_size = self._layers.stack.step_one, config.hidden_size
        self._head_size = config.hidden_size + config.window * config.columns
        self._head = NextRowStep(model.head)
        self._limits = np.ones(config.input_size, np.float32)
        self._limits[: 2 * config.columns] = INPUT_LIMIT

    def step_one(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """See `Stepper`: y [2 K + V] per step."""
        if x.ndim == 1:
            return self._step_single(ring, row, x)
        count, past = len(x), self._past
        z = np.concatenate(
            [ring[row, self._window].reshape(past, self._columns), x[:, : self._columns]]
        )
        hidden, row = self._layers.step_one(ring, row, self._limited(x))
        for back in range(min(count, len(ring))):
            ring[row - back, self._window] = z[count - back : count - back + past].ravel()
        windows = z[np.arange(count)[:, None] + np.arange(past + 1)]
        return self._head(np.concatenate([hidden, windows.reshape(count, -1)], 1)), row

    def _step_single(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """`step_one` for a single step, with fewer numpy calls."""
        head_inputs = np.empty((1, self._head_size), np.float32)
        head_inputs[0, self._hidden_size : -self._columns] = ring[row, self._window]
        head_inputs[0, -self._columns :] = x[: self._columns]
        hidden = head_inputs[:, : self._hidden_size]
        row = self._step_layers(ring, row, self._limited(x[None]), hidden)
        ring[row, self._window] = head_inputs[0, self._hidden_size + self._columns :]
        return self._head(head_inputs)[0], row

    def step_many(self, block: np.ndarray, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See `Stepper`."""
        hidden = self._layers.step_many(block, rows, self._limited(x))
        window = np.concatenate([block[rows, self._window], x[:, : self._columns]], 1)
        block[rows, self._window] = window[:, self._columns :]
        return self._head(np.concatenate([hidden, window], 1))

    def _limited(self, x: np.ndarray) -> np.ndarray:
        limited: np.ndarray = x / self._limits
        numbers = limited[:, : 2 * self._columns]
        np.tanh(numbers, out=numbers)
        return limited
