"""The page of drawings: their strokes, coloured by the order of the points."""

from __future__ import annotations

from typing import Any

import numpy as np

from memorycell.application.contract import AnyModelFile, Record
from memorycell.inspection.page import BLUE, Page, Section, figure, page

GAP = 0.4
"""Between drawings, in units of the height."""


def drawing_page(file: AnyModelFile, record: Record) -> Page:
    """What a model drew, as an HTML page with a figure per text."""
    drawings: Any = record["drawings"]
    notes: Any = record.get("notes", [])
    texts = dict.fromkeys(one["text"] for one in drawings)
    sections = [
        Section(
            f"“{text}”",
            "The pen moves from dark to light.",
            figure=_figure([one for one in drawings if one["text"] == text]),
            name="drawing",
        )
        for text in texts
    ]
    return page("Drawings", "", sections, notes)


def _figure(drawings: list[dict[str, Any]]) -> Any:
    fig, left = figure(320), 0.0
    for one in drawings:
        strokes = [np.array(stroke, float).reshape(-1, 2) for stroke in one["strokes"]]
        points = np.concatenate(strokes)
        shift = left - points[:, 0].min()
        order = np.arange(len(points))
        x, y = points[:, 0] + shift, points[:, 1]
        first = 0
        for stroke in strokes:
            part = slice(first, first + len(stroke))
            fig.add_scatter(
                x=x[part],
                y=y[part],
                mode="lines+markers",
                line={"color": BLUE, "width": 2},
                marker={"size": 5, "color": order[part], "colorscale": "Viridis", "cmin": 0,
                        "cmax": len(points)},
                hovertemplate="point %{marker.color}<extra></extra>",
                showlegend=False,
            )  # fmt: skip
            first += len(stroke)
        left = float(x.max()) + GAP
    fig.update_layout(hovermode="closest")
    fig.update_yaxes(autorange="reversed", scaleanchor="x", visible=False)
    fig.update_xaxes(visible=False)
    return fig
