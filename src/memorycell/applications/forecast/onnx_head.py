"""The forecast head in ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from memorycell.models.exporting import OnnxGraph

if TYPE_CHECKING:
    from memorycell.applications.forecast.model import Forecaster


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

    def write_input(self, graph: OnnxGraph, x: str) -> str:
        """See `OnnxHead`."""
        return x

    def write_output(
        self, graph: OnnxGraph, x: str, hidden: str, state: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        """See `OnnxHead`."""
        horizon, targets, quantiles = self.output_shape
        head, middle = self._head, quantiles // 2
        out = graph.op("MatMul", hidden, graph.constant(head.recurrent.weight.T, "head"))
        out = graph.op("Add", out, graph.constant(head.recurrent.bias))
        out = graph.op("Reshape", out, graph.constant([0, 0, horizon, targets, quantiles]))
        below, centre, above = graph.split(out, 4, (middle, 1, middle))

        inputs, after = self._inputs(graph, x, state)
        linear = graph.op("Reshape", inputs, graph.constant([0, 0, horizon, targets, 1]))
        level = graph.op(
            "Slice", x, graph.constant([0]), graph.constant([targets]), graph.constant([2])
        )
        level = graph.op("Unsqueeze", level, graph.constant([2, 4]))
        median = graph.op("Add", graph.op("Add", centre, linear), level)

        last_axis = graph.constant(4)
        above = graph.op("CumSum", graph.op("Softplus", above), last_axis)
        below = graph.op("CumSum", graph.op("Softplus", below), last_axis, reverse=1)
        below, above = graph.op("Sub", median, below), graph.op("Add", median, above)
        return graph.op("Concat", below, median, above, axis=4), after

    def _inputs(
        self, graph: OnnxGraph, x: str, state: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        """The linear path over the last W inputs [B, T, horizon·targets]; and the new window."""
        window, after = self._window, {}
        if window > 1:
            past = graph.op("Transpose", state["window"], perm=[1, 0, 2])
            x = graph.op("Concat", past, x, axis=1)
            end = np.iinfo(np.int64).max
            last = graph.op("Slice", x, *(graph.constant([v]) for v in (1 - window, end, 1)))
            after["window"] = graph.op("Transpose", last, perm=[1, 0, 2])
        # A linear map of W consecutive inputs is a convolution over time.
        linear = self._head.linear
        kernel = linear.weight.detach().view(-1, window, self._features).transpose(1, 2)
        out = graph.op(
            "Conv",
            graph.op("Transpose", x, perm=[0, 2, 1]),
            graph.constant(kernel, "linear"),
            graph.constant(linear.bias),
        )
        return graph.op("Transpose", out, perm=[0, 2, 1]), after
