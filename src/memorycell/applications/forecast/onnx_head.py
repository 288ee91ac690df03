"""The forecast head in ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from memorycell.applications.forecast.windows import MIN_WINDOW_STD
from memorycell.models.exporting import OnnxGraph

if TYPE_CHECKING:
    from memorycell.applications.forecast.model import Forecaster


FLOAT = 1
"""The number of float32 in ONNX (TensorProto.DataType)."""
MIN_VARIANCE = MIN_WINDOW_STD**2


class _Normalised(NamedTuple):
    """Names of the values of `windows.StepInputs`: window [B, T, W, F], recurrent [B, T, F], unit
    [B, T, targets].
    """

    window: str
    recurrent: str
    unit: str


class ForecastOnnxHead:
    """Quantiles [B, T, horizon, targets, K] in scaled units, see `Forecast`. The inputs of the last
    W - 1 steps are the state tensor `window` [W - 1, B, F]; there is none for W = 1.
    """

    tokens = False
    output_name = "quantiles"

    def __init__(self, model: Forecaster) -> None:
        config = model.config
        self.recurrent = model.recurrent
        self.output_shape: tuple[int, ...] = (config.horizon, config.targets, config.quantiles)
        self._head, self._window, self._features = model.head, config.window, config.input_size
        self._seen = config.seen
        self._normalised: _Normalised | None = None
        self._normalises = config.normal == "level"
        self._raw_linear = config.raw_linear
        self._linear_inputs = config.linear or config.input_size

    def write_input(self, graph: OnnxGraph, x: str) -> str:
        """See `OnnxHead`."""
        if not self._normalises:
            return x
        self._normalised = self._normalise(graph, x)
        return self._normalised.recurrent

    def _normalise(self, graph: OnnxGraph, x: str) -> _Normalised:
        """See `windows.step_inputs`."""
        targets, end = self.output_shape[1], np.iinfo(np.int64).max

        def part(value: str, begin: int, stop: int, axis: int) -> str:
            return _part(graph, value, begin, stop, axis)

        steps = graph.op("Squeeze", graph.op("Shape", x, start=1, end=2), graph.constant([0]))
        first = graph.op("Range", graph.constant(0), steps, graph.constant(1))
        index = graph.op(
            "Add",
            graph.op("Unsqueeze", first, graph.constant([1])),
            graph.constant(np.arange(self._window)),
        )
        window = graph.op("Gather", self._with_past(graph, x, "window"), index, axis=1)
        past = part(window, 0, targets, 3)
        seen = graph.op("Greater", part(window, self._seen, self._seen + 1, 3), graph.constant(0.5))
        seen = graph.op("Cast", seen, to=FLOAT)
        over_steps, keep = graph.constant([2]), 1
        count = graph.op("ReduceSum", seen, over_steps, keepdims=keep)
        count = graph.op("Add", count, graph.constant(1e-6))
        total = graph.op("ReduceSum", graph.op("Mul", past, seen), over_steps, keepdims=keep)
        mean = graph.op("Div", total, count)
        distance = graph.op("Sub", past, mean)
        squares = graph.op("Mul", graph.op("Mul", distance, distance), seen)
        squares = graph.op("ReduceSum", squares, over_steps, keepdims=keep)
        variance = graph.op("Add", graph.op("Div", squares, count), graph.constant(MIN_VARIANCE))
        std = graph.op("Sqrt", variance)
        past = graph.op("Mul", graph.op("Div", distance, std), seen)
        window = graph.op("Concat", past, part(window, targets, self._linear_inputs, 3), axis=3)
        mean, unit = (graph.op("Squeeze", value, over_steps) for value in (mean, std))
        level = graph.op("Div", graph.op("Sub", part(x, 0, targets, 2), mean), unit)
        recurrent = graph.op("Concat", level, part(x, targets, end, 2), axis=2)
        return _Normalised(window, recurrent, unit)

    def _with_past(self, graph: OnnxGraph, x: str, window: str) -> str:
        """The inputs [B, W - 1 + T, F] with those of the past steps in front."""
        if self._window == 1:
            return x
        return graph.op("Concat", graph.op("Transpose", window, perm=[1, 0, 2]), x, axis=1)

    def write_output(
        self, graph: OnnxGraph, x: str, hidden: str, state: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        """See `OnnxHead`."""
        horizon, targets, quantiles = self.output_shape
        head, middle = self._head, quantiles // 2
        out = graph.op("MatMul", hidden, graph.constant(head.recurrent.weight.T, "head"))
        out = graph.op("Add", out, graph.constant(head.recurrent.bias))
        split = graph.constant([0, 0, horizon, targets, head.members, quantiles])
        below, centre, above = graph.split(graph.op("Reshape", out, split), 5, (middle, 1, middle))
        below, above = graph.op("Softplus", below), graph.op("Softplus", above)
        below, centre, above = (
            graph.op("ReduceMean", part, axes=[4], keepdims=0) for part in (below, centre, above)
        )

        inputs, after = self._inputs(graph, x)
        linear = graph.op("Reshape", inputs, graph.constant([0, 0, horizon, targets, 1]))
        unit = None
        if self._normalised is not None:
            unit = graph.op("Unsqueeze", self._normalised.unit, graph.constant([2, 4]))
        if unit is not None and self._raw_linear:
            change = graph.op("Add", graph.op("Mul", centre, unit), linear)
        else:
            change = graph.op("Add", centre, linear)
            if unit is not None:
                change = graph.op("Mul", change, unit)
        level = graph.op(
            "Slice", x, graph.constant([0]), graph.constant([targets]), graph.constant([2])
        )
        level = graph.op("Unsqueeze", level, graph.constant([2, 4]))
        median = graph.op("Add", change, level)

        last_axis = graph.constant(4)
        above = graph.op("CumSum", above, last_axis)
        below = graph.op("CumSum", below, last_axis, reverse=1)
        if unit is not None:
            below, above = graph.op("Mul", below, unit), graph.op("Mul", above, unit)
        below, above = graph.op("Sub", median, below), graph.op("Add", median, above)
        return graph.op("Concat", below, median, above, axis=4), after

    def _inputs(self, graph: OnnxGraph, x: str) -> tuple[str, dict[str, str]]:
        """The linear path over the last W inputs [B, T, horizon·targets]; and the new window."""
        window, after = self._window, {}
        x = self._with_past(graph, x, "window")
        if window > 1:
            end = np.iinfo(np.int64).max
            last = graph.op("Slice", x, *(graph.constant([v]) for v in (1 - window, end, 1)))
            after["window"] = graph.op("Transpose", last, perm=[1, 0, 2])
        linear = self._head.linear
        if self._normalised is not None and not self._raw_linear:
            flat = graph.op("Reshape", self._normalised.window, graph.constant([0, 0, -1]))
            out = graph.op("MatMul", flat, graph.constant(linear.weight.T, "linear"))
            return graph.op("Add", out, graph.constant(linear.bias)), after
        # A linear map of W consecutive inputs is a convolution over time.
        inputs = self._linear_inputs
        kernel = linear.weight.detach().view(-1, window, inputs).transpose(1, 2)
        if inputs < self._features:
            x = _part(graph, x, 0, inputs, 2)
        out = graph.op(
            "Conv",
            graph.op("Transpose", x, perm=[0, 2, 1]),
            graph.constant(kernel, "linear"),
            graph.constant(linear.bias),
        )
        return graph.op("Transpose", out, perm=[0, 2, 1]), after


def _part(graph: OnnxGraph, value: str, begin: int, stop: int, axis: int) -> str:
    """A slice of a tensor."""
    return graph.op("Slice", value, *(graph.constant([v]) for v in (begin, stop, axis)))
