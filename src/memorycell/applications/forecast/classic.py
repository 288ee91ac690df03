"""ETS, ARIMA and theta by statsforecast, refitted at every origin."""

from __future__ import annotations

import warnings
from functools import partial
from importlib.util import find_spec

import numpy as np

from memorycell.errors import UserError
from memorycell.models.quantiles import quantile_levels

METHODS = ("ets", "arima", "theta")
MAX_HISTORY = 500
"""Values before an origin that a method is fitted on."""
MAX_SEASON = 24
"""Longer seasons are not modelled."""
INSTALLED = find_spec("statsforecast") is not None


def missing_package(methods: str) -> UserError:
    """The error to raise without statsforecast."""
    return UserError(f"classic={methods} needs statsforecast: pip install 'memorycell[classic]'")


def forecast(
    method: str, values: np.ndarray, *, horizon: int, season: int, quantiles: int
) -> np.ndarray:
    """[horizon, K]: quantiles of the values after values [N]. Raises `UserError` without
    statsforecast.

    ets      exponential smoothing in state-space form (Hyndman et al. 2002); arima (Hyndman &
             Khandakar 2008); theta (Assimakopoulos & Nikolopoulos 2000)
    """
    try:
        from statsforecast.models import AutoARIMA, AutoETS, AutoTheta
    except ModuleNotFoundError:
        raise missing_package(method) from None

    # approximation=True selects the orders by conditional least squares, as R does for long
    # series; without it one fit may take a minute.
    classes = {"ets": AutoETS, "arima": partial(AutoARIMA, approximation=True), "theta": AutoTheta}
    model = classes[method](season_length=season if season <= MAX_SEASON else 1)
    levels = np.array(quantile_levels(quantiles))
    upper = levels[quantiles // 2 + 1 :]
    widths = [round(float(100 * (2 * p - 1)), 6) for p in upper]
    history = np.asarray(values[-MAX_HISTORY:], np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about candidates that do not converge
        found = model.forecast(y=history, h=horizon, level=widths)
    result = np.empty((horizon, quantiles))
    result[:, quantiles // 2] = found["mean"]
    for k, width in enumerate(widths, quantiles // 2 + 1):
        name = next(n for n in found if n.startswith("hi-") and abs(float(n[3:]) - width) < 1e-4)
        result[:, k], result[:, quantiles - 1 - k] = found[name], found["lo-" + name[3:]]
    return result
