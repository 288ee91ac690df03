"""Live anomaly detection: rows in, scores out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from memorycell.application.contract import Item, Record
from memorycell.applications.anomaly.codec import UNKNOWN_CATEGORY, ReadingsCodec
from memorycell.applications.anomaly.columns import MAX_READING, log_gap, word
from memorycell.applications.anomaly.predict import (
    DetectorFile,
    PredictOptions,
    rounded,
    trained_adapt,
)
from memorycell.applications.anomaly.row_scorer import RowScorer
from memorycell.applications.anomaly.score import blame
from memorycell.errors import DataError, StateError
from memorycell.state import State
from memorycell.streaming.stream import Stream
from memorycell.tables.clock import iso_time
from memorycell.tables.rows import RowReader
from memorycell.tables.table import read_number, read_time


@dataclass(frozen=True)
class StreamOptions(PredictOptions):
    """Settings for --set; see `PredictOptions`."""


@dataclass
class _ParsedRow:
    """A row as arrays: values [K], choices [C], and the columns with an unknown category."""

    time: int
    values: np.ndarray
    choices: np.ndarray
    unknown: list[str]


@dataclass
class _LiveRecording:
    """One recording of the stream, and the time of its last row."""

    scorer: RowScorer
    time: int | None = None


class AnomalySession:
    """Rows in, scores out. Each recording of the stream (a value of the `group` column) has a state
    of its own.

    precision   of the recurrent part: "float32", "bfloat16" or "int8"
    unknown     column -> number of rows with a category that training did not have
    """

    def __init__(
        self,
        file: DetectorFile,
        precision: str = "float32",
        options: StreamOptions | None = None,
    ) -> None:
        self.model, self.codec = file.model, file.codec
        adapt = (options or StreamOptions()).adapt
        self.adapt = trained_adapt(file) if adapt is None else adapt
        self.unknown: dict[str, int] = {}
        self._initial = Stream(file.model, precision, history=0)
        columns = self.codec.table_columns
        self._rows = RowReader([*columns.table_numbers, *columns.categories])
        self._recordings: dict[str, _LiveRecording] = {}

    def feed(self, item: Item) -> list[Record]:
        """See `Session`; a row, or a line of JSON, or of CSV after a header line."""
        row = self._rows.read(item)
        return [] if row is None else [self.step(*row)]

    def step(self, row: Mapping[str, Any], where: str = "row") -> Record:
        """The score of a row: `{"time", "score", "threshold", "anomaly", "blame"}`; with
        `"settling"` instead, the number of rows until the recording's own level is known.

        Raises `DataError` for a row that cannot be read; the state is then unchanged.
        """
        codec = self.codec
        name = self._recording_name(row, where)
        recording = self._recordings.get(name) or _LiveRecording(self._new_scorer())
        scorer = recording.scorer
        parsed = _parse_row(codec, recording, row, where)
        scored = scorer.step(parsed.values, parsed.choices, parsed.time)
        recording.time = parsed.time
        self._recordings[name] = recording
        for column in parsed.unknown:
            self.unknown[column] = self.unknown.get(column, 0) + 1
        record: Record = {} if codec.group is None else {codec.group: name}
        record["time"] = codec.format_time(parsed.time)
        if parsed.unknown:
            record["unknown"] = parsed.unknown
        if scored is None:
            return {**record, "settling": codec.settle - scorer.rows}
        anomaly = scorer.is_anomaly(scored)
        record["score"] = rounded(scored.score)
        record["threshold"] = rounded(scorer.threshold)
        record["anomaly"] = anomaly
        if not anomaly:
            scorer.adapt_level(parsed.values)
            return record
        record["blame"] = blame(codec, scored.contributions, scored.stuck)
        if scored.stuck.any():
            record["stuck"] = [codec.columns[k] for k in np.flatnonzero(scored.stuck)]
        return record

    def close(self) -> list[Record]:
        """See `Session`; no answer is pending."""
        return []

    def snapshot(self) -> bytes:
        """See `Session`; the states of all recordings."""
        recordings = self._recordings.values()
        state = (
            State.stack([r.scorer.stream.state for r in recordings])
            if recordings
            else self._initial.state
        )
        extra = {
            "names": list(self._recordings),
            "memory": [
                {"time": r.time, "rows": r.scorer.rows, **r.scorer.snapshot()} for r in recordings
            ],
            "lines": self._rows.snapshot(),
            "unknown": self.unknown,
        }
        return state.to_bytes(fingerprint=self._initial.fingerprint, extra=extra)

    def restore(self, data: bytes) -> None:
        """See `Session`."""
        state, extra = State.from_bytes(data, fingerprint=self._initial.fingerprint)
        try:
            recordings: dict[str, _LiveRecording] = {}
            for k, (name, saved) in enumerate(zip(extra["names"], extra["memory"], strict=True)):
                scorer = self._new_scorer()
                scorer.restore(saved)
                scorer.stream.state = state.select([k])
                time = None if saved["time"] is None else int(saved["time"])
                recordings[str(name)] = _LiveRecording(scorer, time)
            unknown = {str(c): int(n) for c, n in extra["unknown"].items()}
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, StateError):
            raise StateError("not the state of an anomaly session; start without it") from None
        self._recordings, self.unknown = recordings, unknown
        self._rows.restore(extra.get("lines"))

    def _new_scorer(self) -> RowScorer:
        return RowScorer(self.model, self.codec, self._initial.fork(), self.adapt)

    def _recording_name(self, row: Mapping[str, Any], where: str) -> str:
        group = self.codec.group
        if group is None:
            return ""
        if group not in row:
            raise DataError(f"{where}: no column {group!r}; it has {', '.join(map(repr, row))}")
        return str(row[group])


def _parse_row(
    codec: ReadingsCodec, recording: _LiveRecording, row: Mapping[str, Any], where: str
) -> _ParsedRow:
    """The next row of a recording. Raises `DataError` for a row that cannot be read."""
    columns = codec.table_columns
    values = [
        min(max(read_number(row, c, where), -MAX_READING), MAX_READING)
        for c in columns.table_numbers
    ]
    for name in columns.categories:
        if name not in row:
            raise DataError(f"{where}: no column {name!r}; it has {', '.join(map(repr, row))}")
    time, last = recording.scorer.rows, recording.time
    if codec.time is not None:
        time = read_time(row, codec.time, codec.time_format, where)
    if last is not None and time < last:
        raise DataError(f"{where}: the time goes back ({iso_time(time)} after {iso_time(last)})")
    if columns.gap:
        values.append(math.nan if last is None else log_gap(last, time))
    words = [word(row[c]) for c in columns.categories]
    choices = codec.row_category_ids(words)
    unknown = [
        name
        for name, text, choice in zip(columns.categories, words, choices, strict=True)
        if choice == UNKNOWN_CATEGORY and text
    ]
    return _ParsedRow(time, np.array(values), choices, unknown)
