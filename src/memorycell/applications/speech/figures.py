"""Spectrograms with what was recognised over time, as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.modelfile import ModelFile
from memorycell.applications.speech.audio import SHIFT_S, AudioCodec, read_audio, resampled
from memorycell.inspection.page import BLUE, GREEN, GREY, ORANGE, PURPLE, Section, figure, page
from memorycell.signals import ctc
from memorycell.signals.codec import BLANK
from memorycell.signals.recognise import probabilities_over_time, recognise

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
        p = probabilities_over_time(file, features)
        for label, colour in zip(record["probabilities"], COLOURS, strict=False):
            values = np.round(p[:, codec.labels.index(label)], 4)
            fig.add_scatter(
                x=times, y=values, name=label, mode="lines", line={"color": colour}, row=2, col=1
            )
    fig.update_yaxes(range=[0, 1.15], tickformat=".0%", row=2, col=1)
    fig.update_xaxes(title="seconds", row=2, col=1)
    return fig


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
