"""Clocks of business days and of daily hours; days on the wall clock."""

import dataclasses
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorycell.errors import DataError, UserError
from memorycell.setting_fields import from_json
from memorycell.tables.clock import Clock, assign_steps, iso_time, parse_every
from memorycell.tables.clock_finding import find_clock
from memorycell.tables.zones import USUAL_ZONES, to_local, zone_of_offsets

HOUR_US = 3_600_000_000
BUSINESS = Clock("second", 86_400, weekdays=True)
OPEN = Clock("second", 3600, hours=(8 * 3600, 18 * 3600))
MARKET = Clock("second", 1800, weekdays=True, hours=(34_200, 57_600))


def us(*moments: datetime) -> np.ndarray:
    return np.array([round(m.replace(tzinfo=m.tzinfo or UTC).timestamp() * 1e6) for m in moments])


def days(count: int, keep=lambda day: True, start=datetime(2024, 1, 1)) -> list[datetime]:
    return [d for d in (start + timedelta(days=k) for k in range(count)) if keep(d)]


def test_business_days_are_recognised_and_weekends_stepped_over():
    times = us(*days(60, lambda d: d.weekday() < 5 and d.day != 17))  # and a holiday
    clock, notes = find_clock([times], "t.csv")
    assert clock == BUSINESS
    assert notes == ["steps: business day"]
    _, steps = assign_steps(clock, times, np.arange(len(times)), "t.csv")
    assert np.diff(steps).tolist().count(2) == 1  # the holiday
    friday = int(us(datetime(2024, 3, 1))[0])
    assert [iso_time(t)[:10] for t in clock.after_many(friday, np.arange(3))] == [
        "2024-03-01",
        "2024-03-04",
        "2024-03-05",
    ]
    assert (clock.season, clock.horizon, str(clock)) == (5, 5, "business day")


def test_every_day_is_no_business_clock():
    assert find_clock([us(*days(60))], "t")[0] == Clock("second", 86_400)
    assert find_clock([us(*days(5))], "t")[0] == Clock("second", 86_400)  # Monday to Friday, once


def test_a_row_on_a_weekend_is_named():
    times = us(datetime(2024, 1, 5), datetime(2024, 1, 6), datetime(2024, 1, 8))
    with pytest.raises(DataError, match=r"row 2: 2024-01-06 .* \(business day\)"):
        assign_steps(parse_every("business"), times, np.arange(3), "t.csv")


def test_readings_by_day():
    moments = [d + timedelta(hours=h) for d in days(20) for h in range(8, 19)]
    clock, notes = find_clock([us(*moments)], "t.csv")
    assert clock == OPEN
    assert notes == ["steps: 1 h, 08:00 to 18:00"]
    assert (clock.season, clock.horizon) == (11, 11)
    _, steps = assign_steps(clock, us(*moments), np.arange(220), "t.csv")
    assert steps.tolist() == list(range(220))
    evening = int(us(datetime(2024, 1, 20, 18))[0])
    assert iso_time(clock.after(evening, 1)) == "2024-01-21 08:00:00"
    with pytest.raises(DataError, match="row 2: 2024-01-20 22:00:00"):
        assign_steps(clock, us(datetime(2024, 1, 20, 18), datetime(2024, 1, 20, 22)), [0, 1], "t")


def test_readings_all_day_with_gaps_have_no_hours():
    moments = [d + timedelta(hours=h) for d in days(20) for h in range(24) if (d.day + h) % 5]
    assert find_clock([us(*moments)], "t")[0] == Clock("second", 3600)


def test_hours_of_weekdays():
    half_hours = [timedelta(minutes=570 + 30 * k) for k in range(14)]
    moments = [d + h for d in days(40, lambda d: d.weekday() < 5) for h in half_hours]
    clock, _ = find_clock([us(*moments)], "t.csv")
    assert clock == MARKET
    closed = int(us(datetime(2024, 3, 1, 16))[0])  # a Friday
    assert iso_time(clock.after(closed, 1)) == "2024-03-04 09:30:00"


@given(
    clock=st.sampled_from([BUSINESS, OPEN, MARKET, Clock("second", 86_400, zone="Europe/Berlin")]),
    day=st.integers(0, 4000),
    steps=st.integers(0, 3000),
    more=st.integers(0, 50),
)
def test_elapsed_undoes_after(clock, day, steps, more):
    start = int(us(datetime(2015, 1, 5, 12))[0]) + day * 24 * HOUR_US
    on_clock = clock.after(start, 1)
    later = clock.after(on_clock, steps)
    assert clock.elapsed(on_clock, later) == steps
    assert clock.after(later, more) == clock.after(on_clock, steps + more)
    assert (later > on_clock) == (steps > 0)


@given(begin=st.integers(0, 3000), span=st.integers(0, 400))
def test_business_days_are_those_of_numpy(begin, span):
    first = np.busday_offset(np.datetime64("2010-01-01") + begin, 0, roll="forward")
    last = np.busday_offset(first, span)
    start, end = (int(d.astype("datetime64[us]").astype(np.int64)) for d in (first, last))
    assert BUSINESS.elapsed(start, end) == span
    assert BUSINESS.after(start, span) == end


BERLIN = ZoneInfo("Europe/Berlin")


def test_days_through_summer_time():
    """Midnight in Berlin is 23 and 25 hours apart when the clocks change."""
    midnights = us(*(d.replace(tzinfo=BERLIN) for d in days(400)))
    clock, _ = find_clock([midnights], "t.csv", "Europe/Berlin")
    assert clock == Clock("second", 86_400, zone="Europe/Berlin")
    assert assign_steps(clock, midnights, np.arange(400), "t")[1].tolist() == list(range(400))
    np.testing.assert_array_equal(clock.after_many(int(midnights[0]), np.arange(400)), midnights)
    months = us(*(datetime(2024, m, 1, tzinfo=BERLIN) for m in range(1, 13)))
    clock, _ = find_clock([months], "t.csv", "Europe/Berlin")
    assert clock == Clock("month", 1, zone="Europe/Berlin")
    np.testing.assert_array_equal(clock.after_many(int(months[0]), np.arange(12)), months)


def test_hours_through_summer_time_are_steps():
    hours = np.arange(400 * 24) * HOUR_US + us(datetime(2024, 1, 1))[0]
    clock, _ = find_clock([hours], "t.csv", "Europe/Berlin")
    assert clock == Clock("second", 3600)
    six = us(*(d.replace(tzinfo=BERLIN, hour=h) for d in days(200) for h in (0, 6, 12, 18)))
    clock, _ = find_clock([six], "t.csv", "Europe/Berlin")
    assert clock == Clock("second", 21_600, zone="Europe/Berlin")
    assert assign_steps(clock, six, np.arange(800), "t")[1].tolist() == list(range(800))


@pytest.mark.parametrize("zone", [*USUAL_ZONES, "+05:30", "UTC", "Asia/Kolkata"])
def test_the_wall_clock_of_a_zone(zone):
    rule = timezone(timedelta(minutes=330)) if zone[0] == "+" else ZoneInfo(zone)
    times = us(*(datetime(2024, 1, 1) + timedelta(hours=7 * k) for k in range(1300)))
    expected = [datetime.fromtimestamp(int(t) / 1e6, rule).replace(tzinfo=UTC) for t in times]
    for part in (slice(None), slice(0, 3)):
        np.testing.assert_array_equal(to_local(times[part], zone), us(*expected[part]))
    minutes = (us(*expected) - times) // 60_000_000
    found = zone_of_offsets(times, minutes)
    np.testing.assert_array_equal(to_local(times, found), us(*expected))


def test_a_repeated_hour_of_autumn_hints_at_the_zone():
    moments = [datetime(2023, 10, 29, h) for h in (1, 2, 2, 3)]
    with pytest.raises(DataError, match="row 3: repeats .*--set zone=Europe/Berlin"):
        assign_steps(Clock("second", 3600), us(*moments), np.arange(4), "t")


@pytest.mark.parametrize("wrong", ["0d", "-1h", "business days", "9999999999d", "1e3h", "4000y"])
def test_steps_that_are_none(wrong):
    with pytest.raises(UserError, match="every: expected a step"):
        parse_every(wrong)


def test_a_clock_from_a_file_is_checked():
    stored = dataclasses.asdict(MARKET)
    assert from_json(Clock, {**stored, "hours": list(stored["hours"])}) == MARKET
    assert from_json(Clock, {"unit": "second", "size": 60, "snap": True}).snap  # written before
    for change in (
        {"unit": "week"},
        {"size": 0},
        {"size": 10**12},
        {"size": True},
        {"size": 7},
        {"hours": [5, 1]},
        {"hours": [0, 100]},
        {"hours": [0]},
        {"weekdays": 1},
        {"zone": "Mars"},
        {"unit": "month"},
    ):
        with pytest.raises(ValueError):
            from_json(Clock, {**stored, **change})


def test_snapped_steps_are_unchanged():
    times = us(*(datetime(2024, 1, 1) + timedelta(minutes=5 * k, seconds=k) for k in range(50)))
    kept, steps = assign_steps(parse_every("5m"), times, np.arange(50), "t")
    assert kept.tolist() == steps.tolist() == list(range(50))
    assert pl.Series(steps).is_sorted()
