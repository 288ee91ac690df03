"""The report of an evaluation: confusions, reliability, the worst mistakes, residuals over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.report import evaluation_page
from memorycell.applications.sequences.answering import Prediction
from memorycell.applications.sequences.codec import static_rows
from memorycell.applications.sequences.dataset import SequencesDataset
from memorycell.applications.sequences.figures import (
    LEAD,
    draw_classes,
    draw_numbers,
    occlusion_figure,
)
from memorycell.applications.sequences.occlusion import occlude
from memorycell.applications.sequences.prepare import SequencesFile, reopen
from memorycell.inspection.page import BLUE, GREY, ORANGE, Page, Section, figure, page
from memorycell.models.quantiles import interval, quantile_levels

if TYPE_CHECKING:
    import plotly.graph_objects as go

BINS = 10
MAX_DRAWN = 4
MAX_SHOWN_STEPS = 2000


def report_page(file: SequencesFile, data: str | None, result: dict[str, Any]) -> Page:
    """See `Application.report`."""
    dataset = reopen(data, file)
    prediction = dataset.predictions(file.model, "test")
    general = evaluation_page(file, result)
    comparison, *others = general.sections
    sections = [comparison]
    if dataset.codec.numeric:
        sections += _number_sections(dataset, prediction)
    else:
        sections += [section for section in others if "class (rows)" in section.title]
        sections.append(_reliability(dataset, prediction))
    sections += _mistakes(file, dataset, prediction)
    sections += [section for section in others if section.name == "training"]
    title = f"sequences, {result['primary']} {result['metrics'][result['primary']]:.4g}"
    return page(title, f"{file.data}: the held-out test split", sections, file.notes)


# ---- reliability ---------------------------------------------------------------------------------


def _reliability(dataset: SequencesDataset, prediction: Prediction) -> Section:
    """Of classes and labels: how often an answer of a probability is right (DeGroot & Fienberg
    1983).
    """
    p, truth = _flat(prediction), dataset.target("test").array
    if dataset.codec.target == "labels":
        confidence, right = np.maximum(p, 1 - p).ravel(), ((p > 0.5) == (truth > 0.5)).ravel()
    else:
        known = truth >= 0
        confidence, right = p[known].max(1), p[known].argmax(1) == truth[known]
    fig = figure(330)
    edges = np.minimum((confidence * BINS).astype(int), BINS - 1)
    rows = [
        (confidence[edges == k].mean(), right[edges == k].mean(), int((edges == k).sum()))
        for k in np.unique(edges)
    ]
    fig.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dash"}, name="ideal"
    )
    fig.add_scatter(
        x=[round(float(c), 4) for c, _, _ in rows],
        y=[round(float(r), 4) for _, r, _ in rows],
        customdata=[n for _, _, n in rows],
        mode="lines+markers",
        line={"color": BLUE},
        name="answers",
        hovertemplate="%{y:.1%} of %{customdata}<extra></extra>",
    )
    fig.update_layout(hovermode="closest")
    fig.update_xaxes(title="probability of the answer", tickformat=".0%", range=[0, 1.02])
    fig.update_yaxes(title="share that is right", tickformat=".0%", range=[0, 1.02])
    text = "Below the line answers are too certain, above it not certain enough."
    return Section("Reliability", text, fig, name="reliability")


# ---- numbers -------------------------------------------------------------------------------------


def _number_sections(dataset: SequencesDataset, prediction: Prediction) -> list[Section]:
    codec = dataset.codec
    quantiles, truth = _flat(prediction), dataset.target("test").array
    known = ~np.isnan(truth[:, 0])
    _, median, _ = interval(quantiles[known, 0])
    own = truth[known, 0]
    fig = figure(330)
    shown = _thinned(len(own))
    fig.add_scatter(
        x=_plain(median[shown]),
        y=_plain(own[shown]),
        mode="markers",
        marker={"color": BLUE, "size": 5, "opacity": 0.6},
        showlegend=False,
    )
    ends = [float(min(median.min(), own.min())), float(max(median.max(), own.max()))]
    fig.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": GREY, "dash": "dash"}, showlegend=False
    )
    fig.update_layout(hovermode="closest")
    fig.update_xaxes(title="median of the prediction")
    fig.update_yaxes(title=codec.names[0])
    scatter = Section(f"Prediction and truth: {codec.names[0]}", "", fig, name="truth")
    return [scatter, _coverage(quantiles[known, 0], own), _residuals(own - median)]


def _coverage(quantiles: np.ndarray, truth: np.ndarray) -> Section:
    levels = quantile_levels(quantiles.shape[-1])
    below = (truth[:, None] <= quantiles).mean(0)
    fig = figure(330)
    fig.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dash"}, name="ideal"
    )
    fig.add_scatter(
        x=levels, y=_plain(below), mode="lines+markers", line={"color": BLUE}, name="quantiles"
    )
    fig.update_xaxes(title="level of the quantile", tickformat=".0%", range=[0, 1])
    fig.update_yaxes(title="share of values below it", tickformat=".0%", range=[0, 1.02])
    return Section("Reliability of the quantiles", "", fig, name="reliability")


def _residuals(residuals: np.ndarray) -> Section:
    fig = figure(260)
    shown = _thinned(len(residuals))
    fig.add_scatter(
        x=(shown + 1).tolist(),
        y=_plain(residuals[shown]),
        mode="lines" if len(shown) > 60 else "markers",
        line={"color": ORANGE, "width": 1},
        showlegend=False,
    )
    fig.update_xaxes(title="test steps or sequences, in their order")
    fig.update_yaxes(title="truth - median")
    text = f"Mean {residuals.mean():.4g}, standard deviation {residuals.std():.4g}."
    return Section("Residuals over time", text, fig, name="residuals")


# ---- mistakes ------------------------------------------------------------------------------------


def _mistakes(
    file: SequencesFile, dataset: SequencesDataset, prediction: Prediction
) -> list[Section]:
    """The test sequences with the largest errors, drawn."""
    codec, part = dataset.codec, dataset.part("test")
    errors = np.array([_error(dataset, prediction[k], k) for k in range(len(part))])
    sections = []
    for k in np.argsort(-errors, kind="stable")[:MAX_DRAWN]:
        if errors[k] <= 0:
            break
        title = f"Large error: {part.names[k]}"
        if codec.every_step:
            sections.append(Section(title, "", _steps_figure(dataset, prediction[k], int(k))))
            continue
        found = occlude(file.model, codec, part.values[k], static_rows(part)[k])
        sections.append(
            Section(
                f"{title}: {_described(dataset, prediction[k], int(k))}",
                LEAD,
                occlusion_figure(codec, part.values[k], found),
                name="mistake",
            )
        )
    return sections


def _error(dataset: SequencesDataset, answer: np.ndarray, k: int) -> float:
    """Of a sequence: the probability of a wrong class, the largest wrong probability of a label, or
    the mean absolute error.
    """
    truth = dataset.target("test").values[k]
    kind = dataset.codec.target
    if kind == "class":
        return float(answer.max()) if answer.argmax() != truth else 0.0
    if kind == "labels":
        return max(0.0, float(np.abs(answer - truth).max()) - 0.5)
    if kind == "step_class":
        known = truth >= 0
        return float((answer.argmax(1) != truth)[known].mean()) if known.any() else 0.0
    middle = answer.shape[-1] // 2
    error = np.abs(answer[..., middle] - truth)
    return 0.0 if np.isnan(error).all() else float(np.nanmean(error))


def _described(dataset: SequencesDataset, answer: np.ndarray, k: int) -> str:
    names, truth = dataset.codec.names, dataset.target("test").values[k]
    if dataset.codec.target == "class":
        return f"{names[int(truth)]} taken for {names[int(answer.argmax())]} ({answer.max():.1%})"
    if dataset.codec.target == "labels":
        wrong = int(np.abs(answer - truth).argmax())
        return (
            f"{names[wrong]} {answer[wrong]:.1%}, in truth {'yes' if truth[wrong] > 0.5 else 'no'}"
        )
    middle = answer.shape[-1] // 2
    return ", ".join(
        f"{name} {answer[j, middle]:.5g}, in truth {truth[j]:.5g}" for j, name in enumerate(names)
    )


def _steps_figure(dataset: SequencesDataset, answer: np.ndarray, k: int) -> go.Figure:
    truth = dataset.target("test").values[k]
    fig = figure(300)
    if not dataset.codec.numeric:
        draw_classes(fig, dataset.codec.names, answer)
        return fig
    known = np.flatnonzero(~np.isnan(truth[:, 0]))
    steps = known[_thinned(len(known))]
    draw_numbers(fig, answer[:, 0], steps)
    fig.add_scatter(
        x=(steps + 1).tolist(),
        y=_plain(truth[steps, 0]),
        name="truth",
        mode="lines",
        line={"color": ORANGE, "width": 1},
    )
    fig.update_xaxes(title="step")
    return fig


def _flat(prediction: Prediction) -> np.ndarray:
    return prediction if isinstance(prediction, np.ndarray) else np.concatenate(prediction)


def _thinned(count: int) -> np.ndarray:
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, MAX_SHOWN_STEPS)).astype(int))


def _plain(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(v) else float(f"{v:.5g}") for v in values]
