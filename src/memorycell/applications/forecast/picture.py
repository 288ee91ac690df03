"""The main picture of a forecaster: forecasts with their intervals on the test split."""

from __future__ import annotations

import numpy as np

from memorycell.application.contract import Record
from memorycell.application.picture import MAX_POINTS, Picture, json_numbers
from memorycell.applications.forecast.dataset import ForecastDataset
from memorycell.applications.forecast.model import Forecaster
from memorycell.models.quantiles import interval

MIN_FANS, MIN_STEPS = 6, 48
"""Consecutive forecasts that are shown, and steps that they cover, unless there are fewer."""
MAX_CANDIDATES = 25
"""Periods among which one is chosen."""


def forecast_picture(dataset: ForecastDataset, model: Forecaster, result: Record) -> Picture | None:
    """Consecutive forecasts of the first target, of the period of the test split with the median
    error among some that are evenly spaced; None where no forecast fits.
    """
    codec, series = dataset.codec, dataset.series
    at = dataset.scored_origins("test")
    horizon = dataset.settings.horizon or 1
    wanted = max(MIN_FANS, MIN_STEPS // horizon)
    count = max(min(wanted, MAX_POINTS // (2 * horizon)), 1)
    periods = _periods(at, horizon, count, dataset)
    if not periods:
        return None
    quantiles = dataset.quantiles(model, at)
    errors = [_error(dataset, quantiles, at, period) for period in periods]
    order = np.argsort(errors)
    period = periods[int(order[(len(order) - 1) // 2])]
    begin = max(int(at[period[0]]) - max(horizon, 12), int(series.start[at[period[0]]]))
    steps = np.arange(begin, int(at[period[-1]]) + horizon + 1)
    low, median, high = (np.full(len(steps), np.nan) for _ in range(3))
    begins = []
    for k in period:
        forecast = codec.unscale(quantiles[[k]], dataset.series_names(at[[k]]))[0, :, 0]
        place = int(at[k]) + 1 - begin
        begins.append(place)
        for line, values in zip((low, median, high), interval(forecast), strict=True):
            line[place : place + horizon] = values
    thin = slice(None, None, -(-len(steps) // MAX_POINTS))
    numbered = codec.time is None or codec.clock.unit == "row"
    labels = [str(s if numbered else codec.stamp(int(series.time[s]))) for s in steps[thin]]
    step = thin.step or 1
    return Picture(
        title=f"Forecasts of {codec.targets[0]} on the test split, with 80% intervals",
        x=labels,
        y=codec.targets[0],
        lines={
            "observed": json_numbers(series.values[steps, 0][thin]),
            "forecast": json_numbers(median[thin]),
        },
        low=json_numbers(low[thin]),
        high=json_numbers(high[thin]),
        begins=sorted({min(-(-p // step), len(labels) - 1) for p in begins if horizon > 1}),
    )


def _periods(at: np.ndarray, horizon: int, count: int, dataset: ForecastDataset) -> list[list[int]]:
    """Indexes into the origins `at` of consecutive forecasts of one series whose values are all on
    its clock; as many as there are where no period has `count`.
    """
    known = np.isfinite(dataset.history.future[at][:, :, 0]).any(1)
    place = {int(step): k for k, step in enumerate(at) if known[k]}
    found: list[list[int]] = []
    for k in np.unique(np.linspace(0, len(at) - 1, 4 * MAX_CANDIDATES).astype(int)).tolist():
        period: list[int] = []
        step, end = int(at[k]), int(at[k]) + horizon
        while len(period) < count and step in place and end < len(dataset.series):
            if dataset.series.start[end] != dataset.series.start[int(at[k])]:
                break
            period.append(place[step])
            after = int(np.searchsorted(at, step + horizon))  # with a stride, the next origin
            if after >= len(at):
                break
            step, end = int(at[after]), int(at[after]) + horizon
        if period:
            found.append(period)
    longest = max(map(len, found), default=0)
    return [period for period in found if len(period) == longest][:MAX_CANDIDATES]


def _error(
    dataset: ForecastDataset, quantiles: np.ndarray, at: np.ndarray, period: list[int]
) -> float:
    truth = dataset.history.future[at[period]][:, :, 0]
    return float(np.nanmean(np.abs(truth - interval(quantiles[period])[1][:, :, 0])))
