"""Operations on tensors and arrays, for arithmetic that runs in PyTorch and, per step, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

A = TypeVar("A", Tensor, np.ndarray)


def softplus(x: A) -> A:
    """log(1 + exp(x))"""
    if isinstance(x, np.ndarray):
        return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    return F.softplus(x)


def concatenate(parts: Sequence[A]) -> A:
    """Along the last axis."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts, -1)
    return torch.cat(list(parts), -1)


def reverse_cumsum(x: A) -> A:
    """Sums from the end of the last axis."""
    if isinstance(x, np.ndarray):
        return x[..., ::-1].cumsum(-1)[..., ::-1]
    return x.flip(-1).cumsum(-1).flip(-1)


def mask_like(mask: A, x: A) -> A:
    """Ones and zeros in the type of x."""
    if isinstance(mask, np.ndarray):
        return mask.astype(x.dtype)
    return mask.to(x.dtype)


def expand_like(x: A, like: A) -> A:
    """Broadcast x to the shape of `like`."""
    if isinstance(x, np.ndarray):
        return np.broadcast_to(x, like.shape)
    return x.expand_as(like)
