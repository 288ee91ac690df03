"""Fitting the codec: which columns vary, their scaling and their categories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from memorycell.applications.anomaly.codec import (
    CYCLES,
    MIN_CHANGE,
    MIN_STD,
    Level,
    ReadingsCodec,
    forward_fill,
    longest_run,
    own_level,
)
from memorycell.applications.anomaly.columns import GAP, Columns, Recording
from memorycell.applications.anomaly.source import MAX_CATEGORIES
from memorycell.errors import DataError, quote
from memorycell.tables.table import mean_std

MIN_TRAIN_ROWS = 24


def without_constant(
    columns: Columns,
    recordings: Sequence[Recording],
    train: Sequence[Recording],
    where: str,
    named: Collection[str] = (),
) -> tuple[Columns, list[Recording], list[str]]:
    """(the columns that vary in the training rows, the recordings with them alone, notes).

    train   the training rows of each recording
    named   columns that the user named, which are not left out

    Raises `DataError` for a named column that is constant, and where no number is left.
    """
    values = np.concatenate([r.values for r in train])
    words = np.concatenate([r.words for r in train])
    numbers = np.array([_varies(column) for column in values.T], bool)
    categories = np.array([len(set(column)) > 1 for column in words.T], bool)
    names = np.array([*columns.numbers, *columns.categories], object)
    constant = names[~np.concatenate([numbers, categories])].tolist()
    for name in constant:
        if name in named:
            raise DataError(
                f"{where}: column {quote(name)} is constant or empty in the training rows; remove"
                " it from --set columns=…"
            )
    if not numbers.any():
        raise DataError(
            f"{where}: no number varies in the training rows; a column of numbers or of irregular"
            " times is needed"
        )
    columns = replace(
        columns,
        numbers=tuple(c for c, keep in zip(columns.numbers, numbers, strict=True) if keep),
        categories=tuple(c for c, keep in zip(columns.categories, categories, strict=True) if keep),
        formats={c: f for c, f in columns.formats.items() if c not in constant},
    )
    notes = [
        "the time between rows left out: it is always the same"
        if name == GAP
        else f"column {quote(name)} left out: it is constant or empty in the training rows"
        for name in constant
    ]
    return columns, [r.select_columns(numbers, categories) for r in recordings], notes


def _varies(values: np.ndarray) -> bool:
    """Whether a column [N] has different values."""
    known = values[~np.isnan(values)]
    return len(known) > 1 and bool(known.min() < known.max()) and bool(known.std() >= MIN_STD)


def fit_codec(
    columns: Columns,
    settle: int,
    train: Sequence[Recording],
    normal: Sequence[Recording],
    *,
    encoding: str | None = None,
    sheet: str | None = None,
) -> ReadingsCodec:
    """A codec fitted on training rows; see `varying_columns` for the columns.

    train    the training rows of each recording
    normal   its training and validation rows, from which a recording's own level comes with
             `settle`, and the longest runs of equal values, which are a threshold

    Raises `DataError` for too few rows.
    """
    pairs = [(t, n) for t, n in zip(train, normal, strict=True) if len(t) > 1]
    values = np.concatenate([np.zeros((0, len(columns.numbers))), *(t.values for t, _ in pairs)])
    if len(values) < MIN_TRAIN_ROWS:
        raise DataError(
            f"only {len(values)} training rows; at least {MIN_TRAIN_ROWS} are needed, and hundreds"
            " are sensible"
        )
    level = _typical_level(values, [t.values for t, _ in pairs] if settle else [])
    levels = [own_level(n.values, level) if settle else level for _, n in pairs]
    z = [forward_fill(own.standardize(t.values)) for own, (t, _) in zip(levels, pairs, strict=True)]
    _, change = mean_std(np.concatenate([np.diff(own, axis=0) for own in z]))
    runs = [[longest_run(column) for column in n.values.T] for n in normal]
    seconds = max(float(t.time[-1] - t.time[0]) for t, _ in pairs) / 1e6 if columns.times else 0.0
    missing = np.isnan(values).any(0)
    return ReadingsCodec(
        columns=columns.numbers,
        categories=_known_categories(columns.categories, train),
        times=columns.times,
        group=columns.group,
        label=columns.label,
        settle=settle,
        mean=tuple(level.mean.tolist()),
        std=tuple(level.std.tolist()),
        change=tuple(np.where(change >= MIN_CHANGE, change, 1.0).tolist()),
        longest=tuple(np.max(runs, 0).tolist()),
        gappy=tuple(c for c, gap in zip(columns.numbers, missing, strict=True) if gap and c != GAP),
        cycles=tuple(name for name, period in CYCLES.items() if seconds > 2 * period),
        formats=columns.formats,
        encoding=encoding,
        sheet=sheet,
    )


def _typical_level(values: np.ndarray, recordings: Sequence[np.ndarray]) -> Level:
    """The level of all rows [N, K]. Given recordings with their own levels, the standard deviation
    is the median of theirs.
    """
    with np.errstate(all="ignore"):
        mean, std = mean_std(values)
        if recordings:
            own = np.stack([mean_std(r)[1] for r in recordings])
            std = np.where((own > 0).any(0), np.nanmedian(np.where(own > 0, own, np.nan), 0), std)
    return Level(mean, std)


def _known_categories(
    columns: Sequence[str], recordings: Sequence[Recording]
) -> dict[str, tuple[str, ...]]:
    """Column -> its most frequent categories."""
    known = {}
    for k, column in enumerate(columns):
        counts = Counter(word for r in recordings for word in r.words[:, k] if word)
        known[column] = tuple(word for word, _ in counts.most_common(MAX_CATEGORIES))
    return known
