"""The clock of a series: how far apart its steps are, and which step a time stamp belongs to."""

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
EPOCH = datetime(1970, 1, 1)  # UTC, like every time here
UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True)
class Clock:
    """One step of a series.

    unit    "second", "month", or "row" (no clock: every row is a step)
    size    seconds, months, or 1
    snap    the step is only nominal, as with a sensor whose clock drifts: a row comes round(elapsed
            / size) steps after the last one kept, and a row less than half a step after it is left
            out
    """

    unit: str
    size: int = 1
    snap: bool = False

    def __str__(self) -> str:
        if self.unit == "row":
            return "row"
        if self.unit == "month":
            return "month" if self.size == 1 else f"{self.size} months"
        for name, seconds in reversed(list(UNITS.items())):
            if name != "m" and self.size % seconds == 0:
                return f"{self.size // seconds} {name}"
        return f"{self.size} s"

    def elapsed(self, before_us: int, now_us: int) -> float:
        """Steps from one time to the other, a whole number where the series keeps its clock."""
        if self.unit == "month":
            return (_months(now_us) - _months(before_us)) / self.size
        return (now_us - before_us) / (self.size * SECOND_US)

    def after(self, time_us: int, steps: int) -> int:
        """The time so many steps later."""
        if self.unit == "row":
            return time_us + steps
        if self.unit == "second":
            return time_us + steps * self.size * SECOND_US
        moment = _moment(time_us)
        year, month = divmod(moment.year * 12 + moment.month - 1 + steps * self.size, 12)
        last = calendar.monthrange(year, month + 1)[1]
        at_month_end = (moment + timedelta(days=1)).day == 1
        shifted = moment.replace(
            year=year, month=month + 1, day=last if at_month_end else min(moment.day, last)
        )
        return time_us + round((shifted - moment).total_seconds()) * SECOND_US

    @property
    def season(self) -> int:
        """Steps in the usual season: a day for steps up to six hours, a week for days, a year
        beyond; 1 where unknown.
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
        """Steps people usually want to see ahead: an hour for minutes, a day for hours, a week for
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
        """The cycles a step can tell apart, and their periods in seconds."""
        if self.unit != "second":
            return {"year": 31_556_952.0} if self.unit == "month" else {}
        return {
            name: period
            for name, period in (("day", 86_400.0), ("week", 604_800.0))
            if self.size * 2 < period
        }


def parse_every(text: str) -> Clock:
    """`row`, or a number and a unit as in 5m, 1h, 1d: a nominal step that rows are snapped to."""
    if text == "row":
        return Clock("row")
    match = re.fullmatch(r"(\d+) *(s|m|min|h|d|w|month|months)", text.strip())
    if not match or int(match[1]) == 0:
        raise UserError(f"every: expected a step such as 5m, 1h, 1d, 1month, or row; got {text!r}")
    if match[2].startswith("month"):
        return Clock("month", int(match[1]), snap=True)
    return Clock("second", int(match[1]) * UNITS[match[2]], snap=True)


def infer(differences_us: np.ndarray, where: str) -> Clock:
    """The clock from the differences between following time stamps: the most common one, or whole
    months.
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
            f"{where}: steps of {usual / 1e6:g} s; steps shorter than a second: use --set every=row"
        )
    return Clock("second", usual // SECOND_US)


def place(
    clock: Clock, time_us: np.ndarray, rows: np.ndarray, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """(kept, steps): which rows of one series are kept, and the step each of them falls on, counted
    from 0.

    rows   the number of each row in its file, from 0, for complaints
    """
    if clock.unit == "row":
        return np.arange(len(time_us)), np.arange(len(time_us))
    differences = np.diff(time_us)
    if (differences < 0).any():
        at = int((differences < 0).argmax())
        raise DataError(
            f"{where}: row {rows[at + 1] + 1}: the time goes back ({iso(time_us[at + 1])} after"
            f" {iso(time_us[at])}); sort the rows by time, or name the series with --set"
            " group=COLUMN"
        )
    if clock.snap:
        return _snap(clock, time_us)
    if (differences == 0).any():
        at = int((differences == 0).argmax())
        raise DataError(
            f"{where}: row {rows[at + 1] + 1}: the time {iso(time_us[at])} of row {rows[at] + 1}"
            " again; remove one, name the series with --set group=COLUMN, or give the step, as in"
            " --set every=5m"
        )
    steps = np.array([clock.elapsed(int(a), int(b)) for a, b in pairwise(time_us)])
    whole = np.round(steps)
    wrong = (np.abs(steps - whole) > 1e-3) | (whole < 1)
    if wrong.any():
        at = int(wrong.argmax())
        raise DataError(
            f"{where}: row {rows[at + 1] + 1}: {iso(time_us[at + 1])} comes"
            f" {differences[at] / 1e6:g} s after the row before it, which is no multiple of the"
            f" usual step ({clock}); --set every=5m (your step) snaps rows to the nearest step,"
            " --set every=row ignores the clock"
        )
    return np.arange(len(time_us)), np.concatenate([[0], np.cumsum(whole.astype(np.int64))])


def _snap(clock: Clock, time_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept, steps = [0], [0]
    for row in range(1, len(time_us)):
        ahead = snapped(clock, int(time_us[kept[-1]]), int(time_us[row]))
        if ahead > 0:
            kept.append(row)
            steps.append(steps[-1] + ahead)
    return np.array(kept), np.array(steps)


def snapped(clock: Clock, before_us: int, now_us: int) -> int:
    """Whole steps from one kept row to the next, half a step rounded up."""
    return math.floor(clock.elapsed(before_us, now_us) + 0.5)


def _moment(time_us: int) -> datetime:
    return EPOCH + timedelta(microseconds=int(time_us))


def _months(time_us: int) -> int:
    moment = _moment(time_us)
    return moment.year * 12 + moment.month


def iso(time_us: int) -> str:
    """2026-01-31 13:45:00"""
    return _moment(time_us).isoformat(" ", "seconds")
