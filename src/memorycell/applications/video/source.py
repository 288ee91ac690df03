"""The clips of a dataset by split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memorycell.application.datasets import locate, with_dataset_settings
from memorycell.applications.video.clips import (
    Clip,
    check_clips,
    fingerprint,
    resizing_note,
    shown_size,
)
from memorycell.applications.video.digits import NAME, moving_digits, read_digits, split_digits
from memorycell.applications.video.public_data import MOVING_DIGITS
from memorycell.applications.video.reading import read_clips
from memorycell.applications.video.settings import VideoSettings
from memorycell.errors import DataError
from memorycell.training.splits import SPLITS

MIN_CLIPS_TO_SPLIT = 10
"""Fewer clips are split by time, each of them."""
VALID_DIGIT_CLIPS, TEST_DIGIT_CLIPS = 128, 500
DIGIT_SEEDS = {"valid": 1, "test": 2}
"""Fixed, whatever the seed of the training."""
FIT_DIGIT_CLIPS = 64


@dataclass(frozen=True)
class Source:
    """A dataset.

    splits        split -> clips. Those of moving-digits in "train" are only examples
    context       frames at the beginning of each clip that belong to an earlier split
    digits        the digits of the training split, from which moving-digits makes new clips
    """

    name: str
    fingerprint: str
    splits: dict[str, list[Clip]]
    notes: list[str]
    digits: np.ndarray | None = None


def open_source(data: str, settings: VideoSettings, *, own: bool) -> tuple[Source, VideoSettings]:
    """(the data, the settings with the dataset's own). `own`: split them; else all are "test".

    Raises `DataError`.
    """
    path, named = locate(data)
    settings = with_dataset_settings(settings, named) if own else settings
    if named is not None and named.name == NAME:
        if settings.goal == "class":
            raise DataError(f"{NAME}: has no classes; use --set goal=frames")
        return _digits(settings), settings
    where = named.name if named else data
    needed = settings.context + settings.horizon
    fix = (
        f" (context {settings.context} + horizon {settings.horizon}); fewer: --set context=5"
        " --set horizon=1"
    )
    clips = read_clips(path, where, settings)
    total = sum(len(clip.frames) for clip in clips)
    size = shown_size(clips[0].frames.shape[1:])
    notes = [f"{len(clips):,} clip{'s' if len(clips) > 1 else ''}, {total:,} frames of {size}"]
    notes += resizing_note(clips)
    if settings.goal == "class":
        splits = _by_class(clips, settings, where) if own else {"test": clips}
    else:
        splits = _split(clips, settings) if own else {"test": clips}
        for split, part in splits.items():
            check_clips(part, f"{where}, {split} split", needed, fix)
    if own:
        notes.append(
            ", ".join(
                f"{split}: {len(part):,} clip{'s' if len(part) > 1 else ''},"
                f" {sum(len(c.frames) for c in part):,} frames"
                for split, part in splits.items()
            )
        )
    return Source(where, fingerprint(clips), splits, notes), settings


def _digits(settings: VideoSettings) -> Source:
    path = MOVING_DIGITS.find()
    size, frames = settings.pixels, settings.context + settings.horizon
    digits = split_digits(read_digits(path), size)
    counts = {"train": FIT_DIGIT_CLIPS, "valid": VALID_DIGIT_CLIPS, "test": TEST_DIGIT_CLIPS}
    splits = {
        split: [
            Clip(f"{split} clip {k}", frames)
            for k, frames in enumerate(
                moving_digits(digits[split], counts[split], frames, size, DIGIT_SEEDS.get(split, 0))
            )
        ]
        for split in SPLITS
    }
    kinds = {split: len(part) for split, part in digits.items()}
    notes = [
        f"two moving digits in {size} x {size} pixels, from {kinds['train']:,} training,"
        f" {kinds['valid']:,} validation and {kinds['test']:,} test digits of {path.name}; test:"
        f" {TEST_DIGIT_CLIPS} clips"
    ]
    return Source(NAME, fingerprint(splits["test"]), splits, notes, digits["train"])


def _split(clips: Sequence[Clip], settings: VideoSettings) -> dict[str, list[Clip]]:
    """By clip, or by time where there are few: then a part begins with the last `context` frames of
    the part before, which are read but not compared.
    """
    if len(clips) >= MIN_CLIPS_TO_SPLIT:
        return _by_clip(clips, settings)
    splits: dict[str, list[Clip]] = {split: [] for split in SPLITS}
    for clip in clips:
        count = len(clip.frames)
        test = round(count * (1 - settings.test_share))
        valid = round(test - count * settings.valid_share)
        splits["train"].append(clip.part(0, valid))
        splits["valid"].append(clip.part(max(0, valid - settings.context), test))
        splits["test"].append(clip.part(max(0, test - settings.context)))
    return splits


def _by_clip(clips: Sequence[Clip], settings: VideoSettings) -> dict[str, list[Clip]]:
    order = np.random.default_rng(0).permutation(len(clips))
    test = max(1, round(len(clips) * settings.test_share))
    valid = max(1, round(len(clips) * settings.valid_share))
    parts = {"test": order[:test], "valid": order[test : test + valid]}
    parts["train"] = order[test + valid :]
    return {split: [clips[k] for k in sorted(parts[split])] for split in SPLITS}


def _by_class(clips: Sequence[Clip], settings: VideoSettings, where: str) -> dict[str, list[Clip]]:
    labels = sorted({clip.label for clip in clips if clip.label is not None})
    if any(clip.label is None for clip in clips) or len(labels) < 2:
        raise DataError(
            f"{where}: goal=class needs clips of two or more classes: a folder per class, or an"
            " .npz file with `labels`"
        )
    splits: dict[str, list[Clip]] = {split: [] for split in SPLITS}
    for label in labels:
        own = [clip for clip in clips if clip.label == label]
        if len(own) < 3:
            raise DataError(
                f"{where}: class {label!r} has {len(own)} clip{'s' if len(own) > 1 else ''}; at"
                " least 3 are needed, one per split"
            )
        for split, part in _by_clip(own, settings).items():
            splits[split] += part
    return splits
