"""What was found in a table, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from memorycell.applications.forecast.words import training_notes
from memorycell.errors import counted
from memorycell.training.splits import SPLITS

if TYPE_CHECKING:
    from memorycell.applications.forecast.dataset import ForecastDataset


def table_notes(dataset: ForecastDataset, rows: int) -> list[str]:
    """The step, inputs, gaps, missing values and split of a dataset; `rows` of its table."""
    codec, series, settings = dataset.codec, dataset.series, dataset.settings
    count = f" in {len(series.groups)} series" if codec.group else ""
    calendar = f"; calendar: {', '.join(codec.calendar)}" if codec.calendar else ""
    notes = [
        f"{counted(rows, 'rows')}{count}, one step = {codec.clock};"
        f" forecast: {', '.join(codec.targets)}, {counted(settings.horizon or 1, 'steps')} ahead",
        f"inputs: {', '.join([*codec.columns, *codec.words])}{calendar}",
        *training_notes(series, codec.words),
    ]
    empty = int((series.row < 0).sum())
    if empty or series.skipped:
        long_gaps = int(series.reset.sum()) - len(series.groups)
        notes.append(
            f"gaps: {counted(empty, 'empty steps')} filled, {counted(long_gaps, 'longer gaps')}"
            f" after which the state is reset, {counted(series.skipped, 'rows')} dropped for"
            " sharing a step with another"
        )
    read = series.row >= 0
    for k, column in enumerate(codec.columns):
        if missing := int((np.isnan(series.values[:, k]) & read).sum()):
            notes.append(f"{column}: {missing:,} of {int(read.sum()):,} values missing")
    if (settings.stride or 1) > 1:
        notes.append(
            f"tested at every {settings.stride} steps ({len(dataset.origins('test')):,} forecasts);"
            " --set stride=1 for all"
        )
    validated = [len(at) for at in (dataset.scored_origins("valid"), dataset.origins("valid"))]
    if validated[0] < validated[1]:
        notes.append("validated at {:,} of {:,} steps, evenly spaced".format(*validated))
    sizes = (f"{int((dataset.split == k).sum()):,} {name}" for k, name in enumerate(SPLITS))
    notes.append(f"steps, in order of time: {', '.join(sizes)}")
    if settings.classic:
        notes.append(
            f"{settings.classic}: refitted after training at {settings.origins} test steps, up to"
            " some seconds each"
        )
    notes.append(
        f"{codec.targets[0]} further than {codec.bounds[0]:g} standard deviations from its mean is"
        " clipped there as input; other columns likewise"
    )
    if codec.positive:
        notes.append("positive: forecasts are clipped at 0")
    return notes + list(codec.notes)
