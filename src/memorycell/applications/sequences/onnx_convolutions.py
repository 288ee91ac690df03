"""The convolutions of a sequence model in ONNX."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from memorycell.applications.sequences.convolutions import (
    DILATIONS,
    EPSILON,
    KERNELS,
    ConvolutionBranch,
    StepNorm,
)
from memorycell.models.exporting import OnnxGraph

END = int(np.iinfo(np.int64).max)


def branch_in_onnx(
    graph: OnnxGraph, branch: ConvolutionBranch, x: str, before: str
) -> tuple[str, str]:
    """`ConvolutionBranch.steps`: inputs of steps x [B, T, I], the state before the first step
    [1, B, W] -> (features [B, T, 2 C] after every step, the state after the last one [1, B, W]).
    The normalisation is part of the weights.
    """
    convolutions, channels = branch.convolutions, branch.convolutions.channels
    first = graph.constant([0])
    sizes = (*convolutions.state_sizes, channels, channels, 1)
    *pasts, sums, maxima, count = graph.split(graph.op("Squeeze", before, first), 1, sizes)
    width = branch.patch * branch.row_size
    ends = first, graph.constant([width]), graph.constant([2])
    rows = graph.op("Slice", x, *ends)
    rows = graph.op("Reshape", rows, graph.constant([0, -1, branch.row_size]))
    values = graph.op("Transpose", rows, perm=[0, 2, 1])
    after = []
    for k, (layer, norm) in enumerate(zip(convolutions.layers, convolutions.norms, strict=True)):
        assert isinstance(layer, nn.Conv1d)
        assert isinstance(norm, StepNorm)
        steps = (KERNELS[k] - 1) * DILATIONS[k]
        past = graph.op("Reshape", pasts[k], graph.constant([0, layer.in_channels, steps]))
        values = graph.op("Concat", past, values, axis=2)
        last = graph.constant([-steps]), graph.constant([END]), graph.constant([2])
        kept = graph.op("Slice", values, *last)
        after.append(graph.op("Reshape", kept, graph.constant([0, layer.in_channels * steps])))
        scale = norm.gain.detach() * torch.rsqrt(norm.variance.detach() + EPSILON)
        weight = graph.constant(layer.weight.detach() * scale[:, None, None], "convolution")
        bias = graph.constant(norm.bias.detach() - norm.mean.detach() * scale)
        values = graph.op("Conv", values, weight, bias, dilations=[DILATIONS[k]])
        values = graph.op("Relu", values)
    values = graph.op("Transpose", values, perm=[0, 2, 1])
    values = graph.op("Reshape", values, graph.constant([0, -1, branch.patch, channels]))
    axis, second = graph.constant(1), graph.constant([1])
    total = graph.op("ReduceSum", values, graph.constant([2]), keepdims=0)
    total = graph.op("CumSum", total, axis)
    total = graph.op("Add", total, graph.op("Unsqueeze", sums, second))
    ones = graph.op("Mul", _one_per_step(graph, x), graph.constant(float(branch.patch)))
    counts = graph.op("CumSum", ones, axis)
    counts = graph.op("Add", counts, graph.op("Unsqueeze", count, second))
    highest = graph.running_max(graph.op("ReduceMax", values, axes=[2], keepdims=0), maxima)
    after += [_last(graph, value) for value in (total, highest, counts)]
    features = graph.op("Concat", graph.op("Div", total, counts), highest, axis=2)
    return features, graph.op("Unsqueeze", graph.op("Concat", *after, axis=1), first)


def _one_per_step(graph: OnnxGraph, x: str) -> str:
    """Ones [1, T, 1] of x [B, T, I]."""
    ends = graph.constant([1]), graph.constant([2]), graph.constant([0])
    one = graph.constant([1])
    steps = graph.op("Slice", graph.op("Shape", x), *ends)
    shape = graph.op("Concat", one, steps, one, axis=0)
    return graph.op("Expand", graph.constant([[[1.0]]]), shape)


def _last(graph: OnnxGraph, values: str) -> str:
    """Values [B, T, G] -> those of the last step [B, G]."""
    ends = graph.constant([-1]), graph.constant([END]), graph.constant([1])
    return graph.op("Squeeze", graph.op("Slice", values, *ends), graph.constant([1]))
