"""Inspection of a forecaster on the last steps of a table."""

from __future__ import annotations

import torch

from memorycell.application.contract import ModelFile
from memorycell.application.datasets import locate
from memorycell.application.inspecting import MAX_STEPS, Called
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.model import Forecaster
from memorycell.applications.forecast.scaling import with_new_series
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.inspection.inspect import Inspection
from memorycell.inspection.inspect import inspect as inspect_model


class _First(Called):
    def forward(self, x: torch.Tensor) -> None:
        self.model.params(x)  # type: ignore[operator]


def inspect(file: ModelFile[Forecaster, SeriesCodec], source: str | None) -> Inspection:
    """See `Application.inspect`; the source is a table."""
    codec = file.codec
    path, dataset = locate(file.data if source is None else source)
    where = dataset.name if dataset else str(source or file.data)
    series = codec.read(codec.read_file(path), where)
    codec = with_new_series(codec, series, where)
    inputs = codec.encode(series)[-MAX_STEPS:]
    values = codec.fill(series)[-MAX_STEPS:, 0]
    stamps = [str(codec.stamp(int(time))) for time in series.time[-MAX_STEPS:]]
    inspection = inspect_model(
        _First(file.model),
        torch.from_numpy(inputs)[None],
        labels=[f"{s[11:16] or s} {value:.4g}" for s, value in zip(stamps, values, strict=True)],
        title=f"Inside the forecaster of {', '.join(codec.targets)}",
        trained_on=file.typed_settings(ForecastSettings).bptt,
    )
    inspection.history = file.history
    inspection.notes.append(
        f"{where}: the last {len(inputs):,} of {len(series):,} steps, {stamps[0]} to {stamps[-1]}"
    )
    if file.model.config.members > 1:
        inspection.notes.append(f"the first of {file.model.config.members} members")
    return inspection
