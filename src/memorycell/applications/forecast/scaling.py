"""Fits a codec to the training steps: scaling, columns with missing values, static values."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from memorycell.applications.forecast.codec import MAX_INPUT, SeriesCodec
from memorycell.applications.forecast.encoding import Scaling, largest_inputs
from memorycell.applications.forecast.series import Series
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.applications.forecast.words import check_known_words, fit_words
from memorycell.errors import DataError, quote
from memorycell.tables.table import mean_std

MAX_STATIC_VALUES = 64
"""Values of a static column that get an input each."""
MIN_COUNT_MEAN = 1e-3
"""Smallest unit that counts are scaled by."""
MIN_BOUND, BOUND_FACTOR = 10.0, 2.0
"""Inputs are clipped at the second times the largest scaled value in training, at least at the
first.
"""


def fit_codec(
    codec: SeriesCodec, series: Series, train: np.ndarray, settings: ForecastSettings, where: str
) -> SeriesCodec:
    """The codec with everything that is fitted on the training steps, train [N] bool. Raises
    `DataError`.
    """
    scaling = _fit_scaling(series, train)
    for column, std in zip(codec.columns, scaling.std, strict=True):
        if not std > 0:
            raise DataError(
                f"{where}: column {column!r} is constant or empty in the training split; choose"
                " another"
            )
    separate = settings.scaling == "series"
    own = scaling_per_series(series, train, scaling) if separate else {}
    late = [name for name in series.groups if separate and name not in own]
    if late:  # series that begin after the training steps, as `predict` scales new ones
        everywhere = scaling_per_series(series, np.ones(len(series), bool), scaling)
        own |= {name: everywhere[name] for name in late}
    if settings.head == "counts":
        scaling = _count_scaling(codec, series, scaling, separate, where)
    values = series.values[train & (series.row >= 0)]
    if settings.positive:
        _check_positive(codec, series, where)
    codec = replace(
        codec,
        mean=tuple(scaling.mean.tolist()),
        std=tuple(scaling.std.tolist()),
        change=tuple(scaling.change.tolist()),
        gappy=tuple(c for k, c in enumerate(codec.columns) if np.isnan(values[:, k]).any()),
        own=own,
        notes=(*codec.notes, *(late_note(name) for name in late)),
        static={c: _static_values(series, train, c) for c in codec.static},
        words=fit_words(series, train, tuple(codec.words), where),
    )
    check_known_words(codec, where)
    return replace(codec, bounds=_bounds(codec, series, train))


def narrow(
    series: Series, codec: SeriesCodec, inputs: Collection[str]
) -> tuple[Series, SeriesCodec]:
    """The series and the codec, to be fitted, with the `inputs` alone, numbers and words."""
    kept = [k for k, c in enumerate(codec.columns) if c in (*codec.targets, *inputs)]
    columns = [codec.columns[k] for k in kept]
    words = {c: own for c, own in codec.words.items() if c in inputs}
    series = replace(
        series,
        values=series.values[:, kept],
        words={c: own for c, own in series.words.items() if c in words},
    )
    codec = replace(
        codec,
        inputs=tuple(columns[len(codec.targets) :]),
        words=words,
        numbers={c: f for c, f in codec.numbers.items() if c not in codec.inputs or c in columns},
        gappy=(),
        bounds=(),
    )
    return series, codec


def late_note(name: str) -> str:
    """Says how a series without training steps is scaled."""
    return f"series {quote(name)} begins after the training split: scaled by its own rows"


def _bounds(codec: SeriesCodec, series: Series, train: np.ndarray) -> tuple[float, ...]:
    """Where scaled values [C] and changes [C] are clipped, from those of the training steps."""
    largest = largest_inputs(codec, series, train)
    bounds = np.clip(np.ceil(BOUND_FACTOR * largest.astype(np.float64)), MIN_BOUND, MAX_INPUT)
    return tuple(bounds.tolist())


def _check_positive(codec: SeriesCodec, series: Series, where: str) -> None:
    """Raises `DataError` for a negative target with positive=yes."""
    for k, target in enumerate(codec.targets):
        if (negative := series.values[:, k] < 0).any():
            at = int(negative.argmax())
            raise DataError(
                f"{where}: row {int(series.row[at]) + 1}, column {quote(target)}:"
                f" {series.values[at, k]:g} is negative; leave positive out"
            )


def with_new_series(codec: SeriesCodec, series: Series, where: str) -> SeriesCodec:
    """The codec with a scaling of the series that were not in training, by their own rows, where
    each series has its own. Raises `DataError` for one with too few rows.
    """
    new = [name for name in series.groups if codec.own and name not in codec.own]
    if not new:
        return codec
    shared = Scaling(np.array(codec.mean), np.array(codec.std), np.array(codec.change))
    own = scaling_per_series(series, np.ones(len(series), bool), shared)
    for name in new:
        values = series.values[series.group == series.groups.index(name), : len(codec.targets)]
        if (np.nanstd(values, 0) > 0).all():
            continue
        raise DataError(
            f"{where}: series {quote(name)} was not in training, and has too few different values"
            " to scale it by its own rows; add rows of it, or train with it"
        )
    return replace(codec, own={**codec.own, **{name: own[name] for name in new}})


def _fit_scaling(series: Series, train: np.ndarray) -> Scaling:
    """The scaling [C] of all training steps together."""
    mean, std = mean_std(series.values[train])
    change = _change_std(series, train)
    return Scaling(mean, std, np.where(change > 0, change, std))


def scaling_per_series(
    series: Series, train: np.ndarray, shared: Scaling
) -> dict[str, tuple[tuple[float, ...], ...]]:
    """Series -> mean, std and change [C] of its training steps, for series that have any."""
    own = {}
    for k, name in enumerate(series.groups):
        steps = train & (series.group == k)
        if not steps.any():
            continue
        mean, std = mean_std(series.values[steps])
        std = np.where(std > 0, std, shared.std)
        change = _change_std(series, steps)
        change = np.where(change > 0, change, std)
        own[name] = tuple(tuple(part.tolist()) for part in (mean, std, change))
    return own


def _change_std(series: Series, steps: np.ndarray) -> np.ndarray:
    """Standard deviation [C] of the changes between consecutive steps of a segment."""
    inside = steps[1:] & steps[:-1] & ~series.reset[1:]
    changes = (np.diff(column)[inside, None] for column in series.values.T)
    return np.concatenate([mean_std(own)[1] for own in changes])


def _count_scaling(
    codec: SeriesCodec, series: Series, scaling: Scaling, separate: bool, where: str
) -> Scaling:
    """The scaling with the target in units of its mean and without an offset."""
    if len(codec.targets) > 1 or separate:
        raise DataError(f"{where}: head=counts needs one target and scaling=all")
    values = series.values[:, 0]
    wrong = ((values < 0) | (values != np.round(values))) & ~np.isnan(values)
    if wrong.any():
        at = int(wrong.argmax())
        raise DataError(
            f"{where}: row {int(series.row[at]) + 1}, column {codec.targets[0]!r}: {values[at]:g}"
            " is not a count; head=counts needs 0, 1, 2, …; otherwise leave head out"
        )
    mean, std = scaling.mean.copy(), scaling.std.copy()
    mean[0], std[0] = 0.0, max(float(scaling.mean[0]), MIN_COUNT_MEAN)
    return Scaling(mean, std, scaling.change)


def _static_values(series: Series, train: np.ndarray, column: str) -> tuple[str, ...]:
    """The values of a static column in the series that are trained on."""
    groups = np.unique(series.group[train & (series.row >= 0)])
    values = dict.fromkeys(series.static[column][k] for k in groups)
    return tuple(values)[:MAX_STATIC_VALUES]
