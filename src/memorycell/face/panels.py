"""Rows of small pictures, strokes and grey frames, as SVG and as a plotly figure."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from memorycell.application.picture import Panel, Picture
from memorycell.face.svg import WIDTH, element, text
from memorycell.inspection.page import BLUE, GREY, figure

if TYPE_CHECKING:
    import plotly.graph_objects as go

LEFT, GAP, CAPTION, TOP = 84, 10, 18, 8
"""In pixels: of the labels of rows, between panels, of a caption, above all."""
MAX_SIDE, MARGIN = 104, 6
"""Of a panel, and around its strokes."""


@dataclass(frozen=True)
class Place:
    """Where a panel is: its left upper corner and its sides, in pixels."""

    panel: Panel
    row: int
    left: float
    top: float
    width: float
    height: float

    def strokes(self) -> list[np.ndarray]:
        """The points [n, 2] of its strokes, in the middle of the panel, as large as they fit."""
        points = np.concatenate([np.array(own, float).reshape(-1, 2) for own in self.panel.strokes])
        low, size = points.min(0), np.maximum(np.ptp(points, 0), 1e-9)
        room = np.array([self.width, self.height]) - 2 * MARGIN
        scale = float((room / size).min()) if np.ptp(points, 0).any() else 1.0
        corner = np.array([self.left, self.top]) + MARGIN + (room - size * scale) / 2
        return [(np.array(own, float) - low) * scale + corner for own in self.panel.strokes]


def places(picture: Picture) -> tuple[list[Place], int]:
    """(the panels where they are drawn, the height of all in pixels)"""
    columns = len(picture.panels) // len(picture.rows)
    width = min((WIDTH - LEFT) / columns - GAP, MAX_SIDE)
    height = width * _shape(picture.panels)
    step = height + CAPTION + GAP
    found = [
        Place(panel, k // columns, LEFT + k % columns * (width + GAP), TOP + k // columns * step,
              width, height)
        for k, panel in enumerate(picture.panels)
    ]  # fmt: skip
    return found, round(TOP + len(picture.rows) * step)


def _shape(panels: list[Panel]) -> float:
    """Height over width of the first frame; 1 for strokes."""
    frames = [panel.frame for panel in panels if panel.frame]
    return len(frames[0]) / len(frames[0][0]) if frames else 1.0


def panels_svg(picture: Picture) -> str:
    """See `Panel`."""
    found, height = places(picture)
    parts = [
        text(LEFT - GAP, place.top + place.height / 2 + 4, picture.rows[place.row], "end")
        for place in found
        if place.left == LEFT
    ]
    for place in found:
        parts += _panel_svg(place)
        middle = place.left + place.width / 2
        parts.append(text(middle, place.top + place.height + 14, place.panel.caption, "middle"))
    return element(parts, height)


def _panel_svg(place: Place) -> Iterator[str]:
    box = (
        f'x="{place.left:.1f}" y="{place.top:.1f}" width="{place.width:.1f}"'
        f' height="{place.height:.1f}"'
    )
    if place.panel.frame:
        style = "image-rendering: pixelated"
        yield f'<image {box} style="{style}" preserveAspectRatio="none" href="{_png(place)}"/>'
    if place.panel.strokes:
        yield f'<rect {box} fill="none" stroke="{GREY}" stroke-opacity="0.3"/>'
        for points in place.strokes():
            at = " ".join(
                f"{x:.1f},{y:.1f}" for x, y in np.repeat(points, 1 + (len(points) < 2), 0)
            )
            yield (
                f'<polyline points="{at}" fill="none" stroke="{BLUE}" stroke-width="2"'
                ' stroke-linecap="round" stroke-linejoin="round"/>'
            )


def _png(place: Place) -> str:
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(np.array(place.panel.frame, np.uint8)).save(data, "PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def panels_figure(picture: Picture) -> go.Figure:
    """See `Panel`."""
    found, height = places(picture)
    fig = figure(height + 90)
    for place in found:
        if place.panel.frame:
            _add_frame(fig, place)
        for points in place.strokes() if place.panel.strokes else ():
            x, y = points.round(2).T.tolist()
            fig.add_scatter(x=x, y=y, mode="lines+markers", line={"color": BLUE, "width": 2},
                            marker={"size": 3}, hoverinfo="skip", showlegend=False)  # fmt: skip
        caption = {"x": place.left + place.width / 2, "y": place.top + place.height}
        _annotate(fig, place.panel.caption, **caption, yanchor="top")
        if place.left == LEFT:
            middle = place.top + place.height / 2
            _annotate(fig, picture.rows[place.row], x=LEFT - GAP, y=middle, xanchor="right")
    fig.update_xaxes(visible=False, range=[0, WIDTH])
    fig.update_yaxes(visible=False, range=[height, 0], scaleanchor="x")
    fig.update_layout(title=picture.title, margin={"t": 60, "l": 10, "r": 10, "b": 10})
    return fig


def _add_frame(fig: go.Figure, place: Place) -> None:
    rows, columns = len(place.panel.frame), len(place.panel.frame[0])
    dx, dy = place.width / columns, place.height / rows
    fig.add_heatmap(
        z=place.panel.frame,
        x0=place.left + dx / 2,
        dx=dx,
        y0=place.top + dy / 2,
        dy=dy,
        zmin=0,
        zmax=255,
        colorscale="Greys_r",
        showscale=False,
        hovertemplate="%{z}<extra></extra>",
    )


def _annotate(fig: go.Figure, words: str, **at: object) -> None:
    if words:
        fig.add_annotation(text=words, showarrow=False, font={"color": GREY}, **at)
