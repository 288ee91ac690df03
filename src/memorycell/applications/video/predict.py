"""Predict the next frames of a clip and how surprising its own are, or its class."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memorycell.application.contract import Record
from memorycell.application.rendering import table_text
from memorycell.applications.video import baselines as simple
from memorycell.applications.video.clips import Clip, resizing_note
from memorycell.applications.video.metrics import frame_metrics
from memorycell.applications.video.model import FramePredictor
from memorycell.applications.video.preparing import VideoFile, file_ridge, predictor, reopen
from memorycell.applications.video.reading import read_clips
from memorycell.applications.video.settings import ReadSettings, VideoSettings
from memorycell.errors import DataError
from memorycell.setting_fields import check_ranges

MAX_PREDICTED = 1000
MAX_SHOWN_SEEN = 10
"""Frames seen that a record repeats, the last ones."""
MAX_LISTED = 8


@dataclass(frozen=True)
class PredictOptions(ReadSettings):
    """Settings for --set, besides `ReadSettings`.

    frames    number of frames to predict; by default the model's horizon, 10 where that is 1
    compare   predict the clip's own last frames, without seeing them, and compare: yes or no; by
              default only for the model's own data
    clip      number of the clip, from 0, where there are several
    """

    frames: int | None = None
    compare: bool | None = None
    clip: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, frames=(1, MAX_PREDICTED), clip=(0, 10_000_000))


def predict(file: VideoFile, source: str | None, options: PredictOptions) -> Record:
    """See `Application`.

    Of a model of frames: `{"clip", "seen", "predicted", "truth", "baseline", "surprise", "usual",
    "alarm", "alarms", …}`; frames are lists of rows of brightness 0 … 255, `surprise` begins with
    that of the second frame, and `alarms` are numbers of frames, from 1. Of a classifier:
    `{"clip", "seen", "label", "p", "classes"}`. Both have `notes` where frames were resized.
    """
    clip = _clip(file, source, options)
    model = predictor(file)
    if model is None:
        record = _label(file, clip)
    else:
        record = _next_frames(file, model, clip, source is None, options)
    notes = [] if source is None else resizing_note([clip])
    return {**record, "notes": notes} if notes else record


def _clip(file: VideoFile, source: str | None, options: PredictOptions) -> Clip:
    if source is None:
        clips = reopen(None, file).source.splits["test"]
        where = file.data
    else:
        read = options
        if options.size is None:
            own = f"{file.codec.width}x{file.codec.height}"
            read = dataclasses.replace(options, size=own)
        clips = read_clips(Path(source), source, read)
        where = source
    if options.clip >= len(clips):
        raise DataError(
            f"{where}: has {len(clips)} clip{'s' if len(clips) > 1 else ''}, numbered from 0; there"
            f" is no clip={options.clip}"
        )
    return clips[options.clip]


def _label(file: VideoFile, clip: Clip) -> Record:
    frames = file.codec.encode(clip.frames, clip.name)
    with torch.inference_mode():
        log_p = file.model.eval()(torch.from_numpy(frames)[None])[0][0, -1]
    p = log_p.double().exp().numpy()
    best = int(p.argmax())
    classes = {label: round(float(q), 4) for label, q in zip(file.codec.labels, p, strict=True)}
    return {
        "clip": clip.name,
        "seen_frames": len(frames),
        "seen": clip.frames[-MAX_SHOWN_SEEN:].tolist(),
        "label": file.codec.labels[best],
        "p": classes[file.codec.labels[best]],
        "classes": classes,
    }


def _next_frames(
    file: VideoFile, model: FramePredictor, clip: Clip, own: bool, options: PredictOptions
) -> Record:
    codec = file.codec
    horizon = file.typed_settings(VideoSettings).horizon
    count = options.frames or (horizon if horizon > 1 else 10)
    compared = own if options.compare is None else options.compare
    frames = codec.encode(clip.frames, clip.name)
    if compared and len(frames) < count + 2:
        raise DataError(
            f"{clip.name}: has {len(frames)} frames; predicting its last {count} needs"
            f" {count + 2}: --set frames=…, or --set compare=no"
        )
    seen, truth = (frames[:-count], frames[-count:]) if compared else (frames, frames[:0])
    predicted, surprise = rolled(model, seen, count)
    name, method = _baseline(file)
    simple_frames = method(seen, count)
    record: Record = {
        "clip": clip.name,
        "seen_frames": len(seen),
        "seen": codec.decode(seen[-MAX_SHOWN_SEEN:]).tolist(),
        "predicted": codec.decode(predicted).tolist(),
        "baseline": {"name": name, "frames": codec.decode(simple_frames).tolist()},
        "surprise": [round(float(value), 8) for value in surprise],
        "usual": codec.usual,
        "alarm": codec.alarm,
        "alarms": [k + 2 for k, value in enumerate(surprise) if codec.is_alarm(float(value))],
    }
    if compared:
        record["truth"] = codec.decode(truth).tolist()
        record["metrics"] = {
            "memorycell": _shown(truth, predicted),
            name: _shown(truth, simple_frames),
        }
    return record


def _shown(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    metrics = frame_metrics(truth, predicted)
    return {name: metrics[name] for name in ("mse", "se", "ssim")}


@torch.inference_mode()
def rolled(model: FramePredictor, seen: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(the next `count` frames after frames [T, height, width], the surprise of all frames but the
    first: the mean squared error of their prediction [T - 1])
    """
    state, parts = None, []
    for x in torch.from_numpy(seen)[None].split(32, 1):
        y, state = model.eval()(x, state)
        parts.append(y[0])
    following = torch.cat(parts)
    errors = ((following[:-1].numpy() - seen[1:]) ** 2).mean((1, 2))
    assert state is not None
    more, _ = (
        model.roll(following[-1:], state, count - 1) if count > 1 else (following[None, :0], 0)
    )
    return torch.cat([following[-1:], more[0]]).clamp(0, 1).numpy(), errors


def _baseline(file: VideoFile) -> tuple[str, simple.Predict]:
    ridge = file_ridge(file)
    return ("last frame", simple.last) if ridge is None else ("ridge", ridge.predict)


def render(record: Record) -> str:
    """A prediction as text for people."""
    shown: Any = record
    notes = [f"# {note}" for note in shown.get("notes", [])]
    if "label" in record:
        rows = [[name, f"{p:.1%}"] for name, p in shown["classes"].items()]
        rows.sort(key=lambda row: -shown["classes"][row[0]])
        title = f"{shown['clip']}: {shown['label']}"
        table = table_text(title, ["class", "p"], rows, highlight=shown["label"])
        return "\n".join([table, *notes])
    lines = []
    if "metrics" in record:
        rows = [
            [name, *(f"{own[m]:.4g}" for m in ("mse", "se", "ssim"))]
            for name, own in shown["metrics"].items()
        ]
        title = f"{shown['clip']}: its last {len(shown['predicted'])} frames"
        lines.append(table_text(title, ["method", "mse ↓", "se per frame", "ssim ↑"], rows))
    else:
        lines.append(
            f"{shown['clip']}: {len(shown['predicted'])} frames predicted after"
            f" {shown['seen_frames']:,}"
        )
    alarms = shown["alarms"]
    if shown["alarm"]:
        listed = ", ".join(map(str, alarms[:MAX_LISTED])) + (" …" if alarms[MAX_LISTED:] else "")
        found = f"{len(alarms):,} of {len(shown['surprise']):,} frames"
        lines.append(
            f"more surprising than 99% of the validation frames: {found}"
            + (f" ({listed})" if alarms else "")
        )
    return "\n".join([*lines, *notes, "# to view: --out next.gif, next.mp4 or next.png"])
