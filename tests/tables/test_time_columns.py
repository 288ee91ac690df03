"""Times in tables: found, read the same way live, and written in the zone of the file."""

import dataclasses
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from memorycell.errors import DataError
from memorycell.setting_fields import from_json
from memorycell.tables.time_formats import find_times
from memorycell.tables.times import TimeColumns, parse_time


def read(data, **settings):
    """(texts of the times, columns, notes) of a table, read as a whole and row by row."""
    frame = pl.DataFrame({"time": data} if isinstance(data, list) else data)
    found, notes = find_times(frame, "t.csv", **settings)
    assert found is not None
    whole = found.read(frame, "t.csv")
    live, after = [], None
    for row in frame.iter_rows(named=True):
        after = found.read_row(row, "row", after)
        live.append(after)
    assert whole.tolist() == live
    return [found.text(int(t)) for t in whole], found, notes


@pytest.mark.parametrize(
    "cells",
    [
        ["2024-01-31 13:45:00", "2024-01-31 14:45:00"],
        ["2024-01-31T13:45", "2024-01-31T14:45"],
        ["2024-01-31 13:45:00.000", "2024-01-31 14:45:00.000"],
        ["2024-01-31T13:45:00.000000000", "2024-01-31T14:45:00.000000000"],
        ["2024/01/31 13:45", "2024/1/31 14:45"],
        ["31.01.2024 13:45", "31.01.2024 14:45"],
        ["31.1.24 13:45", "31.1.24 14:45"],
        ["31/01/2024 13:45:00", "31/01/2024 14:45:00"],
        ["01/31/2024 01:45 PM", "01/31/2024 02:45 PM"],
        ["1/31/2024 1:45:00 PM", "1/31/2024 2:45:00 PM"],
        ["31-Jan-2024 13:45", "31-Jan-2024 14:45"],
        ["31 January 2024 13:45", "31 January 2024 14:45"],
        ["Jan 31, 2024 13:45", "Jan 31, 2024 14:45"],
        ["20240131 13:45", "20240131 14:45"],
        ["20240131T134500", "20240131T144500"],
        ["202401311345", "202401311445"],
        ["20240131134500", "20240131144500"],
        ["1706708700", "1706712300"],
        ["1706708700000", "1706712300000"],
        ["1706708700.0", "1706712300.0"],
        [1706708700, 1706712300],
        [1706708700000, 1706712300000],
        [1706708700000000, 1706712300000000],
        [1706708700000000000, 1706712300000000000],
        [202401311345, 202401311445],
        [datetime(2024, 1, 31, 13, 45), datetime(2024, 1, 31, 14, 45)],
    ],
)
def test_ways_to_write_a_time(cells):
    assert read(cells)[0] == ["2024-01-31 13:45:00", "2024-01-31 14:45:00"]


@pytest.mark.parametrize(
    ("cells", "days"),
    [
        (["20240131", "20240201"], ["2024-01-31", "2024-02-01"]),
        (["202401", "202402"], ["2024-01-01", "2024-02-01"]),
        (["2024-01", "2024-02"], ["2024-01-01", "2024-02-01"]),
        (["2023", "2024"], ["2023-01-01", "2024-01-01"]),
        ([date(2024, 1, 31), date(2024, 2, 1)], ["2024-01-31", "2024-02-01"]),
    ],
)
def test_days_months_and_years(cells, days):
    assert read(cells)[0] == [f"{day} 00:00:00" for day in days]


def test_the_end_of_a_day_and_a_bare_day_in_a_column_of_times():
    texts = read(["30.01.2024 23:00", "30.01.2024 24:00", "31.01.2024 01:00"])[0]
    assert texts[1] == "2024-01-31 00:00:00"
    assert read(["31.01.2024", "31.01.2024 01:00"])[0][0] == "2024-01-31 00:00:00"


def test_a_given_format_finds_the_column():
    """All days are below 13: only the format says that the month comes first."""
    hours = [f"01/{d:02d}/2024 {h:02d}:00 AM" for d in (1, 2) for h in (10, 11)]
    data = {"MW": ["1", "2", "3", "4"], "Datetime": hours}
    texts, found, notes = read(data, time_format="%m/%d/%Y %I:%M %p")
    assert found.columns == ("Datetime",)
    assert texts[-1] == "2024-01-02 11:00:00"
    assert notes == ["column 'Datetime': the month comes first (%m/%d/%Y %I:%M %p)"]
    with pytest.raises(DataError, match="day and month cannot be told apart.*--set time_format="):
        read(data)


def test_days_above_twelve_decide():
    first, last = [f"{d:02d}/01/2024" for d in (5, 13)], [f"01/{d:02d}/2024" for d in (5, 13)]
    assert read(first)[0][0] == read(last)[0][0] == "2024-01-05 00:00:00"
    assert read(first)[2] == ["column 'time': the day comes first (%d/%m/%Y)"]


@pytest.mark.parametrize(
    "data",
    [
        {"Date": ["2024-01-31", "2024-01-31"], "Time": ["13:45", "14:45"]},
        {"x": [1, 2], "Datum": ["31.01.2024", "31.01.2024"], "Uhrzeit": ["13:45:00", "14:45:00"]},
        {"Date": ["01/31/2024", "01/31/2024"], "Time": ["01:45 PM", "02:45 PM"]},
        {"Date": [date(2024, 1, 31)] * 2, "Time": [time(13, 45), time(14, 45)]},
    ],
)
def test_date_and_time_in_two_columns(data):
    texts, found, notes = read(data)
    assert texts == ["2024-01-31 13:45:00", "2024-01-31 14:45:00"]
    day, clock = found.columns
    assert notes[0] == f"times from columns '{day}' and '{clock}'"
    assert read(data, time=f"{day},{clock}")[0] == texts
    assert read(data, time=day)[0] == texts


def test_the_hour_as_a_number():
    data = {"date": ["2024-01-31"] * 3, "hour": [0, 1, 23]}
    assert read(data)[0] == [f"2024-01-31 {h}:00:00" for h in ("00", "01", "23")]


def test_year_month_day_and_hour_in_columns_of_their_own():
    data = {"No": [1, 2], "year": [2024, 2024], "month": [1, 1], "day": [9, 9], "hour": [3, 23]}
    texts, found, notes = read(data)
    assert texts == ["2024-01-09 03:00:00", "2024-01-09 23:00:00"]
    assert found.columns == ("year", "month", "day", "hour")
    assert notes == ["times from columns 'year', 'month', 'day' and 'hour'"]
    assert read(data, time="year,month,day,hour")[0] == texts
    as_text = {name: list(map(str, cells)) for name, cells in data.items()}
    assert read(as_text)[0] == texts
    as_floats = {name: list(map(float, cells)) for name, cells in data.items()}
    assert read(as_floats)[0] == texts
    assert read({"year": [2023, 2024], "x": [1, 2]})[0][1] == "2024-01-01 00:00:00"
    named = {"time": ["2024-01-31", "2024-02-01"], **data}
    assert read(named)[1].columns == ("time",)


def test_columns_that_are_no_times():
    frame = pl.DataFrame({"a": ["1", "2"], "b": ["1.5", "x"], "month": [1, 2], "id": [10**9, 1]})
    assert find_times(frame, "t.csv") == (None, [])


def test_units_since_1970_are_said():
    assert read([1706708700000, 1706712300000])[2] == ["column 'time': milliseconds since 1970"]
    frame = pl.DataFrame({"t": [0, 60, 120]})
    assert find_times(frame, "t.csv", time="t")[0].read(frame, "t").tolist() == [0, 6e7, 12e7]


BERLIN = ZoneInfo("Europe/Berlin")


def autumn() -> list[datetime]:
    """The hours of two days around the end of summer time, in Berlin."""
    start = datetime(2023, 10, 28, 12, tzinfo=UTC)
    return [(start + timedelta(hours=k)).astimezone(BERLIN) for k in range(36)]


def test_offsets_are_kept_and_their_zone_recognised():
    """Two rows at 02:00 with different offsets are two rows; answers after the change have the
    offset that Berlin then has.
    """
    moments = autumn()
    texts, found, notes = read([m.isoformat() for m in moments])
    assert texts == [m.isoformat(" ") for m in moments]
    assert len(set(texts)) == 36
    assert notes == ["times in zone Europe/Berlin"]
    summer = round(datetime(2024, 7, 1, tzinfo=UTC).timestamp() * 1e6)
    assert found.text(summer) == "2024-07-01 02:00:00+02:00"
    local = found.local(np.array([round(m.timestamp() * 1e6) for m in moments]))
    assert (local // 3_600_000_000 % 24).tolist() == [m.hour for m in moments]


def test_the_hour_that_occurs_twice_without_offsets():
    moments = autumn()
    cells = [m.strftime("%Y-%m-%d %H:%M") for m in moments]
    assert len(set(cells)) == 35
    assert read(cells, zone="Europe/Berlin")[0] == [m.isoformat(" ") for m in moments]


def test_it_is_resolved_within_each_series():
    moments = autumn()
    cells = [m.strftime("%Y-%m-%d %H:%M") for m in moments for _ in "ab"]
    frame = pl.DataFrame({"time": cells, "shop": ["a", "b"] * len(moments)})
    found, _ = find_times(frame, "t.csv", zone="Europe/Berlin")
    times = found.read(frame, "t.csv", "shop")
    assert (np.diff(times[::2]) == 3_600_000_000).all()
    assert (np.diff(times[1::2]) == 3_600_000_000).all()


def test_an_hour_that_is_skipped_in_spring_is_refused():
    with pytest.raises(DataError, match="row 2.*2024-03-31 02:30:00 does not exist in Europe/Ber"):
        read(["2024-03-31 01:30", "2024-03-31 02:30"], zone="Europe/Berlin")


@pytest.mark.parametrize(
    ("cells", "zone"),
    [
        (["2024-01-31 13:45:00Z", "2024-01-31 14:45:00Z"], "UTC"),
        (["2024-01-31 13:45 +05:30", "2024-01-31 14:45 +05:30"], "+05:30"),
        (["2024-01-31 13:45-0800", "2024-01-31 14:45-0800"], "-08:00"),
        (["2024-01-31 13:45 CET", "2024-07-31 14:45 CEST"], "Europe/Berlin"),
        (["2024-01-31 13:45 EST", "2024-07-31 14:45 EDT"], "America/New_York"),
    ],
)
def test_zones_of_cells(cells, zone):
    texts, found, _ = read(cells)
    assert found.zone == zone
    assert texts[0].startswith("2024-01-31 13:45:00")


def test_a_zone_of_a_typed_column_and_an_unknown_one():
    moments = pl.Series([datetime(2024, 7, 1, 12)]).dt.replace_time_zone("America/New_York")
    texts, found, _ = read({"t": moments})
    assert texts == ["2024-07-01 12:00:00-04:00"]
    assert found.zone == "America/New_York"
    for zone in ("Mars", "../etc/passwd", ""):
        with pytest.raises(DataError, match="unknown time zone"):
            read(["2024-01-01"], zone=zone)


def test_wrong_cells_are_named_with_their_row():
    cells = ["2024-01-31"] * 20
    with pytest.raises(DataError, match="row 21, column 'time': the time is missing"):
        read([*cells, None])
    with pytest.raises(DataError, match="row 21, column 'time': 'x' is not a time of the format"):
        read([*cells, "x"])
    with pytest.raises(DataError, match="row 2, column 'time': .* has no offset"):
        read(["2024-01-31 00:00Z", "2024-01-31 01:00"])
    with pytest.raises(DataError, match="row 21, column 'time': '2024-01-31 00:00-61' is not a"):
        read([*(f"{cell} 00:00" for cell in cells), "2024-01-31 00:00-61"])
    with pytest.raises(DataError, match="column 'time' holds"):
        TimeColumns(("time",)).read(pl.DataFrame({"time": [[1], [2]]}), "t.csv")


@pytest.mark.parametrize(
    "value",
    [1e300, -1e300, True, "x", "", None, float("nan"), np.datetime64("NaT"), [1], "2024-13-01"],
)
def test_what_is_no_time_live_is_one_error(value):
    for pattern in (None, "s", "%Y-%m-%d"):
        with pytest.raises(DataError, match="column 't'"):
            TimeColumns(("t",), pattern).read_row({"t": value}, "row")
    with pytest.raises(DataError, match="no column 't'; it has u"):
        TimeColumns(("t",)).read_row({"u": 1}, "row")


@pytest.mark.parametrize(
    "value",
    [
        datetime(2024, 1, 31),
        date(2024, 1, 31),
        np.datetime64("2024-01-31"),
        np.datetime64("2024-01-31T00:00:00.000000000"),
        pl.Series([datetime(2024, 1, 31)])[0],
        "2024-01-31",
        1706659200,
        1706659200000,
    ],
)
def test_moments_of_other_libraries(value):
    assert parse_time(value) == (1706659200000000, False)


def test_columns_from_a_file_are_checked():
    stored = dataclasses.asdict(TimeColumns(("a", "b"), "%Y", "Europe/Berlin"))
    assert from_json(TimeColumns, stored) == TimeColumns(("a", "b"), "%Y", "Europe/Berlin")
    for change in (
        {"columns": []},
        {"columns": list("abcdefg")},
        {"columns": "a"},
        {"pattern": "x"},
        {"pattern": "%" * 100},
        {"zone": "Mars"},
        {"zone": 1},
    ):
        with pytest.raises(ValueError):
            from_json(TimeColumns, {**stored, **change})
