"""linear=raw takes the strongest of the penalties whose errors on validation are about equal."""

import numpy as np
import polars as pl

from memorycell.applications.forecast import linear_start
from memorycell.applications.forecast.prepare import prepare
from memorycell.applications.forecast.ridge import PENALTIES, best_penalty
from memorycell.applications.forecast.settings import ForecastSettings

WINDOW, HORIZON = 12, 4
TOLERANCE = 0.005
"""Of the lowest error, as a share."""


def returning(rows: int, seed: int) -> np.ndarray:
    """Values that return to their mean."""
    rng, values = np.random.default_rng(seed), np.zeros(rows)
    for t in range(1, rows):
        values[t] = 0.8 * values[t - 1] + rng.normal()
    return (100 + values).round(4)


def test_the_strongest_penalty_within_the_tolerance(tmp_path, monkeypatch):
    values = returning(500, 0)
    stamps = np.datetime64("2026-01-01T00:00") + np.arange(len(values)) * np.timedelta64(1, "h")
    frame = pl.DataFrame({"time": [str(t).replace("T", " ") for t in stamps], "y": values})
    frame.write_csv(tmp_path / "t.csv")
    settings = ForecastSettings(
        target="y",
        hidden=4,
        horizon=HORIZON,
        context=24,
        window=WINDOW,
        inputs="none",
        calendar="none",
        normal="level",
        linear="raw",
    )
    dataset = prepare(str(tmp_path / "t.csv"), settings)
    given = []

    def keep(*regression):
        given.append((*regression[:5], best_penalty(*regression)[0]))
        return best_penalty(*regression)

    monkeypatch.setattr(linear_start, "best_penalty", keep)
    dataset.build()
    ((gram, cross, x, y, unit, weights),) = given
    solutions, errors = [], []
    for penalty in PENALTIES:
        penalised = gram + np.diag([*[penalty] * (len(gram) - 1), 1e-9])
        solutions.append(np.linalg.solve(penalised, cross))
        errors.append(np.nanmean(np.abs(y - x @ solutions[-1]) * unit))
    strongest = np.flatnonzero(np.array(errors) <= (1 + TOLERANCE) * min(errors))[-1]
    assert np.argmin(errors) < strongest < len(PENALTIES) - 1  # without it, nothing is tested
    np.testing.assert_allclose(weights, solutions[strongest], rtol=1e-6, atol=1e-9)
