"""Sequences live: rows in, after each the answer for the sequence so far."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

import msgspec
import numpy as np

from memorycell.application.contract import Item, NoOptions, Record
from memorycell.applications.sequences.codec import Column, SequenceCodec
from memorycell.applications.sequences.live_rows import answers_of, row_scaler
from memorycell.applications.sequences.own_scale import no_moments
from memorycell.applications.sequences.predict import answer_record
from memorycell.applications.sequences.prepare import SequencesFile
from memorycell.errors import DataError, StateError, UserError, quote
from memorycell.setting_fields import from_json
from memorycell.state import State
from memorycell.streaming.finite import check_bounded
from memorycell.streaming.stepwise import StreamSteps, run
from memorycell.streaming.stream import Stream
from memorycell.tables.cells import is_missing
from memorycell.tables.numbers import read_number
from memorycell.tables.rows import RowReader

MAX_OPEN = 100_000
"""Sequences of a stream that are open at the same time."""
END = "end"
"""A row `{"end": true}` ends a sequence."""


@dataclass
class _Live:
    """One open sequence.

    last     the last known value of each channel, NaN before the first
    moments  of each channel so far; see `SequenceCodec.moments_after`
    static   inputs, of the first row; `static_values` as given
    answer   the last one
    rows     the inputs [1, R] of each row since the last complete patch
    """

    stream: Stream
    last: np.ndarray
    moments: np.ndarray
    static: np.ndarray
    static_values: list[float | None]
    answer: np.ndarray
    rows: list[np.ndarray] = field(default_factory=list)
    steps: int = 0
    sure_after: int | None = None


@dataclass(frozen=True)
class _SavedLive:
    """As `_Live`, without the state; `answer` and `moments` are flat."""

    rows: tuple[tuple[float, ...], ...]
    last: tuple[float | None, ...]
    static: tuple[float | None, ...]
    answer: tuple[float, ...]
    steps: Annotated[int, msgspec.Meta(ge=1)]
    sure_after: Annotated[int, msgspec.Meta(ge=1)] | None
    moments: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class _Saved:
    """What a snapshot holds apart from the states."""

    names: tuple[str, ...]
    memory: tuple[_SavedLive, ...]
    lines: dict[str, Any] | None = None


class SequencesSession:
    """See `Session`. A blank line or `{"end": true}` ends a sequence; the next row begins another.
    Rows with a column that names their sequence, as in training, belong to several sequences at
    once; `{"end": true}` with that column ends one of them.

    The answer after a row is what `predict` gives for the rows so far.

    precision   of the recurrent part: "float32", "bfloat16" or "int8"
    answer      the last answer, unrounded; see `SequenceCodec.answers`
    """

    def __init__(
        self,
        file: SequencesFile,
        precision: str = "float32",
        options: NoOptions | None = None,
    ) -> None:
        if file.model.config.bidirectional:
            raise UserError(
                "stream: a bidirectional model needs its complete input; use memorycell predict"
            )
        self.codec: SequenceCodec = file.codec
        self.answer = np.zeros(0)
        self._sure, self._quantiles = float(file.model.sure), file.model.config.quantiles
        self._is_class = self.codec.target == "class"
        self._initial = Stream(file.model, precision, history=0)
        self._rows = RowReader([column.name for column in self.codec.channels])
        self._open: dict[str, _Live] = {}
        self._scaler, self._answers = row_scaler(self.codec), answers_of(self.codec)

    # ---- rows ------------------------------------------------------------------------------------

    def feed(self, item: Item) -> list[Record]:
        """See `Session`: a row, a line of JSON, or of CSV under a header line."""
        return run(self.steps(item))

    def steps(self, item: Item) -> StreamSteps[list[Record]]:
        """See `Stepwise`."""
        if isinstance(item, (str, bytes)) and not item.strip():
            return [] if self._rows.header is None and not self._open else self.close()
        row = self._rows.read(item)
        if row is None:
            return []
        return [(yield from self._step(*row))]

    def close(self) -> list[Record]:
        """See `Session`: the final answers of the sequences that are open."""
        return [self._end(name) for name in list(self._open)]

    def step(self, row: Mapping[str, Any], where: str = "row") -> Record:
        """The answer after a row: `{"step", …}` as in `predict`, and of a class `"sure"`; the row
        `{"end": true}` gives the final answer, with `"end"`.

        Raises `DataError` for a row that cannot be read; the state is then unchanged.
        """
        return run(self._step(row, where))

    def _step(self, row: Mapping[str, Any], where: str) -> StreamSteps[Record]:
        name = self._name(row, where)
        if row.get(END) is True:
            if name not in self._open:
                raise DataError(f"{where}: there is no open sequence to end")
            return self._end(name)
        codec = self.codec
        values = np.array([_number(column, row, codec, where) for column in codec.channels])
        live = self._open.get(name)
        if live is None:
            if len(self._open) >= MAX_OPEN:
                raise DataError(f"{where}: {MAX_OPEN:,} sequences are open; end some of them")
            live = self._new(_static_values(codec, row, where))
        answer = yield from self._advance(live, values)
        self._open[name] = live
        return self._record(name, live, answer)

    def read(self, x: np.ndarray) -> np.ndarray:
        """The answer after a row of numbers x [F] in the units of the table, for the sequence that
        has no name: probabilities [C], or quantiles [K, Q]. For models without words and values per
        sequence. NaN is missing.
        """
        live = self._open.get("")
        if live is None:
            if self.codec.static or any(column.words for column in self.codec.channels):
                raise UserError(
                    "read: the model has words or values per sequence among its inputs; feed it"
                    " rows by name"
                )
            live = self._open[""] = self._new([])
        x = np.asarray(x, np.float64)
        inputs = None if self._scaler is None else self._scaler(x, live.last)
        if inputs is None:
            return run(self._advance(live, x))
        live.answer = self.answer = self._answers(live.stream.step(inputs))
        live.last = x
        live.steps += 1
        self._note_sure(live)
        return self.answer

    def _advance(self, live: _Live, values: np.ndarray) -> StreamSteps[np.ndarray]:
        """One row; the answer for the sequence so far."""
        codec = self.codec
        rows = codec.rows(values[None], live.last, live.moments)
        patch = codec.steps(np.concatenate([*live.rows, rows]), live.static)[0]
        complete = len(live.rows) + 1 == codec.patch
        # A patch that is not complete is filled up with its last row, and read by a copy.
        y = yield (live.stream if complete else live.stream.fork()), patch
        live.rows = [] if complete else [*live.rows, rows]
        live.last = np.where(np.isnan(values), live.last, values)
        live.moments = codec.moments_after(values[None], live.moments)
        live.steps += 1
        self.answer = live.answer = codec.answers(y)
        self._note_sure(live)
        return self.answer

    def _note_sure(self, live: _Live) -> None:
        if live.sure_after is None and self._is_class and live.answer.max() >= self._sure:
            live.sure_after = live.steps

    def _new(self, static: list[float | None]) -> _Live:
        codec = self.codec
        values = np.array([np.nan if v is None else v for v in static])
        return _Live(
            self._initial.fork(),
            np.full(len(codec.channels), np.nan),
            no_moments(len(codec.channels)),
            codec.static_inputs(values if static else None),
            static,
            np.zeros(0),
        )

    def _name(self, row: Mapping[str, Any], where: str) -> str:
        column = self.codec.sequence
        if column is None or column not in row or is_missing(row[column]):
            return ""
        return str(row[column])

    def _record(self, name: str, live: _Live, answer: np.ndarray) -> Record:
        codec = self.codec
        record: dict[str, Any] = {} if not name else {str(codec.sequence): name}
        record["step"] = live.steps
        if codec.every_step:
            own = answer_record(codec, answer[None])
            record |= (
                {"label": own["labels"][0], "p": own["p"][0]}
                if codec.target == "step_class"
                else {"numbers": _first(own["numbers"])}
            )
            return record
        record |= answer_record(codec, answer)
        if codec.target == "class":
            record["sure"] = live.sure_after is not None
        return record

    def _end(self, name: str) -> Record:
        """The final answer of a sequence, which is then forgotten."""
        live = self._open.pop(name)
        record: dict[str, Any] = dict(self._record(name, live, live.answer))
        record[END] = True
        if self.codec.target == "class":
            record["sure_after"] = live.sure_after
        return record

    # ---- state -----------------------------------------------------------------------------------

    def fork(self) -> SequencesSession:
        """See `Forkable`."""
        other = copy.copy(self)
        other._rows = copy.copy(self._rows)
        other._open = {
            name: replace(live, stream=live.stream.fork(), rows=list(live.rows))
            for name, live in self._open.items()
        }
        return other

    def snapshot(self) -> bytes:
        """See `Session`; the states of all open sequences."""
        lives = list(self._open.values())
        state = State.stack([live.stream.state for live in lives] or [self._initial.state])
        memory = [
            _SavedLive(
                tuple(tuple(map(float, row[0])) for row in live.rows),
                tuple(None if np.isnan(v) else float(v) for v in live.last),
                tuple(live.static_values),
                tuple(map(float, live.answer.ravel())),
                live.steps,
                live.sure_after,
                tuple(None if np.isnan(v) else float(v) for v in live.moments.ravel()),
            )
            for live in lives
        ]
        extra = {
            "names": list(self._open),
            "memory": [asdict(one) for one in memory],
            "lines": self._rows.snapshot(),
        }
        return state.to_bytes(fingerprint=self._initial.fingerprint, extra=extra)

    def restore(self, data: bytes) -> None:
        """See `Session`."""
        state, extra = State.from_bytes(data, fingerprint=self._initial.fingerprint)
        try:
            check_bounded(state)
            saved = from_json(_Saved, extra)
            restored = self._restored(state, saved)
        except (ValueError, StateError) as error:
            raise StateError(
                f"not the state of a session of sequences ({quote(str(error))[1:-1]}); start"
                " without it"
            ) from None
        self._open = restored
        self._rows.restore(saved.lines)

    def _restored(self, state: State, saved: _Saved) -> dict[str, _Live]:
        """The sequences of a snapshot. Raises ValueError or `StateError`."""
        codec, count = self.codec, len(saved.names)
        if len(set(saved.names)) != count or len(saved.memory) != count:
            raise ValueError("names: expected a different one for each sequence")
        if state.batch_size != max(1, count):
            raise ValueError("names: expected one for each state")
        shape = (len(codec.names), self._quantiles) if codec.numeric else (len(codec.names),)
        restored = {}
        for k, (name, memory) in enumerate(zip(saved.names, saved.memory, strict=True)):
            if len(memory.rows) != memory.steps % codec.patch:
                raise ValueError("rows: expected those since the last complete patch")
            if any(len(row) != codec.row_size for row in memory.rows):
                raise ValueError("rows: of another size")
            if len(memory.last) != len(codec.channels) or len(memory.static) != len(codec.static):
                raise ValueError("last: expected one of each channel")
            live = self._new(list(memory.static))
            live.stream.state = state.select([k])
            live.answer = np.array(memory.answer).reshape(shape)
            live.rows = [np.array([row], np.float32) for row in memory.rows]
            live.last = np.array([np.nan if v is None else v for v in memory.last])
            live.steps, live.sure_after = memory.steps, memory.sure_after
            if codec.has_own_scale:
                live.moments = _moments(memory.moments, len(codec.channels))
            restored[name] = live
        return restored


def _moments(saved: tuple[float | None, ...], channels: int) -> np.ndarray:
    """Raises ValueError for moments that no rows have."""
    moments = np.array([np.nan if v is None else v for v in saved], np.float64)
    if moments.shape != (4 * channels,) or np.isnan(moments[channels:]).any():
        raise ValueError("moments: expected four of each channel")
    moments = moments.reshape(4, channels)
    if (moments[[1, 3]] < 0).any():
        raise ValueError("moments: a number or a sum of squares below 0")
    return moments


def _first(numbers: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    return {name: {key: v[0] for key, v in parts.items()} for name, parts in numbers.items()}


def _static_values(codec: SequenceCodec, row: Mapping[str, Any], where: str) -> list[float | None]:
    values = [_number(column, row, codec, where) for column in codec.static]
    return [None if np.isnan(v) else v for v in values]


def _number(column: Column, row: Mapping[str, Any], codec: SequenceCodec, where: str) -> float:
    """A cell as a number, or that of its word; NaN where it is missing, or a word that training did
    not have.
    """
    if not column.words:
        return read_number(row, column.name, where, codec.formats.get(column.name))
    if column.name not in row:
        raise DataError(f"{where}: no column {quote(column.name)}")
    cell = row[column.name]
    if is_missing(cell) or str(cell) not in column.words:
        return np.nan
    return float(column.words.index(str(cell)))


def session_columns(file: SequencesFile) -> list[str]:
    """The columns of the rows that a session reads."""
    codec: SequenceCodec = file.codec
    own = () if codec.sequence is None else (codec.sequence,)
    return [*own, *(column.name for column in (*codec.channels, *codec.static))]
