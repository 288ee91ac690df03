"""Forecaster = recurrent stack -> head, with everything a step needs from the past in one `State`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memorycell.applications.forecast.head import (
    FORECASTS,
    CountForecast,
    Forecast,
    ForecastStep,
    Told,
)
from memorycell.models.batches import LaneBatch
from memorycell.models.exporting import CHead, OnnxHead
from memorycell.models.model import Model, ModelConfig, SteppedModel, carried, windows
from memorycell.settings import check_choices
from memorycell.state import Layout, State
from memorycell.streaming.stepping import LayerStepper, Stepper

SIDE_BY_SIDE, PIECE = 64, 2048
"""How many segments, and how many steps of each, `Forecaster.run` takes at once."""
LEAST = 0.05
"""Deviation of a window that stands still, in deviations of the training part."""
NOT_PLAIN = "only for forecasters with head=quantiles, normal=no and no static columns yet"
"""Why a forecaster cannot be exported."""
FADE = 0.94
"""Weight of a return in its window's size, relative to the one after it (RiskMetrics, J.P. Morgan
1996).
"""


@dataclass(frozen=True, kw_only=True)
class ForecasterConfig(ModelConfig):
    """The sizes of a forecaster; see `ModelConfig` and `heads.Forecast`.

    window   steps whose inputs the head's linear path sees, the present one included
    linear   how many of the inputs, the first ones, the linear path sees; all where not said
    head     quantiles, student or counts: see `heads`; unit: of counts, how many are 1
    normal   no, or how the targets are normalised by their own window: level (by mean and
             deviation, put back in what is forecast: Kim et al. 2022, Reversible instance
             normalisation), or spread (by their size alone: what is forecast does not start from
             the last value, as with returns)
    seen     the input that is 1 at a step at which a row was read
    """

    input_size: int
    horizon: int
    targets: int = 1
    quantiles: int = 15
    window: int = 12
    linear: int | None = None
    head: str = "quantiles"
    unit: float = 1.0
    normal: str = "no"
    seen: int = 0

    counts: ClassVar[tuple[str, ...]] = (
        *ModelConfig.counts,
        "input_size",
        "horizon",
        "targets",
        "quantiles",
        "window",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quantiles % 2 == 0:
            raise ValueError(f"quantiles: expected an odd number, got {self.quantiles}")
        check_choices(self, head=tuple(FORECASTS), normal=("no", "level", "spread"))
        if self.linear is not None and not self.targets <= self.linear <= self.input_size:
            raise ValueError(
                f"linear: expected {self.targets} to {self.input_size} inputs, got {self.linear}"
            )
        if not 0 <= self.seen < self.input_size or not self.unit > 0:
            raise ValueError("seen: expected one of the inputs; unit: a number above 0")

    @property
    def plain(self) -> bool:
        """Whether it is the forecaster that can be written for other worlds: quantiles, a linear
        path that sees all.
        """
        return (self.head, self.normal, self.linear) == ("quantiles", "no", None)


class Forecaster(SteppedModel[LaneBatch]):
    """Inputs of a step in, the distribution of the next values out, state carried from step to
    step.
    """

    kind = "forecaster"
    config_class = ForecasterConfig
    config: ForecasterConfig

    def __init__(self, config: ForecasterConfig) -> None:
        super().__init__()
        self.config = config
        self.recurrent = config.stack(config.input_size)
        sizes = (
            config.hidden_size,
            config.window * (config.linear or config.input_size),
            config.horizon,
            config.targets,
        )
        made = FORECASTS[config.head]
        more: dict[str, Any] = {"unit": config.unit} if made is CountForecast else {}
        self.head: Forecast = made(*sizes, config.quantiles, **more)

    @cached_property
    def fade(self) -> Tensor | None:
        """[W, 1] weights of the steps of a window, for its size; None where it is normalised in
        another way.
        """
        ages = torch.arange(self.config.window - 1, -1, -1.0)
        return FADE ** ages[:, None] if self.config.normal == "spread" else None

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros: h, c, and the inputs of the last W - 1 steps, `window` [W - 1, B, F]."""
        state = self.recurrent.initial_state(batch_size)
        past = self.config.window - 1
        return State(
            **state.asdict(), window=state[0].new_zeros(past, batch_size, self.config.input_size)
        )

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        reset: Tensor | None = None,
        *,
        backend: str | None = None,
    ) -> tuple[Tensor, State]:
        """X [B, T, F], reset [B, T] bool -> (quantiles [B, T, horizon, targets, K] in scaled units,
        state).
        """
        told, state = self.told(x, state, reset, backend=backend)
        return self.head.spread(told), state

    def told(
        self,
        x: Tensor,
        state: State | None = None,
        reset: Tensor | None = None,
        *,
        backend: str | None = None,
    ) -> tuple[Told, State]:
        """The same before it is turned into quantiles; see `heads.Told`."""
        state = self.initial_state(x.shape[0]) if state is None else state
        window, past = windows(x, state.window, reset)
        level, unit, inside = x[..., : self.config.targets], None, x
        if self.config.normal != "no":
            window, inside, level, unit = self._normalised(window, x)
        hidden, kept = carried(self.recurrent, inside, state, reset=reset, backend=backend)
        hidden = F.dropout(hidden, self.config.dropout, self.training)
        window = window[..., : self.config.linear].flatten(2)
        return self.head.told(hidden, window, level, unit), State(**kept, window=past)

    def _normalised(self, window: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(window, inputs, level, unit), the targets in units of their own window."""
        c = self.config
        seen = (window[..., c.seen, None] > 0.5).to(window.dtype)
        mean, unit = scale_of(window[..., : c.targets], seen, self.fade)
        near = (window[..., : c.targets] - mean[..., None, :]) / unit[..., None, :] * seen
        window = torch.cat([near, window[..., c.targets :]], -1)
        if c.normal == "spread":
            return window, x, torch.zeros_like(unit), unit
        inside = torch.cat([(x[..., : c.targets] - mean) / unit, x[..., c.targets :]], -1)
        return window, inside, x[..., : c.targets], unit

    def native_stepper(self, precision: str) -> Stepper:
        """See `SteppedModel`."""
        return ForecasterStepper(self, precision)

    def comparison_model(self) -> Model[Any]:
        """See `Model`: the parameters of Student's t or of counts."""
        from memorycell.applications.forecast.params_model import ForecasterParams

        return self if self.config.head == "quantiles" else ForecasterParams(self)

    def onnx_head(self) -> OnnxHead | str:
        """See `Model`."""
        from memorycell.applications.forecast.onnx_head import ForecastOnnxHead

        return ForecastOnnxHead(self) if self.config.plain else NOT_PLAIN

    def c_head(self) -> CHead | str:
        """See `Model`."""
        from memorycell.applications.forecast.c_head import ForecastCHead

        return ForecastCHead(self) if self.config.plain else NOT_PLAIN

    def loss(self, batch: LaneBatch, state: State | None) -> tuple[Tensor, State]:
        """The head's loss over a batch, and the state after it."""
        told, state = self.told(batch.x, state, batch.reset)
        return self.head.score(told, batch.target), state

    def run(
        self, x: np.ndarray, start: np.ndarray, at: np.ndarray, *, precision: str = "float32"
    ) -> np.ndarray:
        """The forecasts at the steps `at` [M] of a long series, run as the model runs live: state
        carried all along.

        x [N, F] float32, start [N] the step at which each step's segment begins (the state is zero
        there) -> [M, horizon, targets, K] float32, in scaled units. Segments are run side by side,
        in pieces; at a lower precision one after another, as a stream does.
        """
        begins = np.flatnonzero(start == np.arange(len(x)))
        ends = np.append(begins[1:], len(x))
        longest_first = np.argsort(begins - ends, kind="stable")
        place = np.full(len(x), -1)
        place[at] = np.arange(len(at))
        config = self.config
        result = np.empty((len(at), config.horizon, config.targets, config.quantiles), np.float32)
        self.eval()
        if precision != "float32":
            ready = self.stepper(precision)
            for begin, end in zip(begins, ends, strict=True):
                ring = np.zeros((1, ready.layout.width), np.float32)
                for t in range(begin, end, PIECE):
                    wanted = place[t : min(t + PIECE, end)]
                    forecasts, _ = ready.step_one(
                        ring, 0, np.ascontiguousarray(x[t : min(t + PIECE, end)])
                    )
                    result[wanted[wanted >= 0]] = forecasts[wanted >= 0]
            return result
        inputs = torch.from_numpy(x)
        with torch.inference_mode():
            for part in np.array_split(longest_first, -(-len(begins) // SIDE_BY_SIDE)):
                state = self.initial_state(len(part))
                for t in range(0, int((ends - begins)[part[0]]), PIECE):
                    part = part[ends[part] - begins[part] > t]
                    length = min(PIECE, int(ends[part[0]] - begins[part[0]]) - t)
                    index = begins[part, None] + np.arange(t, t + length)
                    inside = index < ends[part, None]
                    index = np.minimum(index, len(x) - 1)
                    forecast, state = self(inputs[index], state.select(range(len(part))))
                    wanted = np.where(inside, place[index], -1)
                    result[wanted[wanted >= 0]] = forecast.numpy()[wanted >= 0]
        return result


class ForecasterStepper:
    """A model ready for single steps: the window of past inputs lies behind h and c in a session's
    row.
    """

    def __init__(
        self,
        model: Forecaster,
        precision: str,
        output: Callable[[Told], np.ndarray] | None = None,
    ) -> None:
        config = model.config
        self.input_size, self.precision = config.input_size, precision
        self._past, self._targets = config.window - 1, config.targets
        self._layers = LayerStepper(
            model.recurrent, precision, extra_width=self._past * config.input_size
        )
        self.layout = Layout(
            {**self._layers.layout.sizes, "window": (self._past, config.input_size)}
        )
        self._at = self.layout.slices["window"]
        self._head, self._config = ForecastStep(model.head, output), config
        self._fade = None if model.fade is None else model.fade.numpy()

    def step_one(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """See `Stepper`: y [horizon, targets, K] a step, in scaled units."""
        steps = x.reshape(-1, self.input_size)
        count, past = len(steps), self._past
        inputs = np.concatenate([ring[row, self._at].reshape(past, self.input_size), steps])
        windows = (
            inputs[None] if count == 1 else inputs[np.arange(count)[:, None] + np.arange(past + 1)]
        )
        windows, inside, *scale = self._scaled(windows, steps)
        hidden, row = self._layers.step_one(ring, row, inside)
        for back in range(
            min(count, len(ring))
        ):  # the window after each step that the ring remembers
            ring[row - back, self._at] = inputs[count - back : count - back + past].ravel()
        y = self._head(hidden, windows.reshape(count, -1), *scale)
        return (y if x.ndim == 2 else y[0]), row

    def _scaled(self, windows: np.ndarray, steps: np.ndarray) -> tuple[Any, ...]:
        """(windows as the linear path sees them, inputs of the recurrent part, level[, unit])."""
        c, n = self._config, self._targets
        if c.normal == "no":
            return (
                windows if c.linear is None else windows[..., : c.linear].copy(),
                steps,
                steps[:, :n],
            )
        seen = (windows[..., c.seen, None] > 0.5).astype(np.float32)
        mean, unit = scale_of(windows[..., :n], seen, self._fade)
        windows = windows[..., : c.linear].copy()
        windows[..., :n] = (windows[..., :n] - mean[:, None]) / unit[:, None] * seen
        if c.normal == "spread":
            return windows, steps, np.zeros_like(unit), unit
        inside = steps.copy()
        inside[:, :n] = (steps[:, :n] - mean) / unit
        return windows, inside, steps[:, :n], unit

    def step_many(self, block: np.ndarray, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See `Stepper`."""
        windows = np.concatenate([block[rows, self._at], x], 1)
        seen, inside, *scale = self._scaled(windows.reshape(len(rows), -1, self.input_size), x)
        hidden = self._layers.step_many(block, rows, np.ascontiguousarray(inside))
        block[rows, self._at] = windows[:, self.input_size :]
        return self._head(hidden, seen.reshape(len(rows), -1), *scale)


def scale_of(window: Any, seen: Any, fade: Any) -> tuple[Any, Any]:
    """(mean, deviation) [..., targets] of windows [..., W, targets] over the steps that were seen
    [..., W, 1]: arrays or tensors.

    fade   [W, 1] weights of the steps, for the deviation from zero alone, as of returns; None: all
           count the same
    """
    if fade is not None:
        seen = seen * fade
    count = seen.sum(-2) + 1e-6
    mean = (window * seen).sum(-2) / count * (fade is None)
    square = ((window - mean[..., None, :]) ** 2 * seen).sum(-2) / count
    return mean, (square + LEAST**2) ** 0.5
