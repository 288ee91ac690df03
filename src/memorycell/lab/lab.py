"""The whole lab: every cell on every problem within the time given, on all cores; the carousel; the
report.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from memorycell.errors import UserError
from memorycell.inspection.page import BLUE, GREEN, GREY, ORANGE, PURPLE, Section, figure, page
from memorycell.lab.problems import PROBLEMS
from memorycell.lab.trial import CELLS, Outcome, run
from memorycell.nn.layers import LSTM

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLOURS = {
    "rnn": ORANGE,
    "gru": GREEN,
    "lstm": BLUE,
    "peephole": PURPLE,
    "coupled": GREY,
    "layernorm": "#56b4e9",
}
DASHES = {
    "rnn": "solid",
    "gru": "dash",
    "lstm": "solid",
    "peephole": "dot",
    "coupled": "dashdot",
    "layernorm": "longdash",
}
OTHERS = (("adding", 100), ("order", 100), ("copy", 30))
CAROUSEL_STEPS = 100_000


def trials(
    minutes: float,
    gap: int = 200,
    cells: Sequence[str] = CELLS,
    problems: Sequence[str] = tuple(PROBLEMS),
    *,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> list[Outcome]:
    """Train every cell on every problem: recall at gaps of 10, 50 and `gap`, the others at their
    own.

    The time is shared among what is left: what is solved early leaves its rest to the others.
    Raises `UserError` for a name that is not known.
    """
    for name, known in ((c, CELLS) for c in cells):
        if name not in known:
            raise UserError(f"--cell {name}: expected one of {', '.join(known)}")
    for name in problems:
        if name not in PROBLEMS:
            raise UserError(f"--problem {name}: expected one of {', '.join(PROBLEMS)}")
    if gap < 2:
        raise UserError(f"--gap {gap}: expected 2 or more")
    wanted = [
        ("recall", g) for g in sorted({min(10, gap), min(50, gap), gap}, reverse=True)
    ] + list(OTHERS)
    # The longest first, so that no core is idle at the end; long sequences get more of the time.
    todo = [
        (name, g, cell, 3.0 if name == "recall" and g == gap else 1.0)
        for name, g in wanted
        if name in problems
        for cell in cells
    ]
    workers = max(
        1, min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2, len(todo))
    )
    deadline = time.monotonic() + 60 * minutes
    outcomes: list[Outcome] = []
    # Spawned: a forked process would take over torch's threads in whatever state they are.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        running: set[Future[Outcome]] = set()
        while todo or running:
            while todo and len(running) < workers:
                name, g, cell, weight = todo.pop(0)
                left = max(1.0, deadline - time.monotonic()) * workers
                share = left * weight / (weight + sum(w for *_, w in todo) + len(running))
                running.add(pool.submit(run, name, g, cell, min(share, 60 * minutes), seed))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                outcomes.append(future.result())
                o = outcomes[-1]
                say(
                    f"{o.problem} over {o.gap}: {o.cell} {o.accuracy:.1%} right (chance"
                    f" {o.chance:.1%}), {o.updates:,} updates, {o.seconds:.0f} s"
                )
    return sorted(
        outcomes, key=lambda o: (list(PROBLEMS).index(o.problem), o.gap, CELLS.index(o.cell))
    )


def carousel(steps: int = CAROUSEL_STEPS) -> float:
    """The constant error carousel: with f = 1 and i = 0, the largest change of c after so many
    steps. 0 is perfect.
    """
    torch.manual_seed(0)
    layer = LSTM(2, 8, batch_first=True)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        bias = layer.get_parameter("bias_ih_l0")
        bias[:8], bias[8:16], bias[16:24] = (
            -100.0,
            100.0,
            1.0,
        )  # σ(-100) is nothing, σ(100) is 1; the candidate is not 0
        c_0 = torch.randn(1, 1, 8)
        _, (_, c) = layer(torch.randn(1, steps, 2), (torch.zeros(1, 1, 8), c_0))
    return float((c - c_0).abs().max())


def to_json(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """The JSON object of `memorycell lab`."""
    leave = ("history", "gradient_before", "gradient_after", "cell_state")
    rows = [{k: v for k, v in asdict(o).items() if k not in leave} for o in outcomes]
    return {
        "results": rows,
        "carousel": {"steps": CAROUSEL_STEPS, "max_change": carousel()},
        "seconds": round(seconds, 1),
    }


def report(outcomes: Sequence[Outcome], change: float) -> str:
    """The page: accuracy against the gap, gradient against distance, the cell state over the gap."""
    recalls = [o for o in outcomes if o.problem == "recall"]
    longest = max((o.gap for o in recalls), default=0)
    at_longest = {o.cell: o for o in recalls if o.gap == longest}
    sections = []
    title = "The memory lab"
    if {"rnn", "lstm"} <= set(at_longest):
        title = (
            f"Over a gap of {longest} steps the LSTM recalls {at_longest['lstm'].accuracy:.1%}, the"
            f" plain RNN {at_longest['rnn'].accuracy:.1%} (chance {at_longest['rnn'].chance:.1%})"
        )
    if recalls:
        sections.append(
            Section(
                "Recall: a marked symbol, others of the same kind, then the question which it was",
                "Accuracy on sequences never seen, against the gap. Every cell has 48 units and the"
                " same share of the time.",
                recall_figure(recalls),
            )
        )
        sections.append(
            Section(
                "Why: how much of the gradient arrives from the end of the sequence back at its"
                " steps",
                f"|∂loss/∂h| against the distance from the end, over a gap of {longest}, before any"
                " learning. The gated cells were started to remember this long (Tallec & Ollivier"
                " 2018).",
                gradient_figure(list(at_longest.values()), "gradient_before"),
            )
        )
        sections.append(
            Section(
                "After learning, the cells that solved it have built themselves a road back to the"
                " first step",
                "The same. Where nothing was learnt there is none.",
                gradient_figure(list(at_longest.values()), "gradient_after"),
            )
        )
        for cell in ("lstm", "rnn"):
            if cell in at_longest:
                what = "cell state c" if cell == "lstm" else "hidden state h, all it has,"
                sections.append(
                    Section(
                        f"{cell.upper()}: the {what} of every unit over the gap",
                        "One test sequence. A unit that holds the "
                        "symbol is a line that keeps its colour to the end.",
                        state_figure(at_longest[cell]),
                    )
                )
    others = [o for o in outcomes if o.problem != "recall"]
    if others:
        sections.append(
            Section(
                "The other classics",
                "Share of right answers; of sums, those within 0.04.",
                table=_table(others),
            )
        )
    sections.append(
        Section(
            f"The constant error carousel: after {CAROUSEL_STEPS:,} steps with f = 1 and i = 0, c"
            f" has changed by {change:g}",
            "c_t = f · c_{t-1} + i · g is then c_t = c_{t-1}, and the gradient ∂c_t/∂c_0 is 1:"
            " Hochreiter & Schmidhuber's answer to 1 / |W|^t and |W|^t.",
        )
    )
    lead = (
        "Long-lag problems of Hochreiter & Schmidhuber (1997) and Arjovsky et al. (2016), for every"
        " cell side by side."
    )
    return page(title, lead, sections)


def recall_figure(outcomes: Sequence[Outcome]) -> go.Figure:
    """Accuracy against the gap, a line a cell."""
    fig = figure(400)
    for cell in CELLS:
        mine = sorted((o for o in outcomes if o.cell == cell), key=lambda o: o.gap)
        if mine:
            fig.add_scatter(
                x=[o.gap for o in mine],
                y=[o.accuracy for o in mine],
                name=cell,
                mode="lines+markers",
                line={"color": COLOURS[cell], "dash": DASHES[cell]},
            )
    fig.add_hline(
        y=outcomes[0].chance, line={"color": GREY, "dash": "dot"}, annotation_text="chance"
    )
    gaps = sorted({o.gap for o in outcomes})
    fig.update_xaxes(
        title="gap in steps", type="log", tickvals=gaps, ticktext=[str(g) for g in gaps]
    )
    fig.update_yaxes(title="right answers", tickformat=".0%", range=[0, 1.05])
    return fig


def gradient_figure(outcomes: Sequence[Outcome], which: str) -> go.Figure:
    """Gradient norm against distance, each over its value at the end."""
    fig = figure(400)
    for o in outcomes:
        values = np.array(getattr(o, which))
        if len(values) and values.max() > 0:
            shown = np.where(values > 0, values / max(values[0], 1e-30), np.nan)
            fig.add_scatter(
                x=list(range(len(values))),
                y=np.clip(shown, 1e-12, 1e6),
                name=o.cell,
                mode="lines",
                line={"color": COLOURS[o.cell], "dash": DASHES[o.cell]},
            )
    fig.update_xaxes(title="steps before the end")
    fig.update_yaxes(
        title="gradient, over that at the end",
        type="log",
        exponentformat="power",
        dtick=2,
        range=[-12.3, 4],
    )
    return fig


def state_figure(outcome: Outcome) -> go.Figure:
    """[units, steps] as a heat map, units that vary least over the gap last."""
    fig = figure(300)
    values = np.array(outcome.cell_state).T
    values = values[np.argsort(values[:, len(values[0]) // 2])]
    top = float(np.percentile(np.abs(values), 99)) or 1.0
    every = max(1, values.shape[1] // 400)
    fig.add_heatmap(
        z=values[:, ::every].tolist(),
        x=list(range(0, values.shape[1], every)),
        colorscale="RdBu",
        zmin=-top,
        zmax=top,
        colorbar={"thickness": 10},
        hovertemplate="unit %{y}, step %{x}: %{z}<extra></extra>",
    )
    fig.update_layout(hovermode="closest")
    fig.update_xaxes(title="step")
    fig.update_yaxes(title="unit")
    return fig


def _table(outcomes: Sequence[Outcome]) -> list[list[str]]:
    columns = list(dict.fromkeys((o.problem, o.gap) for o in outcomes))
    found = {(o.problem, o.gap, o.cell): o for o in outcomes}
    rows = [["cell", *(f"{name} over {gap}" for name, gap in columns)]]
    rows.append(
        [
            "chance",
            *(
                f"{next(o.chance for o in outcomes if o.problem == name):.1%}"
                for name, _ in columns
            ),
        ]
    )
    for cell in CELLS:
        if any(o.cell == cell for o in outcomes):
            cells = [found.get((*column, cell)) for column in columns]
            rows.append([cell, *(f"{o.accuracy:.1%}" if o else "–" for o in cells)])
    return rows
