"""Compose music: from nothing, after a prompt, or under a melody."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memorycell.application.contract import AnyModelFile, Record
from memorycell.applications.music.codec import MusicCodec
from memorycell.applications.music.events import BAR_EVENT, check_has_notes
from memorycell.applications.music.midi import MIDI_SUFFIXES, to_midi, to_wav
from memorycell.applications.music.model_files import (
    EventFile,
    FrameFile,
    MusicFile,
    event_file,
    frame_file,
    is_events,
    is_scores,
    score_file,
)
from memorycell.applications.music.musicxml import (
    NOTE_TYPES,
    QUARTERS_PER_BAR,
    to_musicxml,
    to_svg,
)
from memorycell.applications.music.notes import Notes
from memorycell.applications.music.piano_roll import piano_roll_page
from memorycell.applications.music.pieces import frame_pitches, keep_highest, piece_from_pitches
from memorycell.applications.music.pitches import (
    NUM_KEYS,
    estimate_key,
    parse_key,
    scale_mask,
)
from memorycell.applications.music.reading import read_piece, read_score
from memorycell.applications.music.reading_log import ReadingLog
from memorycell.applications.music.score.notation import parse_metre
from memorycell.applications.music.score.predict import predict_scores
from memorycell.applications.music.score.spelling import key_name, spelled_name
from memorycell.applications.music.score.writing import render_scores, write_score
from memorycell.errors import DataError, UserError, quote
from memorycell.language.codec import END_ID, UNKNOWN_ID
from memorycell.language.search import sample
from memorycell.setting_fields import check_choices, check_counts, check_ranges
from memorycell.streaming.stream import Stream

MAX_EVENTS = 20_000
MAX_BARS = 400
DEFAULT_TEMPERATURE = 0.9
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 10
MIN_TEMPO, MAX_TEMPO = 10, 400
MAX_SEED = 2**63 - 1
MAX_PIECES = 40
OUTPUT_SUFFIXES = (*MIDI_SUFFIXES, ".wav", ".svg", ".musicxml", ".json", ".html")


@dataclass(frozen=True)
class PredictOptions:
    """Settings for --set.

    bars         bars to compose, of four quarter notes but for scores; of a melody, all
    how          go_on: continue the input; harmonise: add voices below the melody in the input
    temperature  1: the distribution of the model; lower: more likely notes; by default 0.9; of
                 the pitches of scores 0.7
    seed         of the random numbers
    key          keep: only notes in the key of the input; any; or a key such as "G major", "e
                 minor". A score is composed in that key, any: in one that the seed draws
    metre        of a new score, such as 3/4; by default 4/4
    ending       of a score: tonic, its last two bars are composed again until they end on it; any
    pieces       scores to compose, with seeds from `seed` on, for a page (.html)
    tempo        quarter notes per minute
    begin        quarter notes of the input to use as the prompt; by default all
    top          keys of each frame of the input to use, from the highest; by default as many as the
                 model has voices. top=1 is the melody
    lossy        accept an input of which more than 5% cannot be used
    """

    bars: int = 8
    how: str = "go_on"
    temperature: float | None = None
    seed: int = 0
    key: str = "any"
    metre: str | None = None
    ending: str = "tonic"
    pieces: int = 1
    tempo: float = 80.0
    begin: int | None = None
    top: int | None = None
    lossy: bool = False

    def __post_init__(self) -> None:
        check_choices(self, how=("go_on", "harmonise"), ending=("tonic", "any"))
        check_counts(self, "begin", "top")
        check_ranges(
            self,
            bars=(1, MAX_BARS),
            temperature=(MIN_TEMPERATURE, MAX_TEMPERATURE),
            seed=(0, MAX_SEED),
            tempo=(MIN_TEMPO, MAX_TEMPO),
            pieces=(1, MAX_PIECES),
        )
        if self.metre is not None:
            parse_metre(self.metre)
        if self.key not in ("keep", "any"):
            parse_key(self.key)


def predict(file: MusicFile, source: str | None, options: PredictOptions) -> Record:
    """`{"frames": [[pitch, …], …], "frames_a_quarter", "key", "tempo", "given", "notes"}`; pitches
    are MIDI numbers. A model of events adds `"events"`; of a model of scores see `predict_scores`.
    """
    if is_scores(file):
        path = None if source is None else _existing_file(source)
        return predict_scores(score_file(file), path, options)
    if options.metre is not None or options.pieces != 1:
        raise UserError("predict: metre and pieces need a model of scores (--set view=score)")
    if is_events(file):
        return _compose_events(event_file(file), source, options)
    return _compose_frames(frame_file(file), source, options)


def _compose_frames(file: FrameFile, source: str | None, options: PredictOptions) -> Record:
    codec = file.codec
    given: np.ndarray | None = None
    notes: list[str] = []
    if source is not None:
        given, notes = _read_prompt(codec, source, options)
    harmonise = options.how == "harmonise"
    if harmonise and given is None:
        raise DataError("predict: no melody given; name a MIDI file")
    count = options.bars * QUARTERS_PER_BAR * codec.frames
    piece = file.model.compose(
        len(given) if harmonise and given is not None else count,
        torch.Generator().manual_seed(options.seed),
        temperature=options.temperature or DEFAULT_TEMPERATURE,
        allowed=_allowed_keys(given, options.key),
        prompt=None if harmonise else given,
        melody=given if harmonise else None,
    )
    return _record(piece, codec.frames, source, options, notes)


def _read_prompt(
    codec: MusicCodec, source: str, options: PredictOptions
) -> tuple[np.ndarray, list[str]]:
    """(the frames [T, 88] to continue or to harmonise, notes on what was left out)."""
    log = ReadingLog()
    piece = read_piece(_existing_file(source), codec.frames, log)
    log.check(source, options.lossy)
    notes = log.lines(codec.frames)
    if options.begin is not None:
        piece = piece[: options.begin * codec.frames]
    given = keep_highest(piece, min(options.top or codec.voices, codec.voices))
    dropped = int((piece & ~given).sum())
    if dropped:
        notes.append(f"{dropped:,} of {int(piece.sum()):,} keys left out: below the highest")
        if options.top is None:
            log.notes.skip(f"more than {codec.voices} keys at once", dropped)
            log.notes.check(int(piece.sum()), source, options.lossy)
    if options.how == "harmonise":
        full = given.sum(1) >= codec.voices
        if full.all():
            raise DataError(
                f"{source}: nothing to add: it has {codec.voices} keys at once everywhere, as many"
                " as the model; to harmonise its melody alone: --set top=1"
            )
        if full.any():
            notes.append(f"{int(full.sum()):,} of {len(full):,} frames have no room for a voice")
    return given, notes


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
    log = ReadingLog()
    log_p = stream.step([float(END_ID)])
    if source is not None:
        tokens = codec.encode(read_score(_existing_file(source), codec.frames, log))
        log.check(source, options.lossy)
        log_p = stream.step(np.array(tokens, np.float32)[:, None])[-1]
    bar, bars = codec.token_ids[BAR_EVENT], 0
    for _ in range(MAX_EVENTS):
        log_p[UNKNOWN_ID] = -np.inf
        token = sample(log_p, rng, temperature=options.temperature or DEFAULT_TEMPERATURE)
        bars += token == bar
        if token == END_ID or bars > options.bars:
            break
        tokens.append(token)
        log_p = stream.step([float(token)])
    notes = log.lines(codec.frames)
    if unknown := tokens.count(UNKNOWN_ID):
        notes.append(f"{unknown:,} events of the input were not in training")
    try:
        piece = Notes.of_score(check_has_notes(codec.decode(tokens))).piece(codec.frames)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"predict: {error}; use a lower number of bars") from None
    record = _record(piece, codec.frames, source, options, notes)
    record["events"] = [codec.surfaces[token] for token in tokens]
    return record


def _record(
    piece: np.ndarray,
    frames: int,
    source: str | None,
    options: PredictOptions,
    notes: list[str],
) -> Record:
    return {
        "given": source,
        "frames_a_quarter": frames,
        "tempo": options.tempo,
        "key": key_name(estimate_key(piece)),
        "frames": [frame_pitches(frame) for frame in piece],
        "notes": notes,
    }


def write_as(suffix: str, file: AnyModelFile, record: Record) -> str | bytes:
    """A prediction as MIDI, sound, a score, JSON or a page."""
    values: dict[str, Any] = dict(record)
    if "voices" in values:
        return write_score(suffix, values)
    piece = piece_from_pitches(values["frames"], "predict")
    frames, tempo = values["frames_a_quarter"], values["tempo"]
    if suffix == ".wav":
        return to_wav(piece, frames, tempo)
    if suffix in (".svg", ".musicxml") and 1 / frames not in NOTE_TYPES:
        raise UserError(
            f"--out: {suffix} has no note of 1/{frames} of a quarter note; write .mid or .json"
        )
    if suffix == ".svg":
        return to_svg(piece, frames)
    if suffix == ".musicxml":
        return to_musicxml(piece, frames)
    if suffix == ".html":
        return piano_roll_page(values)
    if suffix == ".json":
        return json.dumps(values["frames"])
    return to_midi(piece, frames, tempo)


def render(record: Record) -> str:
    """The key, and the notes of each bar as a line, spelled in the key."""
    values: dict[str, Any] = dict(record)
    if "voices" in values:
        return render_scores(values)
    frames, bar = values["frames"], QUARTERS_PER_BAR * values["frames_a_quarter"]
    key = parse_key(values["key"])
    chords = [" ".join(spelled_name(p, key) for p in reversed(frame)) or "-" for frame in frames]
    return "\n".join(
        [
            *values["notes"],
            f"{values['key']}, {len(frames)} frames",
            *("  ".join(chords[k : k + bar]) for k in range(0, len(chords), bar)),
        ]
    )


def _existing_file(source: str) -> Path:
    if not Path(source).is_file():
        raise DataError(
            f"predict: {quote(source)}: no such file; name a MIDI file, or omit it to compose from"
            " nothing"
        )
    return Path(source)
