"""Detector = recurrent stack -> the distribution of the next row, and how surprising a row is that
came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memorycell.applications.anomaly.head import NextRow, NextRowStep
from memorycell.models.batches import LaneBatch
from memorycell.models.model import ModelConfig, SteppedModel, carried, windows
from memorycell.state import Layout, State
from memorycell.streaming.stepping import LayerStepper, Stepper

PIECE = 2048
"""How many steps `Detector.run` takes at once."""
FAR = 3.0
"""Deviations that the recurrent part hardly tells from larger ones."""
V = NextRow.freedom
FREEDOM, WALLACE = np.array(V), np.array(V * ((8 * V + 1) / (8 * V + 3)) ** 2)
"""What `deviates` divides and multiplies by, as arrays: numpy takes twice as long over a number of
Python's.
"""


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(ModelConfig):
    """The sizes of a detector; see `ModelConfig` and `heads.NextRow`.

    columns   numbers of a row; sizes: of every category of a row, how many are told apart
    window    rows that a column's own forecast looks back at directly
    smooth    rows over which deviates are averaged, with weights that fall off exponentially
    budget    share of normal rows that may be flagged
    """

    input_size: int
    columns: int
    sizes: tuple[int, ...] = ()
    window: int = 8
    smooth: int = 1
    budget: float = 0.001

    counts: ClassVar[tuple[str, ...]] = (
        *ModelConfig.counts,
        "input_size",
        "columns",
        "window",
        "smooth",
    )
    probabilities: ClassVar[tuple[str, ...]] = (*ModelConfig.probabilities, "budget")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sizes", tuple(self.sizes))
        if any(not isinstance(size, int) or not 1 <= size <= 100_000 for size in self.sizes):
            raise ValueError(f"sizes: expected whole numbers of 1 or more, got {self.sizes!r}")
        if self.input_size < 2 * self.columns:
            raise ValueError(
                f"input_size: {self.input_size} is too few for {self.columns} columns and their"
                " changes"
            )


class Detector(SteppedModel[LaneBatch]):
    """Inputs of a row in, the distribution of the next row out, state carried from row to row.

    Once trained it also holds what surprise is measured by: the mean and the inverse covariance
    that smoothed deviates have in training, and the score above which a row is called an anomaly
    (NaN where each recording has its own).
    """

    kind = "detector"
    config_class = DetectorConfig
    config: DetectorConfig
    center: Tensor
    inverse: Tensor
    threshold: Tensor

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.recurrent = config.stack(config.input_size)
        self.head = NextRow(config.hidden_size, config.columns, config.sizes, config.window)
        size = config.columns + len(config.sizes)
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("inverse", torch.eye(size))
        self.register_buffer("threshold", torch.zeros(()))

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros: h, c, and the deviations of the last W - 1 rows, `window` [W - 1, B, K]."""
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
        """X [B, T, F], reset [B, T] bool -> (y [B, T, 2 K + V], see `heads.NextRow`, state)."""
        state = self.initial_state(x.shape[0]) if state is None else state
        k = self.config.columns
        window, past = windows(x[..., :k], state.window, reset)
        inside = torch.cat(
            [torch.tanh(x[..., : 2 * k] / FAR), x[..., 2 * k :]], -1
        )  # far out is merely far out
        hidden, kept = carried(self.recurrent, inside, state, reset=reset, backend=backend)
        hidden = F.dropout(hidden, self.config.dropout, self.training)
        return self.head(hidden, window), State(**kept, window=past)

    def loss(self, batch: LaneBatch, state: State | None) -> tuple[Tensor, None]:
        """Mean nats of the next row, a column."""
        y, _ = self(batch.x, None, batch.reset)
        known = ~batch.target.isnan()
        return self.head.nats(y, batch.target).sum() / known.sum().clamp(min=1), None

    @torch.inference_mode()
    def run(self, x: np.ndarray, *, precision: str = "float32") -> np.ndarray:
        """X [N, F] of one recording -> y [N, 2 K + V] float32."""
        self.eval()
        if precision != "float32":
            ready = self.stepper(precision)
            return ready.walk(np.zeros((1, ready.layout.width), np.float32), 0, x)[0]
        state, parts = None, []
        for begin in range(0, len(x), PIECE):
            y, state = self(torch.from_numpy(x[None, begin : begin + PIECE]), state)
            parts.append(y[0].numpy())
        return np.concatenate(parts)

    def native_stepper(self, precision: str) -> Stepper:
        """See `SteppedModel`."""
        return DetectorStepper(self, precision)


class DetectorStepper:
    """A model ready for single steps: the window of past deviations lies behind h and c in a
    session's row.
    """

    def __init__(self, model: Detector, precision: str) -> None:
        config = model.config
        self.input_size, self.precision = config.input_size, precision
        self._past, self._columns = config.window - 1, config.columns
        self._layers = LayerStepper(model.recurrent, precision, further=self._past * config.columns)
        self.layout = Layout({**self._layers.layout.sizes, "window": (self._past, config.columns)})
        self._at = self.layout.at["window"]
        self._walk, self._size = self._layers.stack.walk, config.hidden_size
        self._seen = config.hidden_size + config.window * config.columns
        self._head = NextRowStep(model.head)
        self._far = np.ones(config.input_size, np.float32)
        self._far[: 2 * config.columns] = FAR

    def walk(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """See `Stepper`: y [2 K + V] a step."""
        if x.ndim == 1:
            return self._one(ring, row, x)
        count, past = len(x), self._past
        z = np.concatenate(
            [ring[row, self._at].reshape(past, self._columns), x[:, : self._columns]]
        )
        hidden, row = self._layers.walk(ring, row, self._inside(x))
        for back in range(min(count, len(ring))):
            ring[row - back, self._at] = z[count - back : count - back + past].ravel()
        window = z[np.arange(count)[:, None] + np.arange(past + 1)]
        return self._head(np.concatenate([hidden, window.reshape(count, -1)], 1)), row

    def _one(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """The same for one step, with the fewest calls."""
        seen = np.empty((1, self._seen), np.float32)
        seen[0, self._size : -self._columns] = ring[row, self._at]
        seen[0, -self._columns :] = x[: self._columns]
        row = self._walk(ring, row, self._inside(x[None]), seen[:, : self._size])
        ring[row, self._at] = seen[0, self._size + self._columns :]
        return self._head(seen)[0], row

    def many(self, block: np.ndarray, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See `Stepper`."""
        hidden = self._layers.many(block, rows, self._inside(x))
        window = np.concatenate([block[rows, self._at], x[:, : self._columns]], 1)
        block[rows, self._at] = window[:, self._columns :]
        return self._head(np.concatenate([hidden, window], 1))

    def _inside(self, steps: np.ndarray) -> np.ndarray:
        inside: np.ndarray = steps / self._far
        near = inside[:, : 2 * self._columns]
        np.tanh(near, out=near)
        return inside


def deviates(y: np.ndarray, z: np.ndarray, choices: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """How far rows lie from what was expected, as if all was normally distributed: [..., K + C];
    NaN where missing.

    y [..., 2 K + V] the forecasts of these rows, z [..., K] numbers (NaN where missing), choices
    [..., C]

    Of a number u = (z - μ)/σ under Student's t, Wallace's (1959) normal deviate, ±√(ν log(1 +
    u²/ν)) (8ν + 1)/(8ν + 3); of a category √(-2 log p), which has the same density in nats.
    """
    k = z.shape[-1]
    u = z - y[..., :k]
    u /= np.exp(y[..., k : 2 * k])
    far = u * u
    far /= FREEDOM
    np.log1p(far, out=far)
    far *= WALLACE
    np.sqrt(far, out=far)
    np.copysign(far, u, out=far)
    if not sizes:
        return far
    parts, begin = [far], 2 * k
    for at, size in enumerate(sizes):
        log_p = np.take_along_axis(y[..., begin : begin + size], choices[..., at, None], -1)
        parts.append(np.sqrt(np.maximum(-2 * log_p, 0)))
        begin += size
    return np.concatenate(parts, -1)


def smoothed(values: np.ndarray, smooth: int, before: np.ndarray | float = 0.0) -> np.ndarray:
    """[N, S] averaged over about so many rows: s ← s + (v - s)/smooth, from `before`."""
    if smooth == 1:
        return values
    result, rate = np.empty_like(values), 1 / smooth
    at = np.broadcast_to(before, values.shape[1:]).astype(np.float64)
    for k, value in enumerate(values):
        at = at + (value - at) * rate
        result[k] = at
    return result


class Surprise:
    """What is measured once a detector is trained: a row's surprise, in all and by column.

    With s the smoothed deviates, m and C the mean and the covariance they have in training, d = s -
    m:

        surprise = ½ dᵀ C⁻¹ d = Σ_j ½ d_j (C⁻¹ d)_j

    the negative log-likelihood of s under that normal distribution, less its constant; the terms of
    the sum are the columns' shares. A category that is likelier than usual is no surprise: its d is
    0 at least.
    """

    def __init__(self, model: Detector) -> None:
        self.columns, self.smooth = model.config.columns, model.config.smooth
        self._mixed = bool(model.config.sizes)
        self.center = model.center.numpy().astype(np.float64)
        self._half = 0.5 * model.inverse.numpy().astype(np.float64)

    def shares(self, s: np.ndarray) -> np.ndarray:
        """Smoothed deviates [..., S] -> every column's share [..., S]; their sum is the surprise."""
        d = s - self.center
        if self._mixed:
            d[..., self.columns :] = np.maximum(d[..., self.columns :], 0)
        shares: np.ndarray = d.dot(self._half)  # for one row, in a third of the time of d @ C⁻¹
        shares *= d
        return shares
