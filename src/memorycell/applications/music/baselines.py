"""Baselines for music as frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional as F

PENALTIES = (1e-4, 1e-3, 1e-2)
"""Candidate weights of the L2 penalty of `FirstOrder`."""


class FrameModel(Protocol):
    """A distribution over frames."""

    def nats(self, piece: np.ndarray) -> np.ndarray:
        """Negative log-likelihoods [T] of the frames of a piece [T, 88]."""


class KeyFrequency:
    """Keys are independent, each with its frequency in training (with Laplace smoothing)."""

    def __init__(self, pieces: Sequence[np.ndarray]) -> None:
        frames = np.concatenate(pieces)
        self._p = (frames.sum(0) + 1) / (len(frames) + 2)

    def nats(self, piece: np.ndarray) -> np.ndarray:
        """See `FrameModel`."""
        return np.asarray(-np.where(piece, np.log(self._p), np.log1p(-self._p)).sum(1))


class FirstOrder:
    """A logistic regression of each key on the previous frame, p = σ(W x_{t-1} + b), with the
    penalty selected on validation.
    """

    def __init__(self, pieces: Sequence[np.ndarray], valid: Sequence[np.ndarray]) -> None:
        past, now = _pairs(pieces)
        fits = [_fit(past, now, penalty) for penalty in PENALTIES]
        self._weight, self._bias = min(
            fits, key=lambda fit: np.concatenate([_nats(p, *fit) for p in valid]).mean()
        )

    def nats(self, piece: np.ndarray) -> np.ndarray:
        """See `FrameModel`."""
        return _nats(piece, self._weight, self._bias)


def _pairs(pieces: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """(previous frames, frames) [N, 88] float32 of all pieces; silence before the first."""
    past = np.concatenate([np.concatenate([np.zeros_like(p[:1]), p[:-1]]) for p in pieces])
    now = np.concatenate(pieces)
    return torch.from_numpy(past.astype(np.float32)), torch.from_numpy(now.astype(np.float32))


def _fit(past: torch.Tensor, now: torch.Tensor, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    weight = torch.zeros(now.shape[1], past.shape[1], requires_grad=True)
    bias = torch.full((now.shape[1],), -3.0, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = (
            F.binary_cross_entropy_with_logits(F.linear(past, weight, bias), now)
            + penalty * weight.square().mean()
        )
        value.backward()
        return value

    optimizer.step(loss)
    return weight.detach().numpy(), bias.detach().numpy()


def _nats(piece: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    past, now = _pairs([piece])
    logits = F.linear(past, torch.from_numpy(weight), torch.from_numpy(bias))
    nats = F.binary_cross_entropy_with_logits(logits, now, reduction="none")
    return np.asarray(nats.sum(1).numpy())
