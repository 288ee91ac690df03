"""Predict the class or the transcript of recordings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memorycell.application.contract import ModelFile, Record
from memorycell.applications.speech.audio import AUDIO_SUFFIXES, UNREADABLE_SUFFIXES, read_audio
from memorycell.applications.speech.codec import FRAME_S, SHIFT_S, AudioCodec
from memorycell.applications.speech.nearest import NearestRecordings
from memorycell.applications.speech.word_model import load_word_model
from memorycell.errors import DataError
from memorycell.signals import ctc
from memorycell.signals.lexicon import LexiconSearch, selected_search
from memorycell.signals.recognise import (
    SignalModel,
    answer_text,
    label_record,
    mean_of_views,
    recognise,
)
from memorycell.signals.transcriber import Transcriber


@dataclass(frozen=True)
class PredictOptions:
    """Options of `predict`.

    search   for transcripts: also search the most probable words of the lexicon with a language
             model: yes or no
    lm       a model file of the task text, to use as language model instead of n-grams of the
             training transcripts
    """

    search: bool = True
    lm: str | None = None


def predict(
    file: ModelFile[SignalModel, AudioCodec], source: str | None, options: PredictOptions
) -> Record:
    """`{"recordings": [...]}` for a recording or a folder of recordings.

    Each has its label and probabilities, or its text, its words with times and probabilities, and
    the result of the search. Raises `DataError` where a recording cannot be read.
    """
    if source is None or not Path(source).exists():
        problem = "no recording given" if source is None else f"{source}: no such file"
        examples = ", ".join(AUDIO_SUFFIXES[:4])
        raise DataError(f"predict: {problem}; expected a recording ({examples}, …) or a folder")
    path = Path(source)
    paths = [path]
    if path.is_dir():
        suffixes = (*AUDIO_SUFFIXES, *UNREADABLE_SUFFIXES)
        found = (p for p in path.rglob("*") if p.suffix.lower() in suffixes)
        paths = sorted(p for p in found if p.is_file() and not p.name.startswith("."))
    if not paths:
        raise DataError(f"{path}: no recording in this folder")
    search = None
    if isinstance(file.model, Transcriber) and options.search:
        word_model = None if options.lm is None else load_word_model(options.lm)
        search = selected_search(file.model, file.codec, word_model)
    nearest = NearestRecordings.of(file.arrays, file.codec)
    return {"recordings": [_recording_record(file, p, search, nearest) for p in paths]}


def _recording_record(
    file: ModelFile[SignalModel, AudioCodec],
    path: Path,
    search: LexiconSearch | None,
    nearest: NearestRecordings | None,
) -> dict[str, Any]:
    codec = file.codec
    sound = read_audio(path)
    views = codec.encode_views(sound)
    if len(views[0]) == 0:
        needed_s = codec.step_s + FRAME_S - SHIFT_S
        raise DataError(
            f"{path}: too short: {len(sound.samples)} samples; at least {needed_s:.3f} s are needed"
        )
    record: dict[str, Any] = {
        "file": str(path),
        "seconds": round(len(sound.samples) / sound.rate_hz, 3),
    }
    if sound.notes:
        record["notes"] = list(sound.notes)
    log_p = mean_of_views([recognise(file, features) for features in views])
    if nearest is not None:
        log_p = nearest.join(log_p, nearest.excess(sound))
    if codec.text is None:
        return {**record, **label_record(codec.labels, np.exp(log_p), codec.unknown_below)}
    words = ctc.letters_to_words(codec, ctc.greedy_letters(log_p))
    record["text"] = " ".join(word.word for word in words)
    record["words"] = [word_record(word, codec.step_s) for word in words]
    if search is not None:
        record["searched"] = search.decode(log_p)
    return record


def word_record(word: ctc.Word, step_s: float) -> dict[str, Any]:
    """A word with its times in seconds."""
    times = {"begin_s": round(word.begin * step_s, 3), "end_s": round(word.end * step_s, 3)}
    return {"word": word.word, **times, "p": round(word.p, 4)}


def read_features(codec: AudioCodec, source: str) -> np.ndarray:
    """The features [T, F] of a recording. Raises `DataError`."""
    return codec.encode(read_audio(source))


def render(record: dict[str, Any]) -> str:
    """See `Application.render`: one line per recording, and one for the search."""
    lines = []
    for one in record["recordings"]:
        notes = f"   [{', '.join(one['notes'])}]" if "notes" in one else ""
        if "label" in one:
            lines.append(answer_text(one, one["file"]) + notes)
            continue
        text = one.get("searched") or one["text"]
        lines.append(f"{text}   ({one['file']}, {one['seconds']} s){notes}")
        if "searched" in one:
            lines.append(f"    without language model: {one['text']}")
    return "\n".join(lines)
