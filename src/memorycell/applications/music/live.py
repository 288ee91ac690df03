"""A model of music at work: it composes, goes on, harmonises, and says what could follow."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memorycell.application.contract import AnyModelFile, NoOptions
from memorycell.application.modelfile import ModelFile
from memorycell.applications.music import codec as music
from memorycell.applications.music.codec import (
    KEYS,
    LOWEST,
    MusicCodec,
    key_of,
    name_of,
    pitch_of,
    read_piece,
)
from memorycell.applications.music.events import EventCodec, checked_score, score_from
from memorycell.applications.music.model import Composer
from memorycell.errors import DataError, StateError, UserError
from memorycell.language.search import sample
from memorycell.streaming.stream import Stream

DRAWN = 400
"""Frames drawn to tell what could follow."""
MOST_EVENTS = 20_000


@dataclass(frozen=True)
class Composing:
    """What --set can say about composing.

    bars         of four quarters each, to be written; of a melody, as many as it has
    how          go_on: after what is given; harmonise: what is given is the highest voice, the
                 others are written under it
    temperature  1: as the model believes; below, the likelier; seed: the same seed writes the same
    key          keep: only keys of the beginning's (or the melody's) key; any; or a key such as "G
                 major", "e minor"
    tempo        quarter notes a minute
    begin        quarters of what is given that are taken as the beginning; where not said all of
                 them
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
        if self.bars < 1 or not 0 < self.temperature <= 10 or not 10 <= self.tempo <= 400:
            raise ValueError(
                "bars: expected 1 or more; temperature: above 0, at most 10; tempo: 10 to 400"
            )
        if self.begin is not None and self.begin < 1:
            raise ValueError(f"begin={self.begin}: expected 1 or more")
        if self.key not in ("keep", "any"):
            read_key(self.key)


def read_key(text: str) -> tuple[int, str]:
    """Of "G major" or "e minor": (tonic, mode). Raises ValueError."""
    tonic, _, mode = text.strip().partition(" ")
    if mode.lower() not in music.SCALES:
        raise ValueError(f"key={text}: expected keep, any, or a key such as G major or e minor")
    return pitch_of(f"{tonic}4") % 12, mode.lower()


def features_of(file: ModelFile, source: str) -> np.ndarray:
    """The frames [T, 88] of a file, or its events [T] int64, as the model reads them."""
    if isinstance(file.codec, EventCodec):
        return np.array(file.codec.encode(score_from(Path(source), file.codec.frames)), np.int64)
    codec, _ = _parts(file)
    return read_piece(Path(source), codec.frames).astype(np.float32)


def predict(file: ModelFile, source: str | None, how: Composing) -> dict[str, Any]:
    """A piece composed from nothing, after a beginning, or under a melody: `{"frames", "key", …}`;
    frames are lists of MIDI pitches.
    """
    if isinstance(file.codec, EventCodec):
        return _of_events(file, source, how)
    codec, model = _parts(file)
    given = None if source is None else read_piece(_existing(source), codec.frames)
    if given is not None and how.begin is not None:
        given = given[: how.begin * codec.frames]
    given = None if given is None else music.highest(given, codec.voices)
    allowed = np.ones(KEYS, bool)
    if how.key == "keep" and given is not None:
        allowed = music.in_key(key_of(given))
    elif how.key not in ("keep", "any"):
        allowed = music.in_key(read_key(how.key))
    generator = torch.Generator().manual_seed(how.seed)
    same: dict[str, Any] = {"temperature": how.temperature, "allowed": allowed}
    if how.how == "harmonise":
        if given is None:
            raise DataError("predict: no melody given; name a MIDI file")
        piece = model.compose(len(given), generator, fixed=given, **same)
    else:
        piece = model.compose(how.bars * 4 * codec.frames, generator, begin=given, **same)
    return _record(piece, codec.frames, source, how)


def _record(piece: np.ndarray, frames: int, source: str | None, how: Composing) -> dict[str, Any]:
    tonic, mode = key_of(piece)
    return {
        "given": source,
        "frames_a_quarter": frames,
        "tempo": how.tempo,
        "key": f"{music.NAMES[tonic]} {mode}",
        "frames": [(np.flatnonzero(frame) + LOWEST).tolist() for frame in piece],
    }


def _of_events(file: ModelFile, source: str | None, how: Composing) -> dict[str, Any]:
    """The same by a model of events: so many bars more than what is given."""
    codec: EventCodec = file.codec
    if how.how == "harmonise" or how.key != "any":
        raise UserError(
            "predict: a model of events goes on; to harmonise, or to keep a key, train with --set"
            " view=voices"
        )
    stream = Stream(file.model, history=0)
    rng = np.random.default_rng(how.seed)
    tokens: list[int] = []
    log_p = stream.step([1.0])
    if source is not None:
        tokens = codec.encode(score_from(_existing(source), codec.frames))
        log_p = stream.step(np.array(tokens, np.float32)[:, None])[-1]
    bar, bars = codec.numbers["Bar_None"], 0
    for _ in range(MOST_EVENTS):
        token = sample(
            np.where(np.arange(len(log_p)) == 0, -np.inf, log_p), rng, temperature=how.temperature
        )
        bars += token == bar
        if token == 1 or bars > how.bars:
            break
        tokens.append(token)
        log_p = stream.step([float(token)])
    score = checked_score(codec.decode(tokens))
    record = _record(music.frames_in(score, codec.frames), codec.frames, source, how)
    return {**record, "events": [codec.surfaces[token] for token in tokens]}


SUFFIXES = (*music.MIDI, ".wav", ".svg", ".musicxml", ".json")


def as_file(suffix: str, file: AnyModelFile, record: dict[str, Any]) -> str | bytes:
    """A prediction as MIDI, sound, a score or JSON, by the suffix."""
    piece = music.frames_of(record["frames"], "predict")
    frames, tempo = record["frames_a_quarter"], record["tempo"]
    if suffix == ".wav":
        return music.wav(piece, frames, tempo)
    if suffix == ".svg":
        return music.svg(piece, frames)
    if suffix == ".musicxml":
        return music.musicxml(piece, frames)
    if suffix == ".json":
        return json.dumps(record["frames"])
    return music.midi(piece, frames, tempo)


def show(record: dict[str, Any]) -> str:
    """The record for people: a line a bar."""
    bar = 4 * record["frames_a_quarter"]
    lines = [
        f"{record['key']}, {len(record['frames'])} frames; write it: --out tune.mid (.wav, .svg)"
    ]
    for begin in range(0, len(record["frames"]), bar):
        frames = record["frames"][begin : begin + bar]
        lines.append(
            "  ".join(" ".join(name_of(p) for p in reversed(frame)) or "-" for frame in frames)
        )
    return "\n".join(lines)


class LiveMusic:
    """Keys that sound go in, a line a frame; what could follow comes out."""

    def __init__(
        self, file: ModelFile, precision: str = "float32", options: NoOptions | None = None
    ) -> None:
        self.codec, self.model = _parts(file)
        self._stream = Stream(self.model, precision, history=0)
        self._hidden = self._stream.step(np.zeros(KEYS, np.float32))

    def line(self, text: str, number: int) -> dict[str, Any]:
        """Keys by name or number, with blanks between them, such as "C3 E4 G4 C5"; "-" or an empty
        line is a rest.
        """
        frame = np.zeros(KEYS, np.float32)
        try:
            for word in text.replace(",", " ").split():
                if word != "-":
                    frame[pitch_of(word) - LOWEST] = 1
        except ValueError as error:
            raise DataError(f"stdin, line {number}: {error}") from None
        if frame.sum() > self.codec.voices:
            raise DataError(
                f"stdin, line {number}: {int(frame.sum())} keys; the model knows"
                f" {self.codec.voices} at once"
            )
        with torch.inference_mode():
            nats = float(
                self.model.head.nats(torch.from_numpy(self._hidden), torch.from_numpy(frame))
            )
        self._hidden = self._stream.step(frame)
        return {
            "heard": [name_of(int(k) + LOWEST) for k in np.flatnonzero(frame)],
            "nats": round(nats, 3),
            "next": self.next(),
        }

    @torch.inference_mode()
    def next(self, top: int = 8) -> list[dict[str, Any]]:
        """The keys that are likeliest to sound next, by frames drawn from a fixed seed."""
        generator = torch.Generator().manual_seed(0)
        hidden, keys = torch.from_numpy(self._hidden), torch.ones(KEYS, dtype=torch.bool)
        none = torch.zeros(KEYS, dtype=torch.bool)
        drawn = [
            self.model.head.sample(hidden, generator, temperature=1.0, allowed=keys, fixed=none)
            for _ in range(DRAWN)
        ]
        p = torch.stack(drawn).float().mean(0).numpy()
        return [
            {"key": name_of(int(k) + LOWEST), "p": round(float(p[k]), 3)}
            for k in np.argsort(-p, kind="stable")[:top]
        ]

    def save(self, path: str | Path) -> None:
        """See `Live`."""
        self._stream.save(path, hidden=self._hidden.tolist())

    def load(self, path: str | Path) -> None:
        """See `Live`."""
        hidden = np.array(self._stream.load(path).get("hidden"), np.float32)
        if hidden.shape != self._hidden.shape:
            raise StateError(f"{path}: not the state of music; start without it")
        self._hidden = hidden


def _existing(source: str) -> Path:
    if not Path(source).is_file():
        raise DataError(
            f"predict: {source}: no such file; name a MIDI file, or leave it out to compose from"
            " nothing"
        )
    return Path(source)


def _parts(file: ModelFile) -> tuple[MusicCodec, Composer]:
    if isinstance(file.codec, EventCodec):
        raise UserError(
            "stream: a model of events; what could follow is told by one trained with --set"
            " view=voices"
        )
    if not (isinstance(file.codec, MusicCodec) and isinstance(file.model, Composer)):
        raise UserError("predict: not a model of music")
    return file.codec, file.model
