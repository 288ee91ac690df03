"""Metrics of several datasets as those of all their data together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from memorycell.application.contract import Metrics


@runtime_checkable
class Combinable(Protocol):
    """A dataset whose metrics can be combined with those of other datasets of the same model.

    geometric_means    the metrics that are geometric means; the others are arithmetic ones
    stored_baselines   whether the baselines are in the model file, so that none is fitted
    """

    geometric_means: tuple[str, ...]
    stored_baselines: bool

    def weights(self, split: str) -> Mapping[str, float]:
        """Metric -> the number of values that it is a mean of."""


def combined(
    parts: Sequence[tuple[Metrics, Mapping[str, float]]], geometric_means: Sequence[str] = ()
) -> Metrics:
    """The metrics of all values together, from (metrics, weights) of each part; those that all
    parts with values have.
    """
    parts = [(own, weights) for own, weights in parts if any(weights.values())]
    found: Metrics = {}
    for name in parts[0][0] if parts else ():
        if not all(name in own and name in weights for own, weights in parts):
            continue
        values = np.array([own[name] for own, _ in parts])
        weights = np.array([weights[name] for _, weights in parts])
        geometric = name in geometric_means
        mean = (np.log(values) if geometric else values) @ weights / weights.sum()
        found[name] = float(np.exp(mean) if geometric else mean)
    return found
