"""Ridge regression from a window of inputs to every lead time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy

import numpy as np
import torch

from memorycell.applications.forecast.baselines import Baseline
from memorycell.applications.forecast.history import History, spaced
from memorycell.applications.forecast.windows import last_steps

PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
MAX_COLUMNS = 1500
"""Columns of the widest window that is tried."""
MAX_WORK, MIN_ROWS = 1.5e10, 1000
"""Rows times columns² of a window, and the fewest rows: of longer tables, evenly spaced rows are
used.
"""
LONG_TABLE_ROWS, LONG_TABLE_WORK, LONG_TABLE_FINAL_WORK = 100_000, 7e8, 2.5e9
"""Of tables with more training steps, windows and penalties are compared on as many rows as the
first work allows, and the best pair is fitted again on as many as the second allows.
"""
MIN_ROWS_PER_COLUMN = 2
"""Of a window that is tried on a part of the rows: with fewer it loses to shorter ones."""
LONG_TABLE_HELD_OUT = 2048
"""Their validation steps that window and penalty are chosen on."""
MAX_SOLVE_WORK = 1e9
"""Outputs times columns³ of a window where each lead time is fitted by itself."""
MAX_HELD_OUT = 8192
"""Validation steps that window and penalty are chosen on, evenly spaced."""
MAX_PRODUCTS = 3e7
"""Numbers of XᵀX in memory at once where each lead time has its own."""
MIN_WHOLE_SHARE = 0.5
"""Share of the rows with any known future that must have all of it known, for one regression of all
lead times; otherwise each lead time is fitted on the rows where it is known.
"""
MAX_SUBSET_COLUMNS, MAX_SUBSET_ROWS = 600, 8192
"""Columns and rows of the regressions that compare inputs."""
CHUNK_ROWS = 8192
"""Rows whose windows are in memory at once."""


class Ridge(Baseline):
    """Linear regression from a window of inputs to every lead time, with an L2 penalty (Hoerl &
    Kennard 1970).

    ŷ_{t+k} - y_t = w_k · (inputs of the last W steps). Window and penalty minimise the absolute
    error on the validation steps. A lead time whose value is never known in training has no change.
    """

    def __init__(self, windows: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.windows = windows
        self.weights = np.zeros((0, 0, 0))
        """[W·F + 1, horizon, C]"""

    def fit(self, history: History, train: np.ndarray, valid: np.ndarray, quantiles: int) -> None:
        """See `Baseline`."""
        best_error, best_width, penalty = np.inf, 0, PENALTIES[0]
        steps = np.flatnonzero(train)
        long = len(steps) > LONG_TABLE_ROWS
        held_out = spaced(np.flatnonzero(valid), LONG_TABLE_HELD_OUT if long else MAX_HELD_OUT)
        work = LONG_TABLE_WORK if long else MAX_WORK
        for width in self.windows:
            columns = width * history.inputs.shape[1] + 1
            rows = spaced(steps, _max_rows(columns**2, work))
            whole = _are_whole(history, rows)
            together = whole.mean() >= MIN_WHOLE_SHARE
            few = long and len(rows) < MIN_ROWS_PER_COLUMN * columns
            if width != min(self.windows) and (few or not _affordable(history, columns, together)):
                continue
            solutions = (
                _solutions(history, rows[whole], width)
                if together
                else _solutions_per_output(history, rows, width)
            )
            errors = _absolute_errors(history, held_out, solutions, width)
            best = int(errors.argmin())
            if errors[best] < best_error or self.weights.size == 0:
                best_error = errors[best]
                best_width, penalty = width if together else 0, PENALTIES[best]
                self.weights = solutions[best].reshape(-1, *history.future.shape[1:])
        if long and best_width:
            columns = best_width * history.inputs.shape[1] + 1
            rows = spaced(steps, _max_rows(columns**2, LONG_TABLE_FINAL_WORK))
            gram, cross = _products(history, rows[_are_whole(history, rows)], best_width)
            weights = solve(gram + _diagonal(columns, penalty), cross)
            self.weights = weights.reshape(self.weights.shape)
        super().fit(history, train, valid, quantiles)

    def window(self, history: History) -> int:
        """The steps that it reads."""
        return (len(self.weights) - 1) // history.inputs.shape[1]

    def point(self, history: History, at: np.ndarray) -> np.ndarray:
        """See `Baseline`."""
        flat, width = self.weights.reshape(len(self.weights), -1), self.window(history)
        result = np.empty((len(at), *self.weights.shape[1:]))
        for part in _chunks(len(at)):
            gain = _windows(history, at[part], width) @ flat
            result[part] = history.level[at[part], None] + gain.reshape(-1, *result.shape[1:])
        return result

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Baseline`."""
        return {"weights": self.weights, **super().arrays()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """See `Baseline`."""
        super().load(arrays)
        if arrays["weights"].ndim != 3 or arrays["weights"].shape[1:] != self.spread.shape[:2]:
            raise ValueError("the weights of ridge do not fit its errors")
        self.weights = arrays["weights"]


class SubsetRidge:
    """Ridge regressions that read some of the inputs, from products that are computed once.

    usable   whether enough rows have all of their future known
    offered  [F] the features of the products that may be chosen; see `among`
    """

    def __init__(
        self, history: History, train: np.ndarray, valid: np.ndarray, max_window: int
    ) -> None:
        features = history.inputs.shape[1]
        self._width = min(max_window, max((MAX_SUBSET_COLUMNS - 1) // features, 1))
        rows = spaced(np.flatnonzero(train), MAX_SUBSET_ROWS)
        whole = _are_whole(history, rows)
        self.usable = bool(len(rows) and whole.mean() >= MIN_WHOLE_SHARE)
        self.offered = np.arange(features)
        self._features = features
        if self.usable:
            held_out = spaced(np.flatnonzero(valid), MAX_SUBSET_ROWS // 2)
            self._gram, self._cross = _products(history, rows[whole], self._width)
            self._x = _windows(history, held_out, self._width)
            self._y = _gain(history, held_out)

    def error(self, chosen: np.ndarray) -> float:
        """The mean absolute error on validation with the inputs `chosen` [F] bool of those
        `offered`, with the best penalty.
        """
        every = np.zeros(self._features, bool)
        every[self.offered[chosen]] = True
        at = np.flatnonzero(np.append(np.tile(every, self._width), True))
        gram, cross, x = self._gram[np.ix_(at, at)], self._cross[at], self._x[:, at]
        errors = (
            np.nanmean(np.abs(self._y - x @ solve(gram + _diagonal(len(at), p), cross)))
            for p in PENALTIES[1::2]
        )
        return float(min(errors))

    def among(self, kept: np.ndarray) -> SubsetRidge:
        """The same products for some of the inputs, `kept` [F] bool of those `offered`."""
        other = copy(self)
        other.offered = self.offered[kept]
        return other


def best_penalty(
    gram: np.ndarray,
    cross: np.ndarray,
    x_valid: np.ndarray,
    y_valid: np.ndarray,
    unit: np.ndarray,
    tolerance: float = 0.0,
) -> tuple[np.ndarray, float]:
    """(weights [P, K] with the penalty of the lowest mean absolute error on validation, the error);
    of penalties whose error is higher by at most the share `tolerance`, the strongest.

    gram = XᵀX and cross = XᵀY of x [M, P] with a last column of ones, y [M, K]; on validation y may
    have NaN, and its errors are in `unit`
    """
    solutions = [solve(gram + _diagonal(len(gram), p), cross) for p in PENALTIES]
    errors = [np.nanmean(np.abs(y_valid - x_valid @ weights) * unit) for weights in solutions]
    best = int(np.flatnonzero(np.array(errors) <= (1 + tolerance) * min(errors))[-1])
    return solutions[best], float(errors[best])


def solve(gram: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """Gram⁻¹ cross of a symmetric positive definite matrix [P, P]: by Cholesky, which takes half
    the time of a general solution, where rounding leaves it positive definite.
    """
    factor, failed = torch.linalg.cholesky_ex(torch.from_numpy(gram))
    if failed:
        return np.linalg.solve(gram, cross)
    solution: np.ndarray = torch.cholesky_solve(torch.from_numpy(cross), factor).numpy()
    return solution


def _are_whole(history: History, rows: np.ndarray) -> np.ndarray:
    """[M] bool: all of the future is known."""
    return np.concatenate(
        [~np.isnan(history.future[rows[part]]).any((1, 2)) for part in _chunks(len(rows))]
    )


def _affordable(history: History, columns: int, together: bool) -> bool:
    """Whether a window is narrow enough to be tried."""
    outputs = int(np.prod(history.future.shape[1:]))
    return columns <= MAX_COLUMNS and (together or outputs * columns**3 <= MAX_SOLVE_WORK)


def _solutions(history: History, rows: np.ndarray, width: int) -> list[np.ndarray]:
    """The weights [W·F + 1, horizon · C] for every penalty; all futures of the rows are known."""
    gram, cross = _products(history, rows, width)
    return [solve(gram + _diagonal(len(gram), p), cross) for p in PENALTIES]


def _solutions_per_output(history: History, rows: np.ndarray, width: int) -> list[np.ndarray]:
    """As `_solutions`, each lead time on the rows where it is known."""
    outputs = int(np.prod(history.future.shape[1:]))
    columns = width * history.inputs.shape[1] + 1
    rows = spaced(rows, _max_rows(outputs * columns**2, MAX_WORK))
    solutions = np.zeros((len(PENALTIES), columns, outputs))
    size = max(int(MAX_PRODUCTS / columns**2), 1)
    for begin in range(0, outputs, size):
        group = range(begin, min(begin + size, outputs))
        grams, crosses = _products_of_outputs(history, rows, width, group)
        for k, (gram, cross) in zip(group, zip(grams, crosses, strict=True), strict=True):
            for j, penalty in enumerate(PENALTIES):
                solutions[j, :, k] = np.linalg.solve(gram + _diagonal(columns, penalty), cross)
    return list(solutions)


def _max_rows(work_per_row: float, work: float) -> int:
    return max(int(work / work_per_row), MIN_ROWS)


def _products(history: History, rows: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(XᵀX, XᵀY) of the rows, whose futures are known."""
    gram: np.ndarray | float = 0.0
    cross: np.ndarray | float = 0.0
    for part in _chunks(len(rows)):
        x, y = _windows(history, rows[part], width), _gain(history, rows[part])
        gram, cross = gram + x.T @ x, cross + x.T @ y
    return np.asarray(gram), np.asarray(cross)


def _products_of_outputs(
    history: History, rows: np.ndarray, width: int, outputs: range
) -> tuple[np.ndarray, np.ndarray]:
    """(XᵀX [outputs, P, P], XᵀY [outputs, P]) of the rows where each output is known."""
    columns = width * history.inputs.shape[1] + 1
    grams, crosses = np.zeros((len(outputs), columns, columns)), np.zeros((len(outputs), columns))
    for part in _chunks(len(rows)):
        x, y = _windows(history, rows[part], width), _gain(history, rows[part])
        for j, k in enumerate(outputs):
            known = ~np.isnan(y[:, k])
            grams[j] += x[known].T @ x[known]
            crosses[j] += y[known, k] @ x[known]
    return grams, crosses


def _absolute_errors(
    history: History, at: np.ndarray, solutions: Sequence[np.ndarray], width: int
) -> np.ndarray:
    """The mean of each solution over the known values of the steps `at`; infinity without any."""
    total, count = np.zeros(len(solutions)), 0
    for part in _chunks(len(at)):
        x, y = _windows(history, at[part], width), _gain(history, at[part])
        count += int((~np.isnan(y)).sum())
        total += [float(np.nansum(np.abs(y - x @ weights))) for weights in solutions]
    return total / count if count else np.full(len(solutions), np.inf)


def _gain(history: History, at: np.ndarray) -> np.ndarray:
    """[M, horizon · C]: the changes from the last known values."""
    return (history.future[at] - history.level[at, None]).reshape(len(at), -1)


def _windows(history: History, at: np.ndarray, width: int) -> np.ndarray:
    """[M, W·F + 1]: the inputs of the last `width` steps, newest first, zero before the segment,
    and a one.
    """
    features = history.inputs.shape[1]
    windows = np.ones((len(at), width * features + 1))
    steps = last_steps(history.inputs, history.start, at, width)
    for k in range(width):
        windows[:, k * features : (k + 1) * features] = steps[:, width - 1 - k]
    return windows


def _diagonal(size: int, penalty: float) -> np.ndarray:
    """The penalties; none on the intercept."""
    return np.diag([*[penalty] * (size - 1), 1e-9])


def _chunks(size: int) -> Iterator[slice]:
    return (slice(begin, begin + CHUNK_ROWS) for begin in range(0, size, CHUNK_ROWS))
