"""A forecast as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.contract import ModelFile
from memorycell.application.datasets import locate
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.model import Forecaster
from memorycell.inspection.page import BAND, BLUE, GREY, Section, figure, page

if TYPE_CHECKING:
    import plotly.graph_objects as go

HISTORY_HORIZONS = 4
"""Past shown before a forecast, in horizons."""


def forecast_page(file: ModelFile[Forecaster, SeriesCodec], record: Mapping[str, Any]) -> str:
    """An HTML page with the last forecast of every series and target, after its last rows."""
    codec = file.codec
    last = {
        forecast[codec.group] if codec.group else "": forecast for forecast in record["forecasts"]
    }
    forecasts = list(last.values())
    series = codec.read(codec.read_file(locate(record["data"])[0]), record["data"])
    sections = []
    for forecast in forecasts:
        name = forecast[codec.group] if codec.group else ""
        steps = np.flatnonzero(series.group == series.groups.index(name))
        steps = steps[-HISTORY_HORIZONS * file.model.config.horizon :]
        past = [codec.stamp(int(time)) for time in series.time[steps]]
        values = series.values[steps]
        for k, target in enumerate(codec.targets):
            sections.append(_section(codec, forecast, target, name, past, values[:, k]))
    title = f"Forecast of {', '.join(codec.targets)} from {forecasts[0]['time']}"
    return page(title, "The line is the median, the band the 80% interval.", sections)


def _section(
    codec: SeriesCodec,
    forecast: Mapping[str, Any],
    target: str,
    name: str,
    past: Sequence[str | int],
    values: np.ndarray,
) -> Section:
    ahead = forecast["ahead"]
    if codec.time is None or codec.clock.unit == "row":
        past, ahead = range(1 - len(values), 1), list(range(1, len(ahead) + 1))
    low, median, high = (forecast["forecast"][target][k] for k in ("low80", "median", "high80"))
    fig = figure(420)
    fig.add_scatter(
        x=list(past), y=values, name="observed", line={"color": GREY}, connectgaps=False
    )
    _add_band(fig, ahead, low, median, high)
    fig.update_yaxes(title=target)
    of = f" of {name}" if name else ""
    end = f"{median[-1]:.4g} ({low[-1]:.4g} to {high[-1]:.4g})"
    return Section(f"{target}{of} in {len(ahead)} steps: {end}", figure=fig, name=f"{target}{of}")


def _add_band(
    fig: go.Figure,
    x: Sequence[str | int],
    low: Sequence[float],
    median: Sequence[float],
    high: Sequence[float],
) -> None:
    edge = {"mode": "lines", "line": {"width": 0}}
    fig.add_scatter(x=x, y=high, name="90%", showlegend=False, **edge)
    fig.add_scatter(x=x, y=low, name="80% interval", fill="tonexty", fillcolor=BAND, **edge)
    fig.add_scatter(
        x=x, y=median, name="forecast (median)", mode="lines", line={"color": BLUE, "width": 2.5}
    )
