"""Compose scores in a key, a metre and a length; continue a score; harmonise a melody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from memorycell.application.contract import Record
from memorycell.applications.music.model_files import ScoreFile
from memorycell.applications.music.pieces import FRAMES_PER_QUARTER
from memorycell.applications.music.pitches import Key, parse_key
from memorycell.applications.music.score.codec import ScoreCodec
from memorycell.applications.music.score.composing import (
    COMPOSING_TEMPERATURE,
    Limits,
    compose,
)
from memorycell.applications.music.score.notation import (
    TICKS,
    Metre,
    Score,
    ScoreNote,
    Voice,
    parse_metre,
)
from memorycell.applications.music.score.progress import Header, header_of
from memorycell.applications.music.score.reading import read_first_score
from memorycell.applications.music.score.spelling import MODES, key_name, key_of_signature
from memorycell.errors import DataError, UserError

DRAWN_SIGNATURES = range(-3, 5)
"""Sharps (or flats below zero) of the keys that key=any draws from."""


class ScoreOptions(Protocol):
    """Those of `PredictOptions` that scores use."""

    @property
    def bars(self) -> int:
        """See `PredictOptions`."""

    @property
    def how(self) -> str:
        """See `PredictOptions`."""

    @property
    def temperature(self) -> float | None:
        """See `PredictOptions`."""

    @property
    def seed(self) -> int:
        """See `PredictOptions`."""

    @property
    def key(self) -> str:
        """See `PredictOptions`."""

    @property
    def metre(self) -> str | None:
        """See `PredictOptions`."""

    @property
    def tempo(self) -> float:
        """See `PredictOptions`."""

    @property
    def begin(self) -> int | None:
        """See `PredictOptions`."""

    @property
    def top(self) -> int | None:
        """See `PredictOptions`."""

    @property
    def ending(self) -> str:
        """See `PredictOptions`."""

    @property
    def pieces(self) -> int:
        """See `PredictOptions`."""


def predict_scores(file: ScoreFile, source: Path | None, options: ScoreOptions) -> Record:
    """`{"key", "metre", "tempo", "voices", "frames", "frames_a_quarter", "pickup", "notes"}`: see
    `score_record`. With pieces=N, `"pieces"` holds the records of all, with seeds from `seed` on.
    """
    records = [_composed(file, source, options, options.seed + k) for k in range(options.pieces)]
    return {**records[0], "pieces": records} if options.pieces > 1 else records[0]


def _composed(
    file: ScoreFile, source: Path | None, options: ScoreOptions, seed: int
) -> dict[str, Any]:
    notes: list[str] = []
    record = _compose(file, source, options, seed, notes)
    return {**record, "given": None if source is None else str(source), "notes": notes}


def _compose(
    file: ScoreFile, source: Path | None, options: ScoreOptions, seed: int, notes: list[str]
) -> dict[str, Any]:
    codec = file.codec
    rng = np.random.default_rng(seed)
    no_voices: Sequence[Voice] = ()
    if source is None:
        if options.how == "harmonise":
            raise DataError("predict: no melody given; name a MIDI or MusicXML file")
        header, given = _new_header(codec, options, rng), no_voices
    else:
        header, given = _given(fitting_score(source, codec), codec, options, source)
        if options.key not in ("keep", "any") or options.metre is not None:
            own = f"{key_name(header.key)}, {header.metre}"
            notes.append(f"key and metre are those of the input: {own}")
    score = compose(
        file.model,
        codec,
        header,
        rng,
        temperature=options.temperature or COMPOSING_TEMPERATURE,
        given=given,
        limits=Limits(ending=options.ending == "tonic"),
    )
    return score_record(score, options.tempo) | {"seed": seed}


def _new_header(codec: ScoreCodec, options: ScoreOptions, rng: np.random.Generator) -> Header:
    """The metre and key asked for; by default 4/4 where it is known, and a key that is drawn."""
    if options.metre is not None:
        metre = _known_metre(parse_metre(options.metre), codec)
    else:
        known = [parse_metre(text) for text in codec.metres]
        metre = Metre(4, 4) if Metre(4, 4) in known else known[0]
    key: Key = key_of_signature(
        int(rng.choice(DRAWN_SIGNATURES)), MODES[int(rng.integers(len(MODES)))]
    )
    if options.key not in ("keep", "any"):
        key = parse_key(options.key)
    pickup = codec.pickups[codec.metres.index(str(metre))]
    return Header(metre, key, pickup, options.bars * metre.bar)


def _known_metre(metre: Metre, codec: ScoreCodec) -> Metre:
    if str(metre) not in codec.metres:
        known = ", ".join(codec.metres)
        raise UserError(f"metre={metre}: not in the training data; expected one of {known}")
    return metre


def fitting_score(path: Path, codec: ScoreCodec) -> Score:
    """The score of a file. Raises `DataError` where the model does not know its metre or it has
    more voices.
    """
    score = read_first_score(path)
    if str(score.metre) not in codec.metres:
        raise DataError(
            f"{path}: in {score.metre}; the model knows {', '.join(codec.metres)} alone"
        )
    if len(score.voices) > codec.voices:
        raise DataError(f"{path}: {len(score.voices)} voices; the model has {codec.voices}")
    return score


def score_inputs(path: Path, codec: ScoreCodec) -> np.ndarray:
    """The inputs [T, I] float32 of a model that reads the score of a file."""
    score = fitting_score(path, codec)
    if len(score.voices) < codec.voices:
        raise DataError(f"{path}: {len(score.voices)} voices; the model has {codec.voices}")
    return codec.inputs(codec.encode(score)[0])


def _given(
    score: Score, codec: ScoreCodec, options: ScoreOptions, source: Path
) -> tuple[Header, Sequence[Voice]]:
    """(the header, the notes that are given) to harmonise an input, or to continue it."""
    voices = score.voices[: options.top]
    header = header_of(score)
    if options.how == "harmonise":
        if len(voices) == codec.voices:
            raise DataError(
                f"{source}: nothing to add: it has {len(voices)} voices, as many as the model; to"
                " harmonise its melody alone: --set top=1"
            )
        return header, voices
    limit = score.length if options.begin is None else options.begin * TICKS
    cut = [_notes_before(voice, limit) for voice in voices]
    used = max((sum(note.length for note in voice) for voice in cut), default=0)
    whole_bars = -(-(used - score.pickup) // score.metre.bar) * score.metre.bar
    return (
        header._replace(length=score.pickup + whole_bars + options.bars * score.metre.bar),
        cut,
    )


def _notes_before(voice: Voice, limit: int) -> Voice:
    """The notes that begin before `limit` ticks, without rests at the end."""
    kept: list[ScoreNote] = []
    now = 0
    for note in voice:
        if now >= limit:
            break
        kept.append(note)
        now += note.length
    while kept and kept[-1].pitch is None:
        kept.pop()
    return tuple(kept)


def score_record(score: Score, tempo: float) -> dict[str, Any]:
    """A score as JSON: `"voices"`, the highest first, hold `[pitch or null for a rest, ticks,
    whether a phrase ends]`, with 24 ticks per quarter note; `"pickup"` is in ticks. `"frames"` are
    the MIDI pitches that sound, as of the other views.
    """
    frames = _frames_per_quarter(score)
    return {
        "key": key_name(score.key),
        "metre": str(score.metre),
        "tempo": tempo,
        "pickup": score.pickup,
        "bars": score.bars,
        "voices": [[list(note) for note in voice] for voice in score.voices],
        "frames_a_quarter": frames,
        "frames": _frames(score, frames),
    }


def score_of_record(record: Mapping[str, Any]) -> Score:
    """The score in a record."""
    return Score(
        parse_metre(record["metre"]),
        parse_key(record["key"]),
        record["pickup"],
        tuple(tuple(ScoreNote(*note) for note in voice) for voice in record["voices"]),
    )


def _frames_per_quarter(score: Score) -> int:
    """The fewest that represent every note."""
    step = TICKS
    for voice in score.voices:
        for note in voice:
            step = gcd(step, note.length)
    return next(f for f in FRAMES_PER_QUARTER if f * step % TICKS == 0 and TICKS % f == 0)


def _frames(score: Score, frames: int) -> list[list[int]]:
    step = TICKS // frames
    pitches: list[set[int]] = [set() for _ in range(score.length // step)]
    for voice in score.voices:
        now = 0
        for note in voice:
            for k in range(now // step, (now + note.length) // step):
                if note.pitch is not None:
                    pitches[k].add(note.pitch)
            now += note.length
    return [sorted(frame) for frame in pitches]


def single_piece(record: Record, suffix: str) -> Record:
    """The record. Raises `UserError` for several pieces, which only a page can hold."""
    if "pieces" in dict(record):
        raise UserError(f"--out: {suffix} holds one piece; write .html, or leave out pieces")
    return record
