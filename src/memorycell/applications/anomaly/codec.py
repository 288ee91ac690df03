"""Rows of readings and of events: sensors side by side, or transactions of many accounts, and back.

A step is a row. Numbers are told in deviations from their usual level, categories as one of those
seen in training. Rows of the same recording (a file, or a value of the `group` column) follow one
another, at whatever times they come.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from memorycell.errors import DataError
from memorycell.tables.clock import iso_time
from memorycell.tables.table import (
    are_dates,
    is_missing,
    mean_std,
    read_number,
    read_numbers,
    read_table,
    read_time,
    read_times,
)

if TYPE_CHECKING:
    import polars as pl

GAP = "(gap)"
"""The name of the time since the row before, where it is one of the things that are forecast: log(1
+ seconds).
"""
CYCLES = {"day": 86_400.0, "week": 604_800.0}
MOST_CHOICES = 64
"""Categories of a column that are told apart; rarer ones are one."""
TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
LARGEST = 1e4
"""Deviations further out than so many count as so many: a reading a thousand times too large stays
a number.
"""

LONGEST = 1e150
"""Readings further from zero are taken for this."""


@dataclass
class Readings:
    """One recording of N rows.

    time      [N] int64 microseconds, or row numbers; values [N, K] float64, NaN where missing
    choices   [N, C] int64: 0 for a category not seen in training, or none
    labels    [N] bool, or None where nobody has said what was normal
    rows      [N] the row in its file, from 0
    """

    name: str
    time: np.ndarray
    values: np.ndarray
    choices: np.ndarray
    labels: np.ndarray | None
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True)
class ReadingsCodec:
    """How rows become inputs. What is fitted comes from training rows alone.

    columns     the numbers, K of them; `GAP` may be the last
    categories  column -> the categories known, the most frequent first
    settle      a recording's own level is that of so many rows at its beginning; 0: the level of
                training
    mean, std   [K] of training rows; within a recording where each has its own level
    change      [K] deviation of the change from row to row, in units of std
    longest     [K] rows in a row with one value, at most
    gappy       columns that have missing values in training
    cycles      "day", "week": those that a row's time is told by
    """

    kind: ClassVar[str] = "readings"
    columns: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    time: str | None = None
    time_format: str | None = None
    group: str | None = None
    label: str | None = None
    settle: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    change: tuple[float, ...] = ()
    longest: tuple[int, ...] = ()
    gappy: tuple[str, ...] = ()
    cycles: tuple[str, ...] = ()

    @property
    def gap(self) -> bool:
        """Whether the time since the row before is forecast as well."""
        return GAP in self.columns

    @property
    def read_columns(self) -> tuple[str, ...]:
        """Those of the columns that stand in the table."""
        return tuple(c for c in self.columns if c != GAP)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of every category: how many are told apart, "none of these" included."""
        return tuple(len(known) + 1 for known in self.categories.values())

    @property
    def names(self) -> tuple[str, ...]:
        """What can be blamed: the numbers, then the categories."""
        return (*self.columns, *self.categories)

    @property
    def features(self) -> tuple[str, ...]:
        """The inputs of a step: level and change of every number, and what else is known."""
        return (
            *self.columns,
            *(f"{c} change" for c in self.columns),
            *(f"{c} missing" for c in self.gappy),
            *(
                f"{c}={v}"
                for c, known in self.categories.items()
                for v in ("none of these", *known)
            ),
            *(f"{c} {part}" for c in self.cycles for part in ("sin", "cos", "sin2", "cos2")),
        )

    # ---- tables ----------------------------------------------------------------------------------

    def read(self, frame: pl.DataFrame, where: str, recording: str = "") -> list[Readings]:
        """The recordings in a table. Raises `DataError` for what is not there, not a number, or not
        in order of time.
        """
        for name in (
            *self.read_columns,
            *self.categories,
            *(c for c in (self.time, self.group) if c),
        ):
            if name not in frame.columns:
                raise DataError(
                    f"{where}: no column {name!r}; the model was made for it. The table has"
                    f" {', '.join(map(repr, frame.columns))}"
                )
        values = np.stack([bounded(read_numbers(frame[c], where)) for c in self.read_columns], 1)
        time = (
            read_times(frame[self.time], where, self.time_format)
            if self.time
            else np.arange(len(values))
        )
        labels = None
        if self.label is not None and self.label in frame.columns:
            told = read_numbers(frame[self.label], where)
            wrong = ~np.isin(told, (0, 1))
            if wrong.any():
                row = int(wrong.argmax())
                raise DataError(
                    f"{where}: row {row + 1}, column {self.label!r}: {frame[self.label][row]!r} is"
                    " not a label; write 0 for normal and 1 for an anomaly"
                )
            labels = told == 1
        choices = (
            np.stack([self._ids(c, frame[c].to_list()) for c in self.categories], 1)
            if self.categories
            else None
        )
        choices = np.zeros((len(values), 0), np.int64) if choices is None else choices
        groups = (
            ["" if v is None else str(v) for v in frame[self.group]]
            if self.group
            else [recording] * len(values)
        )
        found = []
        index: dict[str, list[int]] = {}
        for row, name in enumerate(groups):
            index.setdefault(name, []).append(row)
        for name, members in index.items():
            rows = np.array(members)
            moments = time[rows]
            back = np.flatnonzero(np.diff(moments) < 0)
            if len(back):
                a, b = rows[back[0]], rows[back[0] + 1]
                raise DataError(
                    f"{where}: row {b + 1}: the time goes back ({iso_time(time[b])} after"
                    f" {iso_time(time[a])}); sort the rows by time"
                    + (
                        ""
                        if self.group
                        else ", or name the column that tells recordings apart: --set group=COLUMN"
                    )
                )
            own = values[rows]
            if self.gap:
                own = np.column_stack(
                    [own, [math.nan, *(_gap(a, b) for a, b in pairwise(moments))]]
                )
            found.append(
                Readings(
                    name,
                    moments,
                    own,
                    choices[rows],
                    None if labels is None else labels[rows],
                    rows,
                )
            )
        return found

    def _ids(self, column: str, values: Sequence[Any]) -> np.ndarray:
        known = {v: k + 1 for k, v in enumerate(self.categories[column])}
        return np.array([known.get(_word(v), 0) for v in values], np.int64)

    def stamp(self, moment: int) -> str | int:
        """A time as people write it; the row number where there is none."""
        return iso_time(moment) if self.time is not None else int(moment)

    # ---- inputs ----------------------------------------------------------------------------------

    def level(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A recording's (mean [K], std [K]) from the rows [n, K] of its beginning, or those of
        training.
        """
        mean, std = np.array(self.mean), np.array(self.std)
        if not self.settle:
            return mean, std
        with np.errstate(all="ignore"):
            known = ~np.isnan(values)
            count = known.sum(0)
            own = np.where(known, values, 0).sum(0) / np.maximum(count, 1)
            spread = np.sqrt((np.where(known, values - own, 0) ** 2).sum(0) / np.maximum(count, 1))
        return np.where(count > 0, own, mean), np.maximum(spread, 0.01 * std)

    def deviations(self, values: np.ndarray, level: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """[N, K] in deviations from the level; NaN where missing."""
        return np.clip((values - level[0]) / level[1], -LARGEST, LARGEST)

    def filled(self, z: np.ndarray) -> np.ndarray:
        """[N, K] deviations with the last known one in place of a missing one, zero where there is
        none.
        """
        known = ~np.isnan(z)
        index = np.maximum.accumulate(np.where(known, np.arange(len(z))[:, None], -1), 0)
        return np.where(index >= 0, np.take_along_axis(z, np.maximum(index, 0), 0), 0.0)

    def inputs(
        self,
        filled: np.ndarray,
        before: np.ndarray,
        missing: np.ndarray,
        choices: np.ndarray,
        moments: np.ndarray,
    ) -> np.ndarray:
        """[N, F] float32, in the order of `features`, of deviations [N, K] as they are and as they
        were a row before.
        """
        size = len(self.columns)
        x = np.empty((len(filled), self.input_size), np.float32)
        x[:, :size] = filled
        x[:, size : 2 * size] = (filled - before) * self._quickness
        if self.input_size > 2 * size:
            x[:, 2 * size :] = self._further(missing, choices, moments)
        return x

    def input_of(
        self,
        filled: np.ndarray,
        before: np.ndarray,
        missing: np.ndarray,
        choices: np.ndarray,
        moment: np.ndarray,
    ) -> np.ndarray:
        """The same of one row, [F], with the fewest calls."""
        x = np.empty(self.input_size, np.float32)
        size = len(filled)
        x[:size] = filled
        change = filled - before
        change *= self._quickness
        x[size : 2 * size] = change
        if len(x) > 2 * size:
            x[2 * size :] = self._further(missing[None], choices[None], moment)[0]
        return x

    def _further(self, missing: np.ndarray, choices: np.ndarray, moments: np.ndarray) -> np.ndarray:
        parts = [missing[:, [self.columns.index(c) for c in self.gappy]]]
        for k, size in enumerate(self.sizes):
            parts.append(np.arange(size) == choices[:, k, None])
        for name in self.cycles:
            angle = 2 * np.pi * np.remainder(moments / 1e6, CYCLES[name]) / CYCLES[name]
            parts.append(
                np.stack([np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)], 1)
            )
        return np.concatenate(parts, 1)

    @cached_property
    def input_size(self) -> int:
        """How many features a row has."""
        return len(self.features)

    @cached_property
    def _quickness(self) -> np.ndarray:
        return 1 / np.array(self.change)

    def encode(self, readings: Readings) -> tuple[np.ndarray, np.ndarray]:
        """(inputs [N, F] float32, deviations [N, K] float64 with NaN where missing) of a whole
        recording.
        """
        z = self.deviations(readings.values, self.level(readings.values[: self.settle]))
        filled = self.filled(z)
        before = np.concatenate([filled[:1], filled[:-1]])
        return self.inputs(filled, before, np.isnan(z), readings.choices, readings.time), z

    # ---- in a model file -------------------------------------------------------------------------

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        return {
            "input_size": len(self.features),
            "columns": len(self.columns),
            "sizes": self.sizes,
        }

    def to_json(self) -> dict[str, Any]:
        """What a model file keeps."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ReadingsCodec:
        """Raises KeyError, TypeError or ValueError where the JSON is not a codec's."""
        lists: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        codec = cls(
            **{
                **lists,
                "categories": {str(k): tuple(map(str, v)) for k, v in data["categories"].items()},
            }
        )
        size = len(codec.columns)
        if not size or not all(
            len(x) == size for x in (codec.mean, codec.std, codec.change, codec.longest)
        ):
            raise ValueError("the scaling does not fit the columns")
        if (
            not all(math.isfinite(v) and v > 0 for v in (*codec.std, *codec.change))
            or codec.settle < 0
        ):
            raise ValueError("the scaling is not whole")
        if not set(codec.cycles) <= set(CYCLES) or not set(codec.gappy) <= set(codec.columns):
            raise ValueError("not a codec of readings")
        return codec

    def live(self) -> LiveReadings:
        """A reader of the rows of one recording, one at a time."""
        return LiveReadings(self)


class LiveReadings:
    """Rows of one recording, one by one. What it remembers is `memory`, a JSON value."""

    def __init__(self, codec: ReadingsCodec) -> None:
        self.codec = codec
        self.memory: dict[str, Any] = {"time": None, "rows": 0}

    def row(
        self, row: Mapping[str, Any], where: str
    ) -> tuple[int, np.ndarray, np.ndarray, list[str]]:
        """(time, values [K] with NaN, choices [C], columns whose category was never seen). Changes
        nothing.

        Raises `DataError` for a row that cannot be read.
        """
        codec = self.codec
        values = [min(max(read_number(row, c, where), -LONGEST), LONGEST) for c in codec.read_columns]
        for name in codec.categories:
            if name not in row:
                raise DataError(f"{where}: no column {name!r}; it has {', '.join(map(repr, row))}")
        last = self.memory["time"]
        now = self.memory["rows"]
        if codec.time is not None:
            now = read_time(row, codec.time, codec.time_format, where)
        if last is not None and now < last:
            raise DataError(f"{where}: the time goes back ({iso_time(now)} after {iso_time(last)})")
        if codec.gap:
            values.append(math.nan if last is None else _gap(last, now))
        choices = np.array([codec._ids(c, [row[c]])[0] for c in codec.categories], np.int64)
        unknown = [
            c
            for c, k in zip(codec.categories, choices, strict=True)
            if k == 0 and not is_missing(row[c])
        ]
        return now, np.array(values), choices, unknown

    def read(self, now: int) -> None:
        """The row has been taken."""
        self.memory = {"time": int(now), "rows": self.memory["rows"] + 1}


def bounded(values: np.ndarray) -> np.ndarray:
    """Within what can be squared."""
    return np.clip(values, -LONGEST, LONGEST)


def _gap(before_us: int, now_us: int) -> float:
    return math.log1p(max(0, int(now_us) - int(before_us)) / 1e6)


def _word(value: Any) -> str:
    return "" if is_missing(value) else str(value).strip()


# ---- deciding what a table is --------------------------------------------------------------------


def tables(path: Path, where: str) -> list[tuple[str, pl.DataFrame]]:
    """(name, table) of a file, or of every table in a folder and those below it."""
    if not path.is_dir():
        return [(path.name, read_table(path))]
    files = sorted(
        f for f in path.rglob("*") if f.suffix.lower() in TABLES and not f.name.startswith(".")
    )
    if not files:
        raise DataError(f"{where}: a folder without tables ({', '.join(TABLES)})")
    return [(file.relative_to(path).as_posix(), read_table(file)) for file in files]


def detect(
    frame: pl.DataFrame,
    where: str,
    *,
    columns: Sequence[str] | None = None,
    time: str | None = None,
    time_format: str | None = None,
    group: str | None = None,
    label: str | None = None,
    gap: bool | None = None,
    settle: int = 0,
) -> tuple[ReadingsCodec, list[str]]:
    """(a codec without scaling and categories' values, notes): the columns as named, or found.

    gap   whether the time since the row before is forecast; where there are categories, if not said
    """
    notes: list[str] = []
    for name in (*(columns or ()), time, group, label):
        if name is not None and name not in frame.columns:
            raise DataError(
                f"{where}: no column {name!r}; it has {', '.join(map(repr, frame.columns))}"
            )
    if time is None:
        time = next((c for c in frame.columns if _is_time(frame[c])), None)
    spare = (
        [c for c in frame.columns if c not in (time, group, label)]
        if columns is None
        else list(columns)
    )
    numeric, words = [], []
    for c in spare:
        values = frame[c].to_list()
        present = [v for v in values if not is_missing(v)]
        kinds = len({str(v) for v in present})
        if not present or kinds == 1:
            what = "has no values" if not present else "is always the same"
            if columns is not None:
                raise DataError(f"{where}: column {c!r} {what}; choose another")
            notes.append(f"column {c!r} left out: it {what}")
        elif _all_numbers(present):
            numeric.append(c)
        elif columns is None and kinds > max(MOST_CHOICES, len(present) // 20):
            notes.append(
                f"column {c!r} left out: {kinds:,} different texts are names, not categories"
            )
        else:
            words.append(c)
    if not numeric and not words:
        raise DataError(
            f"{where}: no column of numbers or categories is left; name some with --set columns=A,B"
        )
    gap = bool(words) if gap is None else gap
    if gap and time is not None:
        numeric.append(GAP)
    if not numeric:
        raise DataError(
            f"{where}: only categories; a column of numbers or of times is needed as well"
        )
    codec = ReadingsCodec(
        columns=tuple(numeric),
        categories=dict.fromkeys(words, ()),
        time=time,
        time_format=time_format,
        group=group,
        label=label,
        settle=settle,
    )
    return codec, notes


def with_categories(codec: ReadingsCodec, frame: pl.DataFrame, rows: np.ndarray) -> ReadingsCodec:
    """The codec with the categories of the rows [n] of training, the most frequent first."""
    known = {}
    for c in codec.categories:
        values = frame[c].to_list()
        counts = Counter(word for k in rows if (word := _word(values[int(k)])))
        known[c] = tuple(word for word, _ in counts.most_common(MOST_CHOICES))
    return dataclasses.replace(codec, categories=known)


def fit_scaling(codec: ReadingsCodec, parts: Sequence[Readings]) -> ReadingsCodec:
    """The codec with scaling from the rows of training, a part of each recording."""
    values = np.concatenate([p.values for p in parts])
    if len(values) < 10:
        raise DataError(
            f"only {len(values)} rows to learn from; at least 10 are needed, and hundreds are"
            " sensible"
        )
    with np.errstate(all="ignore"):
        mean, std = mean_std(values)
        if codec.settle:  # a recording has its own level: what counts is the spread inside
            inside = np.stack([mean_std(p.values)[1] for p in parts])
            std = np.where(
                (inside > 0).any(0), np.nanmedian(np.where(inside > 0, inside, np.nan), 0), std
            )
    for k, column in enumerate(codec.columns):
        if not std[k] > 0:
            raise DataError(
                f"column {column!r} is constant or empty in the training rows; leave it out: --set"
                " columns=…"
            )
    codec = dataclasses.replace(
        codec,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        change=(1.0,) * len(codec.columns),
    )
    changes, runs = [], []
    for p in parts:
        z = codec.filled(codec.deviations(p.values, codec.level(p.values)))
        changes.append(np.diff(z, axis=0))
        runs.append([longest_run(column) for column in p.values.T])
    _, change = mean_std(np.concatenate(changes))
    span = max(float(p.time[-1] - p.time[0]) for p in parts) / 1e6 if codec.time else 0.0
    missing = np.isnan(values).any(0)
    return dataclasses.replace(
        codec,
        change=tuple(np.where(change > 0, change, 1.0).tolist()),
        longest=tuple(np.max(runs, 0).tolist()),
        gappy=tuple(c for k, c in enumerate(codec.columns) if missing[k] and c != GAP),
        cycles=tuple(name for name, period in CYCLES.items() if span > 2 * period),
    )


def longest_run(values: np.ndarray) -> int:
    """The most values in a row that are one and the same; missing ones are none."""
    runs = running(values)
    return int(runs.max()) if len(runs) else 0


def running(values: np.ndarray) -> np.ndarray:
    """[N]: how many values in a row, up to each, were the same as it; 0 where missing."""
    same = np.concatenate([[False], values[1:] == values[:-1]])
    at = np.arange(len(values))
    runs = at - np.maximum.accumulate(np.where(same, 0, at)) + 1
    return np.where(np.isnan(values), 0, runs)


def _is_time(column: pl.Series) -> bool:
    if column.dtype.is_temporal():
        return True
    return are_dates([v for v in column.head(20) if not is_missing(v)][:5])


def _all_numbers(present: Sequence[Any]) -> bool:
    """Nine in ten: a few that are not are complained about with their row."""
    wrong = 0
    for value in present[:2000]:
        try:
            float(value)
        except (TypeError, ValueError):
            wrong += 1
    return wrong <= 0.1 * len(present[:2000])


# ---- for training: the same, otherwise -----------------------------------------------------------


def wandering(rows: int, amount: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[rows, K] offsets: a slow walk from one of five knots to the next, each step of it about
    `amount` [K] high.
    """
    knots = (rng.normal(size=(5, len(amount))).cumsum(0) + rng.normal(size=len(amount))) * amount
    at = np.linspace(0, 3.999, max(rows, 2))[:rows]
    low = at.astype(int)
    share = (at - low)[:, None]
    return knots[low] * (1 - share) + knots[low + 1] * share


def disturbed(rows: int, columns: int, rng: np.random.Generator, probability: float) -> np.ndarray:
    """[rows, K] offsets: with `probability`, and again with it up to four times, a stretch of up to
    three quarters of the rows in which one column or several lie higher or lower by some
    deviations.
    """
    offset = np.zeros((rows, columns))
    for _ in range(4):
        if rng.random() >= probability:
            break
        begin, length = (
            int(rng.integers(rows)),
            int(rng.integers(1 + rows // 20, 2 + 3 * rows // 4)),
        )
        struck = rng.random(columns) < (1 / columns if rng.random() < 0.6 else 0.5)
        offset[begin : begin + length] += (
            struck * rng.normal(size=columns) * np.exp(rng.normal(1, 1, columns))
        )
    return offset


def interrupted(
    rows: int, rng: np.random.Generator, probability: float
) -> tuple[np.ndarray, np.ndarray]:
    """(which row stands at each of as many places, whether a stranger's stands there after it
    instead).

    With `probability`, one place in twenty is a stranger's, as if somebody else had acted in
    between; the rows after it move up, and the last ones fall out.
    """
    strange = rng.random(rows) < (0.05 if rng.random() < probability else 0.0)
    strange[:1] = False
    return np.cumsum(~strange) - 1, strange
