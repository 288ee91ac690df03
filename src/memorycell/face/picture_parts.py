"""Words, grids and points of a main picture as plotly figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from memorycell.application.picture import Picture
from memorycell.inspection.page import BLUE, GREY, ORANGE, figure

if TYPE_CHECKING:
    import plotly.graph_objects as go

LINE_CHARS = 72
"""Of words."""
CHAR_PX, ROW_PX = 22, 13
"""Heights of a line of words and of a row of a grid."""
MAX_ROW_LABELS = 24


def words_figure(picture: Picture) -> go.Figure:
    """Words as a grid of their characters, in lines."""
    lines = word_lines(picture.words, LINE_CHARS)
    text = [["" for _ in range(LINE_CHARS)] for _ in lines]
    values: list[list[float | None]] = [[None] * LINE_CHARS for _ in lines]
    hover = [["" for _ in range(LINE_CHARS)] for _ in lines]
    for row, line in enumerate(lines):
        at = 0
        for word, value in line:
            for character in word:
                text[row][at] = "\u00a0" if character == " " else character
                values[row][at] = value
                hover[row][at] = f"{value:.3g} {picture.unit}"
                at += 1
    fig = figure(110 + CHAR_PX * len(lines))
    fig.add_heatmap(
        z=values,
        text=text,
        texttemplate="%{text}",
        textfont={"family": "monospace", "size": 12},
        customdata=hover,
        hovertemplate="%{customdata}<extra></extra>",
        zmin=0,
        zmax=picture.full,
        colorscale=[[0, "rgba(230, 159, 0, 0)"], [1, ORANGE]],
        colorbar={"title": picture.unit, "thickness": 10},
    )
    fig.update_xaxes(visible=False)
    fig.update_yaxes(visible=False, autorange="reversed")
    fig.update_layout(title=picture.title, margin={"t": 60, "b": 10, "l": 10}, hovermode="closest")
    return fig


def word_lines(words: list[tuple[str, float]], width: int) -> list[list[tuple[str, float]]]:
    """Words in lines of at most `width` characters; a line ends after a line break, shown as ⏎."""
    lines: list[list[tuple[str, float]]] = [[]]
    used = 0
    for word, value in words:
        for k, part in enumerate(shown_word(word).split("\n")):
            if k:
                lines.append([])
                used = 0
            for begin in range(0, len(part), width):
                piece = part[begin : begin + width]
                if used + len(piece) > width:
                    lines.append([])
                    used = 0
                lines[-1].append((piece, value))
                used += len(piece)
    return lines if lines[-1] else lines[:-1]


def shown_word(word: str) -> str:
    """A word with its line breaks visible."""
    return word.replace("\n", "⏎\n")


def points_figure(picture: Picture) -> go.Figure:
    """The points with a diagonal, and their differences over x."""
    from plotly.subplots import make_subplots

    x, y = (np.array(values) for values in zip(*picture.points, strict=True))
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    style = figure().layout
    fig = make_subplots(rows=1, cols=2, horizontal_spacing=0.12)
    fig.update_layout(
        template="none",
        height=380,
        title=picture.title,
        showlegend=False,
        paper_bgcolor=style.paper_bgcolor,
        plot_bgcolor=style.plot_bgcolor,
        margin={"l": 70, "r": 20, "t": 80, "b": 50},
    )
    marker = {"color": BLUE, "size": 6, "opacity": 0.7}
    dashes = {"color": GREY, "dash": "dash", "width": 1}
    fig.add_scatter(
        x=[low, high], y=[low, high], mode="lines", line=dashes, hoverinfo="skip", row=1, col=1
    )
    fig.add_scatter(x=x.tolist(), y=y.tolist(), mode="markers", marker=marker, row=1, col=1)
    fig.add_scatter(
        x=[float(x.min()), float(x.max())],
        y=[0, 0],
        mode="lines",
        line=dashes,
        hoverinfo="skip",
        row=1,
        col=2,
    )
    residuals = [float(f"{d:.5g}") for d in (y - x).tolist()]
    fig.add_scatter(x=x.tolist(), y=residuals, mode="markers", marker=marker, row=1, col=2)
    fig.update_xaxes(title=picture.x_name, zeroline=False)
    fig.update_yaxes(title=picture.y, zeroline=False, row=1, col=1)
    fig.update_yaxes(title="residual (predicted - true)", zeroline=False, row=1, col=2)
    return fig


def grid_figure(picture: Picture) -> go.Figure:
    """A grid of cells with dots."""
    shares: list[list[float | None]] = [[None] * len(picture.x) for _ in picture.rows]
    for place, row, share in picture.cells:
        shares[row][place] = share
    fig = figure(150 + ROW_PX * len(picture.rows))
    numbers = [float(label) for label in picture.x]
    fig.add_heatmap(
        x=numbers,
        y=list(range(len(picture.rows))),
        z=shares,
        zmin=0,
        zmax=1,
        xgap=1,
        ygap=1,
        hoverongaps=False,
        colorscale=[[0, "rgba(61, 143, 209, 0.05)"], [1, BLUE]],
        colorbar={"title": "probability", "thickness": 10, "tickformat": ".0%"},
        customdata=[[name] * len(numbers) for name in picture.rows],
        hovertemplate="%{customdata}, %{x}: %{z:.1%}<extra></extra>",
    )
    fig.add_scatter(
        x=[numbers[place] for place, _ in picture.dots],
        y=[row for _, row in picture.dots],
        mode="markers",
        marker={"color": ORANGE, "size": 5},
        hoverinfo="skip",
        showlegend=False,
    )
    step = -(-len(picture.rows) // MAX_ROW_LABELS)
    shown = list(range(0, len(picture.rows), step))
    fig.update_xaxes(title=picture.x_name, showgrid=False, zeroline=False)
    fig.update_yaxes(
        title=picture.y,
        showgrid=False,
        zeroline=False,
        tickvals=shown,
        ticktext=[picture.rows[k] for k in shown],
    )
    fig.update_layout(title=picture.title, margin={"t": 60, "l": 70}, hovermode="closest")
    return fig
