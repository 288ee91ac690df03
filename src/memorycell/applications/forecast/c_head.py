"""The forecast head in C99."""

from __future__ import annotations

from collections.abc import Sequence
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from memorycell.models.exporting import CWriter

if TYPE_CHECKING:
    from memorycell.applications.forecast.model import Forecaster

HEAD = Template("""\
/* Quantiles of the next $horizon values of each target. `more` holds the inputs of past steps. */
static void head(const float *x, const float *h, float *more, float *y) {
    enum { F = $features, PAST = $past, T = $targets, K = $quantiles, MIDDLE = K / 2 };
    enum { CELLS = $horizon * T };
    float window[PAST + F], linear[CELLS];

    for (int k = 0; k < PAST; k++)
        window[k] = more[k];
    for (int k = 0; k < F; k++)
        window[PAST + k] = x[k];
    for (int k = 0; k < PAST; k++)
        more[k] = window[F + k];
    product(head_recurrent, head_recurrent_bias, CELLS * K, $hidden_size, h, y);
    product(head_linear, head_linear_bias, CELLS, PAST + F, window, linear);
    for (int k = 0; k < CELLS; k++) {
        const int target = k % T;
        float *q = y + k * K;
        const float median = q[MIDDLE] + linear[k] + x[target];
        float distance = 0.0f;
        for (int j = MIDDLE + 1; j < K; j++) {
            distance += softplus(q[j]);
            q[j] = median + distance;
        }
        distance = 0.0f;
        for (int j = MIDDLE - 1; j >= 0; j--) {
            distance += softplus(q[j]);
            q[j] = median - distance;
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
        self.stack_bytes = 4 * (config.window * config.input_size + cells)

    def write(self, writer: CWriter) -> str:
        """See `CHead`."""
        config, head = self._config, self._head
        writer.constant("head_recurrent", head.recurrent.weight)
        writer.constant("head_recurrent_bias", head.recurrent.bias)
        writer.constant("head_linear", head.linear.weight)
        writer.constant("head_linear_bias", head.linear.bias)
        writer.constant("head_scale", self._scale)
        writer.constant("head_offset", self._offset)
        writer.use("product")
        writer.use("softplus")
        return HEAD.substitute(
            features=config.input_size,
            past=(config.window - 1) * config.input_size,
            targets=config.targets,
            quantiles=config.quantiles,
            horizon=config.horizon,
            hidden_size=config.hidden_size,
        )

    def outputs(self, y: np.ndarray) -> np.ndarray:
        """See `CHead`."""
        y = y * self._scale[:, None] + self._offset[:, None]
        return y.reshape(len(y), -1)
