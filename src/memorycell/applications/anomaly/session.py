"""Live anomaly detection: rows in, scores out."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import msgspec
import numpy as np

from memorycell.application.contract import Item, Record
from memorycell.applications.anomaly.codec import UNKNOWN_CATEGORY, ReadingsCodec
from memorycell.applications.anomaly.columns import (
    MAX_READING,
    group_name,
    log_gap,
    names_of,
    word,
)
from memorycell.applications.anomaly.predict import DetectorFile, finite, trained_adapt
from memorycell.applications.anomaly.row_scorer import RowScorer, SavedScorer, Time
from memorycell.applications.anomaly.score import blame
from memorycell.applications.anomaly.settings import MAX_ADAPT_ROWS
from memorycell.errors import DataError, StateError, quote
from memorycell.setting_fields import check_ranges, from_json
from memorycell.state import State
from memorycell.streaming.finite import check_bounded
from memorycell.streaming.stepwise import StreamSteps, run
from memorycell.streaming.stream import Stream
from memorycell.tables.numbers import read_number
from memorycell.tables.rows import RowReader


@dataclass(frozen=True)
class StreamOptions:
    """Settings for --set.

    adapt   see `PredictOptions`
    """

    adapt: int | None = None

    def __post_init__(self) -> None:
        check_ranges(self, adapt=(0, MAX_ADAPT_ROWS))


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


@dataclass(frozen=True, kw_only=True)
class _SavedRecording(SavedScorer):
    """A recording of a snapshot, and the time of its last row."""

    time: Time | None


@dataclass(frozen=True)
class _Saved:
    """What a snapshot holds apart from the states of the recordings."""

    names: tuple[str, ...]
    memory: tuple[_SavedRecording, ...]
    unknown: Mapping[str, Annotated[int, msgspec.Meta(ge=0)]]
    lines: Mapping[str, Any] = field(default_factory=dict)


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
        return run(self.steps(item))

    def steps(self, item: Item) -> StreamSteps[list[Record]]:
        """See `Stepwise`."""
        row = self._rows.read(item)
        if row is None:
            return []
        return [(yield from self._step(*row))]

    def step(self, row: Mapping[str, Any], where: str = "row") -> Record:
        """The score of a row: `{"time", "score", "threshold", "anomaly", "blame"}`; with
        `"settling"` instead, the number of rows until the recording's own level is known.

        Raises `DataError` for a row that cannot be read; the state is then unchanged.
        """
        return run(self._step(row, where))

    def _step(self, row: Mapping[str, Any], where: str) -> StreamSteps[Record]:
        codec = self.codec
        name = self._recording_name(row, where)
        recording = self._recordings.get(name) or _LiveRecording(self._new_scorer())
        scorer = recording.scorer
        parsed = _parse_row(codec, recording, row, where)
        scored = yield from scorer.steps(parsed.values, parsed.choices, parsed.time)
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
        record["score"] = finite(scored.score)
        record["threshold"] = finite(scorer.threshold)
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

    def fork(self) -> AnomalySession:
        """See `Forkable`."""
        other = copy.copy(self)
        other._rows, other.unknown = copy.copy(self._rows), dict(self.unknown)
        other._recordings = {
            name: _LiveRecording(one.scorer.fork(), one.time)
            for name, one in self._recordings.items()
        }
        return other

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
            "memory": [{"time": r.time, **asdict(r.scorer.snapshot())} for r in recordings],
            "lines": self._rows.snapshot(),
            "unknown": self.unknown,
        }
        return state.to_bytes(fingerprint=self._initial.fingerprint, extra=extra)

    def restore(self, data: bytes) -> None:
        """See `Session`."""
        state, extra = State.from_bytes(data, fingerprint=self._initial.fingerprint)
        try:
            check_bounded(state)
            saved = from_json(_Saved, extra)
            recordings = self._restored(state, saved)
        except (ValueError, StateError) as error:
            raise StateError(
                f"not the state of an anomaly session ({quote(str(error))[1:-1]}); start without it"
            ) from None
        self._recordings, self.unknown = recordings, dict(saved.unknown)
        self._rows.restore(dict(saved.lines))

    def _restored(self, state: State, saved: _Saved) -> dict[str, _LiveRecording]:
        """The recordings of a snapshot. Raises ValueError or `StateError`."""
        if len(set(saved.names)) != len(saved.names) or len(saved.names) != len(saved.memory):
            raise ValueError("names: expected a different one for each recording")
        if state.batch_size != max(1, len(saved.names)):
            raise ValueError("names: expected one for each state")
        if not set(saved.unknown) <= set(self.codec.categories):
            raise ValueError("unknown: expected columns of categories")
        recordings = {}
        for k, (name, memory) in enumerate(zip(saved.names, saved.memory, strict=True)):
            if (memory.time is None) != (memory.rows == 0):
                raise ValueError("a time is missing, or one too many")
            scorer = self._new_scorer()
            scorer.restore(memory)
            scorer.stream.state = state.select([k])
            recordings[name] = _LiveRecording(scorer, memory.time)
        return recordings

    def _new_scorer(self) -> RowScorer:
        return RowScorer(self.model, self.codec, self._initial.fork(), self.adapt)

    def _recording_name(self, row: Mapping[str, Any], where: str) -> str:
        group = self.codec.group
        if group is None:
            return ""
        if group not in row:
            raise DataError(f"{where}: no column {quote(group)}; it has {names_of(row)}")
        return group_name(row[group])


def _parse_row(
    codec: ReadingsCodec, recording: _LiveRecording, row: Mapping[str, Any], where: str
) -> _ParsedRow:
    """The next row of a recording. Raises `DataError` for a row that cannot be read."""
    columns = codec.table_columns
    values = [
        min(max(read_number(row, c, where, columns.formats.get(c)), -MAX_READING), MAX_READING)
        for c in columns.table_numbers
    ]
    for name in columns.categories:
        if name not in row:
            raise DataError(f"{where}: no column {quote(name)}; it has {names_of(row)}")
    time, last = recording.scorer.rows, recording.time
    if codec.times is not None:
        time = codec.times.read_row(row, where, last)
    if last is not None and time < last:
        now, before = codec.format_time(time), codec.format_time(last)
        raise DataError(f"{where}: the time goes back ({now} after {before})")
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


def session_columns(file: DetectorFile) -> list[str]:
    """The columns of the rows that a session reads."""
    codec, columns = file.codec, file.codec.table_columns
    times = () if codec.times is None else codec.times.columns
    group = () if codec.group is None else (codec.group,)
    return [*times, *group, *columns.table_numbers, *columns.categories]
