"""The forecast from the end of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.contract import ModelFile, Record
from memorycell.application.datasets import locate
from memorycell.application.rendering import table_text
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.model import Forecaster
from memorycell.applications.forecast.paths import run_paths
from memorycell.applications.forecast.series import Series
from memorycell.errors import DataError
from memorycell.models.quantiles import interval
from memorycell.tables.table import read_table

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class PredictOptions:
    """`predict` has no settings."""


def predict(
    file: ModelFile[Forecaster, SeriesCodec], source: str | None, options: PredictOptions
) -> Record:
    """`{"data", "forecasts"}`: a forecast from the end of each series of a table, a file or a named
    dataset.
    """
    if source is None:
        raise DataError("predict: name a table; the forecast begins after its last row")
    path, _ = locate(source)
    return {"data": source, "forecasts": forecast_table(file, read_table(path), source)[0]}


def forecast_table(
    file: ModelFile[Forecaster, SeriesCodec], frame: pl.DataFrame, where: str
) -> tuple[list[dict[str, Any]], Series]:
    """The forecasts from the ends of the series of a table, and the series. Raises `DataError`.

    With inputs known in advance a forecast begins after the last row that has a target: later rows
    give those inputs.
    """
    codec = file.codec
    series = codec.read(frame, where)
    ends = np.append(np.flatnonzero(np.diff(series.group)), len(series) - 1)
    if codec.known:
        has_target = ~np.isnan(series.values[:, : len(codec.targets)]).all(1)
        groups = np.unique(series.group[has_target])
        ends = np.array([np.flatnonzero(has_target & (series.group == k))[-1] for k in groups])
    horizon, paths = decoding(file)
    inputs = codec.encode(series)
    if paths:
        stepper = file.model.stepper()
        quantiles = run_paths(stepper, codec, series, inputs, ends, horizon=horizon, paths=paths)
    else:
        quantiles = file.model.run(inputs, series.start, ends)
    names = [series.groups[k] for k in series.group[ends]]
    values = codec.unscale(quantiles.astype(np.float64), names)
    records = [
        forecast_record(codec, name, int(series.time[end]), own)
        for name, end, own in zip(names, ends, values, strict=True)
    ]
    return records, series


def decoding(file: ModelFile[Forecaster, SeriesCodec]) -> tuple[int, int]:
    """(steps ahead, sampled paths; 0 for a model that forecasts all steps at once)"""
    settings = file.info.get("settings") or {}
    if settings.get("decode") != "paths":
        return file.model.config.horizon, 0
    return int(settings["horizon"]), int(settings["paths"])


def forecast_record(codec: SeriesCodec, name: str, now: int, values: np.ndarray) -> dict[str, Any]:
    """The median and the 80% interval of quantiles [horizon, targets, K] in the table's units, to
    six digits.

    name   of the series; now: the time of its last step
    """
    low, median, high = interval(values)
    record: dict[str, Any] = {} if codec.group is None else {codec.group: name}
    record |= {"time": codec.stamp(now), "ahead": codec.stamps_ahead(now, len(values))}
    record["forecast"] = {
        target: {
            key: [float(f"{v:.6g}") for v in part[:, k]]
            for key, part in (("median", median), ("low80", low), ("high80", high))
        }
        for k, target in enumerate(codec.targets)
    }
    return record


def render(record: Mapping[str, Any]) -> str:
    """See `Application.render`: a table per series."""
    return "\n".join(_forecast_text(forecast) for forecast in record["forecasts"])


def _forecast_text(forecast: Mapping[str, Any]) -> str:
    first = next(iter(forecast))
    of = "" if first == "time" else f" of {forecast[first]}"
    header = ["time"]
    for target in forecast["forecast"]:
        header += [f"{target}, median", "80% interval"]
    rows = []
    for k, time in enumerate(forecast["ahead"]):
        cells = [str(time)]
        for values in forecast["forecast"].values():
            low, median, high = (values[key][k] for key in ("low80", "median", "high80"))
            cells += [f"{median:.5g}", f"{low:.5g} … {high:.5g}"]
        rows.append(cells)
    return table_text(f"forecast{of} from {forecast['time']}", header, rows, highlight=None)
