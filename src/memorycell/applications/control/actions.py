"""The distribution of an action given the outputs of a policy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from memorycell.models.members import mean_log_p

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def log_likelihood(
    outputs: Tensor, log_std: Tensor, action: Tensor, choices: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """(log-likelihood, entropy), each [...], in nats, of actions [..., A].

    Discrete actions: outputs are scores [..., sum of choices], independent per action. Numbers: a
    Gaussian with mean outputs [..., A] and standard deviation exp(log_std) [A].
    """
    if not choices:
        z = (action - outputs) * torch.exp(-log_std)
        log_p = (-0.5 * z * z - log_std - HALF_LOG_2PI).sum(-1)
        entropy = (log_std + 0.5 + HALF_LOG_2PI).sum()
        return log_p, entropy.expand_as(log_p)
    total = entropy = outputs.new_zeros(outputs.shape[:-1])
    for k, scores in enumerate(outputs.split(list(choices), -1)):
        logs = F.log_softmax(scores, -1)
        total = total + logs.gather(-1, action[..., k : k + 1].long())[..., 0]
        entropy = entropy - (logs.exp() * logs).sum(-1)
    return total, entropy


def mean_outputs(outputs: Sequence[Tensor], choices: Sequence[int]) -> Tensor:
    """The average of the outputs [..., O] of several policies. Discrete actions: per action, the
    logarithm of the mean probability of each choice; of one policy its scores. Numbers: the mean of
    the most likely numbers, each within its bounds, scaled.
    """
    if not choices:
        return torch.stack([one.clamp(-1, 1) for one in outputs]).mean(0).clamp(-1, 1)
    if len(outputs) == 1:
        return outputs[0]
    parts = zip(*(one.split(list(choices), -1) for one in outputs), strict=True)
    return torch.cat([mean_log_p([F.log_softmax(p, -1) for p in part]) for part in parts], -1)


def sample(
    outputs: np.ndarray, log_std: np.ndarray, choices: Sequence[int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(actions [N, A] float32, their log-likelihoods [N]) from outputs [N, O]; as above, in
    numpy.
    """
    if not choices:
        z = rng.standard_normal(outputs.shape, np.float32)
        log_p = (-0.5 * z * z - log_std - np.float32(HALF_LOG_2PI)).sum(-1)
        return outputs + z * np.exp(log_std), log_p
    actions, total, start = [], np.zeros(len(outputs), np.float32), 0
    rows = np.arange(len(outputs))
    for size in choices:
        scores = outputs[:, start : start + size]
        start += size
        shifted = scores - scores.max(-1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        chosen = (logs - np.log(rng.standard_exponential(scores.shape, np.float32))).argmax(-1)
        total += logs[rows, chosen]
        actions.append(chosen)
    return np.stack(actions, -1).astype(np.float32), total
