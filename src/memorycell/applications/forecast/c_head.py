"""The forecast head in C99."""

from __future__ import annotations

from collections.abc import Sequence
from string import Template
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from memorycell.applications.forecast.windows import MIN_WINDOW_STD
from memorycell.models.exporting import CWriter

if TYPE_CHECKING:
    from memorycell.applications.forecast.head import Forecast
    from memorycell.applications.forecast.model import Forecaster

NORMALISE = Template("""\
/* Mean and standard deviation of each target over the observed steps of the window. */
static void window_statistics(const float *x, const float *more, float *mean, float *std) {
    enum { F = $features, W = $window, T = $targets, SEEN = $seen };

    for (int j = 0; j < T; j++) {
        float count = 1e-6f, sum = 0.0f, squares = 0.0f;
        for (int k = 0; k < W; k++) {
            const float *step = k < W - 1 ? more + k * F : x;
            if (step[SEEN] > 0.5f) {
                count += 1.0f;
                sum += step[j];
            }
        }
        mean[j] = sum / count;
        for (int k = 0; k < W; k++) {
            const float *step = k < W - 1 ? more + k * F : x;
            if (step[SEEN] > 0.5f)
                squares += (step[j] - mean[j]) * (step[j] - mean[j]);
        }
        std[j] = sqrtf(squares / count + $min_variance);
    }
}

static void normalise_input(const float *x, const float *more, float *inputs) {
    enum { F = $features, T = $targets };
    float mean[T], std[T];

    window_statistics(x, more, mean, std);
    for (int k = 0; k < F; k++)
        inputs[k] = k < T ? (x[k] - mean[k]) / std[k] : x[k];
}

""")

ONE = """
    product(head_recurrent, head_recurrent_bias, CELLS * K, $hidden_size, h, y);"""

NORMALISE_WINDOW = """
    for (int k = 0; k <= PAST; k += F) {
        const int seen = window[k + $seen] > 0.5f;
        for (int j = 0; j < T; j++)
            window[k + j] = seen ? (window[k + j] - mean[j]) / std[j] : 0.0f;
    }"""

PACK_WINDOW = """
    for (int k = 1; k < LINEAR / $linear_inputs; k++)
        for (int j = 0; j < $linear_inputs; j++)
            window[k * $linear_inputs + j] = window[k * F + j];"""
"""Moves the inputs that the linear path reads to the front of the window."""

MEMBERS = """
    for (int k = 0; k < CELLS * K; k++)
        y[k] = 0.0f;
    for (int m = 0; m < $members; m++) {
        product(head_recurrent + m * CELLS * K * $hidden_size, head_recurrent_bias + m * CELLS * K,
                CELLS * K, $hidden_size, h + m * $hidden_size, own);
        for (int k = 0; k < CELLS * K; k++)
            y[k] += (k % K == MIDDLE ? own[k] : softplus(own[k])) / $members;
    }"""
"""The mean of what several networks add to the median, and of their distances of quantiles."""

HEAD = Template("""\
/* Quantiles of the next $horizon values of each target. `more` holds the inputs of past steps. */
static void head(const float *x, const float *h, float *more, float *y) {
    enum { F = $features, PAST = $past, T = $targets, K = $quantiles, MIDDLE = K / 2 };
    enum { CELLS = $horizon * T, LINEAR = $linear };
    float window[PAST + F], linear[CELLS]$more_locals;

    for (int k = 0; k < PAST; k++)
        window[k] = more[k];
    for (int k = 0; k < F; k++)
        window[PAST + k] = x[k];$find_statistics
    for (int k = 0; k < PAST; k++)
        more[k] = window[F + k];$normalise_window$pack_window$recurrent
    product(head_linear, head_linear_bias, CELLS, LINEAR, window, linear);
    for (int k = 0; k < CELLS; k++) {
        const int target = k % T;
        float *q = y + k * K;
        const float unit = $unit;
        const float median = $change + x[target];
        float distance = 0.0f;
        for (int j = MIDDLE + 1; j < K; j++) {
            distance += $gap;
            q[j] = median + distance * unit;
        }
        distance = 0.0f;
        for (int j = MIDDLE - 1; j >= 0; j--) {
            distance += $gap;
            q[j] = median - distance * unit;
        }
        q[MIDDLE] = median;
        for (int j = 0; j < K; j++)
            q[j] = q[j] * head_scale[target] + head_offset[target];
    }
}
""")


class ForecastCHead:
    """Quantiles [horizon, targets, K] as value · scale + offset, see `Forecast`.

    scale, offset   one per target; 1 and 0 by default
    """

    def __init__(
        self, model: Forecaster, scale: Sequence[float] = (), offset: Sequence[float] = ()
    ) -> None:
        config = model.config
        self.recurrent, self._head = model.recurrent, model.head
        self._config = config
        self._scale = np.array(scale or [1.0] * config.targets, np.float32)
        self._offset = np.array(offset or [0.0] * config.targets, np.float32)
        cells = config.horizon * config.targets
        self.output_size = cells * config.quantiles
        self.normalises = config.normal == "level"
        floats = config.window * config.input_size + cells
        if model.head.members > 1:
            floats += self.output_size
        if self.normalises:
            floats += config.input_size + 2 * config.targets
        self.stack_bytes = 4 * floats

    def write(self, writer: CWriter) -> str:
        """See `CHead`."""
        config, head = self._config, self._head
        weight, bias = member_weights(head)
        writer.constant("head_recurrent", weight)
        writer.constant("head_recurrent_bias", bias)
        writer.constant("head_linear", head.linear.weight)
        writer.constant("head_linear_bias", head.linear.bias)
        writer.constant("head_scale", self._scale)
        writer.constant("head_offset", self._offset)
        sizes = {
            "features": config.input_size,
            "past": (config.window - 1) * config.input_size,
            "window": config.window,
            "targets": config.targets,
            "seen": config.seen,
            "quantiles": config.quantiles,
            "horizon": config.horizon,
            "members": head.members,
            "hidden_size": config.hidden_size // head.members,
            "min_variance": f"{MIN_WINDOW_STD**2:.9g}f",
            "linear": head.linear.in_features,
            "linear_inputs": config.linear or config.input_size,
        }
        is_part = config.linear not in (None, config.input_size)
        parts = {
            "unit": "1.0f",
            "change": "(q[MIDDLE] + linear[k]) * unit",
            "pack_window": Template(PACK_WINDOW).substitute(sizes) if is_part else "",
            **dict.fromkeys(("more_locals", "find_statistics", "normalise_window"), ""),
            "recurrent": Template(ONE if head.members == 1 else MEMBERS).substitute(sizes),
            "gap": "softplus(q[j])" if head.members == 1 else "q[j]",
        }
        own = ", own[CELLS * K]" if head.members > 1 else ""
        parts["more_locals"] = own
        if not self.normalises:
            return HEAD.substitute(sizes, **parts)
        parts |= {
            "unit": "std[target]",
            "more_locals": f", mean[T], std[T]{own}",
            "find_statistics": "\n    window_statistics(x, more, mean, std);",
        }
        if config.raw_linear:
            parts["change"] = "q[MIDDLE] * unit + linear[k]"
        else:
            parts["normalise_window"] = Template(NORMALISE_WINDOW).substitute(sizes)
        return NORMALISE.substitute(sizes) + HEAD.substitute(sizes, **parts)

    def outputs(self, y: np.ndarray) -> np.ndarray:
        """See `CHead`."""
        y = y * self._scale[:, None] + self._offset[:, None]
        return y.reshape(len(y), -1)


def member_weights(head: Forecast) -> tuple[Tensor, Tensor]:
    """(weights [members, horizon · targets · K, H], biases [members, horizon · targets · K]) of a
    head, without the zeros between the members of a `MeanForecast`.
    """
    shape = (head.horizon * head.targets, head.members, head.num_quantiles, head.members, -1)
    weight, bias = head.recurrent.weight.view(shape), head.recurrent.bias.view(shape[:3])
    own = [weight[:, k, :, k].flatten(0, 1) for k in range(head.members)]
    return torch.stack(own), bias.transpose(0, 1).flatten(1)
