"""The convolutions of a sequence model in C99."""

from __future__ import annotations

from string import Template

import torch
from torch import nn

from memorycell.applications.sequences.convolutions import (
    DILATIONS,
    EPSILON,
    KERNELS,
    ConvolutionBranch,
    StepNorm,
)
from memorycell.models.exporting import CWriter

CONVOLVE = """\
/* A causal convolution of one row, then ReLU: past [inputs][(kernel - 1) * dilation] holds the rows
   before, the oldest first. */
static void convolve(const float *w, const float *bias, int inputs, int outputs, int kernel,
                     int dilation, const float *x, float *past, float *out) {
    const int before = (kernel - 1) * dilation;

    for (int o = 0; o < outputs; o++) {
        float sum = bias[o];
        for (int c = 0; c < inputs; c++) {
            const float *own = w + ((long)o * inputs + c) * kernel;
            for (int k = 0; k < kernel - 1; k++)
                sum += own[k] * past[(long)c * before + k * dilation];
            sum += own[kernel - 1] * x[c];
        }
        out[o] = fmaxf(sum, 0.0f);
    }
    for (int c = 0; c < inputs; c++) {
        float *own = past + (long)c * before;
        for (int k = 0; k < before - 1; k++)
            own[k] = own[k + 1];
        own[before - 1] = x[c];
    }
}
"""

BRANCH = Template("""\
/* The mean and the maximum of the features over the rows so far; `more` is kept between steps. */
static void branch_$member(const float *x, float *more, float *out) {
    enum { C = $channels };
    float a[C], b[C];
    float *sums = more + $sums_at, *maxima = sums + C, *count = maxima + C;

    for (int row = 0; row < $patch; row++) {
$layers        for (int u = 0; u < C; u++) {
            sums[u] += $last[u];
            maxima[u] = fmaxf(maxima[u], $last[u]);
        }
    }
    count[0] += $patch;
    for (int u = 0; u < C; u++) {
        out[u] = sums[u] / count[0];
        out[C + u] = maxima[u];
    }
}
""")


def branch_in_c(writer: CWriter, branch: ConvolutionBranch, member: int) -> str:
    """The function `branch_MEMBER`, which reads a step's input x and updates `more`, the state of
    `branch`. The normalisation is part of the weights.
    """
    convolutions = branch.convolutions
    channels, at, lines = convolutions.channels, 0, []
    source = f"x + row * {branch.row_size}"
    for k, (layer, norm) in enumerate(zip(convolutions.layers, convolutions.norms, strict=True)):
        assert isinstance(layer, nn.Conv1d)
        assert isinstance(norm, StepNorm)
        scale = norm.gain.detach() * torch.rsqrt(norm.variance.detach() + EPSILON)
        weight = writer.constant(f"conv_{member}_{k}", layer.weight.detach() * scale[:, None, None])
        shift = norm.bias.detach() - norm.mean.detach() * scale
        bias = writer.constant(f"conv_{member}_{k}_bias", shift)
        out = "ab"[k % 2]
        sizes = f"{layer.in_channels}, {channels}, {KERNELS[k]}, {DILATIONS[k]}"
        call = (
            f"convolve({weight}, {bias}, {sizes},\n                 {source}, more + {at}, {out});"
        )
        lines.append(f"        {call}\n")
        at += convolutions.state_sizes[k]
        source = out
    return BRANCH.substitute(
        member=member,
        channels=channels,
        sums_at=at,
        patch=branch.patch,
        layers="".join(lines),
        last=source,
    )


def stack_bytes(branch: ConvolutionBranch) -> int:
    """Of the local arrays, features included."""
    return 4 * 2 * (branch.convolutions.channels + branch.output_size)
