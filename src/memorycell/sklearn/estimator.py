"""What the estimators have in common: their parameters as settings, and X as a table."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from memorycell.errors import DataWarning
from memorycell.face.frames import is_frame, to_polars
from memorycell.face.train import train
from memorycell.tables.column_lists import join_names

if TYPE_CHECKING:
    import polars as pl

    from memorycell.face.trained import Trained

MAX_SEED = 2**31 - 1


class TrainedEstimator(BaseEstimator):  # type: ignore[misc]
    """An estimator that trains a model of one task.

    model_   the `memorycell.Trained` model, after `fit`
    """

    task: ClassVar[str]
    task_settings: ClassVar[tuple[str, ...]]
    """The parameters that are settings of the task; None leaves the task's default."""

    minutes: float | None
    device: str | None
    random_state: Any
    verbose: bool
    settings: Mapping[str, Any] | None
    model_: Trained
    _columns: list[str]
    """Of X, in the last call."""

    def _train(self, data: Any, **more: Any) -> None:
        """Fit `model_`; `more` are further settings of the task."""
        given = {n: v for n in self.task_settings if (v := getattr(self, n)) is not None}
        self.model_ = train(
            self.task,
            data,
            minutes=self.minutes,
            device=self.device,
            progress=self.verbose,
            baselines=False,
            seed=self._seed(),
            **given,
            **more,
            **(self.settings or {}),
        )

    def _prediction(self, table: pl.DataFrame, **options: Any) -> pl.DataFrame:
        """Of `model_`, for a table with the columns of `fit`: those that it left out are known, and
        forecasts are asked for at more rows than there are.
        """
        with warnings.catch_warnings():
            for known in ("columns? not used", "[0-9,]+ of [0-9,]+ forecasts: the table has no"):
                warnings.filterwarnings("ignore", known, DataWarning)
            found: pl.DataFrame = self.model_.predict(table, **options)
        return found

    def _seed(self) -> int:
        if isinstance(self.random_state, numbers.Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(MAX_SEED))

    def _table(self, X: Any, *, reset: bool) -> pl.DataFrame:
        """X as a table: a data frame as it is, or the columns x0, x1, … of an array [n, F] of
        numbers, NaN where missing. Raises ValueError for other columns than in `fit`.
        """
        import polars as pl

        if is_frame(X):
            validate_data(self, X, reset=reset, skip_check_array=True)
            self._columns = [str(name) for name in getattr(X, "column_names", X.columns)]
            return to_polars(X)
        values = validate_data(
            self,
            X,
            reset=reset,
            dtype="numeric",
            ensure_all_finite="allow-nan",
            ensure_min_samples=2 if reset else 1,
        )
        columns = np.asarray(values, np.float64).T
        self._columns = [f"x{k}" for k in range(len(columns))]
        return pl.DataFrame(dict(zip(self._columns, columns, strict=True)))

    def _names(self, columns: Any) -> str | None:
        """Columns of X that are given by name or by position, one or several, as a setting. Raises
        ValueError.
        """
        given = [columns] if isinstance(columns, (str, numbers.Integral)) else list(columns or ())
        names = []
        for column in given:
            if isinstance(column, numbers.Integral):
                width = len(self._columns)
                if not -width <= int(column) < width:
                    raise ValueError(f"column {column}: X has {width} columns")
                column = self._columns[int(column)]
            names.append(str(column))
        return join_names(names) or None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.required = False
        return tags
