"""The forecast from the end of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.contract import ModelFile, Record
from memorycell.application.datasets import locate
from memorycell.application.rendering import table_text
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.model import Forecaster
from memorycell.applications.forecast.paths import run_paths
from memorycell.applications.forecast.scaling import with_new_series
from memorycell.applications.forecast.series import Series
from memorycell.applications.forecast.words import unknown_word_notes
from memorycell.errors import DataError, quote
from memorycell.models.quantiles import interval
from memorycell.setting_fields import check_ranges, from_json
from memorycell.tables.column_lists import unused_note

if TYPE_CHECKING:
    import polars as pl

MAX_ORIGINS = 1_000_000
MAX_MISSING_SHARE = 0.5
"""Share of steps without a row above which a note says so."""


@dataclass(frozen=True)
class PredictOptions:
    """Settings of `predict`.

    quantiles   levels to forecast besides the median and the 80% interval: 0.05,0.5,0.95
    origins     forecasts of each series: the last from its end, the others from earlier rows, with
                only the rows before them
    every       steps between origins: 24 for one a day of hourly rows
    """

    quantiles: str | None = None
    origins: int = 1
    every: int = 1

    def __post_init__(self) -> None:
        self.levels()
        check_ranges(self, origins=(1, MAX_ORIGINS), every=(1, MAX_ORIGINS))

    def levels(self) -> tuple[float, ...]:
        """`quantiles` as numbers."""
        try:
            levels = tuple(float(part) for part in (self.quantiles or "").split(",") if part)
        except ValueError:
            levels = (-1.0,)
        if not all(0 < level < 1 for level in levels):
            raise ValueError(
                f"quantiles={self.quantiles}: expected levels between 0 and 1, as in 0.05,0.5,0.95"
            )
        return levels


def predict(
    file: ModelFile[Forecaster, SeriesCodec], source: str | None, options: PredictOptions
) -> Record:
    """`{"data", "forecasts", "notes"}`: a forecast from the end of each series of a table, a file
    or a named dataset, or several of each, in order of time.
    """
    if source is None:
        raise DataError("predict: name a table; the forecast begins after its last row")
    path, _ = locate(source)
    frame = file.codec.read_file(path)
    forecasts, series = forecast_table(file, frame, source, options)
    notes = unused_column_notes(file.codec, frame.columns) + _new_series_notes(file.codec, series)
    notes += unknown_word_notes(series, file.codec.words) + _gap_notes(file.codec, series)
    wanted = options.origins * len(series.groups)
    if len(forecasts) < wanted:
        notes.append(
            f"{len(forecasts):,} of {wanted:,} forecasts: the table has no more rows to start from"
        )
    record: Record = {"data": source, "forecasts": forecasts, "notes": notes}
    if options.origins > 1:
        record["origins"] = options.origins
    return record


def forecast_table(
    file: ModelFile[Forecaster, SeriesCodec],
    frame: pl.DataFrame,
    where: str,
    options: PredictOptions | None = None,
) -> tuple[list[dict[str, Any]], Series]:
    """The forecasts from the ends of the series of a table, or from several origins, and the
    series. Raises `DataError`.

    With inputs known in advance a forecast begins after the last row that has a target: later rows
    give those inputs. A new series is scaled by its own rows where each series has its own scaling.
    """
    options = options or PredictOptions()
    series = file.codec.read(frame, where)
    codec = with_new_series(file.codec, series, where)
    ends = np.append(np.flatnonzero(np.diff(series.group)), len(series) - 1)
    has_target = ~np.isnan(series.values[:, : len(codec.targets)]).all(1)
    if not has_target.any():
        raise DataError(f"{where}: no row has a value of {quote(', '.join(codec.targets))}")
    if codec.known:
        groups = np.unique(series.group[has_target])
        ends = np.array([np.flatnonzero(has_target & (series.group == k))[-1] for k in groups])
    if codec.known:
        check_known_futures(codec, series, ends, where)
    ends = origins_before(codec, series, ends, options.origins, options.every)
    horizon, paths = decoding(file)
    inputs = codec.encode(series)
    if paths:
        stepper = file.model.stepper()
        quantiles = run_paths(stepper, codec, series, inputs, ends, horizon=horizon, paths=paths)
    else:
        quantiles = file.model.run(inputs, series.start, ends)
    records, levels = [], options.levels()
    for end, own in zip(ends.tolist(), quantiles, strict=True):
        name = series.groups[series.group[end]]
        values = codec.unscale(own[None].astype(np.float64), [name])[0]
        records.append(forecast_record(codec, name, int(series.time[end]), values, levels))
        if options.origins > 1:
            records[-1]["row"] = int(series.row[end]) + 1
    return records, series


def origins_before(
    codec: SeriesCodec, series: Series, ends: np.ndarray, count: int, every: int
) -> np.ndarray:
    """[M]: up to `count` steps of each series, `every` steps apart, the last of each one of `ends`;
    in the order of `series`. Steps in which no row was read, or whose known futures are missing,
    are left out.
    """
    if count == 1:
        return ends
    at = ends[:, None] - every * np.arange(min(count, len(series)))
    at = np.sort(at[at >= series.first[ends][:, None]])
    at = at[series.row[at] >= 0]
    return at[known_futures(codec, series, at).all(1)] if codec.known else at


def unused_column_notes(codec: SeriesCodec, columns: Sequence[str]) -> list[str]:
    """See `unused_note`."""
    used = {*codec.columns, *codec.each, *codec.words, *codec.static, codec.group, codec.returns}
    used |= set() if codec.times is None else {*codec.times.columns}
    return unused_note([c for c in columns if c not in used])


def _new_series_notes(codec: SeriesCodec, series: Series) -> list[str]:
    """Which series were scaled by their own rows, for people."""
    new = [name for name in series.groups if codec.own and name not in codec.own]
    if not new:
        return []
    names = quote(", ".join(new))[1:-1]
    return [f"{len(new)} series that were not in training, scaled by their own rows: {names}"]


def _gap_notes(codec: SeriesCodec, series: Series) -> list[str]:
    """Whether most steps have no row, as in a table of another clock."""
    missing = float((series.row < 0).mean())
    if missing <= MAX_MISSING_SHARE:
        return []
    return [
        f"{missing:.0%} of the steps have no row; a step of the model is {codec.clock}: are the"
        " rows further apart?"
    ]


def known_futures(codec: SeriesCodec, series: Series, at: np.ndarray) -> np.ndarray:
    """[M, reach] bool: whether the inputs known in advance are known at the steps after `at`."""
    columns = [codec.columns.index(c) for c in codec.known_numbers]
    known = ~np.isnan(series.values[:, columns]).any(1)
    for c in codec.known_words:
        known &= np.array([word is not None for word in series.words[c]])
    steps = at[:, None] + np.arange(1, codec.reach + 1)
    inside = steps < len(series)
    steps = np.minimum(steps, len(series) - 1)
    return np.asarray(inside & known[steps] & (series.start[steps] == series.start[at][:, None]))


def check_known_futures(codec: SeriesCodec, series: Series, ends: np.ndarray, where: str) -> None:
    """Raises `DataError` where the next values of an input known in advance are missing."""
    for end, known in zip(ends.tolist(), known_futures(codec, series, ends), strict=True):
        steps = (np.flatnonzero(~known) + 1).tolist()
        if not steps:
            continue
        ahead = codec.stamps_ahead(int(series.time[end]), codec.reach)
        times = ", ".join(str(ahead[k - 1]) for k in steps[:3])
        times += f", … {ahead[steps[-1] - 1]}" if len(steps) > 3 else ""
        name = series.groups[series.group[end]]
        of = f" of {quote(name)}" if codec.group else ""
        raise DataError(
            f"{where}: {quote(', '.join(codec.known))}{of} must be known {codec.reach} steps after"
            f" {codec.stamp(int(series.time[end]))}; add rows, without the target, for {times}"
        )


def decoding(file: ModelFile[Forecaster, SeriesCodec]) -> tuple[int, int]:
    """(steps ahead, sampled paths; 0 for a model that forecasts all steps at once)"""
    settings = file.info.get("settings") or {}
    if settings.get("decode") != "paths":
        return file.model.config.horizon, 0
    return int(settings["horizon"]), int(settings["paths"])


def forecast_record(
    codec: SeriesCodec, name: str, now: int, values: np.ndarray, levels: Sequence[float] = ()
) -> dict[str, Any]:
    """The median, the 80% interval and the quantiles at `levels` of quantiles [horizon, targets, K]
    in the table's units.

    name   of the series; now: the time of its last step
    """
    record: dict[str, Any] = {} if codec.group is None else {codec.group: name}
    record |= {"time": codec.stamp(now), "ahead": codec.stamps_ahead(now, len(values))}
    parts = dict(zip(("low80", "median", "high80"), interval(values), strict=True))
    record["forecast"] = {
        target: {key: parts[key][:, k].tolist() for key in ("median", "low80", "high80")}
        | {
            f"q{level:g}": quantile_at(values[:, k], level, codec.positive).tolist()
            for level in levels
        }
        for k, target in enumerate(codec.targets)
    }
    return record


def quantile_at(quantiles: np.ndarray, level: float, positive: bool = False) -> np.ndarray:
    """The quantile [n] at a level, of quantiles [n, K] at `quantile_levels(K)`: linear between
    them, and beyond the outermost with the slope of the nearest two.
    """
    position = level * quantiles.shape[1] - 0.5
    low = int(np.clip(np.floor(position), 0, quantiles.shape[1] - 2))
    below, above = quantiles[:, low], quantiles[:, low + 1]
    value = below + (position - low) * (above - below)
    return np.asarray(np.maximum(value, 0) if positive else value)


def check_record(codec: SeriesCodec, name: str, record: Mapping[str, Any]) -> None:
    """Raises ValueError for what `forecast_record` did not make."""
    saved = from_json(SavedRecord, {k: v for k, v in record.items() if k != codec.group})
    if codec.group is not None and record.get(codec.group) != name:
        raise ValueError("last: of another series")
    if set(saved.forecast) != set(codec.targets):
        raise ValueError("last: does not fit the targets")
    for values in saved.forecast.values():
        if not {"median", "low80", "high80"} <= set(values):
            raise ValueError("last: incomplete")
        if any(len(part) != len(saved.ahead) for part in values.values()):
            raise ValueError("last: lengths differ")


@dataclass(frozen=True)
class SavedRecord:
    """`forecast_record` as a session stores it."""

    time: str | int
    ahead: tuple[str | int, ...]
    forecast: dict[str, dict[str, tuple[float, ...]]]
    clipped: tuple[str, ...] = ()
    unknown: dict[str, str] = field(default_factory=dict)


def render(record: Mapping[str, Any]) -> str:
    """See `Application.render`: a table per series."""
    return "\n".join([*record.get("notes", ()), *map(_forecast_text, record["forecasts"])])


def _forecast_text(forecast: Mapping[str, Any]) -> str:
    first = next(iter(forecast))
    of = "" if first == "time" else f" of {forecast[first]}"
    header = ["time"]
    for target, values in forecast["forecast"].items():
        header += [f"{target}, median", "80% interval", *(k for k in values if k.startswith("q"))]
    rows = []
    for k, time in enumerate(forecast["ahead"]):
        cells = [str(time)]
        for values in forecast["forecast"].values():
            low, median, high = (values[key][k] for key in ("low80", "median", "high80"))
            number = partial(_number_text, width=high - low)
            cells += [number(median), f"{number(low)} … {number(high)}"]
            cells += [number(v[k]) for name, v in values.items() if name.startswith("q")]
        rows.append(cells)
    return table_text(f"forecast{of} from {forecast['time']}", header, rows, highlight=None)


def _number_text(value: float, width: float) -> str:
    """A number with the digits that matter where the interval has this width."""
    if not width > 0 or not 1e-4 < abs(value) < 1e9:
        return f"{value:.5g}"
    return f"{value:.{min(max(2 - math.floor(math.log10(width)), 0), 6)}f}"
