"""The columns and scalings of a codec, fitted on training sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from memorycell.applications.sequences.codec import Column, SequenceCodec, fill_forward
from memorycell.applications.sequences.own_scale import running_moments, scale_floor
from memorycell.applications.sequences.sequence_set import Channel, SequenceSet

MIN_STD = 1e-12
HEAVY_TAIL = 25.0
"""A column is read through asinh where the 99.5% quantile of the distances from its median is more
than this many times their median: a linear scale would hide the small values."""


def fit_codec(
    data: SequenceSet, *, patch: int, changes: bool, sequence: str | None = None
) -> SequenceCodec:
    """The codec of labelled sequences, fitted on training sequences alone.

    changes    the changes of numbers from row to row are inputs too
    sequence   column that names the sequence of a row
    """
    target = data.target
    assert target is not None
    table = np.concatenate(data.values)
    channels = [fit_column(c, table[:, k]) for k, c in enumerate(data.channels)]
    if changes:
        channels = [
            replace(c, change=_change(c, [v[:, k] for v in data.values]))
            for k, c in enumerate(channels)
        ]
    channels = [
        _with_own_scale(column, [v[:, k] for v in data.values]) for k, column in enumerate(channels)
    ]
    static: list[Column] = []
    if data.static is not None:
        static = [fit_column(c, data.static[:, k]) for k, c in enumerate(data.static_channels)]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    if target.kind in ("number", "step_number"):
        own = target.array
        mean = tuple(float(m) for m in np.nanmean(own, 0))
        std = tuple(float(s) if s > MIN_STD else 1.0 for s in np.nanstd(own, 0))
    names = {column.name for column in (*channels, *static)}
    return SequenceCodec(
        target=target.kind,
        names=tuple(target.names),
        channels=tuple(channels),
        static=tuple(static),
        patch=patch,
        target_mean=mean,
        target_std=std,
        sequence=sequence,
        formats={name: how for name, how in data.formats.items() if name in names},
    )


def fit_column(channel: Channel, values: np.ndarray) -> Column:
    """The scaling of a column from its training values [N]."""
    missing = np.isnan(values)
    gappy = bool(missing.any())
    if channel.words:
        return Column(channel.name, tuple(channel.words), gappy=gappy)
    known = values[~missing]
    if not len(known):
        return Column(channel.name, gappy=gappy)
    unit = 0.0
    distance = np.abs(known - np.median(known))
    typical = float(np.median(distance))
    if typical > 0 and float(np.quantile(distance, 0.995)) > HEAVY_TAIL * typical:
        unit = typical
        known = np.arcsinh(known / unit)
    std = float(known.std())
    return Column(
        channel.name,
        mean=float(known.mean()),
        std=std if std > MIN_STD else 1.0,
        unit=unit,
        gappy=gappy,
    )


def _change(column: Column, values: Sequence[np.ndarray]) -> float:
    """The standard deviation of the changes of a column in scaled units; 0 for a constant one."""
    if column.words:
        return 0.0
    steps = [np.diff(column.scaled(fill_forward(v[:, None])[:, 0])) for v in values if len(v) > 1]
    if not steps:
        return 0.0
    std = float(np.nanstd(np.concatenate(steps)))
    return std if std > MIN_STD else 0.0


def _with_own_scale(column: Column, values: Sequence[np.ndarray]) -> Column:
    """The column, read relative to each sequence too where their scales differ much."""
    floor = 0.0 if column.words else scale_floor(values)
    if not floor:
        return column
    final = np.array([running_moments(v[:, None])[1][-1, 0] for v in values])
    logs = np.log(np.maximum(final, floor))
    return replace(
        column, floor=floor, log_mean=float(logs.mean()), log_std=max(float(logs.std()), MIN_STD)
    )
