"""A detector at work: rows in; how surprising each was, whether that is an anomaly, and which
columns are to blame, out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from memorycell.application.contract import Item, Record
from memorycell.application.datasets import locate
from memorycell.application.modelfile import ModelFile
from memorycell.applications.anomaly.codec import (
    GAP,
    LARGEST,
    LiveReadings,
    Readings,
    ReadingsCodec,
    running,
    tables,
)
from memorycell.applications.anomaly.model import Detector, Surprise, deviates, smoothed
from memorycell.errors import DataError, StateError
from memorycell.models.quantiles import tail_quantile
from memorycell.settings import check_counts
from memorycell.state import State
from memorycell.streaming.stream import Stream
from memorycell.tables.rows import RowReader

WARM = 20
"""Rows at the beginning of a recording of which nothing is concluded."""
BLAMED = 3
"""Columns that are blamed for a row, at most, and the least share of its surprise that is blamed.
"""
LEAST = 0.2
STUCK = 2
"""A column is stuck when it shows one value for so many times as long as it ever did in training,
and ten rows.
"""
BAND = 2.015
"""Of Student's t with 5 degrees of freedom, the 95% quantile: what is expected lies within, nine
times in ten.
"""


@dataclass
class Watched:
    """What a detector made of a recording of N rows.

    scores      [N] surprise; shares [N, S]: by column; thresholds: above it a row is an anomaly,
                one for the recording
    flagged     [N] bool; stuck [N, K] bool
    low, high   [N, K] where nine readings in ten were expected, in the table's units
    settled     rows before the first that is judged
    """

    scores: np.ndarray
    shares: np.ndarray
    threshold: float
    flagged: np.ndarray
    stuck: np.ndarray
    low: np.ndarray
    high: np.ndarray
    settled: int


def watch(
    model: Detector,
    codec: ReadingsCodec,
    readings: Readings,
    *,
    adapt: int = 0,
    precision: str = "float32",
) -> Watched:
    """A whole recording, with the numbers that the same rows have when they come one by one.

    adapt   rows over which the level follows rows that are judged normal; 0: it stays
    """
    if adapt:
        return _adapting(model, codec, readings, adapt, precision)
    level = codec.level(readings.values[: codec.settle])
    x, z = codec.encode(readings)
    y = model.run(x, precision=precision)
    found = Surprise(model)
    shares, _ = _shares(found, y, z, readings.choices, model.config.sizes)
    scores = shares @ np.ones(shares.shape[1])
    threshold = _threshold(model, codec, scores)
    stuck = np.stack([running(column) for column in readings.values.T], 1) > _longest(codec)
    judged = np.arange(len(scores)) >= codec.settle
    flagged = ((scores > threshold) | stuck.any(1)) & judged
    middle, spread = _expected(y, len(codec.columns))
    middle, spread = middle * level[1] + level[0], spread * level[1]
    return Watched(
        scores, shares, threshold, flagged, stuck, middle - spread, middle + spread, codec.settle
    )


def _shares(
    found: Surprise, y: np.ndarray, z: np.ndarray, choices: np.ndarray, sizes: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """(every column's share of the surprise [N, S], the smoothed deviates after the last row [S])."""
    far = np.nan_to_num(deviates(y[:-1], z[1:], choices[1:], sizes))
    far = np.concatenate([found.center[None], far])
    s = smoothed(far, found.smooth, found.center)
    return found.shares(s), s[-1]


def _threshold(model: Detector, codec: ReadingsCodec, scores: np.ndarray) -> float:
    """That of training, or the recording's own, from the rows in which it settled."""
    if not codec.settle:
        return float(model.threshold)
    own = scores[min(WARM, codec.settle // 4) : codec.settle]
    return tail_quantile(own, model.config.budget) if len(own) >= 20 else math.inf


def _longest(codec: ReadingsCodec) -> np.ndarray:
    return np.array(
        [
            math.inf if c == GAP else STUCK * n + 10
            for c, n in zip(codec.columns, codec.longest, strict=True)
        ]
    )


def _expected(y: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """(middle, half of the width) [N, K] of what was expected of each row, NaN for the first."""
    nothing = np.full((1, columns), np.nan)
    middle = np.concatenate([nothing, y[:-1, :columns].astype(np.float64)])
    spread = np.concatenate(
        [nothing, BAND * np.exp(y[:-1, columns : 2 * columns].astype(np.float64))]
    )
    return middle, spread


class Watch:
    """One recording, row by row."""

    def __init__(
        self, model: Detector, codec: ReadingsCodec, stream: Stream, adapt: int = 0
    ) -> None:
        self.model, self.codec, self.stream, self.adapt = model, codec, stream, adapt
        self._found = Surprise(model)
        self._longest = _longest(codec)
        self.rows = 0
        self._begun: list[Any] = []  # rows of which the recording's own level is still to be had
        self._level(codec.level(np.zeros((0, len(codec.columns)))))
        self.threshold = math.inf if codec.settle else float(model.threshold)
        self.y: np.ndarray | None = None
        self._smoothed = self._found.center
        self._filled = np.zeros(len(codec.columns))
        self._last = np.full(len(codec.columns), np.nan)
        self._runs = np.zeros(len(codec.columns))
        self._none = np.zeros(len(codec.columns), bool)
        self._ones = np.ones(len(codec.names))
        self._rate = np.array(1 / self._found.smooth)
        self._now = np.zeros(1, np.int64)

    def _level(self, level: tuple[np.ndarray, np.ndarray]) -> None:
        self.mean, self.std = level

    @property
    def settling(self) -> bool:
        """Whether the level is still to be had."""
        return self.rows < self.codec.settle

    def step(
        self, values: np.ndarray, choices: np.ndarray, now: int
    ) -> tuple[float, np.ndarray, np.ndarray] | None:
        """A row's (surprise, shares [S], stuck [K] bool); None while the recording settles.

        values [K] in units with NaN where missing, choices [C] int64, now in microseconds
        """
        same = values == self._last
        stuck = self._none
        if np.count_nonzero(same):
            self._runs *= same
            self._runs += 1
            stuck = self._runs > self._longest
        else:
            self._runs.fill(1)
        self._last = values
        if self.rows < self.codec.settle:
            self._begun.append((now, values, choices))
            self.rows += 1
            if not self.settling:
                self._settle()
            return None
        z = values - self.mean
        z /= self.std
        filled, missing = z, self._none
        if not z.dot(z) < LARGEST**2:  # a value is missing, or far out
            missing = np.isnan(z)
            np.clip(z, -LARGEST, LARGEST, out=z)
            filled = np.where(missing, self._filled, z)
        found = self._found
        if self.y is not None:
            far = deviates(self.y, z, choices, self.model.config.sizes)
            if missing is not self._none:
                far = np.nan_to_num(far)
            if found.smooth > 1:
                far -= self._smoothed
                far *= self._rate
                far += self._smoothed
            self._smoothed = far
        shares = found.shares(self._smoothed)
        before = self._filled if self.rows else filled
        self._now[0] = now
        x = self.codec.input_of(filled, before, missing, choices, self._now)
        self.y = self.stream.step(x).astype(np.float64)  # once, so that what follows need not
        self._filled = filled
        self.rows += 1
        return float(shares.dot(self._ones)), shares, stuck

    def follow(self, values: np.ndarray) -> None:
        """The row was normal: the level follows it, where that is wanted."""
        if self.adapt:
            self.mean = np.where(
                np.isnan(values), self.mean, self.mean + (values - self.mean) / self.adapt
            )

    def _settle(self) -> None:
        times, values, choices = (np.array(part) for part in zip(*self._begun, strict=True))
        self._begun = []
        readings = Readings(
            "", times, values, choices.reshape(len(times), -1), None, np.arange(len(times))
        )
        self._level(self.codec.level(values))
        x, z = self.codec.encode(readings)
        y = self.stream.step(x)
        shares, self._smoothed = _shares(
            self._found, y, z, readings.choices, self.model.config.sizes
        )
        self.threshold = _threshold(self.model, self.codec, shares @ self._ones)
        self.y, self._filled = y[-1], self.codec.filled(z)[-1]

    # ---- kept and taken up again -----------------------------------------------------------------

    arrays = ("mean", "std", "_smoothed", "_filled", "_last", "_runs")

    def keep(self) -> dict[str, Any]:
        """JSON values; the recurrent state is the stream's."""
        kept: dict[str, Any] = {name: _json(getattr(self, name)) for name in self.arrays}
        kept |= {"rows": self.rows, "threshold": _json(np.array([self.threshold]))}
        kept |= {"y": None if self.y is None else self.y.tolist()}
        return kept | {
            "begun": [
                [int(now), _json(values), choices.tolist()] for now, values, choices in self._begun
            ]
        }

    def take_up(self, kept: Mapping[str, Any]) -> None:
        """What `keep` gave. Raises KeyError, TypeError or ValueError for anything else."""
        for name in self.arrays:
            value = _array(kept[name])
            if value.shape != getattr(self, name).shape:
                raise ValueError(f"{name} has another shape")
            setattr(self, name, value)
        self.rows, self.threshold = int(kept["rows"]), float(_array(kept["threshold"])[0])
        self.y = None if kept["y"] is None else np.array(kept["y"], np.float32)
        self._begun = [
            (int(now), _array(values), np.array(choices, np.int64))
            for now, values, choices in kept["begun"]
        ]


def _json(values: np.ndarray) -> list[float | str]:
    return [float(v) if math.isfinite(v) else str(v) for v in values.tolist()]


def _array(values: Any) -> np.ndarray:
    return np.array([float(v) for v in values])


def _adapting(
    model: Detector, codec: ReadingsCodec, readings: Readings, adapt: int, precision: str
) -> Watched:
    one = Watch(model, codec, Stream(model, precision, history=0), adapt)
    size, columns, found = len(readings), len(codec.columns), len(codec.names)
    scores, shares = np.zeros(size), np.zeros((size, found))
    flagged, stuck = np.zeros(size, bool), np.zeros((size, columns), bool)
    low, high = np.full((size, columns), np.nan), np.full((size, columns), np.nan)
    for k in range(size):
        if one.y is not None:
            middle = one.y[:columns] * one.std + one.mean
            spread = BAND * np.exp(one.y[columns : 2 * columns]) * one.std
            low[k], high[k] = middle - spread, middle + spread
        answer = one.step(readings.values[k], readings.choices[k], int(readings.time[k]))
        if answer is None:
            continue
        scores[k], shares[k], stuck[k] = answer
        flagged[k] = scores[k] > one.threshold or stuck[k].any()
        if not flagged[k]:
            one.follow(readings.values[k])
    return Watched(scores, shares, one.threshold, flagged, stuck, low, high, codec.settle)


def blame(codec: ReadingsCodec, shares: np.ndarray, stuck: np.ndarray) -> dict[str, float]:
    """The columns to blame for an anomaly and their shares of its surprise, the worst first; a
    stuck one comes first.
    """
    found = {codec.columns[k]: 1.0 for k in np.flatnonzero(stuck)}
    total = max(float(np.maximum(shares, 0).sum()), 1e-12)
    for k in np.argsort(-shares)[:BLAMED]:
        if shares[k] / total >= LEAST:
            found.setdefault(codec.names[k], round(float(shares[k]) / total, 2))
    return found or {codec.names[int(shares.argmax())]: round(float(shares.max()) / total, 2)}


@dataclass(frozen=True)
class Streaming:
    """What --set can say about a stream of rows.

    adapt   rows over which a recording's level follows rows that are judged normal, for sensors
            that drift; 0: never; where not said, as in training
    """

    adapt: int | None = None

    def __post_init__(self) -> None:
        check_counts(self, *(["adapt"] if self.adapt else []))


class LiveAnomaly:
    """Rows in, verdicts out. Several recordings in one stream (a `group` column) each keep their
    own state.

    precision   of the recurrent part's products: "float32", "bfloat16" or "int8"
    """

    def __init__(
        self, file: ModelFile, precision: str = "float32", how: Streaming | None = None
    ) -> None:
        self.file = file
        self.codec: ReadingsCodec = file.codec
        told = (how or Streaming()).adapt
        self.adapt = int(file.info.get("settings", {}).get("adapt", 0)) if told is None else told
        self._blank = Stream(file.model, precision, history=0)
        self._rows = RowReader([*self.codec.read_columns, *self.codec.categories])
        self._recordings: dict[str, tuple[LiveReadings, Watch]] = {}
        self.unknown: dict[str, int] = {}
        """Column -> rows whose category was never seen in training."""

    def step(self, row: Mapping[str, Any], where: str = "row") -> dict[str, Any]:
        """What a row was: `{"time", "score", "threshold", "anomaly", "blame"}`; `"settling"` while
        the recording's level is still to be had. Raises `DataError` for a row that cannot be read;
        the state is then unchanged.
        """
        codec = self.codec
        name = ""
        if codec.group is not None:
            if codec.group not in row:
                raise DataError(
                    f"{where}: no column {codec.group!r}; it has {', '.join(map(repr, row))}"
                )
            name = str(row[codec.group])
        if name not in self._recordings:
            reader = codec.live()
            one = Watch(self.file.model, codec, self._blank.fork(), self.adapt)
        else:
            reader, one = self._recordings[name]
        now, values, choices, unknown = reader.row(row, where)
        answer = one.step(values, choices, now)
        reader.read(now)
        self._recordings[name] = reader, one
        record: dict[str, Any] = {codec.group: name} if codec.group is not None else {}
        record["time"] = codec.stamp(now)
        for column in unknown:
            self.unknown[column] = self.unknown.get(column, 0) + 1
        if unknown:
            record["unknown"] = unknown
        if answer is None:
            return {**record, "settling": codec.settle - one.rows}
        score, shares, stuck = answer
        anomaly = score > one.threshold or bool(stuck.any())
        if not anomaly:
            one.follow(values)
        record |= {"score": _short(score), "threshold": _short(one.threshold), "anomaly": anomaly}
        if anomaly:
            record["blame"] = blame(codec, shares, stuck)
            if stuck.any():
                record["stuck"] = [codec.columns[k] for k in np.flatnonzero(stuck)]
        return record

    def feed(self, item: Item) -> list[Record]:
        """See `Session`: a row, or a line of JSON, or of CSV under a header line."""
        found = self._rows.read(item)
        return [] if found is None else [self.step(*found)]

    def close(self) -> list[Record]:
        """See `Session`."""
        return []

    def snapshot(self) -> bytes:
        """See `Session`; the states of all recordings."""
        names = list(self._recordings)
        state = (
            State.stack([self._recordings[n][1].stream.state for n in names])
            if names
            else self._blank.state
        )
        memory = [{**self._recordings[n][0].memory, **self._recordings[n][1].keep()} for n in names]
        extra = {
            "names": names,
            "memory": memory,
            "lines": self._rows.snapshot(),
            "unknown": self.unknown,
        }
        return state.to_bytes(fingerprint=self._blank.fingerprint, extra=extra)

    def restore(self, data: bytes) -> None:
        """See `Session`."""
        state, extra = State.from_bytes(data, fingerprint=self._blank.fingerprint)
        try:
            loaded: dict[str, tuple[LiveReadings, Watch]] = {}
            for k, (name, kept) in enumerate(zip(extra["names"], extra["memory"], strict=True)):
                reader = self.codec.live()
                one = Watch(self.file.model, self.codec, self._blank.fork(), self.adapt)
                one.take_up(kept)
                one.stream.state = state.select([k])
                reader.memory = {
                    "time": None if kept["time"] is None else int(kept["time"]),
                    "rows": one.rows,
                }
                loaded[str(name)] = reader, one
            unknown = {str(c): int(n) for c, n in extra["unknown"].items()}
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, StateError):
            raise StateError("not the state of a live detector; start without it") from None
        self._recordings, self.unknown = loaded, unknown
        self._rows.restore(extra.get("lines"))


def _short(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


# ---- whole tables --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """What --set can say about looking for anomalies: see `Streaming`."""

    adapt: int | None = None

    def __post_init__(self) -> None:
        Streaming(self.adapt)


def read(codec: ReadingsCodec, source: str) -> tuple[list[Readings], str]:
    """The recordings in a table, a folder of tables or a named set, and its name."""
    path, named = locate(source)
    where = named.name if named else str(source)
    found = []
    for name, frame in tables(path, where):
        if path.is_dir() and codec.label is not None and codec.label not in frame.columns:
            continue
        found += codec.read(
            frame, f"{where}/{name}" if path.is_dir() else where, name if path.is_dir() else ""
        )
    if not found:
        raise DataError(f"{where}: no table in it has the column {codec.label!r}")
    return found, where


def predict(file: ModelFile, source: str | None, how: Options) -> dict[str, Any]:
    """`{"recordings": [{"name", "rows", "anomalies": [{"from", "to", "rows", "peak", "blame"}]}]}`
    of a table.
    """
    if source is None:
        raise DataError("predict: looking for anomalies needs a table, or a folder of tables")
    codec: ReadingsCodec = file.codec
    found, where = read(codec, source)
    told = []
    adapt = int(file.info.get("settings", {}).get("adapt", 0)) if how.adapt is None else how.adapt
    for readings in found:
        if len(readings) <= codec.settle:
            raise DataError(
                f"{where}: recording {readings.name!r} has {len(readings)} rows; its first"
                f" {codec.settle} only set its level"
            )
        watched = watch(file.model, codec, readings, adapt=adapt)
        told.append(
            {
                "name": readings.name,
                "rows": len(readings),
                "flagged": int(watched.flagged.sum()),
                "threshold": _short(watched.threshold),
                "anomalies": [
                    stretch(codec, readings, watched, a, b) for a, b in stretches(watched.flagged)
                ],
            }
        )
    return {"data": source, "adapt": adapt, "recordings": told}


def stretches(flagged: np.ndarray) -> list[tuple[int, int]]:
    """(first, last) of the rows that are flagged one after another."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flagged.astype(np.int8), [0]])))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def stretch(
    codec: ReadingsCodec, readings: Readings, watched: Watched, first: int, last: int
) -> dict[str, Any]:
    """A stretch of flagged rows, as people read it."""
    inside = slice(first, last + 1)
    peak = first + int(watched.scores[inside].argmax())
    return {
        "row": int(readings.rows[first]) + 1,
        "from": codec.stamp(int(readings.time[first])),
        "to": codec.stamp(int(readings.time[last])),
        "rows": last - first + 1,
        "peak": _short(float(watched.scores[peak])),
        "blame": blame(
            codec, watched.shares[inside].mean(0), np.asarray(watched.stuck[inside].any(0))
        ),
    }


def counted(one: dict[str, Any]) -> str:
    """How many stretches a recording's anomalies are."""
    count = len(one["anomalies"])
    return f"{count} stretch" if count == 1 else f"{count:,} stretches"


SHOWN = 12
"""Stretches of a recording that are shown."""


def show(record: dict[str, Any]) -> str:
    """The record for people."""
    lines = []
    for one in record["recordings"]:
        name = f"{one['name']}: " if one["name"] else ""
        worst = sorted(one["anomalies"], key=lambda a: -(a["peak"] or 0))[:SHOWN]
        lines.append(f"{name}{one['flagged']:,} of {one['rows']:,} rows flagged, in {counted(one)}")
        for a in sorted(worst, key=lambda a: int(a["row"])):
            why = ", ".join(f"{c} {share:.0%}" for c, share in a["blame"].items())
            lines.append(
                f"  row {a['row']}: {a['from']} to {a['to']}, {a['rows']} rows, peak"
                f" {a['peak']:.4g}: {why}"
            )
        if len(one["anomalies"]) > SHOWN:
            lines.append(
                f"  … and {len(one['anomalies']) - SHOWN} lesser ones (--json, or --out page.html)"
            )
    return "\n".join(lines)
