"""Compose music: from nothing, after a prompt, or under a melody."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memorycell.application.contract import AnyModelFile, Record
from memorycell.applications.music.events import BAR_EVENT, check_has_notes
from memorycell.applications.music.midi import MIDI_SUFFIXES, score_to_piece, to_midi, to_wav
from memorycell.applications.music.model_files import (
    EventFile,
    FrameFile,
    MusicFile,
    event_file,
    frame_file,
    is_events,
)
from memorycell.applications.music.musicxml import QUARTERS_PER_BAR, to_musicxml, to_svg
from memorycell.applications.music.pieces import frame_pitches, keep_highest, piece_from_pitches
from memorycell.applications.music.pitches import (
    NUM_KEYS,
    PITCH_CLASSES,
    estimate_key,
    parse_key,
    pitch_name,
    scale_mask,
)
from memorycell.applications.music.reading import read_piece, read_score
from memorycell.errors import DataError, UserError
from memorycell.language.codec import END_ID, UNKNOWN_ID
from memorycell.language.search import sample
from memorycell.streaming.stream import Stream

MAX_EVENTS = 20_000
MAX_TEMPERATURE, MIN_TEMPO, MAX_TEMPO = 10, 10, 400
OUTPUT_SUFFIXES = (*MIDI_SUFFIXES, ".wav", ".svg", ".musicxml", ".json")


@dataclass(frozen=True)
class PredictOptions:
    """Settings for --set.

    bars         bars of four quarter notes to compose; of a melody, all
    how          go_on: continue the input; harmonise: add voices below the melody in the input
    temperature  1: the distribution of the model; lower: more likely notes
    seed         of the random numbers
    key          keep: only notes in the key of the input; any; or a key such as "G major", "e
                 minor"
    tempo        quarter notes per minute
    begin        quarter notes of the input to use as the prompt; by default all
    """

    bars: int = 8
    how: str = "go_on"
    temperature: float = 0.9
    seed: int = 0
    key: str = "any"
    tempo: float = 80.0
    begin: int | None = None

    def __post_init__(self) -> None:
        if self.how not in ("go_on", "harmonise"):
            raise ValueError(f"how={self.how}: expected go_on or harmonise")
        if self.bars < 1:
            raise ValueError(f"bars={self.bars}: expected 1 or more")
        if not 0 < self.temperature <= MAX_TEMPERATURE:
            raise ValueError(
                f"temperature={self.temperature}: expected above 0, at most {MAX_TEMPERATURE}"
            )
        if not MIN_TEMPO <= self.tempo <= MAX_TEMPO:
            raise ValueError(f"tempo={self.tempo}: expected {MIN_TEMPO} to {MAX_TEMPO}")
        if self.begin is not None and self.begin < 1:
            raise ValueError(f"begin={self.begin}: expected 1 or more")
        if self.key not in ("keep", "any"):
            parse_key(self.key)


def predict(file: MusicFile, source: str | None, options: PredictOptions) -> Record:
    """`{"frames": [[pitch, …], …], "frames_a_quarter", "key", "tempo", "given"}`; pitches are MIDI
    numbers. A model of events adds `"events"`.
    """
    if is_events(file):
        return _compose_events(event_file(file), source, options)
    return _compose_frames(frame_file(file), source, options)


def _compose_frames(file: FrameFile, source: str | None, options: PredictOptions) -> Record:
    codec = file.codec
    given = None
    if source is not None:
        given = read_piece(_existing_file(source), codec.frames)
        if options.begin is not None:
            given = given[: options.begin * codec.frames]
        given = keep_highest(given, codec.voices)
    harmonise = options.how == "harmonise"
    if harmonise and given is None:
        raise DataError("predict: no melody given; name a MIDI file")
    count = options.bars * QUARTERS_PER_BAR * codec.frames
    piece = file.model.compose(
        len(given) if harmonise and given is not None else count,
        torch.Generator().manual_seed(options.seed),
        temperature=options.temperature,
        allowed=_allowed_keys(given, options.key),
        prompt=None if harmonise else given,
        melody=given if harmonise else None,
    )
    return _record(piece, codec.frames, source, options)


def _allowed_keys(given: np.ndarray | None, key: str) -> np.ndarray:
    """[88] bool."""
    if key not in ("keep", "any"):
        return scale_mask(parse_key(key))
    if key == "keep" and given is not None:
        return scale_mask(estimate_key(given))
    return np.ones(NUM_KEYS, bool)


def _compose_events(file: EventFile, source: str | None, options: PredictOptions) -> Record:
    """The input, continued by `bars` bars."""
    codec = file.codec
    if options.how == "harmonise" or options.key != "any":
        raise UserError(
            "predict: a model of events only continues its input; to harmonise, or to keep a key,"
            " train with --set view=voices"
        )
    stream = Stream(file.model, history=0)
    rng = np.random.default_rng(options.seed)
    tokens: list[int] = []
    log_p = stream.step([float(END_ID)])
    if source is not None:
        tokens = codec.encode(read_score(_existing_file(source), codec.frames))
        log_p = stream.step(np.array(tokens, np.float32)[:, None])[-1]
    bar, bars = codec.token_ids[BAR_EVENT], 0
    for _ in range(MAX_EVENTS):
        log_p[UNKNOWN_ID] = -np.inf
        token = sample(log_p, rng, temperature=options.temperature)
        bars += token == bar
        if token == END_ID or bars > options.bars:
            break
        tokens.append(token)
        log_p = stream.step([float(token)])
    piece = score_to_piece(check_has_notes(codec.decode(tokens)), codec.frames)
    record = _record(piece, codec.frames, source, options)
    record["events"] = [codec.surfaces[token] for token in tokens]
    return record


def _record(piece: np.ndarray, frames: int, source: str | None, options: PredictOptions) -> Record:
    tonic, mode = estimate_key(piece)
    return {
        "given": source,
        "frames_a_quarter": frames,
        "tempo": options.tempo,
        "key": f"{PITCH_CLASSES[tonic]} {mode}",
        "frames": [frame_pitches(frame) for frame in piece],
    }


def write_as(suffix: str, file: AnyModelFile, record: Record) -> str | bytes:
    """A prediction as MIDI, sound, a score or JSON."""
    values: dict[str, Any] = dict(record)
    piece = piece_from_pitches(values["frames"], "predict")
    frames, tempo = values["frames_a_quarter"], values["tempo"]
    if suffix == ".wav":
        return to_wav(piece, frames, tempo)
    if suffix == ".svg":
        return to_svg(piece, frames)
    if suffix == ".musicxml":
        return to_musicxml(piece, frames)
    if suffix == ".json":
        return json.dumps(values["frames"])
    return to_midi(piece, frames, tempo)


def render(record: Record) -> str:
    """The key, and the notes of each bar as a line."""
    values: dict[str, Any] = dict(record)
    frames, bar = values["frames"], QUARTERS_PER_BAR * values["frames_a_quarter"]
    chords = [" ".join(pitch_name(p) for p in reversed(frame)) or "-" for frame in frames]
    return "\n".join(
        [
            f"{values['key']}, {len(frames)} frames; to save: --out tune.mid (.wav, .svg)",
            *("  ".join(chords[k : k + bar]) for k in range(0, len(chords), bar)),
        ]
    )


def _existing_file(source: str) -> Path:
    if not Path(source).is_file():
        raise DataError(
            f"predict: {source}: no such file; name a MIDI file, or omit it to compose from nothing"
        )
    return Path(source)
