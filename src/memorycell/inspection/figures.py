"""Figures of an inspection: memory horizon, half-lives, saturation, and gates over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from memorycell.cells import CELLS
from memorycell.inspection.inspect import SIGMOID_GATES, Inspection
from memorycell.inspection.page import BLUE, GREEN, GREY, ORANGE, PURPLE, figure
from memorycell.inspection.trace import LayerTrace

if TYPE_CHECKING:
    import plotly.graph_objects as go

MAX_SHOWN_STEPS = 140
MAX_SHOWN_UNITS = 40
MAX_TICKS = 40
MIN_SHOWN_SENSITIVITY = 1e-4
GATE_TITLES = {
    "i": "input gate i",
    "f": "forget gate f",
    "g": "candidate g",
    "o": "output gate o",
    "c": "cell state c",
    "h": "hidden state h",
    "r": "reset gate r",
    "z": "update gate z",
    "n": "candidate n",
}


def horizon_figure(inspection: Inspection) -> go.Figure:
    """Sensitivity against distance, each curve relative to its maximum."""
    fig = figure(400)
    curves = [
        ("full stack, by gradient", inspection.gradient, BLUE, "solid"),
        ("full stack, by occlusion", inspection.occlusion, ORANGE, "dot"),
    ]
    if len(inspection.layers) > 1:
        curves += [
            (f"{layer.name} alone", layer.gradient, colour, "dash")
            for layer, colour in zip(inspection.layers, (GREEN, PURPLE, GREY), strict=False)
        ]
    max_lag = inspection.trained_on or 0
    for name, horizon, colour, dash in curves:
        if horizon is None or not horizon.curve.max() > 0:
            continue
        relative = horizon.curve / horizon.curve.max()
        max_lag = max(max_lag, int(horizon.lags[relative > MIN_SHOWN_SENSITIVITY][-1]))
        fig.add_scatter(
            x=horizon.lags[relative > 0],
            y=relative[relative > 0],
            name=name,
            mode="lines",
            line={"color": colour, "dash": dash},
        )
    if inspection.gradient is not None:
        span = inspection.gradient.span
        max_lag = max(max_lag, span)
        fig.add_vline(
            x=span,
            line={"color": GREY, "dash": "dash"},
            annotation_text=f"95% within {span}",
        )
        if inspection.trained_on:
            fig.add_vline(
                x=inspection.trained_on,
                line={"color": GREY},
                annotation_text=f"training window {inspection.trained_on}",
                annotation_position="top left",
            )
    max_lag = max(max_lag, 1)
    fig.update_xaxes(title="steps back", range=[-0.02 * max_lag, 1.05 * max_lag])
    fig.update_yaxes(
        title="sensitivity relative to its maximum",
        type="log",
        range=[-4, 0.1],
        exponentformat="power",
        dtick=1,
    )
    return fig


def half_life_figure(inspection: Inspection) -> go.Figure:
    """Cumulative distribution of the units' half-lives by their forget gates."""
    fig = figure(360)
    for layer, colour in zip(inspection.layers, (BLUE, ORANGE, GREEN, PURPLE) * 4, strict=False):
        if len(layer.half_lives):
            values = np.sort(np.clip(layer.half_lives, 1e-2, 1e6))
            fig.add_scatter(
                x=values,
                y=(np.arange(len(values)) + 1) / len(values),
                name=layer.name,
                mode="lines",
                line={"color": colour, "shape": "hv"},
            )
    fig.update_xaxes(title="half-life in steps", type="log", exponentformat="none")
    fig.update_yaxes(title="cumulative share of units", tickformat=".0%", range=[0, 1.02])
    return fig


def saturation_figure(inspection: Inspection) -> go.Figure:
    """Share of each gate's values near the ends of its range."""
    bars = [
        (
            f"{layer.name}: {GATE_TITLES[gate]}"
            if len(inspection.layers) > 1
            else GATE_TITLES[gate],
            *s,
        )
        for layer in inspection.layers
        for gate, s in layer.saturation.items()
    ][::-1]
    names = [name for name, _, _ in bars]
    fig = figure(120 + 30 * len(bars))
    for label, shares, colour in (
        ("near the lower end", [low for _, low, _ in bars], ORANGE),
        ("between", [1 - low - high for _, low, high in bars], "rgba(138, 143, 152, 0.35)"),
        ("near the upper end", [high for _, _, high in bars], BLUE),
    ):
        fig.add_bar(y=names, x=shares, name=label, orientation="h", marker_color=colour)
    fig.update_layout(barmode="stack", hovermode="y unified")
    fig.update_xaxes(tickformat=".0%", range=[0, 1])
    return fig


def gates_figure(trace: LayerTrace, labels: Sequence[str], begin: int = 0) -> go.Figure:
    """Heat maps of every gate and state over `MAX_SHOWN_STEPS` steps from `begin` on, one below
    another. Rows are the `MAX_SHOWN_UNITS` most active units, in the order of `unit_order`.

    labels   [T] names of the steps
    """
    from plotly.subplots import make_subplots

    end = min(begin + MAX_SHOWN_STEPS, trace.steps)
    units = _shown_units(trace, begin, end)
    cell = CELLS[trace.module.cell]
    shown = (*cell.gates, *(() if cell.per_head else cell.state[1:2]), "h")
    names = [name for name in shown if name in trace.gates]
    style = figure().layout
    fig = make_subplots(
        rows=len(names),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.035,
        subplot_titles=[GATE_TITLES[n] for n in names],
    )
    fig.update_layout(
        template="none",
        height=60 + 130 * len(names),
        paper_bgcolor=style.paper_bgcolor,
        plot_bgcolor=style.plot_bgcolor,
        margin={"l": 60, "r": 20, "t": 30, "b": 60},
    )
    # Labels may repeat, categories must not: prefix the step number.
    steps = [
        labels[k] if labels[k] == str(k) else f"{k}: {labels[k][:24]}" for k in range(begin, end)
    ]
    for row, name in enumerate(names):
        values = trace.gates[name][0, begin:end].detach().float().cpu().numpy()[:, units].T
        is_gate = name in SIGMOID_GATES
        limit = max(1.0, float(np.abs(values).max())) if name == "c" else 1.0
        fig.add_heatmap(
            z=np.round(values, 3).tolist(),
            x=steps,
            y=[f"unit {u}" for u in units],
            row=row + 1,
            col=1,
            colorscale="Cividis" if is_gate else "RdBu",
            zmin=0.0 if is_gate else -limit,
            zmax=limit,
            reversescale=False,
            hovertemplate="%{y}, step %{x}: %{z}<extra></extra>",
            colorbar={"len": 0.9 / len(names), "y": 1 - (row + 0.5) / len(names), "thickness": 10},
        )
    fig.update_yaxes(showticklabels=False)
    fig.update_xaxes(type="category")
    stride = max(1, len(steps) // MAX_TICKS)
    fig.update_xaxes(
        tickvals=steps[::stride],
        ticktext=[labels[k][:16] for k in range(begin, end, stride)],
        row=len(names),
        col=1,
    )
    return fig


def _shown_units(trace: LayerTrace, begin: int, end: int) -> np.ndarray:
    """Indices of the units with the largest standard deviation of h, ordered by similarity."""
    h = trace.gates["h"][0, begin:end].detach().float().cpu().numpy()
    active = np.sort(np.argsort(-h.std(0), kind="stable")[:MAX_SHOWN_UNITS])
    return np.asarray(active[unit_order(h[:, active])]) if len(h) > 1 else active


def unit_order(values: np.ndarray) -> np.ndarray:
    """Order of the units of [T, H] that puts similar activity next to each other: by angle in the
    plane of the first two principal components.
    """
    centred = values - values.mean(0)
    std = centred.std(0)
    _, _, components = np.linalg.svd(centred / np.where(std > 1e-9, std, 1.0), full_matrices=False)
    first = components[0]
    second = components[1] if len(components) > 1 else np.zeros_like(first)
    return np.argsort(np.arctan2(second, first), kind="stable")


def similar_states(
    states: Tensor, step: int, count: int = 5, min_distance: int = 5
) -> list[tuple[int, float]]:
    """The steps whose state is most similar to that of `step`: (step, cosine similarity of the
    centred states [T, H]). Steps are at least `min_distance` apart.
    """
    values = torch.nn.functional.normalize(states - states.mean(0), dim=-1)
    similarity = values @ values[step]
    result: list[tuple[int, float]] = []
    for k in similarity.argsort(descending=True).tolist():
        if all(abs(k - other) >= min_distance for other in (step, *(s for s, _ in result))):
            result.append((k, float(similarity[k])))
        if len(result) == count:
            break
    return result
