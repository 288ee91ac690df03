"""Forecasts as multi-output regression: a row per time step, a column per step ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from memorycell.errors import UserError
from memorycell.face.frames import has_times
from memorycell.sklearn.estimator import TrainedEstimator

if TYPE_CHECKING:
    import polars as pl

ALL_ROWS = 1_000_000
"""Origins, at most those that there are."""


class Forecaster(TrainedEstimator):
    """Forecasts the next `horizon` values of columns of X after every row of X.

    X is an array [n, F] of numbers, or a data frame with times and other columns; its rows are in
    the order of time. The rows of `predict` are those of X: in row t are the medians of the values
    at t+1 … t+horizon, given rows up to t. y is not used: the values that are forecast are columns
    of X. `model_` forecasts with intervals, and live.

    target     the column to forecast, or several: by name or by position; may be left out where
               there is only one
    horizon    steps ahead; None: from the clock of X
    time, group, inputs, known, static, every, window, hidden, layers, cell, dropout, epochs, lr
               settings of the task, see `memorycell.settings("forecast")`; lists of columns are
               separated by commas
    minutes    approximate training time; None: by epochs
    device     see `memorycell.train`
    random_state   the seed of the weights and batches
    verbose    progress on stderr
    settings   further settings by name

    Fitted: `model_`, `n_features_in_`, `feature_names_in_`, `n_outputs_`, and `outputs_`, the names
    of the columns of `predict`: "load+1", "load+2", …
    """

    task = "forecast"
    task_settings = (
        *("horizon", "time", "group", "inputs", "known", "static", "every", "window"),
        *("hidden", "layers", "cell", "dropout", "epochs", "lr"),
    )

    def __init__(
        self,
        target: str | int | Sequence[str | int] | None = None,
        horizon: int | None = None,
        *,
        time: str | None = None,
        group: str | None = None,
        inputs: str | None = None,
        known: str | None = None,
        static: str | None = None,
        every: str | None = None,
        window: int | None = None,
        hidden: int | None = None,
        layers: int | None = None,
        cell: str | None = None,
        dropout: float | None = None,
        epochs: int | None = None,
        lr: float | None = None,
        minutes: float | None = None,
        device: str | None = None,
        random_state: Any = 0,
        verbose: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.target = target
        self.horizon = horizon
        self.time = time
        self.group = group
        self.inputs = inputs
        self.known = known
        self.static = static
        self.every = every
        self.window = window
        self.hidden = hidden
        self.layers = layers
        self.cell = cell
        self.dropout = dropout
        self.epochs = epochs
        self.lr = lr
        self.minutes = minutes
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.settings = settings

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on the rows of X in the order of time. y is not used. Raises `UserError`, a
        ValueError.
        """
        table = self._table(X, reset=True)
        clock = self.time or self.every or {"time", "every"} & set(self.settings or {})
        rows = {} if clock or has_times(table) else {"every": "row"}  # in the order given
        self._train(table, target=self._names(self.target), **rows)
        self._horizon = int(self.model_.settings["horizon"])
        self._targets = list(self.model_.codec.targets)
        steps = range(1, self._horizon + 1)
        self.outputs_ = [f"{name}+{k}" for name in self._targets for k in steps]
        self.n_outputs_ = len(self.outputs_)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The medians [n, n_outputs_] after every row of X, [n] for a single output; see `outputs_`
        for the order. NaN after rows without a forecast: where known inputs of the next rows are
        missing, and for rows that share a time step with the previous one.
        """
        check_is_fitted(self)
        forecasts = self._forecasts(self._table(X, reset=False))
        return forecasts[:, 0] if self.n_outputs_ == 1 else forecasts

    def score(self, X: Any, y: Any = None) -> float:
        """The coefficient of determination R² of the forecasts, averaged over the outputs: of y [n,
        n_outputs_], or of the values in the rows that follow. Rows without either are left out.
        """
        check_is_fitted(self)
        table = self._table(X, reset=False)
        forecasts = self._forecasts(table)
        truth = self._next_values(table) if y is None else np.asarray(y, np.float64)
        truth = truth.reshape(len(truth), -1)
        if truth.shape != forecasts.shape:
            raise ValueError(
                f"y: expected the next values {list(forecasts.shape)}, got {list(truth.shape)}"
            )
        rows = ~np.isnan(truth).any(1) & ~np.isnan(forecasts).any(1)
        if rows.sum() < 2:
            raise UserError(
                f"score: fewer than two rows of X are followed by {self.n_outputs_} known values"
            )
        return float(r2_score(truth[rows], forecasts[rows]))

    def _forecasts(self, table: pl.DataFrame) -> np.ndarray:
        """[n, n_outputs_]"""
        found = self._prediction(self._with_known_futures(table), origins=ALL_ROWS)
        forecasts = np.full((table.height, self.n_outputs_), np.nan)
        rows = found["row"].to_numpy()[:: self.n_outputs_] - 1
        forecasts[rows] = found["median"].to_numpy().reshape(-1, self.n_outputs_)
        return forecasts

    def _with_known_futures(self, table: pl.DataFrame) -> pl.DataFrame:
        """The table without the targets of the last rows, where these give the known inputs."""
        import polars as pl

        if self.known is None:
            return table
        row, rows = pl.int_range(pl.len()), pl.len()
        if self.group is not None:
            row, rows = row.over(self.group), rows.over(self.group)
        given = row < rows - self._horizon
        return table.with_columns(pl.when(given).then(pl.col(c)).alias(c) for c in self._targets)

    def _next_values(self, table: pl.DataFrame) -> np.ndarray:
        """[n, n_outputs_]: the values of the targets at the times of the forecasts; NaN where there
        is no such row.
        """
        series = self.model_.codec.read(table, "X")
        steps = np.arange(len(series))[:, None] + np.arange(1, self._horizon + 1)
        inside = steps < len(series)
        steps = np.minimum(steps, len(series) - 1)
        inside &= series.start[steps] == series.start[:, None]
        values = series.values[steps, : len(self._targets)]
        values = np.where(inside[..., None], values, np.nan).swapaxes(1, 2)
        truth = np.full((table.height, self.n_outputs_), np.nan)
        read = series.row >= 0
        truth[series.row[read]] = values[read].reshape(-1, self.n_outputs_)
        return truth
