"""The main picture of a model of videos: frames, their predictions and the differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from memorycell.application.picture import Panel, Picture, picture_of_result
from memorycell.applications.video.class_dataset import ClassDataset
from memorycell.applications.video.dataset import FramesDataset
from memorycell.applications.video.model import FramePredictor
from memorycell.applications.video.predict import rolled
from memorycell.applications.video.preparing import VideoDataset

MAX_CANDIDATES = 25
"""Parts of clips, of which one is shown."""
MAX_FRAMES, MAX_SIDE = 5, 96
ROWS = ["true", "predicted", "difference"]


def video_picture(dataset: VideoDataset, model: Any, result: dict[str, Any]) -> Picture | None:
    """Classes: the confusion matrix. Frames: those after the part of a test clip whose error is the
    median, as predicted without seeing them, or one step ahead for a horizon of 1.
    """
    if isinstance(dataset, ClassDataset):
        return picture_of_result(result)
    cases = _cases(dataset)
    if not cases:
        return None
    predicted = [_predicted(dataset, model.eval(), *case) for case in cases]
    errors = [float(((y - case[1]) ** 2).mean()) for y, case in zip(predicted, cases, strict=True)]
    best = int(np.argsort(errors)[(len(errors) - 1) // 2])
    seen, truth = cases[best]
    ahead = np.unique(np.linspace(0, len(truth) - 1, MAX_FRAMES).round().astype(int))
    difference = np.abs(truth - predicted[best])
    rows = [
        [Panel(frame=_grey(frames[k]), caption=f"+{k + 1}" if last else "") for k in ahead]
        for frames, last in ((truth, False), (predicted[best], False), (difference, True))
    ]
    first = [Panel(frame=_grey(seen[-1]), caption="last seen"), Panel(), Panel()]
    seeing = "each from the frames before it" if _one_step(dataset) else "without seeing them"
    return Picture(
        title=f"Frames after {len(seen)} of a test clip, predicted {seeing}",
        panels=[panel for one, row in zip(first, rows, strict=True) for panel in (one, *row)],
        rows=ROWS,
    )


def _one_step(dataset: FramesDataset) -> bool:
    return dataset.settings.horizon == 1 or dataset.settings.goal == "anomaly"


def _cases(dataset: FramesDataset) -> list[tuple[np.ndarray, np.ndarray]]:
    """(frames seen, the frames after them), of evenly spaced parts of the test clips."""
    context = dataset.settings.context
    count = MAX_FRAMES if _one_step(dataset) else dataset.settings.horizon
    clips = [clip.frames for clip in dataset.source.splits["test"]]
    size = context + count
    begins = [(k, t) for k, own in enumerate(clips) for t in range(0, len(own) - size + 1, size)]
    if not begins and _one_step(dataset):  # clips with fewer frames
        return [(own[:1] / np.float32(255), own[1:] / np.float32(255)) for own in clips[:1]]
    spaced = np.linspace(0, len(begins) - 1, min(MAX_CANDIDATES, len(begins))).round().astype(int)
    parts = [clips[k][t : t + size] / np.float32(255) for k, t in (begins[j] for j in spaced)]
    return [(part[:context], part[context:]) for part in parts]


@torch.inference_mode()
def _predicted(
    dataset: FramesDataset, model: FramePredictor, seen: np.ndarray, truth: np.ndarray
) -> np.ndarray:
    if not _one_step(dataset):
        return rolled(model, seen, len(truth))[0]
    following = dataset.next_frames(model, np.concatenate([seen, truth]))
    return np.asarray(following[len(seen) - 1 : -1].clip(0, 1))


def _grey(frame: np.ndarray) -> list[list[int]]:
    """A frame of floats in 0 … 1 as grey levels, with every n-th pixel of a large one."""
    step = -(-max(frame.shape) // MAX_SIDE)
    levels: list[list[int]] = np.round(frame[::step, ::step] * 255).astype(int).tolist()
    return levels
