"""Inspect a model of videos: its gates as maps over the frame, and how far back it looks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from memorycell.applications.video.classifier import ClipClassifier
from memorycell.applications.video.clips import resizing_note
from memorycell.applications.video.model import FramePredictor
from memorycell.applications.video.preparing import VideoFile, reopen
from memorycell.applications.video.reading import read_clips
from memorycell.applications.video.settings import ReadSettings
from memorycell.errors import DataError
from memorycell.inspection.horizon import Horizon, forget_half_lives
from memorycell.inspection.inspect import (
    CANDIDATES,
    MAX_CLOSED,
    MAX_DEAD_ACTIVATION,
    MIN_OPEN,
    SIGMOID_GATES,
    Inspection,
    LayerReport,
)
from memorycell.inspection.page import Section, figure
from memorycell.inspection.trace import LayerTrace
from memorycell.nn.layers import Recurrent

if TYPE_CHECKING:
    import plotly.graph_objects as go

MAX_FRAMES = 60
"""Of a longer clip the last frames are inspected."""
MIN_FRAMES = 3
SHOWN_FRAMES = 5


def inspect(file: VideoFile, source: str | None) -> Inspection:
    """See `Application`; the first clip of a file or folder, and of several members the first."""
    frames, where, resized = _frames(file, source)
    model: FramePredictor | ClipClassifier = file.model.eval()
    x = torch.from_numpy(frames)[None]
    with torch.no_grad():
        y, _, traces = model.first(x, trace=True)
    reports = [_report(model, k, trace) for k, trace in enumerate(traces)]
    labels = [str(k) for k in range(len(frames))]
    found = Inspection(f"Inside a model of {file.data}", reports, _horizon(model, x), None, labels)
    found.history = file.history
    predicted = y[0].numpy() if isinstance(model, FramePredictor) else None
    found.sections = [_maps_section(frames, predicted, traces[-1])]
    if model.config.members > 1:
        found.notes.append(f"the first of {model.config.members} members")
    found.notes += [f"{where}: {len(frames):,} frames", *resized]
    return found


def _frames(file: VideoFile, source: str | None) -> tuple[np.ndarray, str, list[str]]:
    """(frames [T, height, width] float32, their name, a note where they were resized)"""
    if source is None:
        clips = reopen(None, file).source.splits["test"]
        where = file.data
    else:
        height, width = file.codec.height, file.codec.width
        clips = read_clips(Path(source), source, ReadSettings(size=f"{width}x{height}"), MIN_FRAMES)
        where = source
    frames = clips[0].frames[-MAX_FRAMES:]
    if len(frames) < MIN_FRAMES:
        raise DataError(f"{where}: too short to inspect: {len(frames)} frames")
    resized = [] if source is None else resizing_note(clips[:1])
    return file.codec.encode(frames, where), where, resized


def _report(
    model: FramePredictor | ClipClassifier, layer: int, trace: Mapping[str, Tensor]
) -> LayerReport:
    """Measurements of one layer, whose units are the channels at every place of the grid."""
    gates = {name: values.flatten(2) for name, values in trace.items()}
    saturation = {}
    for name, values in gates.items():
        if name in SIGMOID_GATES:
            saturation[name] = (_share(values < MAX_CLOSED), _share(values > MIN_OPEN))
        elif name in CANDIDATES:
            saturation[name] = (_share(values < -MIN_OPEN), _share(values > MIN_OPEN))
    h = gates["h"].flatten(0, 1)
    name = "recurrent" if model.config.num_layers == 1 else f"recurrent layer {layer + 1}"
    # The report needs the cell's name alone of the module.
    module = cast(Recurrent, model.recurrent)
    return LayerReport(
        LayerTrace(name, module, layer, False, gates, gates["h"]),
        saturation,
        int((h.abs().amax(0) < MAX_DEAD_ACTIVATION).sum()),
        int((h.amax(0) - h.amin(0) < MAX_DEAD_ACTIVATION).sum()),
        forget_half_lives(gates["f"]) if "f" in gates else np.zeros(0),
        None,
    )


def _share(mask: Tensor) -> float:
    return float(mask.float().mean())


def _horizon(model: FramePredictor | ClipClassifier, x: Tensor) -> Horizon:
    """How strongly the last output depends on the frame k steps earlier: the norm of the gradient,
    the outputs weighted by random signs.
    """
    frames = x.clone().requires_grad_()
    with torch.enable_grad():
        y = model.first(frames)[0][:, -1]
        signs = torch.randint(0, 2, y.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1
        (gradient,) = torch.autograd.grad((y * signs).sum(), frames)
    curve = gradient[0].flatten(1).norm(dim=1).double().numpy()[::-1].copy()
    return Horizon(np.arange(len(curve)), curve)


def _maps_section(
    frames: np.ndarray, predicted: np.ndarray | None, trace: Mapping[str, Tensor]
) -> Section:
    gates = [name for name in trace if name not in ("h", "c")]
    shown = np.unique(np.linspace(1, len(frames) - 1, SHOWN_FRAMES).round().astype(int))
    columns: dict[str, Any] = {"frame": frames}
    if predicted is not None:
        columns["surprise"] = np.concatenate(
            [np.zeros_like(frames[:1]), np.abs(predicted[:-1] - frames[1:])]
        )
    columns |= {name: trace[name][0].mean(1).numpy() for name in gates}
    return Section(
        "Gates over the frame",
        "Every row is a frame. Surprise: the absolute error of its prediction. Gates: the mean over"
        " the channels at each place of the grid.",
        _maps_figure(columns, shown.tolist()),
        name="maps",
    )


def _maps_figure(columns: Mapping[str, np.ndarray], shown: list[int]) -> go.Figure:
    style = figure().layout
    from plotly.subplots import make_subplots

    fig = make_subplots(
        rows=len(shown),
        cols=len(columns),
        column_titles=list(columns),
        row_titles=[f"frame {t}" for t in shown],
        horizontal_spacing=0.01,
        vertical_spacing=0.02,
    )
    fig.update_layout(
        template="none",
        height=60 + 120 * len(shown),
        paper_bgcolor=style.paper_bgcolor,
        plot_bgcolor=style.plot_bgcolor,
        margin={"l": 20, "r": 40, "t": 40, "b": 20},
    )
    for column, (name, values) in enumerate(columns.items(), 1):
        candidate = name in CANDIDATES
        high = 1.0 if name in (*SIGMOID_GATES, "frame") else float(np.abs(values).max()) or 1.0
        for row, t in enumerate(shown, 1):
            fig.add_heatmap(
                z=np.round(values[t], 3).tolist(),
                row=row,
                col=column,
                zmin=-high if candidate else 0.0,
                zmax=high,
                colorscale="RdBu" if candidate else "Greys" if name == "frame" else "Cividis",
                reversescale=name == "frame",
                showscale=False,
            )
    fig.update_xaxes(visible=False)
    fig.update_yaxes(visible=False, autorange="reversed")
    return fig
