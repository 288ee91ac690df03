"""A forecaster on the native engine, one step at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from memorycell.applications.forecast.head import ForecastStep, Quantiles
from memorycell.applications.forecast.windows import StepInputs, step_inputs
from memorycell.state import Layout
from memorycell.streaming.stepping import LayerStepper

if TYPE_CHECKING:
    from memorycell.applications.forecast.model import Forecaster


class ForecasterStepper:
    """See `Stepper`. A state row holds h, c and the inputs of the last W - 1 steps.

    output   maps the parameters to the output; by default to quantiles
    """

    def __init__(self, model: Forecaster, precision: str, output: Quantiles | None = None) -> None:
        config = model.config
        self.input_size, self.precision = config.input_size, precision
        self._past = config.window - 1
        self._layers = LayerStepper(
            model.recurrent, precision, extra_width=self._past * config.input_size
        )
        self.layout = Layout(
            {**self._layers.layout.sizes, "window": (self._past, config.input_size)}
        )
        self._window_at = self.layout.slices["window"]
        self._head, self._config = ForecastStep(model.head, output), config
        self._decay = None if model.decay is None else model.decay.numpy()

    def step_one(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """See `Stepper`: y [horizon, targets, K] per step, in scaled units."""
        steps = x.reshape(-1, self.input_size)
        count, past = len(steps), self._past
        last_inputs = np.concatenate(
            [ring[row, self._window_at].reshape(past, self.input_size), steps]
        )
        if count == 1:
            windows = last_inputs[None]
        else:
            windows = last_inputs[np.arange(count)[:, None] + np.arange(past + 1)]
        inputs = self._inputs(windows, steps)
        hidden, row = self._layers.step_one(ring, row, inputs.recurrent)
        for back in range(min(count, len(ring))):  # the window after each step in the ring
            after = last_inputs[count - back : count - back + past]
            ring[row - back, self._window_at] = after.ravel()
        y = self._output(hidden, inputs)
        return (y if x.ndim == 2 else y[0]), row

    def step_many(self, block: np.ndarray, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See `Stepper`."""
        windows = np.concatenate([block[rows, self._window_at], x], 1)
        inputs = self._inputs(windows.reshape(len(rows), -1, self.input_size), x)
        hidden = self._layers.step_many(block, rows, np.ascontiguousarray(inputs.recurrent))
        block[rows, self._window_at] = windows[:, self.input_size :]
        return self._output(hidden, inputs)

    def _inputs(self, windows: np.ndarray, x: np.ndarray) -> StepInputs[np.ndarray]:
        config = self._config
        return step_inputs(
            windows,
            x,
            targets=config.targets,
            linear=config.linear,
            normal=config.normal,
            seen=config.seen,
            decay=self._decay,
            raw_linear=config.raw_linear,
        )

    def _output(self, hidden: np.ndarray, inputs: StepInputs[np.ndarray]) -> np.ndarray:
        window = np.ascontiguousarray(inputs.window.reshape(len(hidden), -1))
        return self._head(hidden, window, inputs.level, inputs.unit)
