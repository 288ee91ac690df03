"""The series codec: live rows give the inputs of the full table, whatever the gaps; clocks;
inferred columns.
"""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.infer import infer
from memorycell.applications.forecast.row_encoder import RowEncoder
from memorycell.applications.forecast.scaling import fit_codec
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.errors import DataError, UserError
from memorycell.tables import clock as clocks
from memorycell.tables.clock import Clock, parse_every
from memorycell.tables.table import are_dates, parse_number, parse_time_us, read_table

HOUR = 3_600_000_000


def table(
    steps: list[int], values: list[float | None], jitter: list[int] | None = None
) -> pl.DataFrame:
    """Rows at the given hours (plus jitter in seconds)."""
    at = np.cumsum(steps)
    seconds = [int(hour) * 3600 + (jitter[k] if jitter else 0) for k, hour in enumerate(at)]
    stamps = [
        clocks.iso_time(1_700_000_000_000_000 // HOUR * HOUR + s * 1_000_000) for s in seconds
    ]
    return pl.DataFrame(
        {
            "t": stamps,
            "y": [None if v is None else str(v) for v in values],
            "x": [str(k % 3) for k in range(len(at))],
        },
        schema={"t": pl.String, "y": pl.String, "x": pl.String},
    )


def detect(frame: pl.DataFrame, **settings) -> SeriesCodec:
    return infer(frame, "t", ForecastSettings(**settings))[0]


def scaled(codec: SeriesCodec, frame: pl.DataFrame, max_gap: int) -> SeriesCodec:
    codec = replace(codec, max_gap=max_gap)
    series = codec.read(frame, "t")
    return fit_codec(codec, series, np.ones(len(series), bool), ForecastSettings(), "t")


@given(
    steps=st.lists(st.sampled_from([1, 1, 1, 2, 3, 7]), min_size=8, max_size=30),
    data=st.data(),
    max_gap=st.integers(1, 8),
    snap=st.booleans(),
)
def test_live_inputs_equal_those_of_the_table(steps, data, max_gap, snap):
    size = len(steps)
    values = data.draw(st.lists(st.none() | st.floats(-9, 9), min_size=size, max_size=size))
    values[0], values[1] = 1.0, 2.0  # a scale
    jitter = (
        data.draw(st.lists(st.integers(-900, 900), min_size=size, max_size=size)) if snap else None
    )
    frame = table(steps, values, jitter)
    codec = detect(frame, target="y", every="1h" if snap else None)
    codec = scaled(codec if snap else replace(codec, clock=Clock("second", 3600)), frame, max_gap)
    series = codec.read(frame, "t")
    whole = codec.encode(series)
    live = RowEncoder(codec)
    parts, fresh = [], []
    for row in frame.iter_rows(named=True):
        inputs, begins = live.encode(row)
        parts.append(inputs)
        fresh += [begins] + [False] * (len(inputs) - 1) if len(inputs) else []
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert fresh == series.reset.tolist()


def test_short_gaps_are_filled_and_long_ones_start_a_segment():
    frame = table([0, 1, 1, 3, 1, 9, 1], [1.0, 2.0, None, 4.0, 5.0, 6.0, 8.0])
    codec = scaled(detect(frame, target="y"), frame, max_gap=5)
    series = codec.read(frame, "t")
    assert series.row.tolist() == [0, 1, 2, -1, -1, 3, 4, 5, 6]
    assert series.reset.tolist() == [True, *[False] * 6, True, False]
    filled = codec.fill(series)[:, 0].tolist()
    assert filled == [1, 2, 2, 2, 2, 4, 5, 6, 8]
    assert clocks.iso_time(int(series.time[4])) == clocks.iso_time(int(series.time[2] + 2 * HOUR))


def test_groups_are_separate_series():
    one, two = table([0, 1, 1], [1.0, 2.0, 3.0]), table([0, 1, 1], [5.0, 7.0, 9.0])
    frame = pl.concat([one.with_columns(g=pl.lit("a")), two.with_columns(g=pl.lit("b"))])
    codec = scaled(detect(frame, target="y", group="g"), frame, 4)
    series = codec.read(frame, "t")
    assert series.reset.tolist() == [True, False, False, True, False, False]
    assert series.groups == ["a", "b"]
    change = codec.encode(series)[:, codec.features.index("change of y")]
    assert change[3] == 0  # no change across series


@pytest.mark.parametrize(
    ("every", "size", "text"),
    [("5m", 300, "5 min"), ("1h", 3600, "1 h"), ("90s", 90, "90 s"), ("2d", 172_800, "2 d")],
)
def test_every(every, size, text):
    assert parse_every(every).size == size
    assert str(parse_every(every)) == text


@pytest.mark.parametrize("wrong", ["", "5", "m5", "0m", "-1h", "five"])
def test_every_refuses(wrong):
    with pytest.raises(UserError, match="every"):
        parse_every(wrong)


def test_months_and_years_are_steps():
    def inferred(*stamps: str) -> Clock:
        return clocks.infer_clock(np.diff([parse_time_us(s) for s in stamps]), "t")

    assert inferred("2020-01-01", "2020-02-01", "2020-03-01", "2020-04-01") == Clock("month", 1)
    assert inferred("2020-01-01", "2020-04-01", "2020-07-01") == Clock("month", 3)
    assert inferred("2020-01-01", "2021-01-01", "2022-01-01") == Clock("month", 12)
    assert inferred("2020-01-01", "2020-01-08", "2020-01-15") == Clock("second", 604_800)
    month = Clock("month", 1)
    assert clocks.iso_time(month.after(parse_time_us("2024-01-31"), 1)) == "2024-02-29 00:00:00"
    assert (
        clocks.iso_time(month.after(parse_time_us("2023-11-15 06:00"), 3)) == "2024-02-15 06:00:00"
    )
    assert clocks.iso_time(month.after(parse_time_us("2023-12-01"), 1)) == "2024-01-01 00:00:00"


@given(
    months=st.integers(0, 400), start=st.dates(min_value=__import__("datetime").date(1971, 1, 1))
)
def test_months_elapsed_undo_months_after(months, start):
    if start.year > 2100:
        return
    clock = Clock("month", 1)
    begin = parse_time_us(start.replace(day=1).isoformat())
    assert clock.elapsed(begin, clock.after(begin, months)) == months


@pytest.mark.parametrize(
    ("size", "horizon", "season"),
    [(60, 60, 1440), (300, 12, 288), (3600, 24, 24), (86_400, 7, 7), (604_800, 8, 52)],
)
def test_defaults_of_a_clock(size, horizon, season):
    assert (Clock("second", size).horizon, Clock("second", size).season) == (horizon, season)


@pytest.mark.parametrize(
    "text",
    [
        "2010-03-24 09:51:00",
        "2010-03-24T09:51:00Z",
        "2010-03-24T10:51:00+01:00",
        "24.03.2010 09:51",
        "2010/03/24 09:51",
        "1269424260",
    ],
)
def test_time_formats(text):
    assert clocks.iso_time(parse_time_us(text)) == "2010-03-24 09:51:00"


def test_numbers_and_times():
    assert np.isnan([parse_number(v) for v in ("", "NA", " nil ", None, "NaN", "?")]).all()
    assert parse_number(" 1e3 ") == 1000
    for wrong in ("inf", "-Infinity", "12,5", "abc"):
        with pytest.raises(ValueError):
            parse_number(wrong)
    assert parse_time_us("03/04/2010", "%d/%m/%Y") == parse_time_us("2010-04-03")
    with pytest.raises(ValueError):
        parse_time_us("03/04/2010")  # 3 April or 4 March
    assert are_dates(["2010-01-01", "2010-01-02"])
    assert not are_dates(["20100101", "3.5"])
    assert not are_dates([])


def test_time_and_target_are_inferred_and_other_columns_left_out(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "when;y;same;word;empty\n"
        + "".join(f"2024-01-{d:02d};{d * d};1;ab;\n" for d in range(1, 20))
    )
    frame = read_table(path)
    codec = detect(frame)
    assert (codec.targets, codec.inputs, codec.time) == (("y",), (), "when")
    assert codec.clock == Clock("second", 86_400)


def test_several_candidates_are_named():
    frame = table([0, 1, 1], [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="--set target=NAME; columns of numbers: y, x"):
        detect(frame)


def test_parquet_and_jsonl_read_as_csv(tmp_path):
    frame = table([0, 1, 1, 2], [1.0, None, 3.0, 4.0])
    typed = frame.with_columns(
        pl.col("y").cast(pl.Float64), pl.col("x").cast(pl.Int64), pl.col("t").str.to_datetime()
    )
    typed.write_parquet(tmp_path / "t.parquet")
    frame.with_columns(pl.col("y").cast(pl.Float64), pl.col("x").cast(pl.Int64)).write_ndjson(
        tmp_path / "t.jsonl"
    )
    frame.write_csv(tmp_path / "t.csv")
    frame.write_csv(tmp_path / "t.tsv", separator="\t")
    codec = replace(detect(read_table(tmp_path / "t.csv"), target="y"), max_gap=9)
    prints = {
        codec.read(read_table(tmp_path / f"t.{kind}"), "t").fingerprint()
        for kind in ("csv", "tsv", "parquet", "jsonl")
    }
    assert len(prints) == 1
