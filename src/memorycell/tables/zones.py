"""Time zones: local times and UTC, in microseconds since 1970."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np

SECOND_US = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_OFFSET_MINUTES = 19 * 60 - 1
MIN_TIME_US = -62_104_060_800_000_000  # year 2, so that zones can be added
MAX_TIME_US = 221_845_392_000_000_000  # year 9000, so that forecasts can begin there
ABBREVIATIONS = {
    "Z": 0,
    "UTC": 0,
    "GMT": 0,
    "WET": 0,
    "BST": 60,
    "WEST": 60,
    "CET": 60,
    "CEST": 120,
    "MEZ": 60,
    "MESZ": 120,
    "EET": 120,
    "EEST": 180,
    "MSK": 180,
    "EDT": -240,
    "EST": -300,
    "CDT": -300,
    "CST": -360,
    "MDT": -360,
    "MST": -420,
    "PDT": -420,
    "PST": -480,
    "JST": 540,
    "AEST": 600,
    "AEDT": 660,
}
"""Minutes ahead of UTC."""
USUAL_ZONES = (
    "Europe/London",
    "Europe/Berlin",
    "Europe/Athens",
    "Europe/Lisbon",
    "Europe/Chisinau",
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "America/Anchorage",
    "America/Halifax",
    "America/St_Johns",
    "America/Havana",
    "America/Santiago",
    "America/Asuncion",
    "America/Sao_Paulo",
    "Australia/Sydney",
    "Australia/Adelaide",
    "Australia/Lord_Howe",
    "Pacific/Auckland",
    "Asia/Jerusalem",
    "Asia/Beirut",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Tehran",
)
"""One zone for each set of rules of summer time, to recognise a zone from its offsets."""


@lru_cache(maxsize=256)
def find_zone(name: str) -> tzinfo:
    """The zone of an IANA name, an abbreviation or an offset such as +01:00. Raises ValueError."""
    if name in ABBREVIATIONS or re.fullmatch(r"[+-]\d\d(:?\d\d)?", name):
        return timezone(timedelta(minutes=offset_minutes(name)))
    try:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_+/-]{1,40}", name):
            raise ValueError
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"unknown time zone {name[:50]!r}") from None


def offset_minutes(text: str) -> int:
    """The minutes of +01:00, -0730, +02, Z, CET. Raises ValueError."""
    if text in ABBREVIATIONS:
        return ABBREVIATIONS[text]
    match = re.fullmatch(r"([+-])(\d\d):?(\d\d)?", text)
    if match is None:
        raise ValueError(f"unknown offset {text[:20]!r}")
    minutes = int(match[2]) * 60 + int(match[3] or 0)
    if minutes > MAX_OFFSET_MINUTES:
        raise ValueError(f"offset {text} is too large")
    return -minutes if match[1] == "-" else minutes


def offset_name(minutes: int) -> str:
    """+01:00"""
    sign, size = "-" if minutes < 0 else "+", abs(minutes)
    return f"{sign}{size // 60:02d}:{size % 60:02d}"


def iso_time(time_us: int, zone: str | None = None) -> str:
    """2026-01-31 13:45:00, with the offset +01:00 if a zone is given."""
    time = EPOCH + timedelta(microseconds=int(time_us))
    time = time.replace(tzinfo=None) if zone is None else time.astimezone(find_zone(zone))
    return time.isoformat(" ", "auto")


def to_local(time_us: np.ndarray, zone: str | None) -> np.ndarray:
    """The wall clock at the times [N] int64 (UTC), as microseconds."""
    if zone is None or len(time_us) == 0:
        return time_us
    rule = find_zone(zone)
    if isinstance(rule, timezone):
        return time_us + rule.utcoffset(None) // timedelta(microseconds=1)
    if len(time_us) <= 8:
        return time_us + np.array([_offset_us(int(t), rule) for t in time_us], np.int64)
    import polars as pl

    times = pl.Series(time_us).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(zone)
    return times.dt.replace_time_zone(None).dt.epoch("us").to_numpy().astype(np.int64)


def from_local(
    local_us: np.ndarray, zone: str, groups: Sequence[object] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(UTC times, whether they exist) of wall-clock times [N] int64.

    In the hour that occurs twice, the second row of a group with the same time is the later one.
    """
    rule = find_zone(zone)
    if isinstance(rule, timezone):
        offset = rule.utcoffset(None) // timedelta(microseconds=1)
        return local_us - offset, np.ones(len(local_us), bool)
    import polars as pl

    times = pl.Series(local_us).cast(pl.Datetime("us"))
    early, late = (
        times.dt.replace_time_zone(zone, ambiguous=which, non_existent="null").dt.epoch("us")
        for which in ("earliest", "latest")
    )
    exists = early.is_not_null().to_numpy()
    result = early.fill_null(0).to_numpy().astype(np.int64)
    later = late.fill_null(0).to_numpy()
    seen: Counter[tuple[object, int]] = Counter()
    for row in np.flatnonzero(result != later).tolist():
        key = (None if groups is None else groups[row], int(local_us[row]))
        if seen[key]:
            result[row] = later[row]
        seen[key] += 1
    return result, exists


def from_local_after(local_us: int, zone: str, after_us: int | None) -> int:
    """The UTC time of a wall-clock time; in the hour that occurs twice, the first one after
    `after_us`. Raises ValueError for a time that is skipped.
    """
    rule = find_zone(zone)
    naive = (EPOCH + timedelta(microseconds=local_us)).replace(tzinfo=rule)
    early, late = (
        local_us
        - (naive.replace(fold=fold).utcoffset() or timedelta()) // timedelta(microseconds=1)
        for fold in (0, 1)
    )
    if early > late:
        raise ValueError(f"does not exist in {zone}: the clocks go forward")
    return late if after_us is not None and early <= after_us < late else early


def zone_of_offsets(time_us: np.ndarray, minutes: np.ndarray) -> str:
    """The zone whose offsets [N] in minutes the times [N] (UTC) have; the last offset if none of
    `USUAL_ZONES` fits.
    """
    changes = np.flatnonzero(np.diff(minutes))
    if len(changes) == 0:
        return "UTC" if minutes[-1] == 0 else offset_name(int(minutes[-1]))
    at = np.unique([0, *changes, *(changes + 1), len(minutes) - 1])[:2000]
    for name in USUAL_ZONES:
        if (to_local(time_us[at], name) - time_us[at] == minutes[at] * 60 * SECOND_US).all():
            return name
    return offset_name(int(minutes[-1]))


def _offset_us(time_us: int, rule: tzinfo) -> int:
    time = EPOCH + timedelta(microseconds=time_us)
    return (time.astimezone(rule).utcoffset() or timedelta()) // timedelta(microseconds=1)
