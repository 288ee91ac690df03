"""A picture of what a detector found: the score and its threshold, and the columns to blame beside
what was expected.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.modelfile import ModelFile
from memorycell.applications.anomaly.codec import Readings, ReadingsCodec
from memorycell.applications.anomaly.live import Watched, counted, read, stretches, watch
from memorycell.inspection.page import BAND, BLUE, GREY, ORANGE, Section, figure, page

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST, PANELS, POINTS = 6, 3, 4000
"""Recordings that are drawn, columns of each, and rows of each at most."""


def anomaly_page(file: ModelFile, record: dict[str, Any]) -> str:
    """What `predict` found: the recordings with the most anomalous rows, the columns that were
    blamed most.
    """
    codec: ReadingsCodec = file.codec
    found, where = read(codec, record["data"])
    told = {one["name"]: one for one in record["recordings"]}
    worst = sorted(found, key=lambda r: -told[r.name]["flagged"] / len(r))[:MOST]
    sections = []
    for readings in worst:
        one = told[readings.name]
        watched = watch(file.model, codec, readings, adapt=record["adapt"])
        blamed: Counter[str] = Counter()
        for a in one["anomalies"]:
            blamed.update({name: share * a["rows"] for name, share in a["blame"].items()})
        names = [name for name, _ in blamed.most_common(PANELS)] or list(codec.columns[:PANELS])
        share = one["flagged"] / one["rows"]
        title = f"{readings.name or where}: {share:.1%} of {one['rows']:,} rows, in {counted(one)}"
        text = f"To blame: {', '.join(names)}." if one["flagged"] else "Nothing was found."
        if codec.settle:
            text += (
                f" The first {codec.settle} rows set the level and the threshold, and are not"
                " judged."
            )
        sections.append(Section(title, text, _picture(codec, readings, watched, names)))
    flagged = sum(one["flagged"] for one in record["recordings"])
    rows = sum(one["rows"] for one in record["recordings"])
    others = f" The {MOST} recordings with the most are shown." if len(found) > MOST else ""
    return page(
        f"{where}: {flagged:,} of {rows:,} rows are not as expected",
        "Grey is what came, blue the band in which nine readings in ten were expected, given the"
        " rows before. Orange is what was flagged. Above, how surprising the rows were, and the"
        " threshold that training rows hardly ever reach." + others,
        sections,
    )


def _picture(
    codec: ReadingsCodec, readings: Readings, watched: Watched, names: list[str]
) -> go.Figure:
    from plotly.subplots import make_subplots

    numbers = [name for name in names if name in codec.columns]
    style = figure().layout
    fig = make_subplots(rows=1 + len(numbers), cols=1, shared_xaxes=True, vertical_spacing=0.04)
    fig.update_layout(
        template="none",
        height=130 + 130 * len(numbers),
        paper_bgcolor=style.paper_bgcolor,
        plot_bgcolor=style.plot_bgcolor,
        margin={"l": 70, "r": 20, "t": 10, "b": 40},
        showlegend=False,
        hovermode="x unified",
    )
    size = len(readings)
    begin = (
        0
        if size <= POINTS
        else max(0, min(int(np.argmax(watched.scores)) - POINTS // 2, size - POINTS))
    )
    at = np.arange(begin, min(size, begin + POINTS))
    x = [codec.stamp(int(moment)) for moment in readings.time[at]]
    scores = np.where(at >= watched.settled, watched.scores[at], np.nan)
    line = {"color": GREY, "width": 1.3}
    fig.add_scatter(
        x=x,
        y=_shown(np.maximum(scores, 0.1)),
        name="surprise",
        mode="lines",
        line=line,
        row=1,
        col=1,
    )
    fig.add_scatter(
        x=[x[0], x[-1]],
        y=[watched.threshold] * 2,
        name="threshold",
        mode="lines",
        row=1,
        col=1,
        line={"color": ORANGE, "width": 1.5, "dash": "dash"},
    )
    fig.update_yaxes(title="surprise", type="log", row=1, col=1)
    for place, name in enumerate(numbers, 2):
        k = codec.columns.index(name)
        values = readings.values[at, k]
        low, high = watched.low[at, k], watched.high[at, k]
        known = ~np.isnan(low)
        outline = np.concatenate([high[known], low[known][::-1]])
        inside = [x[i] for i in np.flatnonzero(known)]
        fig.add_scatter(
            x=inside + inside[::-1],
            y=_shown(outline),
            mode="lines",
            fill="toself",
            fillcolor=BAND,
            line={"width": 0, "color": BLUE},
            hoverinfo="skip",
            row=place,
            col=1,
        )
        fig.add_scatter(x=x, y=_shown(values), name=name, mode="lines", line=line, row=place, col=1)
        fig.update_yaxes(title={"text": name, "font": {"size": 11}}, row=place, col=1)
    for first, last in stretches(watched.flagged[at]):
        fig.add_vrect(
            x0=x[first],
            x1=x[min(last + 1, len(x) - 1)],
            fillcolor=ORANGE,
            opacity=0.22,
            line_width=0,
            layer="below",
        )
    return fig


def _shown(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(v) else float(f"{v:.5g}") for v in values]
