"""The scaling and the actor of a recurrent policy in ONNX."""

from __future__ import annotations

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
        if self._policy.config.choices:
            return y, {}
        middle, half = map(graph.constant, self._policy.bounds())
        y = graph.op("Clip", y, graph.constant(-1.0), graph.constant(1.0))
        return graph.op("Add", graph.op("Mul", y, half), middle), {}
