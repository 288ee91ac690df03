"""A forecaster running live: rows of readings in, the distribution of what follows out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.contract import Item, NoOptions, Record
from memorycell.application.datasets import locate
from memorycell.application.modelfile import ModelFile
from memorycell.applications.forecast.codec import SERIES, VALUE, LiveSeries, Series, SeriesCodec
from memorycell.applications.forecast.paths import by_paths, walked
from memorycell.errors import DataError, StateError
from memorycell.models.quantiles import interval
from memorycell.state import State
from memorycell.streaming.stream import Stream
from memorycell.tables.rows import RowReader
from memorycell.tables.table import read_number, read_table

if TYPE_CHECKING:
    import polars as pl


class LiveForecaster:
    """Rows of readings in, forecasts out. Several series in one stream (a `group` column) each keep
    their own state.

    precision   of the recurrent part's products: "float32", "bfloat16" or "int8"
    """

    def __init__(
        self, file: ModelFile, precision: str = "float32", options: NoOptions | None = None
    ) -> None:
        self.file = file
        self._blank = Stream(file.model, precision, history=0)
        self.codec: SeriesCodec = file.codec
        self._series: dict[str, tuple[LiveSeries, Stream]] = {}
        self._last: dict[str, dict[str, Any]] = {}
        self._rows = RowReader(self.codec.given)
        self._horizon, self._paths = decoding(file)
        self.quantiles = np.zeros(0)
        """The last forecast whole and unrounded: [horizon, targets, K], in the table's units."""

    def step(self, row: Mapping[str, Any], where: str = "row") -> dict[str, Any]:
        """The forecast after one row: `{"time", "forecast": {target: {"time", "median", "low",
        "high"}}, …}`.

        A row within half a step of the one before it changes nothing and repeats the last forecast,
        marked `"repeat"`. Raises `DataError` for a row that cannot be read; the state is then
        unchanged.
        """
        return self._each(row, where) if self.codec.each else self._one(row, where)

    def _one(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        name = self._name(row, where)
        if name not in self._series:
            series, stream = self.codec.live(name), self._blank.fork()
        else:
            series, stream = self._series[name]
        inputs, fresh = series.encode(row, where)
        if len(inputs) == 0:
            return {**self._last[name], "repeat": True}
        if fresh:
            stream.reset()
        told = stream.step(inputs)[-1:].astype(np.float64)
        if self._paths:
            told = walked(
                stream.stepper,
                self.codec,
                stream.row,
                inputs[-1:],
                told,
                np.array([series.memory["time"]]),
                [name],
                horizon=self._horizon,
                paths=self._paths,
            )
        self.quantiles = self.codec.unscale(told, [name])[0]
        self._series[name] = series, stream
        self._last[name] = forecast_record(self.codec, name, series.memory["time"], self.quantiles)
        return self._last[name]

    def _each(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """A row in which several columns are series of their own: all their forecasts."""
        codec = self.codec
        values = {
            c: read_number(row, c, where) for c in codec.each
        }  # complains before any state has changed
        told: dict[str, Any] = {}
        for c, value in values.items():
            one = self._one({**row, SERIES: c, VALUE: value}, where)
            told = told or {k: v for k, v in one.items() if k != SERIES} | {"forecast": {}}
            told["forecast"][c] = one["forecast"][VALUE]
        return told

    def feed(self, item: Item) -> list[Record]:
        """See `Session`: a row, or a line of JSON, or of CSV under a header line."""
        found = self._rows.read(item)
        return [] if found is None else [self.step(*found)]

    def close(self) -> list[Record]:
        """See `Session`."""
        return []

    def snapshot(self) -> bytes:
        """See `Session`; the states and clocks of all series."""
        names = list(self._series)
        memory = [self._series[n][0].memory for n in names]
        state = (
            State.stack([self._series[n][1].state for n in names]) if names else self._blank.state
        )
        extra = {
            "names": names,
            "memory": memory,
            "last": [self._last[n] for n in names],
            "lines": self._rows.snapshot(),
        }
        return state.to_bytes(fingerprint=self._blank.fingerprint, extra=extra)

    def restore(self, data: bytes) -> None:
        """See `Session`."""
        state, extra = State.from_bytes(data, fingerprint=self._blank.fingerprint)
        try:
            loaded: dict[str, tuple[LiveSeries, Stream]] = {}
            for k, (name, memory) in enumerate(zip(extra["names"], extra["memory"], strict=True)):
                series, stream = self.codec.live(name), self._blank.fork()
                series.memory = {**memory, "filled": [float(v) for v in memory["filled"]]}
                stream.state = state.select([k])
                loaded[name] = series, stream
            last = dict(zip(extra["names"], extra["last"], strict=True))
        except (KeyError, TypeError, ValueError, IndexError, StateError):
            raise StateError("not the state of a live forecaster; start without it") from None
        self._series, self._last = loaded, last
        self._rows.restore(extra.get("lines"))

    def _name(self, row: Mapping[str, Any], where: str) -> str:
        if self.codec.group is None:
            return ""
        if self.codec.group not in row:
            raise DataError(
                f"{where}: no column {self.codec.group!r}; it has {', '.join(map(repr, row))}"
            )
        return str(row[self.codec.group])


@dataclass(frozen=True)
class Options:
    """What --set can say about a forecast: nothing."""


def predict(file: ModelFile, source: str | None, how: Options) -> dict[str, Any]:
    """`{"forecasts": […]}`, one from the end of each series of a table, given as a file or a named
    set.
    """
    if source is None:
        raise DataError("predict: a forecast needs a table that ends where it begins")
    path, _ = locate(source)
    return {"data": source, "forecasts": forecasts(file, read_table(path), source)[0]}


def forecasts(
    file: ModelFile, frame: pl.DataFrame, where: str
) -> tuple[list[dict[str, Any]], Series]:
    """The forecast from the end of each series of a table, and the series as they were read.

    Raises `DataError` for a table that does not fit the model.
    """
    series = file.codec.read(frame, where)
    ends = np.append(np.flatnonzero(np.diff(series.group)), len(series) - 1)
    if file.codec.known:  # rows that follow tell what is known beforehand
        told = ~np.isnan(series.values[:, : len(file.codec.targets)]).all(1)
        ends = np.array(
            [np.flatnonzero(told & (series.group == k))[-1] for k in np.unique(series.group[told])]
        )
    horizon, paths = decoding(file)
    inputs = file.codec.encode(series)
    if paths:
        quantiles = by_paths(
            file.model.stepper(), file.codec, series, inputs, ends, horizon=horizon, paths=paths
        )
    else:
        quantiles = file.model.run(inputs, series.start, ends)
    names = [series.groups[series.group[end]] for end in ends]
    records = [
        forecast_record(file.codec, series.groups[series.group[end]], int(series.time[end]), values)
        for end, values in zip(
            ends, file.codec.unscale(quantiles.astype(np.float64), names), strict=True
        )
    ]
    return records, series


def decoding(file: ModelFile) -> tuple[int, int]:
    """(steps ahead, paths drawn; 0 where the model says all steps at once)."""
    settings = file.info.get("settings") or {}
    if settings.get("decode") != "paths":
        return file.model.config.horizon, 0
    return int(settings["horizon"]), int(settings["paths"])


def forecast_record(codec: SeriesCodec, group: str, now: int, values: np.ndarray) -> dict[str, Any]:
    """Quantiles [horizon, targets, K] in units as people read them: the median and the 80%
    interval, six digits each.
    """
    low, median, high = interval(values)
    record: dict[str, Any] = {codec.group: group} if codec.group is not None else {}
    record |= {"time": codec.stamp(now), "ahead": codec.ahead(now, len(values)), "forecast": {}}
    for k, target in enumerate(codec.targets):
        record["forecast"][target] = {
            name: [float(f"{v:.6g}") for v in part[:, k]]
            for name, part in (("median", median), ("low80", low), ("high80", high))
        }
    return record


def show(record: dict[str, Any]) -> str:
    """The record for people: a table a series."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    with console.capture() as captured:
        for one in record["forecasts"]:
            group = next(iter(one)) if next(iter(one)) != "time" else None
            of = f" of {one[group]}" if group else ""
            table = Table(title=f"forecast{of} from {one['time']}", title_justify="left")
            table.add_column("time")
            for target in one["forecast"]:
                table.add_column(f"{target}, median", justify="right")
                table.add_column("80% interval", justify="right")
            for k, moment in enumerate(one["ahead"]):
                cells = []
                for values in one["forecast"].values():
                    cells += [
                        f"{values['median'][k]:.5g}",
                        f"{values['low80'][k]:.5g} … {values['high80'][k]:.5g}",
                    ]
                table.add_row(str(moment), *cells)
            console.print(table)
    return captured.get().rstrip("\n")
