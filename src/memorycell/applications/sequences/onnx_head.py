"""The pooling and the head of a sequence model in ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from memorycell.applications.sequences.heads import standard_student
from memorycell.applications.sequences.mixture import RANDOM
from memorycell.applications.sequences.onnx_convolutions import branch_in_onnx
from memorycell.applications.sequences.onnx_mixture import mixture_in_onnx
from memorycell.models.exporting import OnnxGraph
from memorycell.nn.attention import AttentionPool

if TYPE_CHECKING:
    from memorycell.applications.sequences.model import SequenceModel

END = int(np.iinfo(np.int64).max)


class SequenceOnnxHead:
    """The outputs of `SequenceModel.forward` after every step. The pooled values are the state
    tensor `pooled` [1, B, members · G]; there is none for pooling=last and targets at every step.
    That of the convolutions is `convolutions` [1, B, members · W], of the random ones `random`.
    """

    tokens = False

    def __init__(self, model: SequenceModel) -> None:
        config = self._config = model.config
        self.recurrent, self._model = model.merged_stack(), model
        self.output_name = "quantiles" if config.numeric else "scores"
        self.output_shape: tuple[int, ...] = (
            (config.outputs, config.quantiles) if config.numeric else (config.outputs,)
        )

    def write_input(self, graph: OnnxGraph, x: str) -> str:
        """See `OnnxHead`."""
        return x

    def write_output(
        self, graph: OnnxGraph, x: str, hidden: str, state: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        """See `OnnxHead`."""
        config, model = self._config, self._model
        count = config.members
        hiddens, pools = [hidden], [state.get("pooled", "")]
        if count > 1:
            hiddens = graph.split(hidden, 2, (config.hidden_size,) * count)
            if pools[0]:
                pools = graph.split(pools[0], 2, (config.member_state,) * count)
        branches = [state.get("convolutions", "")]
        if count > 1 and branches[0]:
            branch = model.networks[0].branch
            assert branch is not None
            branches = graph.split(branches[0], 2, (branch.state_size,) * count)
        outputs, pooled, convolved = [], [], []
        for k, member in enumerate(model.networks):
            z = hiddens[k]
            if "pooled" in state:
                z, carried = self._pool(graph, member.pool, z, pools[k])
                pooled.append(carried)
            if member.branch is not None:
                features, carried = branch_in_onnx(graph, member.branch, x, branches[k])
                convolved.append(carried)
                z = graph.op("Concat", z, features, axis=2)
            head = member.head
            weight = graph.constant(head.weight.T, "head")
            out = graph.op("MatMul", z, weight)
            out = graph.op("Add", out, graph.constant(head.bias))
            outputs.append(self._member_output(graph, out))
        after = {
            name: values[0] if count == 1 else graph.op("Concat", *values, axis=2)
            for name, values in (("pooled", pooled), ("convolutions", convolved))
            if values
        }
        y = self._combined(graph, outputs)
        if model.random is not None:
            y, after[RANDOM] = mixture_in_onnx(graph, model.random, x, state[RANDOM], y)
        return y, after

    def _pool(
        self, graph: OnnxGraph, attention: AttentionPool | None, hidden: str, before: str
    ) -> tuple[str, str]:
        """(z [B, T, H] after every step, the values after the last step [1, B, G])."""
        if self._config.pooling == "max":  # of h + 1, see `pool_steps`
            one = graph.constant(1.0)
            start = graph.op("Squeeze", before, graph.constant([0]))
            maxima = graph.running_max(graph.op("Add", hidden, one), start)
            return graph.op("Sub", maxima, one), _last_step(graph, maxima)
        first = graph.op("Transpose", before, perm=[1, 0, 2])  # [B, 1, G]
        if attention is None:
            shape = graph.op("Shape", hidden)
            ends = (graph.constant([0]), graph.constant([2]), graph.constant([0]))
            steps = graph.op("Concat", graph.op("Slice", shape, *ends), graph.constant([1]), axis=0)
            weights = graph.op("Expand", graph.constant([[[1.0]]]), steps)
        else:
            inner, score = attention.inner, attention.score
            weights = graph.op("MatMul", hidden, graph.constant(inner.weight.T, "pool"))
            weights = graph.op("Tanh", graph.op("Add", weights, graph.constant(inner.bias)))
            weights = graph.op("MatMul", weights, graph.constant(score.weight.T))
            weights = graph.op("Exp", weights)
        terms = graph.op("Concat", graph.op("Mul", weights, hidden), weights, axis=2)
        sums = graph.op("Add", graph.op("CumSum", terms, graph.constant(1)), first)
        numerator, weight = graph.split(sums, 2, (self._config.hidden_size, 1))
        return graph.op("Div", numerator, weight), _last_step(graph, sums)

    def _member_output(self, graph: OnnxGraph, out: str) -> str:
        config, model = self._config, self._model
        if not config.numeric:
            return out
        shape = graph.constant([0, 0, config.outputs, config.params])
        out = graph.op("Reshape", out, shape)
        if model.tails is not None:
            location, log_scale = graph.split(out, 3, (1, 1))
            bounds = graph.constant(-8.0), graph.constant(8.0)
            scale = graph.op("Exp", graph.op("Clip", log_scale, *bounds))
            freedom = model.degrees_of_freedom.detach().cpu().numpy()
            standard = graph.constant(standard_student(freedom, config.quantiles))
            return graph.op("Add", location, graph.op("Mul", scale, standard))
        middle = config.quantiles // 2
        if middle == 0:
            return out
        below, median, above = graph.split(out, 3, (middle, 1, middle))
        axis = graph.constant(3)
        above = graph.op("CumSum", graph.op("Softplus", above), axis)
        below = graph.op("CumSum", graph.op("Softplus", below), axis, reverse=1)
        below, above = graph.op("Sub", median, below), graph.op("Add", median, above)
        return graph.op("Concat", below, median, above, axis=3)

    def _combined(self, graph: OnnxGraph, outputs: list[str]) -> str:
        config = self._config
        temperature = graph.constant(float(self._model.temperature))
        if config.numeric:
            mean = _mean(graph, outputs)
            middle = config.quantiles // 2
            ends = (graph.constant([middle]), graph.constant([middle + 1]), graph.constant([3]))
            median = graph.op("Slice", mean, *ends)
            distance = graph.op("Mul", graph.op("Sub", mean, median), temperature)
            return graph.op("Add", median, distance)
        if len(outputs) == 1:
            return graph.op("Div", outputs[0], temperature)
        if config.target == "labels":
            p = _mean(graph, [graph.op("Sigmoid", out) for out in outputs])
            p = graph.op("Clip", p, graph.constant(1e-7), graph.constant(1 - 1e-7))
            odds = graph.op("Div", p, graph.op("Sub", graph.constant(1.0), p))
            return graph.op("Div", graph.op("Log", odds), temperature)
        p = _mean(graph, [graph.op("Softmax", out, axis=-1) for out in outputs])
        p = graph.op("Max", p, graph.constant(float(np.finfo(np.float32).tiny)))
        return graph.op("Div", graph.op("Log", p), temperature)


def _mean(graph: OnnxGraph, values: list[str]) -> str:
    return values[0] if len(values) == 1 else graph.op("Mean", *values)


def _last_step(graph: OnnxGraph, values: str) -> str:
    """Values [B, T, G] -> those of the last step [1, B, G]."""
    ends = (graph.constant([-1]), graph.constant([END]), graph.constant([1]))
    return graph.op("Transpose", graph.op("Slice", values, *ends), perm=[1, 0, 2])
