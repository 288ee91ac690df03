"""Finds the clock of a table: its usual step, weekends, and the hours of a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from memorycell.tables.clock import DAY, DAY_US, SECOND_US, WEEKDAYS, Clock, infer_clock
from memorycell.tables.zones import to_local

MIN_DAYS = 14
"""From the first to the last, to recognise weekends and nights."""
MIN_DAYS_WITH_ROWS = 5
MAX_OPEN_SHARE = 0.75
"""Of a day, the steps from its first to its last reading."""
MIN_FULL_DAYS = 0.8
"""Share of the days with readings that have the first and the last one."""


def find_clock(
    times: Sequence[np.ndarray], where: str, zone: str | None = None
) -> tuple[Clock, list[str]]:
    """(clock, notes) of series with the times [n] int64 each, in order.

    zone   of the table's times; days are counted in it

    Raises `DataError`.
    """
    differences = np.concatenate([np.diff(own) for own in times])
    clock = infer_clock(differences[differences > 0], where)
    if clock.unit == "month":
        return replace(clock, zone=zone), []
    irregular = (differences % (clock.size * SECOND_US) != 0).any()
    if clock.size % DAY == 0 or (clock.size > 3600 and irregular):
        clock = replace(clock, zone=zone)
    if clock.size > DAY or DAY % clock.size:
        return clock, []
    local = to_local(np.concatenate(list(times)), zone)
    weekdays, hours = _only_weekdays(local), _hours(clock, local)
    if weekdays or hours:
        clock = replace(clock, zone=zone, weekdays=weekdays, hours=hours)
        return clock, [f"steps: {clock}"]
    return clock, []


def _only_weekdays(local_us: np.ndarray) -> bool:
    """Whether all rows are from Monday to Friday, over two weeks or more."""
    days = np.unique(local_us // DAY_US)
    weekday = (days + 3) % 7
    return len(days) >= MIN_DAYS_WITH_ROWS and bool(
        (weekday < WEEKDAYS).all() and days[-1] - days[0] >= MIN_DAYS
    )


def _hours(clock: Clock, local_us: np.ndarray) -> tuple[int, int] | None:
    """The first and last second of a day with a reading, where nearly every day with readings has
    both; None for readings all day.
    """
    if clock.size >= DAY:
        return None
    day, second = np.divmod(local_us, DAY_US)
    if (second % SECOND_US).any():
        return None
    second //= SECOND_US
    first, last = int(second.min()), int(second.max())
    days = np.unique(day)
    aligned = not ((second - first) % clock.size).any()
    long = len(days) >= MIN_DAYS_WITH_ROWS and days[-1] - days[0] + 1 >= MIN_DAYS_WITH_ROWS
    if not aligned or not long or first == last or last - first + clock.size > MAX_OPEN_SHARE * DAY:
        return None
    full = np.isin(days, day[second == first]) & np.isin(days, day[second == last])
    return (first, last) if full.mean() >= MIN_FULL_DAYS else None
