"""The clock of a series: the time between its steps, and the step of each time stamp."""

from __future__ import annotations

import calendar
import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal

import msgspec
import numpy as np

from memorycell.errors import DataError, UserError, quote
from memorycell.tables.zones import SECOND_US, find_zone, from_local_after, iso_time, to_local

__all__ = [
    "SECOND_US",
    "Clock",
    "assign_steps",
    "infer_clock",
    "iso_time",
    "parse_every",
    "rounded_steps",
]

EPOCH = datetime(1970, 1, 1)  # UTC, like all times here
UNIT_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
DAY = 86_400
MAX_SIZE = 100 * 366 * DAY
DAY_US = DAY * SECOND_US
MAX_STEP_ERROR = 1e-3
"""Tolerated deviation of a time from a whole number of steps."""
WEEKDAYS = 5
MONDAY_OFFSET = 3
"""Days from a Monday to 1 January 1970, a Thursday."""


@dataclass(frozen=True)
class Clock:
    """One step of a series.

    unit      "second", "month", or "row" (no clock: every row is a step)
    size      seconds or months per step; 1 for rows
    snap      the step is nominal, as for a sensor whose clock drifts: a row is round(elapsed /
              size) steps after the last row kept, and dropped where that is 0
    zone      steps are counted on the wall clock of this zone; None: in UTC
    weekdays  only Monday to Friday have steps
    hours     first and last second of a day that have a step; None: all day
    """

    unit: Literal["second", "month", "row"]
    size: Annotated[int, msgspec.Meta(ge=1, le=MAX_SIZE)] = 1
    snap: bool = False
    zone: str | None = None
    weekdays: bool = False
    hours: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.unit not in ("second", "month", "row") or not 1 <= self.size <= MAX_SIZE:
            raise ValueError("not a clock")
        if self.zone is not None:
            find_zone(self.zone)
        if (self.weekdays or self.hours) and (self.unit != "second" or DAY % self.size):
            raise ValueError("a clock of weekdays or hours needs a step that divides a day")
        if self.hours is not None:
            first, last = self.hours
            if not 0 <= first < last < DAY or (last - first) % self.size:
                raise ValueError("the hours of a clock are no multiple of its step")

    def __str__(self) -> str:
        if self.unit == "row":
            return "row"
        if self.unit == "month":
            return "month" if self.size == 1 else f"{self.size} months"
        text = self._step_text
        if self.weekdays:
            text = "business day" if self.size == DAY else f"{text}, Monday to Friday"
        if self.hours is not None:
            first, last = (f"{s // 3600:02d}:{s // 60 % 60:02d}" for s in self.hours)
            text += f", {first} to {last}"
        return text

    @property
    def _step_text(self) -> str:
        for name, seconds in reversed(list(UNIT_SECONDS.items())):
            if name != "m" and self.size % seconds == 0:
                return f"{self.size // seconds} {name}"
        return f"{self.size} s"

    def elapsed(self, before_us: int, now_us: int) -> float:
        """Steps between two times; a whole number if the series is regular."""
        if self.unit == "second" and not self._is_local:
            return (now_us - before_us) / (self.size * SECOND_US)
        before, now = self.positions(np.array([before_us, now_us], np.int64))
        return float(now - before)

    def positions(self, time_us: np.ndarray) -> np.ndarray:
        """The times [N] int64 in steps from a common time, float64: a whole number of steps apart
        where they are on the clock.
        """
        if self.unit == "row" or len(time_us) == 0:
            return time_us.astype(np.float64)
        if self.unit == "month":
            months = to_local(time_us, self.zone).astype("datetime64[us]").astype("datetime64[M]")
            return months.astype(np.int64) / self.size
        if not self._is_local:
            return (time_us - time_us[0]) / (self.size * SECOND_US)
        local_us = to_local(time_us, self.zone)
        if not self._has_breaks:
            return (local_us - local_us[0]) / (self.size * SECOND_US)
        slot, fraction, outside = self._slots(local_us)
        return slot + 0.5 * outside + (fraction if self.size < DAY else 0.0)

    def after(self, time_us: int, steps: int) -> int:
        """The time `steps` steps later."""
        return int(self.after_many(time_us, np.array([steps]))[0])

    def after_many(self, time_us: int, steps: np.ndarray) -> np.ndarray:
        """The times [N] int64 that are [N] steps after a time."""
        if self.unit == "row":
            return time_us + steps
        if self.unit == "second" and not self._is_local:
            return time_us + steps * (self.size * SECOND_US)
        local = to_local(np.array([time_us], np.int64), self.zone)
        if self.unit == "month":
            later = [_months_later(int(local[0]), int(count) * self.size) for count in steps]
        elif not self._has_breaks:
            later = (local + steps * (self.size * SECOND_US)).tolist()
        else:
            slot, fraction, _ = self._slots(local)
            later = self._slot_times(slot + steps, fraction).tolist()
        return np.array([_to_utc(local_us, self.zone) for local_us in later], np.int64)

    @property
    def season(self) -> int:
        """Steps per season: a day for steps up to six hours, a week for days, a year for longer
        steps; 1 if unknown.
        """
        if self.unit == "row":
            return 1
        if self.unit == "month":
            return max(12 // self.size, 1)
        if self.size <= 21_600:
            return self.steps_per_day
        if self.size <= DAY:
            return max((WEEKDAYS if self.weekdays else 7) * DAY // self.size, 1)
        return max(31_449_600 // self.size, 1) if self.size <= 604_800 else 1

    @property
    def horizon(self) -> int:
        """Default forecast horizon in steps: an hour for minutes, a day for hours, a week for
        days.
        """
        if self.unit == "row":
            return 12
        if self.unit == "month":
            return max(12 // self.size, 1)
        if self.size <= 900:
            return 60 if self.size <= 60 else 3600 // self.size
        if self.size <= 21_600:
            return self.steps_per_day
        if self.size <= DAY:
            return WEEKDAYS if self.weekdays else 7
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

    @property
    def steps_per_day(self) -> int:
        """For steps that are seconds."""
        if self.hours is None:
            return max(DAY // self.size, 1)
        return (self.hours[1] - self.hours[0]) // self.size + 1

    # ---- days with breaks ------------------------------------------------------------------------

    @property
    def _has_breaks(self) -> bool:
        return self.weekdays or self.hours is not None

    @property
    def _is_local(self) -> bool:
        return self.zone is not None or self._has_breaks

    def _slots(self, local_us: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(slot, fraction, outside) of wall-clock times [N]: the steps since a common day, weekends
        and nights left out; the part of a step after it; whether the time is in a break, whose slot
        is the last one before it.
        """
        per_day = self.steps_per_day
        day, in_day = np.divmod(local_us, DAY_US)
        first = 0 if self.hours is None else self.hours[0]
        within, rest = np.divmod(in_day - first * SECOND_US, self.size * SECOND_US)
        fraction = rest / (self.size * SECOND_US)
        early = within < 0
        late = within + (fraction > 0) > per_day - 1 if self.hours else np.zeros(len(day), bool)
        if self.weekdays:
            week, weekday = np.divmod(day + MONDAY_OFFSET, 7)
            weekend = weekday >= WEEKDAYS
            day = week * WEEKDAYS + np.minimum(weekday, WEEKDAYS - 1)
            early, late = early & ~weekend, late | weekend
        within = np.where(early, -1, np.where(late, per_day - 1, within))
        outside = early | late
        if self.hours is not None:
            fraction = np.where(outside, 0.0, fraction)
        return day * per_day + within, fraction, outside

    def _slot_times(self, slot: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        """The wall-clock times [N] of slots; see `_slots`."""
        day, within = np.divmod(slot, self.steps_per_day)
        if self.weekdays:
            week, weekday = np.divmod(day, WEEKDAYS)
            day = week * 7 + weekday - MONDAY_OFFSET
        first = 0 if self.hours is None else self.hours[0]
        in_day = first * SECOND_US + np.round((within + fraction) * self.size * SECOND_US)
        return day * DAY_US + in_day.astype(np.int64)


def parse_every(text: str, zone: str | None = None) -> Clock:
    """The clock of `row`, `business` (Monday to Friday), or of a number and a unit as in 5m, 1h,
    1d, to which rows are snapped. Raises `UserError`.

    zone   steps of a day and longer are counted in
    """
    if text == "row":
        return Clock("row")
    if text == "business":
        return Clock("second", DAY, zone=zone, weekdays=True)
    match = re.fullmatch(r"(\d{1,9}) *(s|m|min|h|d|w|month|months)", text.strip())
    size = int(match[1]) if match else 0
    if match and size and match[2].startswith("month") and size <= 1200:
        return Clock("month", size, snap=True, zone=zone)
    size *= UNIT_SECONDS.get(match[2], 0) if match else 0
    if not 1 <= size <= MAX_SIZE:
        raise UserError(
            "every: expected a step such as 5m, 1h, 1d, 1month, business, or row; got"
            f" {quote(text)}"
        )
    return Clock("second", size, snap=True, zone=zone if size % DAY == 0 else None)


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
            f" step, as in --set every=5m{_zone_hint(int(time_us[at]))}"
        )
    steps = np.diff(clock.positions(time_us))
    whole = np.round(steps)
    wrong = (np.abs(steps - whole) > MAX_STEP_ERROR) | (whole < 1)
    if wrong.any():
        at = int(wrong.argmax())
        raise DataError(
            f"{where}: row {rows[at + 1] + 1}: {iso_time(time_us[at + 1], clock.zone)} is"
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


def _zone_hint(time_us: int) -> str:
    """For an hour that may occur twice in autumn."""
    time = _datetime(time_us)
    turns = time.weekday() == 6 and time.month in (3, 4, 10, 11) and time.hour < 4
    return ", or the zone, as in --set zone=Europe/Berlin" if turns else ""


def _months_later(local_us: int, months: int) -> int:
    date = _datetime(local_us)
    year, month = divmod(date.year * 12 + date.month - 1 + months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    at_month_end = (date + timedelta(days=1)).day == 1
    shifted = date.replace(
        year=year, month=month + 1, day=last if at_month_end else min(date.day, last)
    )
    return local_us + (shifted - date) // timedelta(microseconds=1)


def _to_utc(local_us: int, zone: str | None) -> int:
    """The time of a wall clock; an hour later where it is skipped in spring."""
    if zone is None:
        return local_us
    try:
        return from_local_after(local_us, zone, None)
    except ValueError:
        return from_local_after(local_us + 3600 * SECOND_US, zone, None)


def _datetime(time_us: int) -> datetime:
    return EPOCH + timedelta(microseconds=int(time_us))
