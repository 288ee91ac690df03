"""Pictures of a forecaster: the forecast beside what came, the error by lead time, the calibration,
the training.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.datasets import locate
from memorycell.application.modelfile import ModelFile
from memorycell.applications.forecast.codec import Series
from memorycell.applications.forecast.dataset import ForecastDataset, reopen
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
from memorycell.tables.table import read_table
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
FANS = 48
"""Forecasts drawn one after another in the picture of a stretch."""


def report(file: ModelFile, data: str | None, result: dict[str, Any]) -> str:
    """See `Application.report`."""
    return evaluation_page(file, reopen(data, file))


def evaluation_page(file: ModelFile, dataset: ForecastDataset) -> str:
    """The report of a trained model on its test part, beside the simple methods."""
    at = dataset.at("test")
    codec, target = dataset.codec, dataset.codec.targets[0]
    ours = dataset.quantiles(file.model, at)
    forecasts = {
        name: method.predict(dataset.history, at) for name, method in dataset.methods.items()
    }
    scores = {name: dataset.measure(quantiles, at) for name, quantiles in forecasts.items()}
    scores["memorycell"] = dataset.measure(ours, at)
    best = min((name for name in forecasts), key=lambda name: scores[name]["crps"])
    skill = 1 - scores["memorycell"]["crps"] / scores[best]["crps"]
    forecasts = {"memorycell": ours, **forecasts}
    names = dataset.names(at)
    truth = codec.unscale(dataset.history.future[at][..., None], names)[:, :, 0, 0]
    first = {
        name: codec.unscale(quantiles, names)[:, :, 0] for name, quantiles in forecasts.items()
    }  # [M, horizon, K]
    history = file.info.get("history") or []
    sections = [
        Section(
            "Beside simple methods, on the part it never saw",
            _units(dataset),
            table=_score_table(scores),
            highlight="memorycell",
        ),
        _stretch(dataset, at, truth, first["memorycell"]),
        _lead_times(dataset, truth, first, best),
        _calibration(truth, first, best),
    ]
    if history:
        sections.append(_training(history, file))
    often = (
        "at every step"
        if dataset.settings.stride == 1
        else f"every {dataset.settings.stride} steps"
    )
    verdict = f"{skill:.1%} better than" if skill >= 0 else f"{-skill:.1%} worse than"
    return page(
        f"{target}, {dataset.settings.horizon} steps ahead: {verdict} the best simple method"
        f" ({best})",
        f"{len(at):,} forecasts from {codec.stamp(int(dataset.series.time[at[0]]))} to"
        f" {codec.stamp(int(dataset.series.time[at[-1]]))}, one {often}, with the state carried all"
        " along, as the model runs live."
        + (" Not medical advice." if "glucose" in target.lower() else ""),
        sections,
        [*file.info.get("notes", []), *dataset.notes],
    )


def forecast_page(file: ModelFile, record: dict[str, Any]) -> str:
    """The forecast from the end of a table, after its last stretch."""
    codec, records = file.codec, record["forecasts"]
    series: Series = codec.read(read_table(locate(record["data"])[0]), record["data"])
    shown = 4 * file.model.config.horizon
    sections = []
    for one in records:
        group = one.get(codec.group, "") if codec.group else ""
        steps = np.flatnonzero(series.group == series.groups.index(group))[-shown:]
        for k, target in enumerate(codec.targets):
            values = one["forecast"][target]
            fig = figure(420)
            past = [codec.stamp(int(t)) for t in series.time[steps]]
            if codec.time is None or codec.clock.unit == "row":
                past = list(range(1 - len(steps), 1))
                ahead: list[Any] = list(range(1, len(one["ahead"]) + 1))
            else:
                ahead = one["ahead"]
            fig.add_scatter(
                x=past,
                y=series.values[steps, k],
                name="read",
                line={"color": GREY},
                connectgaps=False,
            )
            _add_band(fig, ahead, values["low80"], values["median"], values["high80"])
            fig.update_yaxes(title=target)
            end = (
                f"{values['median'][-1]:.4g} ({values['low80'][-1]:.4g} to"
                f" {values['high80'][-1]:.4g})"
            )
            sections.append(
                Section(
                    f"{target} {f'of {group} ' if group else ''}in {len(ahead)} steps: {end}",
                    figure=fig,
                )
            )
    title = f"Forecast of {', '.join(codec.targets)} from {records[0]['time']}"
    return page(
        title, "The line is the median; 80% of the outcomes should lie in the band.", sections
    )


def forecast_csv(file: ModelFile, record: dict[str, Any]) -> str:
    """The same as CSV, a line a time and target."""
    records, group = record["forecasts"], file.codec.group
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*([group] if group else []), "time", "target", "median", "low80", "high80"])
    for record in records:
        for target, values in record["forecast"].items():
            for k, moment in enumerate(record["ahead"]):
                own = [record[group]] if group else []
                writer.writerow(
                    [*own, moment, target, *(values[q][k] for q in ("median", "low80", "high80"))]
                )
    return text.getvalue()


def _units(dataset: ForecastDataset) -> str:
    unit = (
        "in the unit of the column"
        if len(dataset.codec.targets) == 1
        else "in standard deviations of the training part"
    )
    return (
        f"CRPS scores the whole distribution, MAE its middle, both {unit} (lower is better); MASE"
        " is the MAE over that of repeating the last season; coverage of the 80% interval is right"
        " at 0.80."
    )


def _score_table(scores: dict[str, dict[str, float]]) -> list[list[str]]:
    names = sorted(scores, key=lambda name: -scores[name]["crps"])
    return [
        ["method", *scores["memorycell"]],
        *([name, *(f"{v:.4g}" for v in scores[name].values())] for name in names),
    ]


def _stretch(
    dataset: ForecastDataset, at: np.ndarray, truth: np.ndarray, ours: np.ndarray
) -> Section:
    """A stretch whose error is typical: of all stretches the one with the median error, not the
    prettiest.
    """
    series, codec, horizon = dataset.series, dataset.codec, ours.shape[1]
    _, middle, _ = interval(ours)
    error = np.nanmean(np.abs(truth - middle), 1)
    length = min(max(FANS * horizon // dataset.settings.stride, 1), len(at))
    starts = np.arange(0, len(at) - length + 1, max(length // 2, 1))
    means = np.array([np.nanmean(error[s : s + length]) for s in starts])
    start = int(starts[np.argsort(means)[len(means) // 2]])
    chosen = at[start : start + length]
    steps = np.arange(chosen[0], min(chosen[-1] + horizon + 1, len(series)))
    steps = steps[series.group[steps] == series.group[chosen[0]]]
    clock_free = codec.time is None or codec.clock.unit == "row"
    x = [int(s) if clock_free else codec.stamp(int(series.time[s])) for s in steps]
    place = {int(s): k for k, s in enumerate(steps)}
    fig = figure(400)
    xs: list[Any] = []
    lines: dict[str, list[float | None]] = {"low": [], "median": [], "high": []}
    issued = start
    while issued < start + length:
        step = int(at[issued])
        ahead = [place[step + k] for k in range(1, horizon + 1) if step + k in place]
        if step in place and len(ahead) == horizon:
            xs += [x[k] for k in ahead] + [None]
            for name, values in zip(lines, interval(ours[issued]), strict=True):
                lines[name] += [*values.tolist(), None]
        issued = int(np.searchsorted(at, step + horizon))
    fig.add_scatter(
        x=x, y=series.values[steps, 0], name="what came", line={"color": GREY, "width": 1.5}
    )
    _add_fans(fig, xs, lines)
    fig.update_yaxes(title=codec.targets[0])
    return Section(
        f"The forecast beside what came: a typical stretch, {horizon} steps ahead each time",
        "Each fan was made at its left end and knew nothing of what follows. This is the stretch"
        " with the median error of the test part.",
        fig,
    )


def _lead_times(
    dataset: ForecastDataset, truth: np.ndarray, first: dict[str, np.ndarray], best: str
) -> Section:
    fig = figure()
    horizon = truth.shape[1]
    scores = {
        name: [metrics.crps(truth[:, k], q[:, k].astype(np.float64)) for k in range(horizon)]
        for name, q in first.items()
    }
    for name, values in scores.items():
        ours = name == "memorycell"
        fig.add_scatter(
            x=list(range(1, horizon + 1)),
            y=values,
            name=name,
            mode="lines+markers",
            line={
                "color": COLOURS[name],
                "width": 3 if ours else 1.5,
                "dash": "solid" if ours else "dot",
            },
            visible=True if np.mean(values) < 2 * np.mean(scores["memorycell"]) else "legendonly",
        )
    fig.update_xaxes(title=f"steps ahead (one step: {dataset.codec.clock})")
    fig.update_yaxes(title="CRPS", rangemode="tozero")
    better = sum(a < b for a, b in zip(scores["memorycell"], scores[best], strict=True))
    return Section(
        f"Error by lead time: below {best} at {better} of {horizon} steps ahead",
        "Methods twice as bad or worse are hidden; click their names to see them.",
        fig,
    )


def _calibration(truth: np.ndarray, first: dict[str, np.ndarray], best: str) -> Section:
    fig = figure()
    levels = quantile_levels(first["memorycell"].shape[-1])
    known = ~np.isnan(truth)
    shares = {
        name: [float((truth[known] <= q[..., k][known]).mean()) for k in range(len(levels))]
        for name, q in first.items()
    }
    fig.add_scatter(
        x=[0, 1], y=[0, 1], name="right", line={"color": GREY, "dash": "dash", "width": 1}
    )
    for name in ("memorycell", best):
        fig.add_scatter(
            x=levels, y=shares[name], name=name, mode="lines+markers", line={"color": COLOURS[name]}
        )
    fig.update_xaxes(title="quantile level", range=[0, 1])
    fig.update_yaxes(title="share of outcomes below it", range=[0, 1])
    off = max(abs(a - b) for a, b in zip(levels, shares["memorycell"], strict=True))
    return Section(f"The quantiles mean what they say, within {off:.1%}", "", fig)


def _training(history: list[dict[str, float]], file: ModelFile) -> Section:
    fig = figure(300)
    values = [entry["valid_crps"] for entry in history]
    epochs = list(range(1, len(values) + 1))
    fig.add_scatter(
        x=epochs, y=values, name="validation CRPS", mode="lines+markers", line={"color": BLUE}
    )
    if "to_beat" in file.info:
        fig.add_scatter(
            x=[epochs[0], epochs[-1]],
            y=[file.info["to_beat"]] * 2,
            name="best simple method",
            mode="lines",
            line={"color": GREY, "dash": "dash", "width": 1.5},
        )
    fig.update_xaxes(title="epoch")
    fig.update_yaxes(title="CRPS")
    best = int(np.argmin(values))
    return Section(
        f"Training: the best of {len(values)} epochs was number {best + 1}, and is what was kept",
        "",
        fig,
    )


def _add_band(
    fig: go.Figure,
    x: Sequence[Any],
    low: Sequence[float],
    median: Sequence[float],
    high: Sequence[float],
) -> None:
    fig.add_scatter(x=x, y=high, name="90%", mode="lines", line={"width": 0}, showlegend=False)
    fig.add_scatter(
        x=x,
        y=low,
        name="80% interval",
        mode="lines",
        line={"width": 0},
        fill="tonexty",
        fillcolor=BAND,
    )
    fig.add_scatter(
        x=x, y=median, name="forecast (median)", mode="lines", line={"color": BLUE, "width": 2.5}
    )


def _add_fans(fig: go.Figure, x: list[Any], lines: dict[str, list[float | None]]) -> None:
    """Many bands with breaks between them: each is a closed outline, since a fill cannot skip a
    gap.
    """
    outline_x: list[Any] = []
    outline_y: list[float | None] = []
    begin = 0
    for k, moment in enumerate(x):
        if moment is None:
            outline_x += [*x[begin:k], *reversed(x[begin:k]), None]
            outline_y += [*lines["high"][begin:k], *reversed(lines["low"][begin:k]), None]
            begin = k + 1
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
