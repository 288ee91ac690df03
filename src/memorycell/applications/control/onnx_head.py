"""The scaling and the actor of a recurrent policy in ONNX."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from memorycell.models.exporting import OnnxGraph

if TYPE_CHECKING:
    from memorycell.applications.control.model import RecurrentPolicy


class PolicyOnnxHead:
    """From observations to `scores` of the choices, or to the `action` within its bounds."""

    tokens = False

    def __init__(self, policy: RecurrentPolicy) -> None:
        self.recurrent, self._policy = policy.recurrent, policy
        self.output_name = "scores" if policy.config.choices else "action"
        self.output_shape: tuple[int, ...] = (policy.config.outputs,)

    def write_input(self, graph: OnnxGraph, x: str) -> str:
        """See `OnnxHead`."""
        scaling = self._policy.scaling
        x = graph.op("Sub", x, graph.constant(scaling.mean, "mean"))
        return graph.op("Div", x, graph.constant(scaling.std, "std"))

    def write_output(
        self, graph: OnnxGraph, x: str, hidden: str, state: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        """See `OnnxHead`."""
        actor = self._policy.actor
        y = graph.op("MatMul", hidden, graph.constant(actor.weight.T, "actor"))
        y = graph.op("Add", y, graph.constant(actor.bias))
        count, choices = self._policy.merged, self._policy.config.choices
        if choices and count == 1:
            return y, {}
        if not choices:
            y = graph.op("Clip", y, graph.constant(-1.0), graph.constant(1.0))
        y = graph.op("Reshape", y, graph.constant([0, 0, count, *self.output_shape]))
        if choices:  # the logarithm of the mean probability, see `mean_outputs`
            parts = graph.split(y, 3, choices) if len(choices) > 1 else [y]
            parts = [graph.op("LogSoftmax", part, axis=-1) for part in parts]
            y = graph.op("Concat", *parts, axis=3)
            y = graph.op("ReduceLogSumExp", y, axes=[2], keepdims=0)
            return graph.op("Sub", y, graph.constant(math.log(count))), {}
        y = graph.op("ReduceMean", y, axes=[2], keepdims=0)
        middle, half = map(graph.constant, self._policy.bounds())
        return graph.op("Add", graph.op("Mul", y, half), middle), {}
