"""The clock of a series: the time between its steps, and the step of each time stamp."""

from __future__ import annotations

import calendar
import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np

from memorycell.errors import DataError, UserError

SECOND_US = 1_000_000
EPOCH = datetime(1970, 1, 1)  # UTC, like all times here
UNIT_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True)
class Clock:
    """One step of a series.

    unit    "second", "month", or "row" (no clock: every row is a step)
    size    seconds or months per step; 1 for rows
    snap    the step is nominal, as for a sensor whose clock drifts: a row is round(elapsed / size)
            steps after the last row kept, and dropped where that is 0
    """

    unit: str
    size: int = 1
    snap: bool = False

    def __str__(self) -> str:
        if self.unit == "row":
            return "row"
        if self.unit == "month":
            return "month" if self.size == 1 else f"{self.size} months"
        for name, seconds in reversed(list(UNIT_SECONDS.items())):
            if name != "m" and self.size % seconds == 0:
                return f"{self.size // seconds} {name}"
        return f"{self.size} s"

    def elapsed(self, before_us: int, now_us: int) -> float:
        """Steps between two times; a whole number if the series is regular."""
        if self.unit == "month":
            return (_months(now_us) - _months(before_us)) / self.size
        return (now_us - before_us) / (self.size * SECOND_US)

    def after(self, time_us: int, steps: int) -> int:
        """The time `steps` steps later."""
        if self.unit == "row":
            return time_us + steps
        if self.unit == "second":
            return time_us + steps * self.size * SECOND_US
        date = _datetime(time_us)
        year, month = divmod(date.year * 12 + date.month - 1 + steps * self.size, 12)
        last = calendar.monthrange(year, month + 1)[1]
        at_month_end = (date + timedelta(days=1)).day == 1
        shifted = date.replace(
            year=year, month=month + 1, day=last if at_month_end else min(date.day, last)
        )
        return time_us + round((shifted - date).total_seconds()) * SECOND_US

    @property
    def season(self) -> int:
        """Steps per season: a day for steps up to six hours, a week for days, a year for longer
        steps; 1 if unknown.
        """
        if self.unit == "row":
            return 1
        if self.unit == "month":
            return max(12 // self.size, 1)
        for longest, period in ((21_600, 86_400), (86_400, 604_800), (604_800, 31_449_600)):
            if self.size <= longest:
                return max(period // self.size, 1)
        return 1

    @property
    def horizon(self) -> int:
        """Default forecast horizon in steps: an hour for minutes, a day for hours, a week for
        days.
        """
        if self.unit == "row":
            return 12
        if self.unit == "month":
            return max(12 // self.size, 1)
        for longest, ahead in (
            (60, 60),
            (900, 3600 // self.size),
            (21_600, 86_400 // self.size),
            (86_400, 7),
        ):
            if self.size <= longest:
                return int(ahead)
        return 8

    @property
    def calendar(self) -> dict[str, float]:
        """The cycles longer than two steps, and their periods in seconds."""
        if self.unit != "second":
            return {"year": 31_556_952.0} if self.unit == "month" else {}
        return {
            name: period
            for name, period in (("day", 86_400.0), ("week", 604_800.0))
            if self.size * 2 < period
        }


def parse_every(text: str) -> Clock:
    """The clock of `row`, or of a number and a unit as in 5m, 1h, 1d, to which rows are snapped.
    Raises `UserError`.
    """
    if text == "row":
        return Clock("row")
    match = re.fullmatch(r"(\d+) *(s|m|min|h|d|w|month|months)", text.strip())
    if not match or int(match[1]) == 0:
        raise UserError(f"every: expected a step such as 5m, 1h, 1d, 1month, or row; got {text!r}")
    if match[2].startswith("month"):
        return Clock("month", int(match[1]), snap=True)
    return Clock("second", int(match[1]) * UNIT_SECONDS[match[2]], snap=True)


def infer_clock(differences_us: np.ndarray, where: str) -> Clock:
    """The clock from the differences between consecutive time stamps: the most common one, or
    whole months. Raises `DataError`.
    """
    if len(differences_us) == 0:
        raise DataError(f"{where}: one row is not a series")
    values, counts = np.unique(differences_us, return_counts=True)
    days = values / (86_400 * SECOND_US)
    if (days >= 28).all():
        return Clock("month", int(np.gcd.reduce(np.round(days / 30.436875).astype(np.int64))))
    usual = int(values[counts.argmax()])
    if usual % SECOND_US:
        raise DataError(
            f"{where}: steps of {usual / 1e6:g} s; for steps below a second use --set every=row"
        )
    return Clock("second", usual // SECOND_US)


def assign_steps(
    clock: Clock, time_us: np.ndarray, rows: np.ndarray, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """(kept, steps): the indices of the rows of one series that are kept, and the step of each of
    them, from 0. Raises `DataError`.

    rows   the number of each row in its file, from 0, for error messages
    """
    if clock.unit == "row":
        return np.arange(len(time_us)), np.arange(len(time_us))
    differences = np.diff(time_us)
    if (differences < 0).any():
        at = int((differences < 0).argmax())
        raise DataError(
            f"{where}: row {rows[at + 1] + 1}: the time goes back ({iso_time(time_us[at + 1])}"
            f" after {iso_time(time_us[at])}); sort the rows by time, or name the series with --set"
            " group=COLUMN"
        )
    if clock.snap:
        return _snap(clock, time_us)
    if (differences == 0).any():
        at = int((differences == 0).argmax())
        raise DataError(
            f"{where}: row {rows[at + 1] + 1}: repeats the time {iso_time(time_us[at])} of row"
            f" {rows[at] + 1}; remove one, name the series with --set group=COLUMN, or give the"
            " step, as in --set every=5m"
        )
    steps = np.array([clock.elapsed(int(a), int(b)) for a, b in pairwise(time_us)])
    whole = np.round(steps)
    wrong = (np.abs(steps - whole) > 1e-3) | (whole < 1)
    if wrong.any():
        at = int(wrong.argmax())
        raise DataError(
            f"{where}: row {rows[at + 1] + 1}: {iso_time(time_us[at + 1])} is"
            f" {differences[at] / 1e6:g} s after the previous row, not a multiple of the usual step"
            f" ({clock}); --set every=5m (your step) snaps rows to the nearest step, --set"
            " every=row ignores the clock"
        )
    return np.arange(len(time_us)), np.concatenate([[0], np.cumsum(whole.astype(np.int64))])


def _snap(clock: Clock, time_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept, steps = [0], [0]
    for row in range(1, len(time_us)):
        ahead = rounded_steps(clock, int(time_us[kept[-1]]), int(time_us[row]))
        if ahead > 0:
            kept.append(row)
            steps.append(steps[-1] + ahead)
    return np.array(kept), np.array(steps)


def rounded_steps(clock: Clock, before_us: int, now_us: int) -> int:
    """Steps from one time to another, rounded to a whole number, halves up."""
    return math.floor(clock.elapsed(before_us, now_us) + 0.5)


def _datetime(time_us: int) -> datetime:
    return EPOCH + timedelta(microseconds=int(time_us))


def _months(time_us: int) -> int:
    date = _datetime(time_us)
    return date.year * 12 + date.month


def iso_time(time_us: int) -> str:
    """2026-01-31 13:45:00"""
    return _datetime(time_us).isoformat(" ", "seconds")
