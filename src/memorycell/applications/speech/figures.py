"""A page with spectrograms and the outputs of the model over time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.contract import ModelFile
from memorycell.applications.speech.audio import read_audio, resample_sound
from memorycell.applications.speech.codec import SHIFT_S, AudioCodec
from memorycell.inspection.page import BLUE, GREEN, GREY, ORANGE, PURPLE, Section, figure, page
from memorycell.models.classifier import Classifier
from memorycell.signals import ctc
from memorycell.signals.codec import BLANK_ID
from memorycell.signals.recognise import SignalModel, probabilities_over_time, recognise

if TYPE_CHECKING:
    import plotly.graph_objects as go

MAX_RECORDINGS = 8
MAX_COLUMNS = 1500
"""Of a spectrogram."""
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, GREY)


def speech_page(file: ModelFile[SignalModel, AudioCodec], record: dict[str, Any]) -> str:
    """An HTML page of a prediction: every recording's spectrogram and the outputs over time."""
    sections = []
    for one in record["recordings"][:MAX_RECORDINGS]:
        title = one.get("searched") or one.get("text") or one.get("label", "")
        figure_ = _recording_figure(file, one)
        sections.append(Section(title or "(nothing)", _caption(one), figure_, name="recording"))
    if file.codec.text is None:
        lower = "the class probabilities so far"
    else:
        lower = "the probability of every letter and of the CTC blank"
    introduction = f"Above: the energy of every band over time. Below: {lower}."
    return page("Speech recognition", introduction, sections)


def _caption(record: dict[str, Any]) -> str:
    caption = Path(record["file"]).name
    if "label" in record:
        caption += f": probability {record['p']:.1%}"
        if "notes" in record:
            caption += f"; {', '.join(record['notes'])}"
    elif record.get("searched"):
        caption += f"; without language model: {record['text']}"
    return caption


def _recording_figure(
    file: ModelFile[SignalModel, AudioCodec], record: dict[str, Any]
) -> go.Figure:
    from plotly.subplots import make_subplots

    codec = file.codec
    sound = resample_sound(read_audio(record["file"]), codec.rate_hz)
    frames, features = codec.frames(sound.samples), codec.encode(sound)
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
    every = max(1, len(frames) // MAX_COLUMNS)
    fig.add_heatmap(
        z=np.round(frames[::every].T, 2).tolist(),
        x=(np.arange(len(frames))[::every] * SHIFT_S).tolist(),
        y=_band_centres_hz(codec.bins, codec.rate_hz),
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
    if not isinstance(file.model, Classifier):
        _add_letters(fig, file, features, times, record)
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


def _add_letters(
    fig: go.Figure,
    file: ModelFile[SignalModel, AudioCodec],
    features: np.ndarray,
    times: np.ndarray,
    record: dict[str, Any],
) -> None:
    assert file.codec.text is not None
    surfaces = file.codec.text.surfaces
    p = np.exp(recognise(file, features))
    fig.add_scatter(
        x=times,
        y=np.round(p[:, BLANK_ID], 3),
        name="blank",
        mode="lines",
        line={"color": GREY, "width": 1, "dash": "dot"},
        row=2,
        col=1,
    )
    letters = ctc.greedy_letters(np.log(np.maximum(p, 1e-30)))
    for token in sorted({letter.token for letter in letters}):
        values = p[:, token]
        visible = np.convolve(values, np.ones(3), "same") > 0.02
        fig.add_scatter(
            x=times,
            y=np.where(visible, np.round(values, 3), None),
            name=surfaces[token].replace(" ", "␣"),
            mode="lines",
            showlegend=False,
            line={"color": COLOURS[token % 4], "width": 1.5},
            row=2,
            col=1,
        )
    shown = [letter for letter in letters if surfaces[letter.token] != " "]
    fig.add_scatter(
        x=[float(times[letter.begin : letter.end].mean()) for letter in shown],
        y=[min(letter.p, 1.0) + 0.05 for letter in shown],
        mode="text",
        text=[surfaces[letter.token].strip() for letter in shown],
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


def _band_centres_hz(bins: int, rate_hz: int) -> list[float]:
    """The centre of every band (HTK's mel scale, from 20 Hz to half the sample rate)."""
    low, high = (1127 * np.log(1 + f / 700) for f in (20.0, rate_hz / 2))
    mel = low + (np.arange(bins) + 1) * (high - low) / (bins + 1)
    return np.round(700 * (np.exp(mel / 1127) - 1), 1).tolist()
