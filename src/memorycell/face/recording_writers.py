"""Writes sounds, drawings, pieces of music and clips in memory as the files that people have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memorycell.errors import quote
from memorycell.face.values import check_ragged, is_value, present

MAX_RATE_HZ = 10_000_000
MAX_CHANNELS = 64


def write_sounds(sounds: Sequence[Any], folder: Path) -> Path:
    """((samples, sample rate), label) as WAV files with a table of their labels."""
    import polars as pl

    names = [_write_sound(sound, folder, k) for k, (sound, _) in enumerate(sounds)]
    labels = [str(present(label, f"label {k}")) for k, (_, label) in enumerate(sounds, 1)]
    pl.DataFrame({"file": names, "label": labels}).write_csv(folder / "labels.csv")
    return folder


def _write_sound(sound: Any, folder: Path, k: int) -> str:
    import soundfile

    if not isinstance(sound, (tuple, list)) or len(sound) != 2:
        raise ValueError(f"sound {k + 1} is {quote(sound)}")
    samples, subtype = _samples(sound[0], f"sound {k + 1}")
    if isinstance(sound[1], str) or np.ndim(sound[1]) or not 1 <= sound[1] <= MAX_RATE_HZ:
        raise ValueError(f"sound {k + 1}: {quote(sound[1])} is not a sample rate in Hz")
    rate = int(sound[1])
    soundfile.write(folder / f"{k:06d}.wav", samples, rate, subtype=subtype)
    return f"{k:06d}.wav"


def write_unlabelled_sounds(sounds: Any, folder: Path) -> Path:
    """One (samples, sample rate), or a list of them, also with labels."""
    if isinstance(sounds, np.ndarray):
        raise ValueError("these are samples without their rate")
    one = isinstance(sounds, tuple) and len(sounds) == 2 and np.ndim(sounds[1]) == 0
    for k, sound in enumerate([sounds] if one else sounds):
        labelled = isinstance(sound, (tuple, list)) and sound and isinstance(sound[0], tuple)
        _write_sound(sound[0] if labelled else sound, folder, k)
    return folder


def _samples(values: Any, where: str) -> tuple[np.ndarray, str]:
    """(samples [T] or [T, channels], the subtype of a WAV file that holds them exactly). Raises
    ValueError.
    """
    samples = np.asarray(values)
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "fiu" or not samples.size:
        raise ValueError(f"{where}: {samples.dtype} {list(samples.shape)}")
    if samples.ndim == 2 and samples.shape[1] > MAX_CHANNELS:
        raise ValueError(
            f"{where} has {samples.shape[1]:,} channels; give samples as [T] or [T, channels]"
        )
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128, "FLOAT"
    if samples.dtype in (np.int16, np.int32):
        return samples, "PCM_16" if samples.dtype == np.int16 else "PCM_32"
    if samples.dtype.kind != "f":
        raise ValueError(f"{where}: {samples.dtype}; give floats, or integers of 8, 16 or 32 bits")
    return samples.astype(np.float64 if samples.dtype == np.float64 else np.float32), "FLOAT"


def write_strokes(drawings: Sequence[Any], folder: Path) -> Path:
    """(strokes, label) as JSON lines."""
    labels = [str(present(label, f"label {k}")) for k, (_, label) in enumerate(drawings, 1)]
    strokes = [strokes for strokes, _ in drawings]
    return _write_drawings(list(zip(strokes, labels, strict=True)), folder)


def write_unlabelled_strokes(drawings: Any, folder: Path) -> Path:
    """One drawing, a list of strokes, or a list of them, also with labels."""
    if not len(drawings) or not len(drawings[0]):
        raise ValueError("there are no points")
    if all(map(_is_labelled, drawings)):
        return write_strokes(drawings, folder)
    if is_value(drawings[0][0]):
        raise ValueError("this is one stroke; a drawing is a list of strokes")
    one = is_value(drawings[0][0][0])  # of the first stroke's first point
    return _write_drawings([(d, None) for d in ([drawings] if one else drawings)], folder)


def _is_labelled(one: Any) -> bool:
    is_two = isinstance(one, (tuple, list)) and len(one) == 2
    return is_two and is_value(one[1]) and not is_value(one[0])


def _write_drawings(drawings: Sequence[tuple[Any, str | None]], folder: Path) -> Path:
    path = folder / "strokes.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for k, (strokes, label) in enumerate(drawings, 1):
            for j, stroke in enumerate(strokes, 1):
                check_ragged(stroke, f"drawing {k}, stroke {j}", "point")
            record: dict[str, Any] = {
                "strokes": [np.asarray(stroke, float).tolist() for stroke in strokes]
            }
            if not all(np.isfinite(stroke).all() for stroke in record["strokes"]):
                raise ValueError(f"drawing {k}: a coordinate is no finite number")
            if label is not None:
                record["label"] = label
            file.write(json.dumps(record) + "\n")
    return path


def write_pieces(paths: Sequence[Any], folder: Path) -> Path:
    """The files at the paths, in a folder."""
    for k, path in enumerate(map(Path, paths)):
        if not path.is_file():
            raise ValueError(f"piece {k + 1}: {quote(str(path))} is no file")
        shutil.copyfile(path, folder / f"{k:06d}-{path.name}")
    return folder


def write_clips(clips: Sequence[Any], folder: Path) -> Path:
    """Arrays [T, height, width] or (array, label), a file each; or one array [N, T, height, width].
    The reader checks their values.
    """
    labelled = [isinstance(clip, tuple) for clip in clips]
    if any(labelled) and not all(labelled):
        raise ValueError(f"clip {labelled.index(False) + 1} has no label")
    for k, clip in enumerate(clips, 1):
        frames, label = clip if labelled[0] else (clip, None)
        frames = np.asarray(frames)
        axes = (3, 4) if len(clips) == 1 and not labelled[0] else (3,)
        if frames.ndim not in axes or frames.dtype.kind not in "fiub" or not frames.size:
            raise ValueError(f"clip {k}: {frames.dtype} {list(frames.shape)}")
        if frames.ndim == 4 and frames.shape[3] in (1, 3, 4):
            raise ValueError(
                f"clip {k}: {list(frames.shape)} is a clip in colour; give grey levels, as of"
                " frames.mean(3)"
            )
        if not labelled[0]:
            np.save(folder / f"clip-{k}.npy", frames)
            continue
        text = str(present(label, f"label {k}"))
        np.savez(folder / f"clip-{k}.npz", frames=frames[None], labels=np.array([text]))
    return folder
