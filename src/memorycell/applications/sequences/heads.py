"""The output of a sequence model: scores of classes, log-odds of labels, or quantiles of numbers.

Every function is written for PyTorch in training and for numpy per step.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memorycell.models.quantiles import quantile_levels

MIN_LOG_SCALE, MAX_LOG_SCALE = -8.0, 8.0
FIRST_GAP = 0.1
"""Of neighbouring quantiles at the start of training, in standard deviations of the target."""


def params_per_output(target: str, interval: str, quantiles: int) -> int:
    """Values that the network gives for each class, label or number."""
    if target not in ("number", "step_number"):
        return 1
    return 2 if interval == "student" else quantiles


def first_bias(interval: str, quantiles: int, outputs: int) -> Tensor:
    """The bias of a number's parameters at the start: the mean, and a plausible spread."""
    if interval == "student":
        return torch.tensor([0.0, math.log(0.5)]).repeat(outputs)
    bias = torch.full((outputs, quantiles), math.log(math.expm1(FIRST_GAP)))
    bias[:, quantiles // 2] = 0.0
    return bias.flatten()


# ---- quantiles -----------------------------------------------------------------------------------


def ordered_quantiles(params: Tensor) -> Tensor:
    """Parameters [..., Q] -> quantiles [..., Q] that never cross: the middle one is the median, the
    others are softplus distances from their neighbours.
    """
    middle = params.shape[-1] // 2
    gaps = F.softplus(params)
    median = params[..., middle : middle + 1]
    above = median + gaps[..., middle + 1 :].cumsum(-1)
    below = median - gaps[..., :middle].flip(-1).cumsum(-1).flip(-1)
    return torch.cat([below, median, above], -1)


def ordered_quantiles_array(params: np.ndarray) -> np.ndarray:
    """`ordered_quantiles` in numpy."""
    middle = params.shape[-1] // 2
    gaps = np.maximum(params, 0) + np.log1p(np.exp(-np.abs(params)))
    out = np.empty_like(params)
    out[..., middle] = params[..., middle]
    for k in range(middle + 1, params.shape[-1]):
        out[..., k] = out[..., k - 1] + gaps[..., k]
    for k in range(middle - 1, -1, -1):
        out[..., k] = out[..., k + 1] - gaps[..., k]
    return out


def standard_student(degrees_of_freedom: np.ndarray, quantiles: int) -> np.ndarray:
    """Quantiles [K, Q] float32 of Student's t with ν [K] degrees of freedom."""
    from scipy.stats import t

    levels = np.array(quantile_levels(quantiles))
    return np.asarray(t.ppf(levels, degrees_of_freedom[:, None]), np.float32)


def crps_loss(quantiles: Tensor, target: Tensor) -> Tensor:
    """CRPS [...] of quantiles [..., Q]; see `metrics.crps`."""
    error = target[..., None] - quantiles
    levels = quantiles.new_tensor(quantile_levels(quantiles.shape[-1]))
    return 2 * torch.maximum(levels * error, (levels - 1) * error).mean(-1)


def student_nats(params: Tensor, target: Tensor, freedom: Tensor) -> Tensor:
    """Negative log-likelihood [...] of Student's t with parameters [..., (location, log scale)]."""
    log_scale = params[..., 1].clamp(MIN_LOG_SCALE, MAX_LOG_SCALE)
    u = (target - params[..., 0]) * torch.exp(-log_scale)
    constant = (
        torch.lgamma(freedom / 2)
        - torch.lgamma((freedom + 1) / 2)
        + 0.5 * torch.log(freedom * math.pi)
    )
    return 0.5 * (freedom + 1) * torch.log1p(u**2 / freedom) + log_scale + constant
