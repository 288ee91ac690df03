"""Probabilities with their certainty changed (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

import numpy as np

SPREADS = np.exp(np.linspace(np.log(0.3), np.log(3.0), 41))
"""Candidates for the temperature."""
MIN_P = 1e-12


def at_temperature(p: np.ndarray, temperature: float, *, labels: bool) -> np.ndarray:
    """Probabilities [..., C] whose scores are divided by a temperature; `labels`: each of its
    own.
    """
    p = np.clip(p, MIN_P, 1 - MIN_P)
    if labels:
        return np.asarray(1 / (1 + ((1 - p) / p) ** (1 / temperature)))
    powers = p ** (1 / temperature)
    return np.asarray(powers / powers.sum(-1, keepdims=True))
