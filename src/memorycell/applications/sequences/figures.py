"""Pages of predictions: the sequences with the answer, and the steps that mattered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.contract import Record
from memorycell.applications.sequences.answering import answers
from memorycell.applications.sequences.codec import SequenceCodec, static_rows
from memorycell.applications.sequences.occlusion import Occlusion, occlude
from memorycell.applications.sequences.predict import PredictOptions, read_sequences_for
from memorycell.applications.sequences.prepare import SequencesFile
from memorycell.inspection.page import BAND, BLUE, GREY, ORANGE, Page, Section, figure, page
from memorycell.models.quantiles import interval

if TYPE_CHECKING:
    import plotly.graph_objects as go

MAX_SEQUENCES = 8
MAX_LINES = 6
MAX_SHOWN_STEPS = 3000
LEAD = (
    "Lines are the channels in standard deviations from their mean in training. The colours below"
    " show what mattered: how much the probability of the answer falls when a channel is hidden"
    " during that part (blue), or rises (orange)."
)


def sequences_page(file: SequencesFile, record: Record) -> Page:
    """The page of a prediction: the least certain sequences first."""
    given: Any = record
    options = PredictOptions(given["encoding"], given["sheet"])
    data = read_sequences_for(file, given["data"], options)
    by_name = {one["name"]: one for one in given["sequences"]}
    order = sorted(range(len(data)), key=lambda k: _certainty(by_name.get(data.names[k], {})))
    sections = []
    for k in order[:MAX_SEQUENCES]:
        one, static = by_name.get(data.names[k], {}), static_rows(data)[k]
        if file.codec.every_step:
            sections.append(_steps_section(file, data.names[k], data.values[k], static))
            continue
        found = occlude(file.model, file.codec, data.values[k], static)
        sections.append(
            Section(
                f"{data.names[k]}: {_answer(one)}",
                _probabilities(one),
                occlusion_figure(file.codec, data.values[k], found),
            )
        )
    count = len(data)
    note = f" The {len(sections)} least certain are shown." if count > len(sections) else ""
    lead = "" if file.codec.every_step else LEAD
    return page(f"{count:,} sequences", lead + note, sections, given["notes"])


def _certainty(one: dict[str, Any]) -> float:
    if "p" in one:
        return float(np.mean(one["p"]))
    if "probabilities" in one:
        return float(np.mean(np.abs(np.array(list(one["probabilities"].values())) - 0.5)))
    return 0.0


def _answer(one: dict[str, Any]) -> str:
    if "label" in one:
        return f"{one['label']}, {one['p']:.1%}"
    if "labels" in one:
        return ", ".join(one["labels"]) or "none of the labels"
    return ", ".join(
        f"{name} {v['median']:.5g} ({v['low80']:.5g} to {v['high80']:.5g})"
        for name, v in one.get("numbers", {}).items()
    )


def _probabilities(one: dict[str, Any]) -> str:
    ranked = sorted(one.get("probabilities", {}).items(), key=lambda item: -item[1])[:6]
    return ", ".join(f"{name} {p:.1%}" for name, p in ranked)


def occlusion_figure(codec: SequenceCodec, values: np.ndarray, found: Occlusion) -> go.Figure:
    """The channels of a sequence [T, F], and below them the effect of hiding each during a part."""
    from plotly.subplots import make_subplots

    style, rows = figure().layout, len(found.channels)
    fig = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.08,
        row_heights=[200, 60 + 18 * rows],
    )
    fig.update_layout(
        template="none",
        height=330 + 18 * rows,
        paper_bgcolor=style.paper_bgcolor,
        plot_bgcolor=style.plot_bgcolor,
        margin={"l": 110, "r": 20, "t": 40, "b": 45},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    scaled = codec.rows(values)
    columns = [c.name for c in codec.channels]
    begins = np.cumsum([0, *(c.size for c in codec.channels)])
    colours = [BLUE, ORANGE, "#009e73", "#cc79a7", GREY, "#56b4e9"]
    steps = _shown(len(values))
    for name, colour in zip(found.channels[:MAX_LINES], colours, strict=False):
        k = columns.index(name)
        if codec.channels[k].words:
            continue
        fig.add_scatter(
            x=(steps + 1).tolist(),
            y=np.round(scaled[steps, begins[k]], 4).tolist(),
            name=name,
            mode="lines",
            line={"color": colour, "width": 1.3},
            row=1,
            col=1,
        )
    limit = max(float(np.abs(found.effect).max()), 1e-9)
    edges = found.edges.astype(float) + 0.5
    fig.add_heatmap(
        x=edges.tolist(),
        y=found.channels,
        z=np.round(found.effect, 5).tolist(),
        zmin=-limit,
        zmax=limit,
        colorscale=[[0, ORANGE], [0.5, "rgba(138, 143, 152, 0.06)"], [1, BLUE]],
        colorbar={"thickness": 10, "len": 0.45, "y": 0.22},
        hovertemplate="%{y}, from row %{x}: %{z}<extra></extra>",
        row=2,
        col=1,
    )
    fig.update_yaxes(title="standard deviations", row=1, col=1)
    fig.update_yaxes(type="category", automargin=True, row=2, col=1)
    fig.update_xaxes(title="row", row=2, col=1)
    return fig


def _steps_section(
    file: SequencesFile, name: str, values: np.ndarray, static: np.ndarray | None
) -> Section:
    codec = file.codec
    inputs = codec.steps(codec.rows(values), codec.static_inputs(static))
    (answer,) = answers(file.model, codec, [inputs])
    fig = figure(300)
    if codec.numeric:
        draw_numbers(fig, answer[:, 0], _shown(len(answer)))
        text = f"{codec.names[0]}: the median, and the 80% interval"
    else:
        draw_classes(fig, codec.names, answer)
        text = "The probability of each class"
    fig.update_xaxes(title="step")
    return Section(f"{name}: {len(values):,} steps", text, fig)


def draw_numbers(fig: go.Figure, quantiles: np.ndarray, steps: np.ndarray) -> None:
    """Median and 80% interval of quantiles [T, Q]."""
    low, median, high = interval(quantiles)
    x = (steps + 1).tolist()
    fig.add_scatter(
        x=x + x[::-1],
        y=_plain(np.concatenate([high[steps], low[steps][::-1]])),
        fill="toself",
        fillcolor=BAND,
        line={"width": 0, "color": BLUE},
        name="80% interval",
        hoverinfo="skip",
    )
    line = {"color": BLUE, "width": 1.4}
    fig.add_scatter(x=x, y=_plain(median[steps]), name="median", mode="lines", line=line)


def draw_classes(fig: go.Figure, names: Sequence[str], p: np.ndarray) -> None:
    """Probabilities [T, C] as lines, of the classes that are likely at some step."""
    steps = _shown(len(p))
    for k in np.argsort(-p.max(0), kind="stable")[:MAX_LINES]:
        fig.add_scatter(x=(steps + 1).tolist(), y=_plain(p[steps, k]), name=names[k], mode="lines")
    fig.update_yaxes(range=[0, 1.02], tickformat=".0%")


def _shown(count: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, MAX_SHOWN_STEPS)).astype(int))


def _plain(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(v) else float(f"{v:.5g}") for v in values]
