"""Pictures of models that read signals: a spectrogram with what was heard where, strokes in the
colours of what was read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from memorycell.application.modelfile import ModelFile
from memorycell.applications.drawing.model import Writer
from memorycell.applications.handwriting.lines import Line, scaled
from memorycell.applications.handwriting.live import given
from memorycell.applications.music.events import EventCodec
from memorycell.applications.speech.audio import SHIFT_S, AudioCodec, read_audio, resampled
from memorycell.errors import DataError
from memorycell.inspection.inside import Inspection, inspect
from memorycell.inspection.page import BLUE, GREEN, GREY, ORANGE, PURPLE, Section, figure, page
from memorycell.models.classifier import Classifier
from memorycell.signals import ctc
from memorycell.signals.codec import BLANK
from memorycell.signals.recognise import recognise
from memorycell.signals.strokes import Drawing, respaced
from memorycell.signals.transcriber import Transcriber

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST = 8
"""Recordings that are drawn of one call."""
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, GREY)


def speech_page(file: ModelFile, record: dict[str, Any]) -> str:
    """What `predict` heard: every recording's spectrogram, and what the model made of it over time."""
    sections = []
    for one in record["recordings"][:MOST]:
        sound = resampled(read_audio(one["file"]), file.codec.rate_hz)
        frames, features = file.codec.frames(sound.samples), file.codec.encode(sound)
        heard = one.get("searched") or one.get("text") or one.get("label", "")
        told = Path(one["file"]).name
        if "label" in one:
            told += f": {one['p']:.1%} sure" + (
                f"; {', '.join(one['notes'])}" if "notes" in one else ""
            )
        elif one.get("searched"):
            told += f"; by ear alone: {one['text']}"
        sections.append(Section(heard or "(nothing)", told, _heard(file, frames, features, one)))
    what = (
        "Above, how loud each band was over time. Below, how sure the model was of every letter;"
        " between the spikes it says “nothing new” (CTC)."
        if file.codec.text is not None
        else (
            "Above, how loud each band was over time. Below, what the model thought as it heard it."
        )
    )
    return page("What was heard", what, sections)


def _heard(
    file: ModelFile, frames: np.ndarray, features: np.ndarray, record: dict[str, Any]
) -> go.Figure:
    from plotly.subplots import make_subplots

    codec: AudioCodec = file.codec
    style = figure().layout
    fig = make_subplots(
        rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.05, row_heights=[0.6, 0.4]
    )
    fig.update_layout(
        template="none",
        height=430,
        paper_bgcolor=style.paper_bgcolor,
        plot_bgcolor=style.plot_bgcolor,
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        legend={"orientation": "h", "y": -0.15},
    )
    every = max(1, len(frames) // 1500)
    hertz = _mel_centres(codec.bins, codec.rate_hz)
    fig.add_heatmap(
        z=np.round(frames[::every].T, 2).tolist(),
        x=(np.arange(len(frames))[::every] * SHIFT_S).tolist(),
        y=hertz,
        colorscale="Cividis",
        showscale=False,
        row=1,
        col=1,
        zmin=float(np.quantile(frames, 0.05)),
        zmax=float(frames.max()),
        hovertemplate="%{x:.2f} s, %{y:.0f} Hz<extra></extra>",
    )
    fig.update_yaxes(title="Hz", row=1, col=1)
    times = np.arange(len(features)) * codec.step_s
    if codec.text is not None:
        _spikes(fig, file, features, times, record)
    elif not file.model.config.bidirectional:
        p = _running(file, features)
        for label, colour in zip(record["probabilities"], COLOURS, strict=False):
            values = np.round(p[:, codec.labels.index(label)], 4)
            fig.add_scatter(
                x=times, y=values, name=label, mode="lines", line={"color": colour}, row=2, col=1
            )
    fig.update_yaxes(range=[0, 1.15], tickformat=".0%", row=2, col=1)
    fig.update_xaxes(title="seconds", row=2, col=1)
    return fig


@torch.inference_mode()
def _running(file: ModelFile, features: np.ndarray) -> np.ndarray:
    """[T, classes]: the probabilities after every step."""
    log_p, _ = file.model(torch.from_numpy(features)[None])
    return log_p[0].exp().numpy()


def _spikes(
    fig: go.Figure, file: ModelFile, features: np.ndarray, times: np.ndarray, record: dict[str, Any]
) -> None:
    p = np.exp(recognise(file, features))
    surfaces = file.codec.text.surfaces
    fig.add_scatter(
        x=times,
        y=np.round(p[:, BLANK], 3),
        name="nothing new",
        mode="lines",
        line={"color": GREY, "width": 1, "dash": "dot"},
        row=2,
        col=1,
    )
    letters = ctc.greedy(np.log(np.maximum(p, 1e-30)))
    for token in sorted({x.token for x in letters}):
        name = surfaces[token].replace(" ", "␣")
        values = p[:, token]
        near = np.convolve(values, np.ones(3), "same") > 0.02  # elsewhere it lies at zero
        fig.add_scatter(
            x=times,
            y=np.where(near, np.round(values, 3), None),
            name=name,
            mode="lines",
            showlegend=False,
            line={"color": COLOURS[token % 4], "width": 1.5},
            row=2,
            col=1,
        )
    spoken = [x for x in letters if surfaces[x.token] != " "]
    fig.add_scatter(
        x=[float(times[x.begin : x.end].mean()) for x in spoken],
        y=[min(x.p, 1.0) + 0.05 for x in spoken],
        mode="text",
        text=[surfaces[x.token].strip() for x in spoken],
        textfont={"size": 13},
        showlegend=False,
        hoverinfo="skip",
        row=2,
        col=1,
    )
    for word in record["words"]:
        fig.add_vrect(
            x0=word["begin_s"],
            x1=word["end_s"],
            fillcolor=BLUE,
            opacity=0.08,
            line_width=0,
            row=2,
            col=1,
        )


def _mel_centres(bins: int, rate_hz: int) -> list[float]:
    """Hz in the middle of every band (HTK's mel scale, from 20 Hz to half the rate)."""
    low, high = (1127 * np.log(1 + f / 700) for f in (20.0, rate_hz / 2))
    mel = low + (np.arange(bins) + 1) * (high - low) / (bins + 1)
    return np.round(700 * (np.exp(mel / 1127) - 1), 1).tolist()


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
        sure = _running(file, features)[:, file.codec.labels.index(record["label"])]
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


# ---- inside --------------------------------------------------------------------------------------


class _Whole(nn.Module):
    """A model of signals as something to be called with what it reads alone; a writer draws certain
    signs.
    """

    def __init__(self, model: Any, signs: list[int]) -> None:
        super().__init__()
        self.model, self.signs = model, torch.tensor([signs])

    def forward(self, x: Tensor) -> None:
        lengths = torch.tensor([x.shape[1]])
        if isinstance(self.model, Writer):
            self.model(x, self.signs)
        elif isinstance(self.model, Classifier):
            self.model.classify(x, lengths)
        elif isinstance(self.model, Transcriber):
            self.model.transcribe(x, lengths)
        else:
            self.model(x)


def inside(
    file: ModelFile, read: np.ndarray | tuple[np.ndarray, list[int]], where: str
) -> Inspection:
    """Look inside a model while it reads features [T, F] or events [T] int64, or draws moves [T, 3]
    of signs.

    Raises `DataError` for too few steps.
    """
    features, signs = read if isinstance(read, tuple) else (read, [])
    if len(features) < 3:
        raise DataError(f"{where}: too short to look at")
    codec = file.codec
    labels = (
        [f"{k * codec.step_s:.2f} s" for k in range(len(features))]
        if isinstance(codec, AudioCodec)
        else []
    )
    if isinstance(codec, EventCodec):
        labels = [codec.surfaces[token] for token in features]
    if isinstance(file.model, Transcriber):
        labels = labels or [str(k) for k in range(len(features))]
        for letter in ctc.greedy(recognise(file, features)):
            labels[letter.begin] = codec.text.surfaces[letter.token]
    found = inspect(
        _Whole(file.model, signs).eval(),
        torch.from_numpy(features)[None],
        labels=labels,
        title=f"Inside a model of {file.info.get('data', 'signals')}",
    )
    found.history = file.info.get("history") or []
    found.notes.append(f"{where}: {len(features):,} steps")
    return found
