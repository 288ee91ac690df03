"""Scores one recording row by row."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np

from memorycell.applications.anomaly.codec import (
    MAX_INPUT_Z,
    MAX_Z,
    MIN_STD,
    MIN_STD_SHARE,
    ReadingsCodec,
    bounded,
)
from memorycell.applications.anomaly.columns import MAX_READING
from memorycell.applications.anomaly.model import Detector
from memorycell.applications.anomaly.normal import Normal
from memorycell.applications.anomaly.score import (
    MAX_STATIC_Z,
    ScoreFunction,
    max_run_lengths,
    normal_deviates,
)
from memorycell.applications.anomaly.score_fitting import recording_score
from memorycell.streaming.stepwise import StreamSteps, run
from memorycell.streaming.stream import Stream

SAVED_ARRAYS = {
    "mean": "mean",
    "std": "std",
    "_smoothed": "_averaged",
    "_filled": "_filled",
    "_last": "_last_values",
    "_runs": "_runs",
}
"""Key in a snapshot -> attribute."""


class RowScore(NamedTuple):
    """The score of a row, the contributions [S] of the columns, and stuck columns [K] bool."""

    score: float
    contributions: np.ndarray
    stuck: np.ndarray


MAX_SAVED_Y, MAX_SAVED_LOG_SCALE, MAX_SAVED_INVERSE = 1e9, 500.0, 1e30
"""Of the values of a saved prediction, of its log σ, and of an inverse covariance."""
NotFinite = Literal["nan", "inf", "-inf"]
Numbers = tuple[float | NotFinite, ...]
Time = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]
Choice = Annotated[int, msgspec.Meta(ge=0, le=2**31)]


@dataclass(frozen=True)
class SavedScorer:
    """The state of a `RowScorer` as JSON values; see `SAVED_ARRAYS` for the arrays.

    begun   the settling rows so far: time, values and category ids
    own     of the recording's own distributions, the centers [S] and inverse covariances [S · S];
            empty where it has none
    """

    mean: Numbers
    std: Numbers
    _smoothed: Numbers
    _filled: Numbers
    _last: Numbers
    _runs: Numbers
    rows: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    threshold: Numbers
    y: tuple[float, ...] | None
    begun: tuple[tuple[Time, Numbers, tuple[Choice, ...]], ...]
    own: tuple[tuple[Numbers, Numbers], ...] = ()


class RowScorer:
    """The state of one recording.

    adapt       time constant in rows at which the level follows normal rows; 0: fixed
    mean, std   [K] the current level
    y           [2 K + V] float64, the prediction of the next row; None before the first
    """

    def __init__(
        self, model: Detector, codec: ReadingsCodec, stream: Stream, adapt: int = 0
    ) -> None:
        self.model, self.codec, self.stream, self.adapt = model, codec, stream, adapt
        size = len(codec.columns)
        self._score = ScoreFunction(model)
        self._max_runs = max_run_lengths(codec)
        self.rows = 0
        self._settling_rows: list[tuple[int, np.ndarray, np.ndarray]] = []
        self.mean, self.std = codec.level(np.zeros((0, size)))
        self.threshold = math.inf if codec.settle else float(model.threshold)
        self.y: np.ndarray | None = None
        self._averaged = self._score.center
        self._filled = np.zeros(size)
        self._last_values = np.full(size, np.nan)
        self._runs = np.zeros(size)
        self._none = np.zeros(size, bool)
        self._ones = np.ones(len(codec.names))
        self._rate = 1 / self._score.smooth if self._score.smooth.max() > 1 else None
        self._time = np.zeros(1, np.int64)

    @property
    def settling(self) -> bool:
        """Whether the recording's own level is not yet known."""
        return self.rows < self.codec.settle

    def step(self, values: np.ndarray, choices: np.ndarray, time: int) -> RowScore | None:
        """The score of a row; None while the recording settles.

        values [K] with NaN where missing, choices [C] int64, time in microseconds
        """
        return run(self.steps(values, choices, time))

    def steps(
        self, values: np.ndarray, choices: np.ndarray, time: int
    ) -> StreamSteps[RowScore | None]:
        """`step` as a generator; see `streaming.stepwise`."""
        stuck = self._count_runs(values)
        if self.settling:
            self._settling_rows.append((time, values, choices))
            self.rows += 1
            if not self.settling:
                yield from self._settle()
            return None
        z = values - self.mean
        z /= self.std
        filled, missing = z, self._none
        if not z.dot(z) < MAX_INPUT_Z**2:  # a value is missing or out of range
            missing = np.isnan(z)
            np.clip(z, -MAX_Z, MAX_Z, out=z)
            filled = np.where(np.abs(z) <= MAX_INPUT_Z, z, self._filled)
        if self.y is not None:
            self._averaged = self._average(self.y, z, filled, missing, choices)
        contributions = self._score.contributions(self._averaged)
        previous = self._filled if self.rows else filled
        self._time[0] = time
        x = self.codec.row_inputs(filled, previous, missing, choices, self._time)
        y = yield self.stream, x
        self.y = y.astype(np.float64)  # once, for all computations that follow
        self._filled = filled
        self.rows += 1
        return RowScore(float(contributions.dot(self._ones)), contributions, stuck)

    def is_anomaly(self, row: RowScore) -> bool:
        """Whether a row is above the threshold, or a column is stuck."""
        return row.score > self.threshold or bool(row.stuck.any())

    def adapt_level(self, values: np.ndarray) -> None:
        """Let the level follow the values [K] of a normal row."""
        if self.adapt:
            followed = self.mean + (values - self.mean) / self.adapt
            self.mean = np.where(np.isnan(values), self.mean, followed)

    def _count_runs(self, values: np.ndarray) -> np.ndarray:
        """[K] bool: the columns that are stuck."""
        same = values == self._last_values
        self._last_values = values
        if not np.count_nonzero(same):
            self._runs.fill(1)
            return self._none
        self._runs *= same
        self._runs += 1
        stuck: np.ndarray = self._runs > self._max_runs
        return stuck

    def _average(
        self,
        y: np.ndarray,
        z: np.ndarray,
        filled: np.ndarray,
        missing: np.ndarray,
        choices: np.ndarray,
    ) -> np.ndarray:
        """The averaged features [R P] with those of a row; see `ScoreFunction.features`."""
        features = normal_deviates(y, z, choices, self._score.sizes)
        if missing is not self._none:
            features = np.nan_to_num(features)
        if self._score.static is not None:
            features = np.concatenate([features, filled])
            static = features[-len(filled) :]
            np.minimum(static, MAX_STATIC_Z, out=static)
            np.maximum(static, -MAX_STATIC_Z, out=static)
        if self._score.scales > 1:
            features = np.tile(features, self._score.scales)
        if self._rate is not None:
            features -= self._averaged
            features *= self._rate
            features += self._averaged
        return features

    def _settle(self) -> StreamSteps[None]:
        """Set the level, the score and the threshold from the settling rows."""
        times, values, choices = (np.array(part) for part in zip(*self._settling_rows, strict=True))
        self._settling_rows = []
        self.mean, self.std = self.codec.level(values)
        x, z, choices = self.codec.encode_arrays(values, choices.reshape(len(times), -1), times)
        y = yield self.stream, x
        filled = bounded(z)
        averaged = self._score.averages(y, z, filled, choices)
        self._score, self.threshold = recording_score(self._score, self.model, self.codec, averaged)
        self.y, self._filled, self._averaged = y[-1], filled[-1], averaged[-1]

    def fork(self) -> RowScorer:
        """An independent copy; the packed weights are shared."""
        other = copy.copy(self)
        other.stream, other._runs = self.stream.fork(), self._runs.copy()
        other._settling_rows, other._time = list(self._settling_rows), self._time.copy()
        other._averaged = self._averaged.copy()
        return other

    def snapshot(self) -> SavedScorer:
        """The state without that of the stream."""
        return SavedScorer(
            rows=self.rows,
            threshold=_to_json(np.array([self.threshold])),
            y=None if self.y is None else tuple(self.y.tolist()),
            begun=tuple(
                (int(time), _to_json(values), tuple(choices.tolist()))
                for time, values, choices in self._settling_rows
            ),
            own=tuple(
                (_to_json(one.center), _to_json(2 * one.half_inverse.ravel()))
                for one in (self._score.distributions if self._score.is_refitted else ())
            ),
            **{key: _to_json(getattr(self, name)) for key, name in SAVED_ARRAYS.items()},
        )

    def restore(self, saved: SavedScorer) -> None:
        """Continue from a snapshot. Raises ValueError for the state of another detector, and is
        then unchanged.
        """
        arrays = {key: _from_json(getattr(saved, key)) for key in SAVED_ARRAYS}
        threshold = _from_json(saved.threshold)
        y = None if saved.y is None else np.array(saved.y)
        self._check(saved, arrays, threshold, y)
        score = ScoreFunction(self.model)
        if saved.own:
            if not score.own or saved.rows < self.codec.settle:
                raise ValueError("a recording has distributions that it cannot have")
            score = score.with_distributions([_normal(*own) for own in saved.own])
        self._score = score
        for key, name in SAVED_ARRAYS.items():
            setattr(self, name, arrays[key])
        self.rows, self.threshold, self.y = saved.rows, float(threshold[0]), y
        self._settling_rows = [
            (time, _from_json(values), np.array(choices, np.int64))
            for time, values, choices in saved.begun
        ]

    def _check(
        self,
        saved: SavedScorer,
        arrays: dict[str, np.ndarray],
        threshold: np.ndarray,
        y: np.ndarray | None,
    ) -> None:
        """Raises ValueError where a snapshot does not fit the detector or itself."""
        codec, settling = self.codec, saved.rows < self.codec.settle
        for key, name in SAVED_ARRAYS.items():
            if arrays[key].shape != getattr(self, name).shape:
                raise ValueError(f"{key} has another shape")
            if key != "_last" and not (np.abs(arrays[key]) <= 2 * MAX_READING).all():
                raise ValueError(f"{key} is not finite")
        if not (arrays["std"] >= MIN_STD * MIN_STD_SHARE).all() or (arrays["_runs"] < 0).any():
            raise ValueError("the level is not one")
        if threshold.shape != (1,) or np.isnan(threshold[0]):
            raise ValueError("the threshold is not a number")
        if (y is None) != (settling or saved.rows == 0):
            raise ValueError("a prediction is missing, or one too many")
        if y is not None:
            self._check_prediction(y)
        if len(saved.begun) != (saved.rows if settling else 0):
            raise ValueError("the settling rows are not complete")
        for _, values, choices in saved.begun:
            known = _from_json(values)
            if len(known) != len(codec.columns) or np.isinf(known).any():
                raise ValueError("a settling row does not fit the columns")
            if len(choices) != len(codec.sizes) or any(
                not choice < size for choice, size in zip(choices, codec.sizes, strict=True)
            ):
                raise ValueError("a settling row has an unknown category")

    def _check_prediction(self, y: np.ndarray) -> None:
        """Raises ValueError for a y [2 K + V] that no detector of the codec gives."""
        columns = len(self.codec.columns)
        if y.shape != (2 * columns + sum(self.codec.sizes),):
            raise ValueError("the prediction does not fit the columns")
        bounded_log_scale = (y[columns : 2 * columns] <= MAX_SAVED_LOG_SCALE).all()
        if not (np.abs(y) <= MAX_SAVED_Y).all() or not bounded_log_scale:
            raise ValueError("the prediction is not finite")


def _normal(center: Numbers, inverse: Numbers) -> Normal:
    """A distribution of a snapshot. Raises ValueError where it is none."""
    mean, matrix = _from_json(center), _from_json(inverse)
    if matrix.size != mean.size**2 or not (np.abs(mean) <= MAX_SAVED_Y).all():
        raise ValueError("a distribution does not fit")
    matrix = matrix.reshape(mean.size, mean.size)
    if not (np.abs(matrix) <= MAX_SAVED_INVERSE).all() or (matrix != matrix.T).any():
        raise ValueError("a covariance is none")
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise ValueError("a covariance is none") from None
    return Normal(mean, 0.5 * matrix)


def _to_json(values: np.ndarray) -> tuple[float | NotFinite, ...]:
    return tuple(float(v) if math.isfinite(v) else _word(v) for v in values.tolist())


def _word(value: float) -> NotFinite:
    if math.isnan(value):
        return "nan"
    return "inf" if value > 0 else "-inf"


def _from_json(values: tuple[float | NotFinite, ...]) -> np.ndarray:
    return np.array([float(v) for v in values])
