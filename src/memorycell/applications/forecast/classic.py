"""ETS, ARIMA and theta, chosen and fitted anew at every origin by statsforecast: as those who use
them do, and as slow.
"""

from __future__ import annotations

import warnings
from functools import partial
from importlib.util import find_spec

import numpy as np

from memorycell.models.quantiles import quantile_levels

METHODS = ("ets", "arima", "theta")
LOOKED_BACK = 500
"""Values before an origin that a method is fitted on."""
LONGEST_SEASON = 24
INSTALLED = find_spec("statsforecast") is not None


def forecast(
    method: str, values: np.ndarray, *, horizon: int, season: int, quantiles: int
) -> np.ndarray:
    """[horizon, K]: the distribution of what follows values [N], the last of which are used.

    ets      exponential smoothing in state-space form (Hyndman et al. 2002); arima (Hyndman &
             Khandakar 2008); theta (Assimakopoulos & Nikolopoulos 2000); each with the season where
             it is 24 steps or shorter
    """
    from statsforecast.models import AutoARIMA, AutoETS, AutoTheta

    # Approximation chooses the orders by conditional least squares, as R does for series as long;
    # else one fit may take a minute.
    made = {"ets": AutoETS, "arima": partial(AutoARIMA, approximation=True), "theta": AutoTheta}[
        method
    ]
    model = made(season_length=season if season <= LONGEST_SEASON else 1)
    levels = np.array(quantile_levels(quantiles))
    upper = levels[quantiles // 2 + 1 :]
    widths = [round(float(100 * (2 * p - 1)), 6) for p in upper]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of candidates that do not converge and are not chosen
        found = model.forecast(
            y=np.asarray(values[-LOOKED_BACK:], np.float64), h=horizon, level=widths
        )
    result = np.empty((horizon, quantiles))
    result[:, quantiles // 2] = found["mean"]
    for k, width in enumerate(widths, quantiles // 2 + 1):
        name = next(n for n in found if n.startswith("hi-") and abs(float(n[3:]) - width) < 1e-4)
        result[:, k], result[:, quantiles - 1 - k] = found[name], found["lo-" + name[3:]]
    return result
