"""Live scores: notes in, the notes that may follow out."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from memorycell.application.contract import Item, Record
from memorycell.applications.music.model_files import ScoreFile
from memorycell.applications.music.pitches import parse_key, parse_pitch
from memorycell.applications.music.score.codec import ScoreCodec
from memorycell.applications.music.score.notation import TICKS, ScoreNote, parse_metre
from memorycell.applications.music.score.progress import (
    MAX_LENGTH,
    OTHER_ID,
    Header,
    Progress,
    ProgressState,
)
from memorycell.applications.music.score.spelling import key_name, spelled_name
from memorycell.errors import DataError, StateError, quote
from memorycell.setting_fields import from_json
from memorycell.state import State
from memorycell.streaming.stepwise import StreamSteps, run
from memorycell.streaming.stream import Stream

ENDLESS = 1 << 40
"""Ticks of a live piece: its end is not known."""
MAX_SHOWN_NOTES = 6
MAX_HIDDEN = 1e6
"""Of the values of a saved hidden state; those of every cell are far smaller."""
HEADER_NAME = "key"
_NOTE = re.compile(r"([A-Ga-g][#b♯♭]?-?\d|r):(\d{1,4}(?:/\d{1,3})?)(,?)")


@dataclass(frozen=True)
class _Saved:
    """What a snapshot holds apart from the state of the stream.

    hidden   [H] after the last input
    key, metre, pickup   of the piece; ticks
    begun    whether there has been a note
    """

    hidden: tuple[float, ...]
    key: str
    metre: str
    pickup: int
    begun: bool
    progress: ProgressState


class ScoreSession:
    """Notes in, those most probable next out.

    A line holds notes as pitch:quarters, such as "E5:1 r:1/2 D4:1/2,": r is a rest, a comma ends a
    phrase. Each belongs to the voice whose last note ends first, of several the highest. Before the
    first note a line may set the piece: "key G major, metre 3/4, pickup 1" (pickup in quarter
    notes); by default C major and 4/4, or the first metre of the training data.

    precision   of the recurrent part: "float32", "bfloat16" or "int8"
    """

    def __init__(self, file: ScoreFile, precision: str = "float32") -> None:
        self.model, self.codec = file.model, file.codec
        self._stream = Stream(self.model, precision, history=0)
        metre = "4/4" if "4/4" in self.codec.metres else self.codec.metres[0]
        self._begin(Header(parse_metre(metre), (0, "major"), 0, ENDLESS))
        self._line = 0

    def _begin(self, header: Header) -> None:
        """A new piece, whose first input is read."""
        self._stream.reset()
        self._progress, self._begun = Progress(self.codec, header), False
        self._hidden = self._stream.step(self._input())

    def _input(self) -> np.ndarray:
        return self.codec.inputs(np.array([self._progress.blocks()]))[0]

    def feed(self, item: Item) -> list[Record]:
        """See `Session`."""
        return run(self.steps(item))

    def steps(self, item: Item) -> StreamSteps[list[Record]]:
        """See `Stepwise`."""
        self._line += 1
        where = f"stdin, line {self._line}"
        if isinstance(item, Mapping):
            raise DataError(f"{where}: expected notes, such as E5:1 D5:1/2")
        text = (item.decode(errors="replace") if isinstance(item, bytes) else item).strip()
        if text.lower().startswith(HEADER_NAME):
            self._begin(self._parse_header(text, where))
            return [self._answer([], 0.0)]
        notes = [self._parse_note(word, where) for word in text.split()]
        heard, nats = [], 0.0
        for note in notes:
            heard.append(self._heard(note))
            nats += self._nats(note)
            self._progress.add(note)
            self._begun = True
            self._hidden = yield self._stream, self._input()
        return [self._answer(heard, nats)]

    def _parse_header(self, text: str, where: str) -> Header:
        if self._begun:
            raise DataError(f"{where}: the piece has begun; open another session for a new one")
        values = dict(part.strip().partition(" ")[::2] for part in text.split(","))
        unknown = values.keys() - {HEADER_NAME, "metre", "pickup"}
        before = self._progress.header
        try:
            if unknown:
                raise ValueError(f"{quote(min(unknown))}: expected key, metre or pickup")
            metre = parse_metre(values.get("metre", str(before.metre)))
            key = parse_key(values[HEADER_NAME])
            pickup = Fraction(values.get("pickup", "0").strip()[:8]) * TICKS
        except (ValueError, ZeroDivisionError) as error:
            raise DataError(f"{where}: {error}") from None
        if str(metre) not in self.codec.metres:
            known = ", ".join(self.codec.metres)
            raise DataError(f"{where}: metre {metre}: not in the training data; one of {known}")
        if pickup.denominator != 1 or not 0 <= pickup < metre.bar:
            raise DataError(f"{where}: pickup: expected quarter notes, less than a bar")
        return Header(metre, key, int(pickup), ENDLESS)

    def _parse_note(self, word: str, where: str) -> ScoreNote:
        match = _NOTE.fullmatch(word)
        if match is None:
            raise DataError(f"{where}: {quote(word)} is not a note, such as E5:1, F#4:1/2 or r:2")
        name, quarters, end = match.groups()
        try:
            ticks = Fraction(quarters) * TICKS
            pitch = None if name == "r" else parse_pitch(name)
        except (ValueError, ZeroDivisionError) as error:
            raise DataError(f"{where}: {quote(word)}: {error}") from None
        if ticks.denominator != 1 or not 1 <= ticks <= MAX_LENGTH:
            raise DataError(
                f"{where}: {quote(word)}: expected 1/{TICKS} to {MAX_LENGTH // TICKS} quarter notes"
            )
        return ScoreNote(pitch, int(ticks), bool(end))

    def _heard(self, note: ScoreNote) -> Record:
        return {"voice": self._progress.voice + 1, "note": self._text(note)}

    def _text(self, note: ScoreNote) -> str:
        """A note as it is written in a line."""
        key = self._progress.header.key
        name = "r" if note.pitch is None else spelled_name(note.pitch, key)
        return f"{name}:{Fraction(note.length, TICKS)}{',' * note.phrase_end}"

    @torch.inference_mode()
    def _nats(self, note: ScoreNote) -> float:
        pitch = self.codec.pitch_id(note.pitch, self._progress.header.key[0])
        ids = torch.tensor([self.codec.length_id(note), 0, pitch])
        return float(self.model.head.nats(torch.from_numpy(self._hidden)[None], ids[None]).sum())

    def _answer(self, heard: list[Record], nats: float) -> Record:
        header = self._progress.header
        bar, ticks = divmod(self._progress.now - header.pickup, header.metre.bar)
        return {
            "heard": heard,
            "nats": round(nats, 3),
            "key": key_name(header.key),
            "bar": bar + 1,
            "quarter": str(1 + Fraction(ticks, TICKS)),
            "voice": self._progress.voice + 1,
            "next": self.next_notes(),
        }

    @torch.inference_mode()
    def next_notes(self, count: int = MAX_SHOWN_NOTES) -> list[Record]:
        """The most probable notes of the voice that is next."""
        p = self.note_probabilities()
        p[0], p[:, OTHER_ID] = 0, 0
        answers: list[Record] = []
        for index in np.argsort(-p, axis=None, kind="stable")[:count]:
            length_id, pitch_id = divmod(int(index), self.codec.num_pitches)
            ticks, end = self.codec.lengths[length_id - 1]
            pitch = self.codec.pitch(pitch_id, self._progress.header.key[0])
            note = ScoreNote(pitch, ticks, bool(end))
            answers.append({"note": self._text(note), "p": round(float(p.flat[index]), 3)})
        return answers

    @torch.inference_mode()
    def note_probabilities(self) -> np.ndarray:
        """[L, P] float32: of each length and pitch of the next note."""
        hidden, head = torch.from_numpy(self._hidden), self.model.head
        lengths = torch.arange(self.codec.num_lengths)
        scores = head.pitch_scores(
            hidden.expand(len(lengths), -1), lengths, torch.zeros_like(lengths)
        )
        joint = head.length(hidden).softmax(-1)[:, None] * scores.softmax(-1)
        return np.array(joint.numpy())

    def close(self) -> list[Record]:
        """See `Session`; no answer is pending."""
        return []

    def fork(self) -> ScoreSession:
        """See `Forkable`."""
        other = copy.copy(self)
        other._stream = self._stream.fork()
        other._progress = self._progress.fork()
        return other

    def snapshot(self) -> bytes:
        """See `Session`."""
        header = self._progress.header
        return self._stream.snapshot(
            hidden=self._hidden.tolist(),
            key=key_name(header.key),
            metre=str(header.metre),
            pickup=header.pickup,
            begun=self._begun,
            progress=self._progress.saved().to_json(),
        )

    def restore(self, data: bytes) -> None:
        """See `Session`."""
        _, extra = State.from_bytes(data, fingerprint=self._stream.fingerprint)
        try:
            saved = from_json(_Saved, extra)
            progress = _restored(saved, self.codec)
            hidden = np.array(saved.hidden)
            if hidden.shape != self._hidden.shape or not (np.abs(hidden) <= MAX_HIDDEN).all():
                raise ValueError("hidden")
        except ValueError:
            raise StateError("not the state of a session of scores; start without it") from None
        self._stream.restore(data)
        self._hidden, self._progress = hidden.astype(np.float32), progress
        self._begun = saved.begun


def _restored(saved: _Saved, codec: ScoreCodec) -> Progress:
    """Raises ValueError for values that no session has."""
    metre = parse_metre(saved.metre)
    if str(metre) not in codec.metres or not 0 <= saved.pickup < metre.bar:
        raise ValueError("metre")
    header = Header(metre, parse_key(saved.key), saved.pickup, ENDLESS)
    return Progress.restored(codec, header, saved.progress)
