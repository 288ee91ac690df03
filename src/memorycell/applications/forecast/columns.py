"""A forecast as a table: in memory, as CSV, as Parquet."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from memorycell.application.contract import ModelFile
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.model import Forecaster


def forecast_columns(
    file: ModelFile[Forecaster, SeriesCodec], record: Mapping[str, Any]
) -> dict[str, Sequence[object]]:
    """A row per series, target and time: the series, time, target, median, low80, high80, and the
    quantiles that were asked for; with several origins also the row and time of each.
    """
    group = file.codec.group
    rows: list[dict[str, object]] = []
    for forecast in record["forecasts"]:
        series = {} if group is None else {group: forecast[group]}
        if "origins" in record:
            series |= {"row": forecast["row"], "origin": forecast["time"]}
        for target, values in forecast["forecast"].items():
            for k, time in enumerate(forecast["ahead"]):
                numbers = {name: part[k] for name, part in values.items()}
                rows.append({**series, "time": time, "target": target, **numbers})
    return {name: [row[name] for row in rows] for name in rows[0]}


def forecast_csv(file: ModelFile[Forecaster, SeriesCodec], record: Mapping[str, Any]) -> str:
    """`forecast_columns` as CSV, in full precision."""
    import polars as pl

    return pl.DataFrame(forecast_columns(file, record)).write_csv()


def forecast_parquet(file: ModelFile[Forecaster, SeriesCodec], record: Mapping[str, Any]) -> bytes:
    """`forecast_columns` as Parquet."""
    import polars as pl

    data = io.BytesIO()
    pl.DataFrame(forecast_columns(file, record)).write_parquet(data)
    return data.getvalue()
