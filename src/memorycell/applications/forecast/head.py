"""The next values of a series, as a distribution: quantiles, Student's t, or counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.models.quantiles import quantile_levels
from memorycell.ops.step import LinearStep


class Told(NamedTuple):
    """What a forecasting head says at every step: the middle [..., horizon, targets], what the
    spread is made of [..., horizon, targets, P], and the unit of both, the deviation of the step's
    own window [..., 1, targets], or 1.
    """

    middle: Any
    spread: Any
    unit: Any


class Forecast(nn.Module):
    """The distribution of the next `horizon` values of each target, as quantiles that never cross.

    At every step, with y_t the targets' last known level, u_t the inputs of the last W steps, and
    s_t their deviation where each window is normalised by its own (else 1):

        median_k = y_t + s_t ((A u_t)_k + (B h_t)_k)          k = 1..horizon
        the quantiles around it lie s_t softplus(C h_t) further out, one after another

    The linear path A sees what ridge regression sees; the recurrent part has to explain only the
    rest.
    """

    def __init__(
        self, hidden_size: int, window_size: int, horizon: int, targets: int, quantiles: int
    ) -> None:
        super().__init__()
        self.horizon, self.targets, self.quantiles = horizon, targets, quantiles
        self.recurrent = nn.Linear(hidden_size, horizon * targets * self.parts)
        self.linear = nn.Linear(window_size, horizon * targets)
        self.reset_parameters()

    @property
    def parts(self) -> int:
        """Numbers that tell the distribution of one value."""
        return self.quantiles

    @property
    def middle(self) -> int:
        """Which of them is the middle."""
        return self.quantiles // 2

    def reset_parameters(self) -> None:
        """Start at persistence with a narrow spread: the first forecast is the last value."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        gap = math.log(
            math.expm1(0.1)
        )  # softplus(gap) = 0.1 standard deviations between neighbouring quantiles
        with torch.no_grad():
            bias = self.recurrent.bias.view(self.horizon, self.targets, self.parts)
            bias[...] = gap
            bias[..., self.middle] = 0.0

    def told(
        self, hidden: Tensor, window: Tensor, level: Tensor, unit: Tensor | None = None
    ) -> Told:
        """Hidden [B, T, H], window [B, T, W·F], level and unit [B, T, targets] -> what is said of
        the next values.
        """
        shape = (self.horizon, self.targets)
        out = self.recurrent(hidden).unflatten(-1, (*shape, self.parts))
        middle = out[..., self.middle] + self.linear(window).unflatten(-1, shape)
        if unit is None:
            return Told(middle + level[..., None, :], out, 1.0)
        unit = unit[..., None, :]
        return Told(middle * unit + level[..., None, :], out, unit)

    def forward(self, hidden: Tensor, window: Tensor, level: Tensor) -> Tensor:
        """The quantiles [B, T, horizon, targets, K] of `told`."""
        return self.spread(self.told(hidden, window, level))

    def spread(self, told: Told) -> Tensor:
        """Quantiles [..., horizon, targets, K]."""
        middle, out, unit = told
        unit = unit if isinstance(unit, float) else unit[..., None]
        above = F.softplus(out[..., self.middle + 1 :]).cumsum(-1) * unit
        below = F.softplus(out[..., : self.middle]).flip(-1).cumsum(-1).flip(-1) * unit
        return torch.cat(
            [middle[..., None] - below, middle[..., None], middle[..., None] + above], -1
        )

    def spread_now(self, told: Told) -> np.ndarray:
        """The same in numpy."""
        middle, out, unit = told
        gap = np.maximum(out, 0) + np.log1p(np.exp(-np.abs(out)))  # softplus
        gap *= unit if isinstance(unit, float) else unit[..., None]
        quantiles = np.empty_like(out)
        at = self.middle
        quantiles[..., at] = middle
        quantiles[..., at + 1 :] = middle[..., None] + gap[..., at + 1 :].cumsum(-1)
        quantiles[..., :at] = middle[..., None] - gap[..., :at][..., ::-1].cumsum(-1)[..., ::-1]
        return quantiles

    def score(self, told: Told, future: Tensor) -> Tensor:
        """What training makes small; future [B, T, horizon, targets], NaN where unknown."""
        return self.loss(self.spread(told), future)

    def loss(self, quantiles: Tensor, future: Tensor) -> Tensor:
        """Mean CRPS over the known values of future [B, T, horizon, targets] (NaN where unknown);
        see `metrics.crps`.
        """
        error = future.nan_to_num()[..., None] - quantiles
        levels = quantiles.new_tensor(quantile_levels(self.quantiles))
        pinball = torch.maximum(levels * error, (levels - 1) * error)
        return _known_mean(2 * pinball.mean(-1), future)


def _known_mean(score: Tensor, future: Tensor) -> Tensor:
    known = ~future.isnan()
    return torch.where(known, score, 0).sum() / known.sum().clamp(min=1)


class StudentForecast(Forecast):
    """The same as Student's t distribution, y ~ t_ν(median, s σ) with log σ = C h_t, and a ν above
    2 for every lead time and target; its quantiles are those of the distribution (scipy). Trained
    by likelihood.
    """

    def __init__(
        self, hidden_size: int, window_size: int, horizon: int, targets: int, quantiles: int
    ) -> None:
        super().__init__(hidden_size, window_size, horizon, targets, quantiles)
        self.tails = nn.Parameter(torch.full((horizon, targets), 1.5))

    parts, middle = 2, 0

    def reset_parameters(self) -> None:
        """Start at persistence."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        with torch.no_grad():
            self.recurrent.bias.view(self.horizon, self.targets, 2)[..., 1] = math.log(0.3)

    @property
    def freedom(self) -> Tensor:
        """ν [horizon, targets]."""
        return 2 + F.softplus(self.tails)

    def spread(self, told: Told) -> Tensor:
        """See `Forecast`; no gradient flows through it."""
        parts = (part if isinstance(part, float) else part.detach().numpy() for part in told)
        return torch.from_numpy(self.spread_now(Told(*parts)))

    def spread_now(self, told: Told) -> np.ndarray:
        """See `Forecast`."""
        from scipy.stats import t

        levels = t.ppf(
            quantile_levels(self.quantiles), self.freedom.detach().numpy()[..., None]
        ).astype(np.float32)
        return np.asarray(
            told.middle[..., None] + (np.exp(told.spread[..., 1]) * told.unit)[..., None] * levels
        )

    def score(self, told: Told, future: Tensor) -> Tensor:
        """Mean negative log-likelihood in nats."""
        v = self.freedom
        width = told.spread[..., 1].clamp(-8, 8)
        wide = width if isinstance(told.unit, float) else width + told.unit.log()
        u = (future.nan_to_num() - told.middle) * torch.exp(-wide)
        constant = torch.lgamma(v / 2) - torch.lgamma((v + 1) / 2) + 0.5 * torch.log(v * math.pi)
        return _known_mean(0.5 * (v + 1) * torch.log1p(u**2 / v) + wide + constant, future)


class CountForecast(StudentForecast):
    """The same of counts 0, 1, 2, …, as a negative binomial distribution with mean m = c
    softplus(median) and variance m + m²/r, log r = C h_t (Salinas et al. 2020, DeepAR,
    arXiv:1704.04110). Values are counts in units of c, `unit`.
    """

    def __init__(
        self,
        hidden_size: int,
        window_size: int,
        horizon: int,
        targets: int,
        quantiles: int,
        unit: float = 1.0,
    ) -> None:
        super().__init__(hidden_size, window_size, horizon, targets, quantiles)
        self.unit = unit
        del self.tails

    def spread_now(self, told: Told) -> np.ndarray:
        """See `Forecast`: whole counts, in units of c."""
        from scipy.stats import nbinom

        mean = self.unit * np.logaddexp(0, told.middle.astype(np.float64)) + 1e-9
        r = np.exp(np.clip(told.spread[..., 1], -6, 8).astype(np.float64))
        counts = nbinom.ppf(
            quantile_levels(self.quantiles), r[..., None], (r / (r + mean))[..., None]
        )
        return np.asarray(counts / self.unit, np.float32)

    def score(self, told: Told, future: Tensor) -> Tensor:
        """Mean negative log-likelihood in nats."""
        mean = self.unit * F.softplus(told.middle) + 1e-6
        r = told.spread[..., 1].clamp(-6, 8).exp()
        y = torch.round(future.nan_to_num() * self.unit)
        nats = torch.lgamma(r) + torch.lgamma(y + 1) - torch.lgamma(y + r)
        return _known_mean(nats + r * torch.log1p(mean / r) + y * torch.log1p(r / mean), future)


FORECASTS = {"quantiles": Forecast, "student": StudentForecast, "counts": CountForecast}


class ForecastStep:
    """A forecasting head for single steps, in numpy: for a few rows, torch's calls cost more than
    the work.
    """

    def __init__(self, head: Forecast, output: Callable[[Told], np.ndarray] | None = None) -> None:
        self._head = head
        self._output = output or head.spread_now
        self._shape = (head.horizon, head.targets)
        self._recurrent = LinearStep(head.recurrent.weight, head.recurrent.bias)
        self._linear = LinearStep(head.linear.weight, head.linear.bias)

    def __call__(
        self,
        hidden: np.ndarray,
        window: np.ndarray,
        level: np.ndarray,
        unit: np.ndarray | None = None,
    ) -> np.ndarray:
        """Hidden [n, H], window [n, W·F], level and unit [n, targets] -> quantiles [n, horizon,
        targets, K], all float32; or what `output` makes of the parameters.
        """
        out = self._recurrent(hidden).reshape(len(hidden), *self._shape, -1)
        middle = out[..., self._head.middle] + self._linear(window).reshape(-1, *self._shape)
        if unit is None:
            return self._output(Told(middle + level[:, None, :], out, 1.0))
        unit = unit[:, None, :]
        return self._output(Told(middle * unit + level[:, None, :], out, unit))
