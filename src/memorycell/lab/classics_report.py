"""The page of the classic long-lag problems: accuracy against the gap, gradient against distance,
the cell state over the gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from memorycell.inspection.page import BLUE, GREEN, GREY, ORANGE, PURPLE, Section, figure, page
from memorycell.lab.classics import CAROUSEL_STEPS
from memorycell.lab.trial import CELLS, HIDDEN_SIZE, SOLVED_ACCURACY, TrialResult

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLOURS = {
    "rnn": ORANGE,
    "gru": GREEN,
    "lstm": BLUE,
    "peephole": PURPLE,
    "coupled": GREY,
    "layernorm": "#56b4e9",
    "mogrifier": PURPLE,
    "slstm": ORANGE,
    "mlstm": GREEN,
    "minlstm": "#e69f00",
    "mingru": "#882255",
}
DASHES = {
    "rnn": "solid",
    "gru": "dash",
    "lstm": "solid",
    "peephole": "dot",
    "coupled": "dashdot",
    "layernorm": "longdash",
    "mogrifier": "dash",
    "slstm": "dash",
    "mlstm": "dot",
    "minlstm": "dashdot",
    "mingru": "longdash",
}
MAX_HEATMAP_STEPS = 400


def classics_page(results: Sequence[TrialResult], carousel_change: float) -> str:
    """The HTML page of the trials."""
    recall = [r for r in results if r.problem == "recall"]
    others = [r for r in results if r.problem != "recall"]
    sections = _recall_sections(recall) if recall else []
    if others:
        sections.append(
            Section(
                "The other problems",
                "Share of correct answers on new sequences, and the updates of the training, which"
                f" ends at {SOLVED_ACCURACY:.1%} or at the limit. A sum is correct within 0.04.",
                table=_accuracy_table(others),
            )
        )
    sections += [
        Section(
            f"{name.capitalize()}: correct answers during training",
            f"Share on validation sequences against updates, gap {of_problem[0].gap}.",
            learning_figure(of_problem),
        )
        for name, of_problem in _by_problem(others).items()
    ]
    sections.append(
        Section(
            f"The constant error carousel: after {CAROUSEL_STEPS:,} steps with f = 1 and i = 0, c"
            f" has changed by {carousel_change:g}",
            "c_t = f · c_{t-1} + i · g becomes c_t = c_{t-1}, and the gradient ∂c_t/∂c_0 is 1."
            " In a plain RNN it grows or shrinks like |W|^t (Hochreiter & Schmidhuber 1997).",
        )
    )
    lead = (
        "Long-lag problems of Hochreiter & Schmidhuber (1997) and Arjovsky et al. (2016), and"
        " problems on which the newer cells differ; the same for every cell."
    )
    return page(_title(_at_longest_gap(recall)), lead, sections)


def _by_problem(results: Sequence[TrialResult]) -> dict[str, list[TrialResult]]:
    return {
        name: [r for r in results if r.problem == name]
        for name in dict.fromkeys(r.problem for r in results)
    }


def _at_longest_gap(recall: Sequence[TrialResult]) -> dict[str, TrialResult]:
    """Cell -> its result at the longest gap."""
    longest = max((r.gap for r in recall), default=0)
    return {r.cell: r for r in recall if r.gap == longest}


def _title(longest: dict[str, TrialResult]) -> str:
    if not {"rnn", "lstm"} <= set(longest):
        return "The memory lab"
    lstm, rnn = longest["lstm"], longest["rnn"]
    return (
        f"Over a gap of {lstm.gap} steps the LSTM recalls {lstm.accuracy:.1%}, the plain RNN"
        f" {rnn.accuracy:.1%} (chance {rnn.chance:.1%})"
    )


def _recall_sections(recall: Sequence[TrialResult]) -> list[Section]:
    longest = _at_longest_gap(recall)
    gap = next(iter(longest.values())).gap
    sections = [
        Section(
            "Recall: a marked symbol, distractors from the same alphabet, then a cue to name it",
            f"Accuracy on new sequences against the gap. Every cell has {HIDDEN_SIZE} units and"
            " trains until it solves the problem, with the same limit of updates.",
            recall_figure(recall),
        ),
        Section(
            "Gradient at each step, before training",
            f"|∂loss/∂h| against the distance from the end, over a gap of {gap}. The biases of the"
            " gated cells are initialised for this gap (Tallec & Ollivier 2018).",
            gradient_figure({cell: r.gradient_before for cell, r in longest.items()}),
        ),
        Section(
            "Gradient at each step, after training",
            "In the cells that solved the problem the gradient reaches the first step.",
            gradient_figure({cell: r.gradient_after for cell, r in longest.items()}),
        ),
    ]
    for cell in ("lstm", "rnn"):
        if cell in longest:
            state = "cell state c" if cell == "lstm" else "hidden state h"
            sections.append(
                Section(
                    f"{cell.upper()}: {state} of every unit over the gap",
                    "One test sequence. A unit that stores the symbol keeps its colour to the end.",
                    state_figure(longest[cell]),
                )
            )
    return sections


def recall_figure(results: Sequence[TrialResult]) -> go.Figure:
    """Accuracy against the gap, one line per cell."""
    fig = figure(400)
    for cell in CELLS:
        of_cell = sorted((r for r in results if r.cell == cell), key=lambda r: r.gap)
        if of_cell:
            fig.add_scatter(
                x=[r.gap for r in of_cell],
                y=[r.accuracy for r in of_cell],
                name=cell,
                mode="lines+markers",
                line={"color": COLOURS[cell], "dash": DASHES[cell]},
            )
    fig.add_hline(
        y=results[0].chance, line={"color": GREY, "dash": "dot"}, annotation_text="chance"
    )
    gaps = sorted({r.gap for r in results})
    fig.update_xaxes(
        title="gap in steps", type="log", tickvals=gaps, ticktext=[str(g) for g in gaps]
    )
    fig.update_yaxes(title="accuracy", tickformat=".0%", range=[0, 1.05])
    return fig


def learning_figure(results: Sequence[TrialResult]) -> go.Figure:
    """Validation accuracy against updates, one line per cell."""
    fig = figure(340)
    for r in results:
        fig.add_scatter(
            x=[updates for updates, _ in r.history],
            y=[accuracy for _, accuracy in r.history],
            name=r.cell,
            mode="lines",
            line={"color": COLOURS[r.cell], "dash": DASHES[r.cell]},
        )
    fig.add_hline(
        y=results[0].chance, line={"color": GREY, "dash": "dot"}, annotation_text="chance"
    )
    fig.update_xaxes(title="updates")
    fig.update_yaxes(title="accuracy", tickformat=".0%", range=[0, 1.05])
    return fig


def gradient_figure(norms_by_cell: dict[str, list[float]]) -> go.Figure:
    """Gradient norm against distance, each curve relative to its value at the end."""
    fig = figure(400)
    for cell, values in norms_by_cell.items():
        norms = np.array(values)
        if len(norms) and norms.max() > 0:
            relative = np.where(norms > 0, norms / max(norms[0], 1e-30), np.nan)
            fig.add_scatter(
                x=list(range(len(norms))),
                y=np.clip(relative, 1e-12, 1e6),
                name=cell,
                mode="lines",
                line={"color": COLOURS[cell], "dash": DASHES[cell]},
            )
    fig.update_xaxes(title="steps before the end")
    fig.update_yaxes(
        title="gradient relative to the last step",
        type="log",
        exponentformat="power",
        dtick=2,
        range=[-12.3, 4],
    )
    return fig


def state_figure(result: TrialResult) -> go.Figure:
    """Heat map [units, steps] of the cell state, units sorted by their value halfway."""
    fig = figure(300)
    values = np.array(result.cell_state).T
    values = values[np.argsort(values[:, len(values[0]) // 2])]
    limit = float(np.percentile(np.abs(values), 99)) or 1.0
    stride = max(1, values.shape[1] // MAX_HEATMAP_STEPS)
    fig.add_heatmap(
        z=values[:, ::stride].tolist(),
        x=list(range(0, values.shape[1], stride)),
        colorscale="RdBu",
        zmin=-limit,
        zmax=limit,
        colorbar={"thickness": 10},
        hovertemplate="unit %{y}, step %{x}: %{z}<extra></extra>",
    )
    fig.update_layout(hovermode="closest")
    fig.update_xaxes(title="step")
    fig.update_yaxes(title="unit")
    return fig


def _accuracy_table(results: Sequence[TrialResult]) -> list[list[str]]:
    columns = {(r.problem, r.gap): r.chance for r in results}
    accuracy = {
        (r.problem, r.gap, r.cell): f"{r.accuracy:.1%}, {r.updates:,} updates" for r in results
    }
    header = ["cell", *(f"{name}, gap {gap}" for name, gap in columns)]
    chance = ["chance", *(f"{p:.1%}" for p in columns.values())]
    cells = [cell for cell in CELLS if any(r.cell == cell for r in results)]
    return [
        header,
        chance,
        *([cell, *(accuracy.get((*column, cell), "–") for column in columns)] for cell in cells),
    ]
