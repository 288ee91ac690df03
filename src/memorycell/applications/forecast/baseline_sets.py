"""The baselines of a dataset, new or from a model file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from memorycell.applications.forecast.baselines import (
    Baseline,
    Constant,
    Persistence,
    RollingVariance,
    SeasonalNaive,
    WeightedVariance,
)
from memorycell.applications.forecast.ridge import Ridge


def forecast_baselines(horizon: int, season: int, context: int) -> dict[str, Baseline]:
    """The baselines of a series of values; the seasonal one only if there is a season."""
    windows = {max(horizon // 2, 1), horizon, 2 * horizon, 4 * horizon, season}
    baselines: dict[str, Baseline] = {"persistence": Persistence()}
    if season > 1:
        baselines["seasonal naive"] = SeasonalNaive(season)
    windows = {w for w in windows if w <= context} or {context}
    baselines["ridge"] = Ridge(tuple(sorted(windows)))
    return baselines


def return_baselines() -> dict[str, Baseline]:
    """The baselines of a series of returns."""
    return {
        "constant": Constant(),
        "rolling variance": RollingVariance(),
        "weighted variance": WeightedVariance(),
    }


def load_baselines(
    arrays: Mapping[str, np.ndarray], season: int, *, returns: bool = False
) -> dict[str, Baseline]:
    """The baselines in a model file, from arrays named "baseline.array". Raises KeyError or
    ValueError.
    """
    baselines = return_baselines() if returns else forecast_baselines(1, season, 1)
    for name, baseline in baselines.items():
        prefix = f"{name}."
        own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
        baseline.load(own)
    return baselines
