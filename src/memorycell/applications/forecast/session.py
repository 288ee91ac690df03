"""A live forecaster: rows of readings in, a forecast after each."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from memorycell.application.contract import Item, ModelFile, NoOptions, Record
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.model import Forecaster
from memorycell.applications.forecast.paths import path_quantiles
from memorycell.applications.forecast.predict import check_record, decoding, forecast_record
from memorycell.applications.forecast.row_encoder import RowEncoder
from memorycell.applications.forecast.series import SERIES, VALUE, require_columns
from memorycell.errors import DataError, StateError
from memorycell.setting_fields import from_json
from memorycell.state import State
from memorycell.streaming.finite import check_bounded
from memorycell.streaming.stepwise import StreamSteps, run
from memorycell.streaming.stream import Stream
from memorycell.tables.numbers import read_number
from memorycell.tables.rows import RowReader


@dataclass(frozen=True)
class SavedSession:
    """What a session stores besides the states; a place per series in `names`, `memory`, `last`."""

    names: tuple[str, ...]
    memory: tuple[dict[str, Any], ...]
    last: tuple[dict[str, Any], ...]
    lines: dict[str, Any] | None = None


class ForecastSession:
    """See `Session`. Each series of the stream (a `group` column) has its own state.

    precision   of the recurrent part: "float32", "bfloat16" or "int8"
    quantiles   the last forecast, unrounded: [horizon, targets, K] in the table's units
    """

    def __init__(
        self,
        file: ModelFile[Forecaster, SeriesCodec],
        precision: str = "float32",
        options: NoOptions | None = None,
    ) -> None:
        self.codec = file.codec
        self.quantiles = np.zeros(0)
        self._initial = Stream(file.model, precision, history=0)
        self._series: dict[str, tuple[RowEncoder, Stream]] = {}
        self._last: dict[str, Record] = {}
        self._rows = RowReader(self.codec.row_columns)
        self._horizon, self._paths = decoding(file)

    def feed(self, item: Item) -> list[Record]:
        """See `Session`: a row, or a line of JSON, or of CSV under a header line."""
        return run(self.steps(item))

    def steps(self, item: Item) -> StreamSteps[list[Record]]:
        """See `Stepwise`."""
        row = self._rows.read(item)
        if row is None:
            return []
        return [(yield from self._step(*row))]

    def close(self) -> list[Record]:
        """See `Session`."""
        return []

    def step(self, row: Mapping[str, Any], where: str = "row") -> dict[str, Any]:
        """The forecast after a row: `{"time", "ahead": times, "forecast": {target: {"median",
        "low80", "high80"}}}`; `"unknown"`: column -> a word that was not in training.

        A row that shares a step with the previous one changes nothing and repeats its forecast with
        `"repeat"`. Raises `DataError`; the state is then unchanged.
        """
        return run(self._step(row, where))

    def _step(self, row: Mapping[str, Any], where: str) -> StreamSteps[dict[str, Any]]:
        return self._step_each(row, where) if self.codec.each else self._step_series(row, where)

    def _step_series(self, row: Mapping[str, Any], where: str) -> StreamSteps[dict[str, Any]]:
        codec, name = self.codec, ""
        if codec.group is not None:
            require_columns(row, [codec.group], where)
            name = str(row[codec.group])
        encoder, stream = self._series.get(name) or self._new_series(name)
        inputs, new_segment = encoder.encode(row, where)
        if len(inputs) == 0:
            return {**self._last[name], "repeat": True}
        if new_segment:
            stream.reset()
        # One row as [I], so that it can run together with the rows of other sessions.
        y = (yield stream, inputs[0])[None] if len(inputs) == 1 else (yield stream, inputs)
        quantiles = y[-1:].astype(np.float64)
        now = int(encoder.memory["time"])
        if self._paths:
            quantiles = path_quantiles(
                stream.stepper,
                codec,
                stream.row,
                inputs[-1:],
                quantiles,
                np.array([now]),
                [name],
                horizon=self._horizon,
                paths=self._paths,
            )
        self.quantiles = encoder.unscale(quantiles[0])
        self._series[name] = encoder, stream
        self._last[name] = forecast_record(codec, name, now, self.quantiles)
        if encoder.clipped:
            self._last[name]["clipped"] = list(encoder.clipped)
        if encoder.unknown:
            self._last[name]["unknown"] = dict(encoder.unknown)
        return self._last[name]

    def _new_series(self, name: str) -> tuple[RowEncoder, Stream]:
        return RowEncoder(self.codec, name), self._initial.fork()

    def _step_each(self, row: Mapping[str, Any], where: str) -> StreamSteps[dict[str, Any]]:
        """The forecasts of all columns that are series of their own."""
        # All values are read first, so that an error leaves every state unchanged.
        numbers = self.codec.numbers
        values = {c: read_number(row, c, where, numbers.get(c)) for c in self.codec.each}
        result: dict[str, Any] = {}
        for c, value in values.items():
            one = yield from self._step_series({**row, SERIES: c, VALUE: value}, where)
            result = result or {k: v for k, v in one.items() if k not in (SERIES, "clipped")} | {
                "forecast": {}
            }
            result["forecast"][c] = one["forecast"][VALUE]
            if "clipped" in one:
                result["clipped"] = [*result.get("clipped", []), c]
        return result

    def fork(self) -> ForecastSession:
        """See `Forkable`."""
        other = copy.copy(self)
        other._rows, other._last = copy.copy(self._rows), dict(self._last)
        other._series = {
            name: (encoder.fork(), stream.fork())
            for name, (encoder, stream) in self._series.items()
        }
        return other

    def snapshot(self) -> bytes:
        """See `Session`; the states and encoders of all series."""
        names = list(self._series)
        states = [stream.state for _, stream in self._series.values()]
        extra = {
            "names": names,
            "memory": [encoder.memory for encoder, _ in self._series.values()],
            "last": [self._last[name] for name in names],
            "lines": self._rows.snapshot(),
        }
        state = State.stack(states) if states else self._initial.state
        return state.to_bytes(fingerprint=self._initial.fingerprint, extra=extra)

    def restore(self, data: bytes) -> None:
        """See `Session`."""
        state, extra = State.from_bytes(data, fingerprint=self._initial.fingerprint)
        try:
            check_bounded(state)
            saved = from_json(SavedSession, extra)
            series = self._restored(saved, state)
        except (KeyError, TypeError, ValueError, IndexError, DataError, StateError):
            raise StateError("not the state of a forecaster; start without it") from None
        self._series, self._last = series, dict(zip(saved.names, saved.last, strict=True))
        self._rows.restore(saved.lines)

    def _restored(self, saved: SavedSession, state: State) -> dict[str, tuple[RowEncoder, Stream]]:
        """Series -> its encoder and stream. Raises ValueError."""
        if len(set(saved.names)) < len(saved.names):
            raise ValueError("names: a name occurs twice")
        series = {}
        rows = zip(saved.names, saved.memory, saved.last, strict=True)
        for k, (name, memory, last) in enumerate(rows):
            check_record(self.codec, name, last)
            encoder, stream = self._new_series(name)
            encoder.restore(memory)
            stream.state = state.select([k])
            series[name] = encoder, stream
        return series


def session_columns(file: ModelFile[Forecaster, SeriesCodec]) -> list[str]:
    """The columns of the rows that a session reads."""
    codec = file.codec
    times = () if codec.times is None else codec.times.columns
    group = () if codec.group is None or codec.each else (codec.group,)
    return [*times, *group, *codec.row_columns]
