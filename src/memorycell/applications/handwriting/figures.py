"""Drawings and pictures with what was recognised, as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.modelfile import ModelFile
from memorycell.applications.handwriting.lines import Line, scaled
from memorycell.applications.handwriting.live import given
from memorycell.inspection.page import BLUE, GREEN, GREY, ORANGE, PURPLE, Section, figure, page
from memorycell.signals import ctc
from memorycell.signals.recognise import probabilities_over_time, recognise
from memorycell.signals.strokes import Drawing, respaced

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST = 8
"""Recordings that are drawn of one call."""
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, GREY)


def handwriting_page(file: ModelFile, record: dict[str, Any]) -> str:
    """What `predict` read: every drawing, coloured by what the model read where."""
    sections: list[Section] = []
    read = {one["name"]: one for one in record["drawings"]}
    for name, raw, features in given(file, record["source"], record["only"]):
        if name not in read or len(sections) == MOST:
            continue
        one = read[name]
        told = f"{name}: " + ", ".join(
            f"{k} {p:.1%}" for k, p in one.get("probabilities", {}).items()
        )
        fig = (
            _picture(file, raw, features)
            if isinstance(raw, Line)
            else _drawing(file, raw, features, one)
        )
        sections.append(
            Section(one.get("label") or one.get("text") or "(nothing)", told.rstrip(": "), fig)
        )
    what = (
        "The drawing, point by point in the colour of how sure the model was of its answer by then:"
        " grey not at all, blue wholly."
        if file.codec.text is None
        else "What was written, with every letter where the model read it."
    )
    return page("What was read", what, sections)


def _drawing(
    file: ModelFile, drawing: Drawing, features: np.ndarray, record: dict[str, Any]
) -> go.Figure:
    """Strokes on a page, every point coloured by how sure the model was, or by the letter that was
    read there.
    """
    strokes = [respaced(stroke, file.codec.spacing) for stroke in file.codec.framed(drawing)]
    sure = np.ones(len(features))
    if file.codec.text is not None:
        sure = np.zeros(len(features))
        for number, letter in enumerate(ctc.greedy(recognise(file, features))):
            sure[letter.begin :] = number % 2 * 0.6 + 0.4
    elif not file.model.config.bidirectional:
        sure = probabilities_over_time(file, features)[:, file.codec.labels.index(record["label"])]
    fig = figure(360)
    at = 0
    for number, stroke in enumerate(strokes, 1):
        values = np.round(sure[at : at + len(stroke)], 3)
        at += len(stroke)
        fig.add_scatter(
            x=np.round(stroke[:, 0], 3),
            y=np.round(stroke[:, 1], 3),
            mode="lines+markers",
            showlegend=False,
            line={"color": GREY, "width": 1},
            name=f"stroke {number}",
            customdata=values,
            marker={
                "color": values,
                "cmin": 0,
                "cmax": 1,
                "colorscale": [[0, "#c9cdd3"], [1, BLUE]],
                "size": 9,
            },
            hovertemplate="%{customdata:.0%} sure<extra></extra>",
        )
        fig.add_annotation(
            x=stroke[0, 0], y=stroke[0, 1], text=str(number), showarrow=False, xshift=-12, yshift=8
        )
    fig.update_yaxes(
        autorange="reversed", scaleanchor="x", showgrid=False, zeroline=False, showticklabels=False
    )
    fig.update_xaxes(showgrid=False, zeroline=False, showticklabels=False)
    return fig


def _picture(file: ModelFile, line: Line, features: np.ndarray) -> go.Figure:
    """A picture of a line, with the letters above where they were read."""
    ink = scaled(line.ink, file.codec.height)
    fig = figure(220)
    fig.add_heatmap(
        z=np.round(ink, 2).tolist(),
        colorscale=[[0, "rgba(61,143,209,0)"], [1, BLUE]],
        showscale=False,
        hoverinfo="skip",
    )
    if file.codec.text is not None:
        for letter in ctc.greedy(recognise(file, features)):
            x = (letter.begin + letter.end) / 2 * file.codec.stack
            fig.add_annotation(
                x=x,
                y=-2.5,
                text=f"<b>{file.codec.text.surfaces[letter.token]}</b>",
                showarrow=False,
            )
    fig.update_yaxes(
        range=[len(ink) + 1, -5],
        scaleanchor="x",
        showgrid=False,
        zeroline=False,
        showticklabels=False,
    )
    fig.update_xaxes(showgrid=False, zeroline=False, showticklabels=False)
    return fig
