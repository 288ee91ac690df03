"""The forecast heads: quantiles, Student's t, or counts.

Their arithmetic serves PyTorch in training and numpy per step: `A` is a tensor or an array.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.applications.forecast.arrays import A, concatenate, reverse_cumsum, softplus
from memorycell.models.quantiles import quantile_levels
from memorycell.ops.step import LinearStep


class ForecastParams(NamedTuple, Generic[A]):
    """The parameters of the forecast distributions.

    location   [..., horizon, targets]
    scale      [..., horizon, targets, P] before its nonlinearity
    unit       [..., 1, targets], the standard deviation of the step's window, if windows are
               normalised
    """

    location: A
    scale: A
    unit: A | None


Quantiles: TypeAlias = Callable[[ForecastParams[np.ndarray]], np.ndarray]
"""Parameters -> quantiles [..., horizon, targets, K]."""


class Forecast(nn.Module):
    """The distribution of the next `horizon` values of each target, as quantiles that never cross.

    With y_t the last known value, u_t the inputs of the last W steps, h_t the hidden state, and s_t
    the standard deviation of the window where windows are normalised (else 1):

        median_k = y_t + s_t ((A u_t)_k + (B h_t)_k)          k = 1..horizon

    and consecutive quantiles are s_t softplus(C h_t) apart. The linear path A covers ridge
    regression; the recurrent part models the rest.
    """

    members = 1
    """Heads of several networks in this one, see `MeanForecast`."""
    raw_linear = False
    """Whether the linear path reads windows that are not normalised: s_t A u_t is then A u_t."""

    def __init__(
        self, hidden_size: int, window_size: int, horizon: int, targets: int, quantiles: int
    ) -> None:
        super().__init__()
        self.horizon, self.targets, self.num_quantiles = horizon, targets, quantiles
        self.recurrent = nn.Linear(hidden_size, horizon * targets * self.params_per_value)
        self.linear = nn.Linear(window_size, horizon * targets)
        self.reset_parameters()

    @property
    def params_per_value(self) -> int:
        """Outputs of the recurrent path per lead time and target."""
        return self.num_quantiles

    @property
    def location_index(self) -> int:
        """Which of them is the location."""
        return self.num_quantiles // 2

    def reset_parameters(self) -> None:
        """Start at persistence: the median is the last value, neighbouring quantiles are 0.1
        standard deviations apart.
        """
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        with torch.no_grad():
            bias = self._bias()
            bias[...] = math.log(math.expm1(0.1))  # softplus of it is 0.1
            bias[..., self.location_index] = 0.0

    def _bias(self) -> Tensor:
        return self.recurrent.bias.view(self.horizon, self.targets, self.params_per_value)

    def forward(
        self, hidden: Tensor, window: Tensor, level: Tensor, unit: Tensor | None = None
    ) -> ForecastParams[Tensor]:
        """Hidden [B, T, H], window [B, T, W·F], level and unit [B, T, targets]."""
        return self.params(self.recurrent(hidden), self.linear(window), level, unit)

    def params(self, recurrent: A, linear: A, level: A, unit: A | None) -> ForecastParams[A]:
        """The parameters from the outputs of the two paths.

        recurrent [..., horizon · targets · P], linear [..., horizon · targets], level and unit
        [..., targets]
        """
        shape = (*level.shape[:-1], self.horizon, self.targets)
        out = recurrent.reshape(*shape, self.params_per_value)
        change = out[..., self.location_index]
        location = self._location(change, linear.reshape(shape), level, unit)
        return ForecastParams(location, out, None if unit is None else unit[..., None, :])

    def _location(self, change: A, path: A, level: A, unit: A | None) -> A:
        """From the changes by the recurrent and the linear path, see the class."""
        if unit is None:
            return change + path + level[..., None, :]
        unit = unit[..., None, :]
        change = change * unit + path if self.raw_linear else (change + path) * unit
        return change + level[..., None, :]

    def quantiles(self, params: ForecastParams[A]) -> A:
        """Quantiles [..., horizon, targets, K]."""
        location, scale, unit = params
        at = self.num_quantiles // 2
        gaps = self._gaps(scale)
        above, below = gaps[..., at + 1 :].cumsum(-1), reverse_cumsum(gaps[..., :at])
        if unit is not None:
            above, below = above * unit[..., None], below * unit[..., None]
        median = location[..., None]
        return concatenate([median - below, median, median + above])

    def _gaps(self, scale: A) -> A:
        return softplus(scale)

    def quantile_function(self) -> Quantiles:
        """`quantiles` for arrays, with what depends on the weights alone computed once."""
        return self.quantiles

    def loss(self, params: ForecastParams[Tensor], future: Tensor) -> Tensor:
        """Mean CRPS over the known values of future [B, T, horizon, targets], NaN where unknown;
        see `metrics.crps`.
        """
        quantiles = self.quantiles(params)
        error = future.nan_to_num()[..., None] - quantiles
        levels = quantiles.new_tensor(quantile_levels(self.num_quantiles))
        pinball = torch.maximum(levels * error, (levels - 1) * error)
        return _mean_of_known(2 * pinball.mean(-1), future)


class MeanForecast(Forecast):
    """The mean of the quantiles of several heads, from their hidden states one after another; their
    linear paths are averaged.
    """

    def __init__(self, heads: Sequence[Forecast]) -> None:
        first = heads[0]
        self.members = len(heads)
        super().__init__(
            self.members * first.recurrent.in_features,
            first.linear.in_features,
            first.horizon,
            first.targets,
            first.num_quantiles,
        )
        self.raw_linear = first.raw_linear
        parts = [one.recurrent for one in heads]
        shape = (self.horizon * self.targets, self.members, self.num_quantiles)
        with torch.no_grad():
            weight = torch.zeros(*shape, self.members, first.recurrent.in_features)
            for k, part in enumerate(parts):
                weight[:, k, :, k] = part.weight.view(shape[0], shape[2], -1)
            bias = torch.stack([part.bias.view(shape[0], shape[2]) for part in parts], 1)
            self.recurrent.weight.copy_(weight.view_as(self.recurrent.weight))
            self.recurrent.bias.copy_(bias.flatten())
            self.linear.weight.copy_(torch.stack([one.linear.weight for one in heads]).mean(0))
            self.linear.bias.copy_(torch.stack([one.linear.bias for one in heads]).mean(0))

    @property
    def params_per_value(self) -> int:
        """See `Forecast`: those of all heads."""
        return self.members * self.num_quantiles

    def reset_parameters(self) -> None:
        """Nothing: the parameters are those of the heads."""

    def params(self, recurrent: A, linear: A, level: A, unit: A | None) -> ForecastParams[A]:
        """See `Forecast`: the scale of every head and quantile [..., members, K]."""
        shape = (*level.shape[:-1], self.horizon, self.targets)
        out = recurrent.reshape(*shape, self.members, self.num_quantiles)
        mean = out[..., self.num_quantiles // 2].mean(-1)
        location = self._location(mean, linear.reshape(shape), level, unit)
        return ForecastParams(location, out, None if unit is None else unit[..., None, :])

    def _gaps(self, scale: A) -> A:
        return softplus(scale).mean(-2)


class ParametricForecast(Forecast):
    """A distribution with a location and one scale parameter, trained by likelihood. No gradient
    flows through its quantiles.
    """

    params_per_value, location_index = 2, 0

    def reset_parameters(self) -> None:
        """Start at persistence."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        with torch.no_grad():
            self._bias()[..., 1] = math.log(0.3)

    def quantiles(self, params: ForecastParams[A]) -> A:
        """See `Forecast`."""
        location, scale, unit = params
        quantiles = self.quantile_function()
        if isinstance(location, np.ndarray):
            return quantiles(ForecastParams(location, scale, unit))
        arrays = ForecastParams(
            location.detach().numpy(),
            scale.detach().numpy(),
            None if unit is None else unit.detach().numpy(),
        )
        return torch.from_numpy(quantiles(arrays))

    def quantile_function(self) -> Quantiles:
        """See `Forecast`."""
        raise NotImplementedError


class StudentForecast(ParametricForecast):
    """Student's t: y ~ t_ν(median, s σ) with log σ = C h_t, and a ν above 2 per lead time and
    target.
    """

    def __init__(
        self, hidden_size: int, window_size: int, horizon: int, targets: int, quantiles: int
    ) -> None:
        super().__init__(hidden_size, window_size, horizon, targets, quantiles)
        self.tails = nn.Parameter(torch.full((horizon, targets), 1.5))

    @property
    def degrees_of_freedom(self) -> Tensor:
        """ν [horizon, targets]."""
        return 2 + F.softplus(self.tails)

    def quantile_function(self) -> Quantiles:
        """See `Forecast`."""
        from scipy.stats import t

        levels = quantile_levels(self.num_quantiles)
        freedom = self.degrees_of_freedom.detach().numpy()[..., None]
        standard = t.ppf(levels, freedom).astype(np.float32)

        def quantiles(params: ForecastParams[np.ndarray]) -> np.ndarray:
            sigma = np.exp(params.scale[..., 1])
            if params.unit is not None:
                sigma = sigma * params.unit
            return np.asarray(params.location[..., None] + sigma[..., None] * standard)

        return quantiles

    def loss(self, params: ForecastParams[Tensor], future: Tensor) -> Tensor:
        """Mean negative log-likelihood in nats."""
        v = self.degrees_of_freedom
        log_scale = params.scale[..., 1].clamp(-8, 8)
        if params.unit is not None:
            log_scale = log_scale + params.unit.log()
        u = (future.nan_to_num() - params.location) * torch.exp(-log_scale)
        constant = torch.lgamma(v / 2) - torch.lgamma((v + 1) / 2) + 0.5 * torch.log(v * math.pi)
        nats = 0.5 * (v + 1) * torch.log1p(u**2 / v) + log_scale + constant
        return _mean_of_known(nats, future)


class CountForecast(ParametricForecast):
    """Counts 0, 1, 2, …: a negative binomial distribution with mean m = c softplus(median) and
    variance m + m²/r, log r = C h_t (Salinas et al. 2020, DeepAR, arXiv:1704.04110). Values are
    counts in units of c.
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

    def quantile_function(self) -> Quantiles:
        """See `Forecast`; whole counts, in units of c."""
        from scipy.stats import nbinom

        levels = quantile_levels(self.num_quantiles)

        def quantiles(params: ForecastParams[np.ndarray]) -> np.ndarray:
            mean = self.unit * np.logaddexp(0, params.location.astype(np.float64)) + 1e-9
            r = np.exp(np.clip(params.scale[..., 1], -6, 8).astype(np.float64))
            counts = nbinom.ppf(levels, r[..., None], (r / (r + mean))[..., None])
            return np.asarray(counts / self.unit, np.float32)

        return quantiles

    def loss(self, params: ForecastParams[Tensor], future: Tensor) -> Tensor:
        """Mean negative log-likelihood in nats."""
        mean = self.unit * F.softplus(params.location) + 1e-6
        r = params.scale[..., 1].clamp(-6, 8).exp()
        y = torch.round(future.nan_to_num() * self.unit)
        nats = torch.lgamma(r) + torch.lgamma(y + 1) - torch.lgamma(y + r)
        nats = nats + r * torch.log1p(mean / r) + y * torch.log1p(r / mean)
        return _mean_of_known(nats, future)


HEADS = {"quantiles": Forecast, "student": StudentForecast, "counts": CountForecast}


class ForecastStep:
    """A forecast head for single steps, in numpy: for a few rows PyTorch's call overhead exceeds
    the work.

    output   maps the parameters to the output; by default to quantiles
    """

    def __init__(self, head: Forecast, output: Quantiles | None = None) -> None:
        self._params, self._output = head.params, output or head.quantile_function()
        self._recurrent = LinearStep(head.recurrent.weight, head.recurrent.bias)
        self._linear = LinearStep(head.linear.weight, head.linear.bias)

    def __call__(
        self,
        hidden: np.ndarray,
        window: np.ndarray,
        level: np.ndarray,
        unit: np.ndarray | None = None,
    ) -> np.ndarray:
        """Hidden [n, H], window [n, W·F], level and unit [n, targets], float32 -> [n, horizon,
        targets, K].
        """
        recurrent, linear = self._recurrent(hidden), self._linear(window)
        return self._output(self._params(recurrent, linear, level, unit))


def _mean_of_known(score: Tensor, future: Tensor) -> Tensor:
    known = ~future.isnan()
    return torch.where(known, score, 0).sum() / known.sum().clamp(min=1)
