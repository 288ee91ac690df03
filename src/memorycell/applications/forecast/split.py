"""The training, validation and test split of series, by time."""

from __future__ import annotations

import numpy as np

from memorycell.applications.forecast.series import Series
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.errors import DataError

TRAIN_SHARE = 70 / 85
"""Of the time before the test period, the share to train on; the rest validates."""
UNUSED = -1
"""Split number of a step in no split; the others index `SPLITS`."""


def split_series(
    series: Series, settings: ForecastSettings, where: str, *, has_clock: bool
) -> np.ndarray:
    """[N] int: the split of every step, as an index into `SPLITS`, or `UNUSED`. Raises `DataError`
    if a split is too short.

    The splits begin at the same times in all series; without a clock, at the same shares of each.
    """
    rows = settings.split_rows()
    if rows is not None:
        return _split_by_rows(series, rows, settings.horizon or 1, where)
    time = series.time
    if not has_clock:
        time = (np.arange(len(series)) - series.first) / np.bincount(series.group)[series.group]
    begin, end = settings.test_period()
    ordered = np.sort(time)
    shares = (TRAIN_SHARE * begin, begin, end)
    cuts = [ordered[int(share * len(ordered))] for share in shares if share < 1]
    split = np.searchsorted(cuts, time, side="right")
    split = np.where(split > 2, UNUSED, split)
    _check_length(series, split, settings, where)
    return split


def _split_by_rows(series: Series, rows: list[int], horizon: int, where: str) -> np.ndarray:
    given = ",".join(map(str, rows))
    if min(rows) <= horizon:
        raise DataError(
            f"{where}: split={given}: a horizon of {horizon} steps needs {horizon + 1} or more in"
            " each part"
        )
    split = np.digitize(np.arange(len(series)) - series.first, np.cumsum(rows))
    if not (split >= 2).any():
        raise DataError(f"{where}: split={given}: no series has more than {sum(rows[:2])} steps")
    return np.where(split > 2, UNUSED, split)


def _check_length(
    series: Series, split: np.ndarray, settings: ForecastSettings, where: str
) -> None:
    train, test = (int(np.bincount(series.group[split == k], minlength=1).max()) for k in (0, 2))
    check_lengths(train, test, int(np.bincount(series.group).max()), settings, where)


def check_lengths(
    train: int, test: int, total: int, settings: ForecastSettings, where: str
) -> None:
    """Raises `DataError` where the longest series has too few steps to train or to test on."""
    horizon, context = settings.horizon or 1, settings.context or 1
    if train >= context + horizon and test > horizon:
        return
    raise DataError(
        f"{where}: too short: {total} steps, {train} to train on and {test} to test on; a context"
        f" of {context} and a horizon of {horizon} need {context + horizon} and {horizon + 1};"
        " add rows, or --set horizon=… --set context=…"
    )
