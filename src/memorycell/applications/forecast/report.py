"""The report of a forecaster: scores, forecasts, error by lead time, calibration, training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.contract import Metrics, ModelFile
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.dataset import ForecastDataset
from memorycell.applications.forecast.model import Forecaster
from memorycell.applications.forecast.reopening import reopen
from memorycell.inspection.page import (
    BAND,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    Section,
    figure,
    page,
)
from memorycell.models.quantiles import interval, quantile_levels
from memorycell.training import metrics

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLOURS = {
    "memorycell": BLUE,
    "ridge": ORANGE,
    "persistence": GREEN,
    "seasonal naive": PURPLE,
    "constant": GREEN,
    "rolling variance": PURPLE,
    "weighted variance": ORANGE,
}
MAX_FANS = 48
"""Consecutive forecasts in the figure of a typical period."""
MAX_SHOWN_CRPS = 2.0
"""Methods with a larger CRPS, relative to the model's, are hidden at first."""


def report(
    file: ModelFile[Forecaster, SeriesCodec], data: str | None, result: Mapping[str, Any]
) -> str:
    """See `Application.report`."""
    return evaluation_page(file, reopen(data, file))


def evaluation_page(file: ModelFile[Forecaster, SeriesCodec], dataset: ForecastDataset) -> str:
    """An HTML page of a model on the test split, compared with the baselines."""
    at = dataset.origins("test")
    codec, target = dataset.codec, dataset.codec.targets[0]
    forecasts = {"memorycell": dataset.quantiles(file.model, at)} | {
        name: model.predict(dataset.history, at) for name, model in dataset.baseline_models.items()
    }
    scores = {name: dataset.score(quantiles, at) for name, quantiles in forecasts.items()}
    best = min(dataset.baseline_models, key=lambda name: scores[name]["crps"])
    skill = 1 - scores["memorycell"]["crps"] / scores[best]["crps"]
    names = dataset.series_names(at)
    truth = codec.unscale(dataset.history.future[at][..., None], names)[:, :, 0, 0]
    first = {name: codec.unscale(q, names)[:, :, 0] for name, q in forecasts.items()}
    sections = [
        Section(
            "Compared with baselines on the held-out test split",
            _metrics_text(dataset),
            table=_score_table(scores),
            highlight="memorycell",
        ),
        _typical_period(dataset, at, truth, first["memorycell"]),
        _lead_times(dataset, truth, first, best),
        _calibration(truth, first, best),
    ]
    crps = [entry["valid_crps"] for entry in file.history if "valid_crps" in entry]
    if crps:
        sections.append(_training(crps, file.info.get("to_beat")))
    stride = dataset.settings.stride
    often = "at every step" if stride == 1 else f"every {stride} steps"
    verdict = f"{abs(skill):.1%} {'better' if skill >= 0 else 'worse'} than the best baseline"
    begin, end = (codec.stamp(int(dataset.series.time[step])) for step in (at[0], at[-1]))
    return page(
        f"{target}, {dataset.settings.horizon} steps ahead: {verdict} ({best})",
        f"{len(at):,} forecasts from {begin} to {end}, one {often}, with the state carried along as"
        f" in a live stream.{' Not medical advice.' if 'glucose' in target.lower() else ''}",
        sections,
        [*file.notes, *dataset.notes],
    )


def _metrics_text(dataset: ForecastDataset) -> str:
    unit = "standard deviations of the training split" if dataset.scaled else "the column's unit"
    return (
        f"CRPS scores the distribution, MAE its median, both in {unit} (lower is better). MASE is"
        " the MAE relative to that of repeating the last season. The ideal coverage of the 80%"
        " interval is 0.80."
    )


def _score_table(scores: Mapping[str, Metrics]) -> list[list[str]]:
    names = sorted(scores, key=lambda name: -scores[name]["crps"])
    return [
        ["method", *scores["memorycell"]],
        *([name, *(f"{v:.4g}" for v in scores[name].values())] for name in names),
    ]


def _typical_period(
    dataset: ForecastDataset, at: np.ndarray, truth: np.ndarray, ours: np.ndarray
) -> Section:
    """The forecasts of the period with the median error; truth [M, horizon], ours [M, horizon, K]
    of the first target.
    """
    series, codec, horizon = dataset.series, dataset.codec, ours.shape[1]
    error = np.nanmean(np.abs(truth - interval(ours)[1]), 1)
    length = min(max(MAX_FANS * horizon // dataset.settings.stride, 1), len(at))
    starts = np.arange(0, len(at) - length + 1, max(length // 2, 1))
    means = np.array([np.nanmean(error[s : s + length]) for s in starts])
    start = int(starts[np.argsort(means)[len(means) // 2]])
    shown = at[start : start + length]
    steps = np.arange(shown[0], min(shown[-1] + horizon + 1, len(series)))
    steps = steps[series.group[steps] == series.group[shown[0]]]
    numbered = codec.time is None or codec.clock.unit == "row"
    x = [int(s) if numbered else codec.stamp(int(series.time[s])) for s in steps]
    place = {int(s): k for k, s in enumerate(steps)}
    fan_x: list[Any] = []
    lines: dict[str, list[float | None]] = {"low": [], "median": [], "high": []}
    origin = start
    while origin < start + length:
        step = int(at[origin])
        ahead = [place[step + k] for k in range(1, horizon + 1) if step + k in place]
        if step in place and len(ahead) == horizon:
            fan_x += [x[k] for k in ahead] + [None]
            for name, values in zip(lines, interval(ours[origin]), strict=True):
                lines[name] += [*values.tolist(), None]
        origin = int(np.searchsorted(at, step + horizon))
    fig = figure(400)
    observed = series.values[steps, 0]
    fig.add_scatter(x=x, y=observed, name="observed", line={"color": GREY, "width": 1.5})
    _add_fans(fig, fan_x, lines)
    fig.update_yaxes(title=codec.targets[0])
    return Section(
        f"Forecasts and observations in a typical period, {horizon} steps ahead",
        "Each forecast uses only the values before its left end. The period has the median error of"
        " the test split.",
        fig,
        name="typical period",
    )


def _lead_times(
    dataset: ForecastDataset, truth: np.ndarray, first: Mapping[str, np.ndarray], best: str
) -> Section:
    fig = figure()
    horizon = truth.shape[1]
    scores = {
        name: [metrics.crps(truth[:, k], q[:, k].astype(np.float64)) for k in range(horizon)]
        for name, q in first.items()
    }
    limit = MAX_SHOWN_CRPS * np.mean(scores["memorycell"])
    for name, values in scores.items():
        width, dash = (3.0, "solid") if name == "memorycell" else (1.5, "dot")
        fig.add_scatter(
            x=list(range(1, horizon + 1)),
            y=values,
            name=name,
            mode="lines+markers",
            line={"color": COLOURS[name], "width": width, "dash": dash},
            visible=True if np.mean(values) < limit else "legendonly",
        )
    fig.update_xaxes(title=f"steps ahead (one step: {dataset.codec.clock})")
    fig.update_yaxes(title="CRPS", rangemode="tozero")
    better = sum(a < b for a, b in zip(scores["memorycell"], scores[best], strict=True))
    return Section(
        f"Error by lead time: below {best} at {better} of {horizon} lead times",
        "Methods with twice the error are hidden; click a name to show one.",
        fig,
        name="lead times",
    )


def _calibration(truth: np.ndarray, first: Mapping[str, np.ndarray], best: str) -> Section:
    fig = figure()
    levels = quantile_levels(first["memorycell"].shape[-1])
    known = ~np.isnan(truth)
    shares = {
        name: [float((truth[known] <= q[..., k][known]).mean()) for k in range(len(levels))]
        for name, q in first.items()
    }
    ideal = {"color": GREY, "dash": "dash", "width": 1}
    fig.add_scatter(x=[0, 1], y=[0, 1], name="ideal", line=ideal)
    for name in ("memorycell", best):
        fig.add_scatter(
            x=levels, y=shares[name], name=name, mode="lines+markers", line={"color": COLOURS[name]}
        )
    fig.update_xaxes(title="quantile level", range=[0, 1])
    fig.update_yaxes(title="share of outcomes below it", range=[0, 1])
    error = max(abs(a - b) for a, b in zip(levels, shares["memorycell"], strict=True))
    title = f"The quantiles are calibrated to within {error:.1%}"
    return Section(title, "", fig, name="calibration")


def _training(values: Sequence[float], to_beat: float | None) -> Section:
    fig = figure(300)
    epochs = list(range(1, len(values) + 1))
    fig.add_scatter(
        x=epochs, y=values, name="validation CRPS", mode="lines+markers", line={"color": BLUE}
    )
    if to_beat is not None:
        fig.add_scatter(
            x=[epochs[0], epochs[-1]],
            y=[to_beat] * 2,
            name="best baseline",
            mode="lines",
            line={"color": GREY, "dash": "dash", "width": 1.5},
        )
    fig.update_xaxes(title="epoch")
    fig.update_yaxes(title="CRPS")
    best = int(np.argmin(values)) + 1
    title = f"Training: epoch {best} of {len(values)} was the best and is saved"
    return Section(title, "", fig, name="training")


def _add_fans(
    fig: go.Figure, x: Sequence[Any], lines: Mapping[str, Sequence[float | None]]
) -> None:
    """Bands separated by None. Each is a closed outline, since a fill cannot skip a gap."""
    outline_x: list[Any] = []
    outline_y: list[float | None] = []
    begin = 0
    for end, value in enumerate(x):
        if value is None:
            outline_x += [*x[begin:end], *reversed(x[begin:end]), None]
            outline_y += [*lines["high"][begin:end], *reversed(lines["low"][begin:end]), None]
            begin = end + 1
    fig.add_scatter(
        x=outline_x,
        y=outline_y,
        name="80% interval",
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=BAND,
        hoverinfo="skip",
    )
    fig.add_scatter(
        x=x,
        y=lines["median"],
        name="forecast (median)",
        mode="lines",
        line={"color": BLUE, "width": 2},
    )
