"""The random convolutions of a sequence model in ONNX."""

from __future__ import annotations

import numpy as np

from memorycell.applications.sequences.mixture import (
    KERNELS,
    MAX_INPUT,
    SCALE,
    TAPS,
    RandomConvolutions,
    kernel_weights,
)
from memorycell.models.exporting import OnnxGraph

END = int(np.iinfo(np.int64).max)


def mixture_in_onnx(
    graph: OnnxGraph, random: RandomConvolutions, x: str, before: str, y: str
) -> tuple[str, str]:
    """`RandomConvolutions.steps` and `mixed`: inputs of steps x [B, T, I], the state before the
    first step [1, B, W], scores of the networks y [B, T, C] -> (scores of the mixture, the state
    after the last step [1, B, W]).
    """
    first, second = graph.constant([0]), graph.constant([1])
    size = KERNELS * random.biases.shape[2]
    widths = (random.past * random.row_size, *(size,) * len(random.dilations), 1)
    past, *counted, count = graph.split(graph.op("Squeeze", before, first), 1, widths)
    width = random.patch * random.row_size
    own = graph.op("Slice", x, first, graph.constant([width]), graph.constant([2]))
    own = graph.op("Clip", own, graph.constant(-MAX_INPUT), graph.constant(MAX_INPUT))
    own = graph.op("Round", graph.op("Mul", own, graph.constant(SCALE)))
    shape = graph.constant([0, -1, random.row_size])
    rows = graph.op(
        "Concat", graph.op("Reshape", past, shape), graph.op("Reshape", own, shape), axis=1
    )
    start, end = graph.constant([-random.past]), graph.constant([END])
    last = graph.op("Slice", rows, start, end, second)
    after = [graph.op("Reshape", last, graph.constant([0, widths[0]]))]
    rows = graph.op("Transpose", rows, perm=[0, 2, 1])
    # The rows read before each row of the chunk, [B, 1, 1, T · patch], and after each step.
    count4 = graph.op("Reshape", count, graph.constant([0, 1, 1, 1]))
    steps = _numbered(graph, x)  # 1, 2, … [1, 1, 1, T]
    patch = graph.constant(float(random.patch))
    read = graph.op("Add", count4, graph.op("Mul", steps, patch))
    within = graph.constant(np.arange(random.patch, dtype=np.float32) - random.patch)
    column = graph.op("Unsqueeze", read, graph.constant([4]))  # [B, 1, 1, T, 1]
    time = graph.op("Add", column, within)  # [B, 1, 1, T, patch]
    scores = graph.constant(random.bias)
    for number, dilation in enumerate(random.dilations):
        reach = (TAPS - 1) * dilation
        seen = graph.op(
            "Slice", rows, graph.constant([random.past - reach]), end, graph.constant([2])
        )
        weights = kernel_weights()[:, None] * random.channels[number][:, :, None]
        response = graph.op("Conv", seen, graph.constant(weights, "random"), dilations=[dilation])
        response = graph.op("Unsqueeze", response, graph.constant([2]))
        biases = graph.constant(random.biases[number][:, :, None])
        above = graph.op("Cast", graph.op("Greater", response, biases), to=1)
        shape = graph.constant([0, 0, 0, -1, random.patch])
        above = graph.op("Reshape", above, shape)  # [B, 84, N, T, patch]
        limit = graph.constant(reach - 0.5)
        inside = graph.op("Mul", above, graph.op("Cast", graph.op("Greater", time, limit), to=1))
        carried = graph.op("Reshape", counted[number], graph.constant([0, KERNELS, -1, 1]))
        began = graph.op("Cast", graph.op("Greater", count4, graph.constant(float(reach))), to=1)
        totals = [
            graph.op(
                "Add",
                graph.op(
                    "CumSum",
                    graph.op("ReduceSum", values, graph.constant([4]), keepdims=0),
                    graph.constant(3),
                ),
                before_it,
            )
            for values, before_it in ((above, carried), (inside, graph.op("Mul", carried, began)))
        ]
        skips = random.skips(number).float()[:, None, None]
        reached = graph.op("Cast", graph.op("Greater", read, graph.constant(float(reach))), to=1)
        use = graph.op("Mul", reached, graph.constant(skips))  # [B, 84, 1, T]
        change = graph.op("Mul", use, graph.op("Sub", totals[1], totals[0]))
        total = graph.op("Add", totals[0], change)
        rows_counted = graph.op("Sub", read, graph.op("Mul", use, graph.constant(float(reach))))
        rows_counted = graph.op("Add", rows_counted, graph.constant(float(random.prior)))
        expected = graph.constant(random.expected[number][:, :, None])
        features = graph.op("Div", graph.op("Add", total, expected), rows_counted)
        features = graph.op("Transpose", features, perm=[0, 3, 1, 2])
        features = graph.op("Reshape", features, graph.constant([0, 0, size]))
        part = random.weight[:, number * size : (number + 1) * size].T
        scores = graph.op(
            "Add", graph.op("MatMul", features, graph.constant(part, "random")), scores
        )
        final = graph.op("Slice", total, graph.constant([-1]), end, graph.constant([3]))
        after.append(graph.op("Reshape", final, graph.constant([0, size])))
    final = graph.op("Slice", read, graph.constant([-1]), end, graph.constant([3]))
    after.append(graph.op("Reshape", final, graph.constant([0, 1])))
    share = float(random.share)
    p = graph.op("Mul", graph.op("Softmax", y, axis=-1), graph.constant(1 - share))
    q = graph.op("Mul", graph.op("Softmax", scores, axis=-1), graph.constant(share))
    p = graph.op("Max", graph.op("Add", p, q), graph.constant(float(np.finfo(np.float32).tiny)))
    state = graph.op("Unsqueeze", graph.op("Concat", *after, axis=1), first)
    return graph.op("Log", p), state


def _numbered(graph: OnnxGraph, x: str) -> str:
    """1, 2, … T as [1, 1, 1, T], of x [B, T, I]."""
    ends = graph.constant([1]), graph.constant([2]), graph.constant([0])
    one = graph.constant([1])
    steps = graph.op("Slice", graph.op("Shape", x), *ends)
    shape = graph.op("Concat", one, one, one, steps, axis=0)
    ones = graph.op("Expand", graph.constant([[[[1.0]]]]), shape)
    return graph.op("CumSum", ones, graph.constant(3))
