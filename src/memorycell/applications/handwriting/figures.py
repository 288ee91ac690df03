"""A page with drawings and images and what was recognised in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.contract import ModelFile
from memorycell.applications.handwriting.codec import Line, LineCodec, resize_ink
from memorycell.applications.handwriting.predict import read_inputs
from memorycell.inspection.page import BLUE, GREY, Section, figure, page
from memorycell.signals import ctc
from memorycell.signals.recognise import SignalModel, probabilities_over_time, recognise
from memorycell.signals.strokes import Drawing, StrokeCodec, resample_stroke

if TYPE_CHECKING:
    import plotly.graph_objects as go

MAX_FIGURES = 8


def handwriting_page(
    file: ModelFile[SignalModel, StrokeCodec | LineCodec], record: dict[str, Any]
) -> str:
    """An HTML page of a prediction: every drawing or image with the model's answer."""
    sections: list[Section] = []
    answers = {one["name"]: one for one in record["drawings"]}
    for one in read_inputs(file.codec, record["source"], record["only"], record.get("encoding")):
        if one.name not in answers or len(sections) == MAX_FIGURES:
            continue
        answer = answers[one.name]
        if isinstance(one.raw, Line):
            fig = _line_figure(file, one.raw, one.features)
        else:
            fig = _stroke_figure(file, one.raw, one.features, answer)
        probabilities = answer.get("probabilities", {}).items()
        caption = ", ".join(f"{label} {p:.1%}" for label, p in probabilities)
        title = answer.get("label") or answer.get("text") or "(nothing)"
        text = f"{one.name}: {caption}".removesuffix(": ")
        sections.append(Section(title, text, fig, name=one.name))
    if file.codec.text is None:
        introduction = (
            "The colour of a point is the probability of the answer after it: grey 0%, blue 100%."
        )
    else:
        introduction = "Every letter is shown where it was recognised."
    return page("Handwriting recognition", introduction, sections)


def _stroke_figure(
    file: ModelFile[SignalModel, StrokeCodec | LineCodec],
    drawing: Drawing,
    features: np.ndarray,
    record: dict[str, Any],
) -> go.Figure:
    """The strokes; a point's colour is the probability of the class, or alternates by letter."""
    codec = file.codec
    assert isinstance(codec, StrokeCodec)
    strokes = [resample_stroke(stroke, codec.spacing) for stroke in codec.normalise(drawing)]
    shades = np.ones(len(features))
    if codec.text is not None:
        shades = np.zeros(len(features))
        for number, letter in enumerate(ctc.greedy_letters(recognise(file, features))):
            shades[letter.begin :] = number % 2 * 0.6 + 0.4
    elif not file.model.config.bidirectional:
        label = codec.labels.index(record["label"])
        shades = probabilities_over_time(file, features)[:, label]
    fig = figure(360)
    at = 0
    for number, stroke in enumerate(strokes, 1):
        values = np.round(shades[at : at + len(stroke)], 3)
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
            hovertemplate="%{customdata:.0%}<extra></extra>",
        )
        fig.add_annotation(
            x=stroke[0, 0], y=stroke[0, 1], text=str(number), showarrow=False, xshift=-12, yshift=8
        )
    fig.update_yaxes(
        autorange="reversed", scaleanchor="x", showgrid=False, zeroline=False, showticklabels=False
    )
    fig.update_xaxes(showgrid=False, zeroline=False, showticklabels=False)
    return fig


def _line_figure(
    file: ModelFile[SignalModel, StrokeCodec | LineCodec], line: Line, features: np.ndarray
) -> go.Figure:
    """The image, with the recognised letters above it."""
    codec = file.codec
    assert isinstance(codec, LineCodec)
    ink = resize_ink(line.ink, codec.height)
    fig = figure(220)
    fig.add_heatmap(
        z=np.round(ink, 2).tolist(),
        colorscale=[[0, "rgba(61,143,209,0)"], [1, BLUE]],
        showscale=False,
        hoverinfo="skip",
    )
    if codec.text is not None:
        for letter in ctc.greedy_letters(recognise(file, features)):
            fig.add_annotation(
                x=(letter.begin + letter.end) / 2 * codec.stack,
                y=-2.5,
                text=codec.text.surfaces[letter.token],
                font={"weight": "bold"},
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
