"""Regularisation of recurrent networks. Zoneout is part of the recurrence (`memorycell.ops`)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def weight_drop(weight_hh: Tensor, probability: float, training: bool) -> Tensor:
    """Drop individual recurrent weights, one mask for the full sequence. Merity, Keskar & Socher
    (2017), arXiv:1708.02182.
    """
    return F.dropout(weight_hh, probability, training)


def variational_dropout(x: Tensor, probability: float, training: bool, time: int = 1) -> Tensor:
    """Drop features of a sequence, [B, T, I] or with another `time` axis, with one mask for all
    steps.

    Gal & Ghahramani (2016), arXiv:1512.05287.
    """
    if not training or probability == 0:
        return x
    return x * F.dropout(torch.ones_like(x.narrow(time, 0, 1)), probability, training)


def embedding_dropout(weight: Tensor, probability: float, training: bool) -> Tensor:
    """Drop rows of an embedding [V, E], that is, tokens. Gal & Ghahramani (2016)."""
    if not training or probability == 0:
        return weight
    return weight * F.dropout(torch.ones_like(weight[:, :1]), probability, training)


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """`torch.nn.functional.dropout` with the probability rounded to 1/65536: 64 random bits give
    four mask values, which on a CPU takes a fifth of the time of one draw per value.
    """
    if not training or probability == 0 or not x.is_cpu:
        return F.dropout(x, probability, training)
    keep = round(65536 * (1 - probability))
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    mask = bits.view(torch.int16)[: x.numel()].view(x.shape) < keep - 32768
    return x * (mask.to(x.dtype) * (65536 / keep))
