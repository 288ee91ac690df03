"""Forecaster: recurrent layers and a linear path over the last inputs, with a forecast head; or
several such networks, whose quantiles are averaged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.applications.forecast.head import (
    HEADS,
    CountForecast,
    Forecast,
    ForecastParams,
    MeanForecast,
)
from memorycell.applications.forecast.stepper import ForecasterStepper
from memorycell.applications.forecast.windows import RETURN_DECAY, StepInputs, step_inputs
from memorycell.models.batches import LaneBatch, known_targets
from memorycell.models.exporting import CHead, OnnxHead
from memorycell.models.members import MembersStepper, check_members, join_states, split_state
from memorycell.models.merging import MERGEABLE_CELLS, merged
from memorycell.models.model import Model, ModelConfig, SteppedModel, carried, windows
from memorycell.setting_fields import check_choices
from memorycell.state import State
from memorycell.streaming.stepping import Stepper

MAX_SEGMENTS, MAX_CHUNK_STEPS = 64, 2048
"""Segments, and steps of each, that `Forecaster.run` reads at once."""
MAX_CHUNK_NUMBERS = 8_000_000
"""Numbers of the windows, or of the forecasts, that `Forecaster.run` has in memory at once."""
MAX_WARM_UP_STEPS = 8192
"""Steps before the first forecast of a segment from which the state starts at zero."""
NOT_EXPORTED = (
    "only for forecasters with head=quantiles, normal=no or level, no static columns; several"
    f" members of the cells {', '.join(MERGEABLE_CELLS)}"
)


@dataclass(frozen=True, kw_only=True)
class ForecasterConfig(ModelConfig):
    """The sizes of a forecaster; see `ModelConfig` and `Forecast`.

    window   steps whose inputs the linear path reads, the present one included
    linear   how many of the inputs the linear path reads, the first ones; None: all
    head     quantiles, student or counts
    unit     counts per scaled unit
    normal   how windows of the targets are normalised: no; level, by mean and standard deviation,
             which are restored in the forecast (Kim et al. 2022, Reversible instance
             normalisation); spread, by root mean square, for forecasts that start from 0
    raw_linear  whether, with normal=level, the linear path reads windows that are not normalised:
             its forecasts then may return to the mean of training
    seen     index of the input that is 1 if a row was read
    members  networks, whose quantiles are averaged; see `memorycell.models.members`
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
    raw_linear: bool = False
    seen: int = 0
    members: int = 1

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
        check_choices(self, head=tuple(HEADS), normal=("no", "level", "spread"))
        if self.linear is not None and not self.targets <= self.linear <= self.input_size:
            raise ValueError(
                f"linear: expected {self.targets} to {self.input_size} inputs, got {self.linear}"
            )
        if not isinstance(self.raw_linear, bool) or (self.raw_linear and self.normal != "level"):
            raise ValueError("raw_linear: expected false, or true with normal=level")
        if not 0 <= self.seen < self.input_size:
            raise ValueError(f"seen: expected 0 to {self.input_size - 1}, got {self.seen}")
        if not self.unit > 0:
            raise ValueError(f"unit: expected a number above 0, got {self.unit}")
        check_members(self.members)

    @property
    def exportable(self) -> bool:
        """Whether it can be exported: quantiles, of windows that are not normalised or by their
        level, of one network or several that can be merged.
        """
        is_one = self.members == 1 or self.cell in MERGEABLE_CELLS
        return self.head == "quantiles" and is_one and self.normal != "spread"


class Forecaster(SteppedModel[LaneBatch]):
    """Maps the inputs of a step to the distribution of the next values; the state is carried."""

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
            config.quantiles,
        )
        self.head: Forecast = (
            CountForecast(*sizes, unit=config.unit)
            if config.head == "counts"
            else HEADS[config.head](*sizes)
        )
        self.head.raw_linear = config.raw_linear
        single = replace(config, members=1)
        self.others = nn.ModuleList(Forecaster(single) for _ in range(config.members - 1))

    @property
    def networks(self) -> list[Forecaster]:
        """The members; the first is the model itself."""
        return [self, *(cast(Forecaster, other) for other in self.others)]

    @cached_property
    def decay(self) -> Tensor | None:
        """[W, 1]; see `window_statistics`."""
        if self.config.normal != "spread":
            return None
        ages = torch.arange(self.config.window - 1, -1, -1.0)
        return RETURN_DECAY ** ages[:, None]

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros, of every member: h, c, and `window` [W - 1, B, F], the inputs of the last W - 1
        steps.
        """
        return join_states([one._initial_state(batch_size) for one in self.networks])

    def _initial_state(self, batch_size: int) -> State:
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
        state = self.initial_state(x.shape[0]) if state is None else state
        quantiles, after = [], []
        for one, before in zip(self.networks, split_state(state, self.config.members), strict=True):
            params, own = one.params(x, before, reset, backend=backend)
            quantiles.append(one.head.quantiles(params))
            after.append(own)
        mean = quantiles[0] if len(quantiles) == 1 else torch.stack(quantiles).mean(0)
        return mean, join_states(after)

    def params(
        self,
        x: Tensor,
        state: State | None = None,
        reset: Tensor | None = None,
        *,
        backend: str | None = None,
    ) -> tuple[ForecastParams[Tensor], State]:
        """As `forward`, with the parameters of the distributions, of the first network alone."""
        hidden, inputs, state = self._features(x, state, reset, backend)
        hidden = F.dropout(hidden, self.config.dropout, self.training)
        return self._head_params(hidden, inputs), state

    def _features(
        self, x: Tensor, state: State | None, reset: Tensor | None, backend: str | None = None
    ) -> tuple[Tensor, StepInputs[Tensor], State]:
        """(hidden states [B, T, H], inputs of the head, state)"""
        config = self.config
        state = self._initial_state(x.shape[0]) if state is None else state
        last_inputs, past = windows(x, state.window, reset)
        inputs = step_inputs(
            last_inputs,
            x,
            targets=config.targets,
            linear=config.linear,
            normal=config.normal,
            seen=config.seen,
            decay=None if self.decay is None else self.decay.to(x.device),
            raw_linear=config.raw_linear,
        )
        hidden, final = carried(
            self.recurrent, inputs.recurrent, state, reset=reset, backend=backend
        )
        return hidden, inputs, State(**final, window=past)

    def _head_params(self, hidden: Tensor, inputs: StepInputs[Tensor]) -> ForecastParams[Tensor]:
        return self.head(hidden, inputs.window.flatten(-2), inputs.level, inputs.unit)

    def loss(self, batch: LaneBatch, state: State | None) -> tuple[Tensor, State]:
        """See `Model`: the loss of the head; of several networks its mean."""
        state = self.initial_state(batch.x.shape[0]) if state is None else state
        losses, after = [], []
        for one, before in zip(self.networks, split_state(state, self.config.members), strict=True):
            params, own = one.params(batch.x, before, batch.reset)
            losses.append(one.head.loss(params, batch.target))
            after.append(own)
        return torch.stack(losses).mean(), join_states(after)

    def loss_count(self, batch: LaneBatch) -> int:
        """See `Model`: known values."""
        return known_targets(batch.target)

    def native_stepper(self, precision: str) -> Stepper:
        """See `SteppedModel`."""
        steppers = [ForecasterStepper(one, precision) for one in self.networks]
        if len(steppers) == 1:
            return steppers[0]
        return MembersStepper(steppers, lambda y: np.asarray(np.mean(y, 0)))

    def comparison_model(self) -> Model[Any]:
        """See `Model`: the parameters of Student's t or of counts."""
        from memorycell.applications.forecast.params_model import ForecasterParams

        is_compared = self.config.head == "quantiles" or self.config.members > 1
        return self if is_compared else ForecasterParams(self)

    def exported(self) -> Forecaster:
        """See `Model`."""
        config = self.config
        if config.members == 1 or not config.exportable:
            return self
        single = replace(config, members=1, hidden_size=config.members * config.hidden_size)
        whole = Forecaster(single)
        whole.recurrent = merged([one.recurrent for one in self.networks])
        whole.head = MeanForecast([one.head for one in self.networks])
        return whole.eval()

    def onnx_head(self) -> OnnxHead | str:
        """See `Model`."""
        from memorycell.applications.forecast.onnx_head import ForecastOnnxHead

        return ForecastOnnxHead(self.exported()) if self.config.exportable else NOT_EXPORTED

    def c_head(self) -> CHead | str:
        """See `Model`."""
        from memorycell.applications.forecast.c_head import ForecastCHead

        return ForecastCHead(self.exported()) if self.config.exportable else NOT_EXPORTED

    def run(
        self, x: np.ndarray, start: np.ndarray, at: np.ndarray, *, precision: str = "float32"
    ) -> np.ndarray:
        """The forecasts at the steps `at` [M] of a series, with the state carried as in a stream:
        [M, horizon, targets, K] float32 in scaled units.

        x [N, F] float32; start [N], the first step of each step's segment, where the state is zero.
        The state is also zero `MAX_WARM_UP_STEPS` before the first forecast of a segment. Segments
        run in batches; below float32 one after another. Of several networks the forecasts are
        averaged.
        """
        place = np.full(len(x), -1)
        place[at] = np.arange(len(at))
        begins, ends = _wanted_segments(start, at)
        config = self.config
        result = np.empty((len(at), config.horizon, config.targets, config.quantiles), np.float32)
        self.eval()
        if precision != "float32":
            self._run_segments(x, begins, ends, place, result, precision)
            return result
        self._run_batched(x, begins, ends, place, result)
        for other in self.networks[1:]:
            own = np.empty_like(result)
            other._run_batched(x, begins, ends, place, own)
            result += own
        result /= np.float32(config.members)
        return result

    @torch.inference_mode()
    def _run_batched(
        self,
        x: np.ndarray,
        begins: np.ndarray,
        ends: np.ndarray,
        place: np.ndarray,
        result: np.ndarray,
    ) -> None:
        """Fill result; place [N] is the position of a step in it, or -1."""
        inputs = torch.from_numpy(x)
        longest_first = np.argsort(begins - ends, kind="stable")
        for part in np.array_split(longest_first, -(-len(begins) // MAX_SEGMENTS)):
            state, t = self._initial_state(len(part)), 0
            while len(part := part[ends[part] - begins[part] > t]):
                longest = int(ends[part[0]] - begins[part[0]]) - t
                length = min(longest, MAX_CHUNK_STEPS, self._chunk_steps(len(part)))
                index = begins[part, None] + np.arange(t, t + length)
                inside = index < ends[part, None]
                index = np.minimum(index, len(x) - 1)
                target = np.where(inside, place[index], -1)
                hidden, features, state = self._features(
                    inputs[index], state.select(range(len(part))), None
                )
                self._forecast_at(target, hidden, features, result)
                t += length

    def _chunk_steps(self, segments: int) -> int:
        """Steps of each of several segments whose windows fit in memory."""
        config = self.config
        return max(MAX_CHUNK_NUMBERS // (segments * config.window * config.input_size), 1)

    def _forecast_at(
        self, target: np.ndarray, hidden: Tensor, inputs: StepInputs[Tensor], result: np.ndarray
    ) -> None:
        """Fill result at target [B, T] (-1: no forecast) from the outputs of `_features`."""
        size = max(MAX_CHUNK_NUMBERS // int(np.prod(result.shape[1:])), 1)
        rows, steps = (torch.from_numpy(k) for k in np.nonzero(target >= 0))
        for r, s in zip(rows.split(size), steps.split(size), strict=True):
            unit = None if inputs.unit is None else inputs.unit[r, s]
            own = StepInputs(inputs.window[r, s], inputs.recurrent[r, s], inputs.level[r, s], unit)
            forecast = self.head.quantiles(self._head_params(hidden[r, s], own))
            result[target[r.numpy(), s.numpy()]] = forecast.numpy()

    def _run_segments(
        self,
        x: np.ndarray,
        begins: np.ndarray,
        ends: np.ndarray,
        place: np.ndarray,
        result: np.ndarray,
        precision: str,
    ) -> None:
        """As `_run_batched`, through the stepper."""
        stepper = self.stepper(precision)
        chunk = min(MAX_CHUNK_STEPS, max(MAX_CHUNK_NUMBERS // int(np.prod(result.shape[1:])), 1))
        for begin, end in zip(begins, ends, strict=True):
            ring = np.zeros((1, stepper.layout.width), np.float32)
            for t in range(begin, end, chunk):
                steps = slice(t, min(t + chunk, end))
                forecasts, _ = stepper.step_one(ring, 0, np.ascontiguousarray(x[steps]))
                target = place[steps]
                result[target[target >= 0]] = forecasts[target >= 0]


def _wanted_segments(start: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(begins, ends) of the steps to run for forecasts at the steps `at`, a pair per segment."""
    at = np.sort(at)
    first = np.flatnonzero(np.diff(start[at], prepend=-1))
    begins = np.maximum(start[at[first]], at[first] - MAX_WARM_UP_STEPS)
    last = np.append(first[1:], len(at)) - 1
    return begins, at[last] + 1
