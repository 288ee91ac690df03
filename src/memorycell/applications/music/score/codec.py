"""The codec of scores: what a model of notes knows, and its input at each note."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from memorycell.applications.music.pitches import LOWEST_PITCH, NUM_KEYS
from memorycell.applications.music.score.notation import (
    MAX_VOICES,
    TICKS,
    Score,
    ScoreNote,
    parse_metre,
)
from memorycell.applications.music.score.progress import (
    FIRST_PITCH_ID,
    HYPERMETRE,
    MAX_BARS_LEFT,
    MAX_BEATS,
    MAX_EIGHTHS_LEFT,
    MAX_LENGTH,
    MAX_PHRASE_QUARTERS,
    OTHER_ID,
    OTHER_LENGTH_ID,
    REMAINING_EDGES,
    REST_ID,
    Progress,
    header_of,
)
from memorycell.applications.music.score.spelling import MODES
from memorycell.applications.music.score.statistics import share_of_parallels
from memorycell.setting_fields import from_json

RARE_PARALLELS = 0.005
"""Share of the moves of two voices."""
MIN_LENGTH_COUNT = 3
"""A length that occurs less often in training is `OTHER_LENGTH_ID`."""
MAX_LENGTHS, MAX_METRES, MAX_PITCH_RANGE = 1000, 64, 100


def reference(tonic: int) -> int:
    """The MIDI pitch of a tonic that pitches are relative to, G3 to F#4."""
    return 60 + tonic if tonic <= 6 else 48 + tonic


@dataclass(frozen=True)
class ScoreCodec:
    """Notes as a model reads and predicts them; pitches are relative to the tonic.

    metres     as text; that of a piece is one of them
    pickups    the most frequent pickup of each metre, in ticks
    lengths    (ticks, 1 where a phrase ends with the note)
    low, high  pitches relative to `reference`
    ranges     lowest and highest MIDI pitch of each voice
    parallels  whether voices move in parallel fifths and octaves in training, more than rarely
    """

    kind: ClassVar[str] = "score"
    metres: tuple[str, ...]
    pickups: tuple[int, ...]
    lengths: tuple[tuple[int, int], ...]
    low: int
    high: int
    ranges: tuple[tuple[int, int], ...]
    parallels: bool = True

    @property
    def voices(self) -> int:
        """Voices of every piece."""
        return len(self.ranges)

    @property
    def num_pitches(self) -> int:
        """Ids of pitches."""
        return FIRST_PITCH_ID + self.high - self.low + 1

    @property
    def num_lengths(self) -> int:
        """Ids of lengths."""
        return 1 + len(self.lengths)

    @cached_property
    def _length_ids(self) -> dict[tuple[int, int], int]:
        return {length: k for k, length in enumerate(self.lengths, 1)}

    def pitch_id(self, pitch: int | None, tonic: int) -> int:
        """The id of a MIDI pitch, or of a rest (None)."""
        if pitch is None:
            return REST_ID
        relative = pitch - reference(tonic)
        inside = self.low <= relative <= self.high
        return FIRST_PITCH_ID + relative - self.low if inside else OTHER_ID

    def pitch(self, pitch_id: int, tonic: int) -> int | None:
        """The MIDI pitch of an id; None for a rest."""
        if pitch_id == REST_ID:
            return None
        return pitch_id - FIRST_PITCH_ID + self.low + reference(tonic)

    def length_id(self, note: ScoreNote) -> int:
        """The id of a note's length."""
        return self._length_ids.get((note.length, int(note.phrase_end)), OTHER_LENGTH_ID)

    @cached_property
    def block_sizes(self) -> tuple[int, ...]:
        """Sizes of the one-hot blocks of an input; see `Progress.blocks`."""
        voices = self.voices
        return (
            voices,
            len(self.metres),
            len(MODES),
            12,
            MAX_BEATS,
            TICKS,
            MAX_PHRASE_QUARTERS,
            MAX_BARS_LEFT + 1,
            MAX_EIGHTHS_LEFT + 1,
            HYPERMETRE,
            *(self.num_pitches for _ in range(voices)),
            *(len(REMAINING_EDGES) + 1 for _ in range(voices)),
            self.num_pitches,
            self.num_lengths,
            self.num_pitches,
        )

    @cached_property
    def offsets(self) -> np.ndarray:
        """[K] int64: where the block of each index begins in an input; the last block, of the
        pitches that would make parallels, has an index for every voice.
        """
        begins = np.concatenate([[0], np.cumsum(self.block_sizes)[:-1]])
        return np.append(begins, [begins[-1]] * (self.voices - 1)).astype(np.int64)

    @property
    def input_size(self) -> int:
        """Floats of an input."""
        return sum(self.block_sizes)

    def inputs(self, blocks: np.ndarray) -> np.ndarray:
        """[T, input_size] float32 of blocks [T, K]."""
        x = np.zeros((len(blocks), self.input_size), np.float32)
        rows, columns = np.nonzero(blocks >= 0)
        x[rows, (blocks + self.offsets)[rows, columns]] = 1
        return x

    def encode(self, score: Score) -> tuple[np.ndarray, np.ndarray]:
        """A score of this codec's metres and voices as (blocks [T, K] int16, ids [T, 3] int64 of
        each note: its length, whether it ends the piece, its pitch).
        """
        progress = Progress(self, header_of(score))
        queues = [iter(voice) for voice in score.voices]
        blocks, ids = [], []
        while not progress.done:
            note = next(queues[progress.voice])
            blocks.append(progress.blocks())
            last = int(note.length >= progress.left)
            pitch_id, length_id = progress.add(note)
            ids.append((length_id, last, pitch_id))
        return np.array(blocks, np.int16), np.array(ids, np.int64)

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        return {
            "input_size": self.input_size,
            "pitches": self.num_pitches,
            "lengths": self.num_lengths,
        }

    def to_json(self) -> dict[str, Any]:
        """See `Codec`."""
        return {
            "metres": list(self.metres),
            "pickups": list(self.pickups),
            "lengths": [list(length) for length in self.lengths],
            "low": self.low,
            "high": self.high,
            "ranges": [list(own) for own in self.ranges],
            "parallels": self.parallels,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ScoreCodec:
        """See `Codec`."""
        codec = from_json(cls, data)
        metres = [parse_metre(metre) for metre in codec.metres]
        piano = range(LOWEST_PITCH, LOWEST_PITCH + NUM_KEYS)
        if not (
            1 <= len(metres) <= MAX_METRES
            and len(set(codec.metres)) == len(metres) == len(codec.pickups)
            and all(0 <= p < m.bar for p, m in zip(codec.pickups, metres, strict=True))
            and 1 <= len(codec.lengths) <= MAX_LENGTHS
            and len(set(codec.lengths)) == len(codec.lengths)
            and all(1 <= ticks <= MAX_LENGTH and end in (0, 1) for ticks, end in codec.lengths)
            and 0 <= codec.high - codec.low <= MAX_PITCH_RANGE
            and codec.low >= -MAX_PITCH_RANGE
            and codec.high <= MAX_PITCH_RANGE
            and 1 <= len(codec.ranges) <= MAX_VOICES
            and all(low <= high and {low, high} <= set(piano) for low, high in codec.ranges)
        ):
            raise ValueError("not a codec of scores")
        return codec


def fit_codec(scores: Sequence[Score]) -> ScoreCodec:
    """The codec of training scores, all with the same number of voices."""
    lengths = Counter((n.length, int(n.phrase_end)) for n in _all_notes(scores))
    metres = Counter(str(score.metre) for score in scores)
    pickups = {
        metre: Counter(s.pickup for s in scores if str(s.metre) == metre).most_common(1)[0][0]
        for metre in metres
    }
    relative = [
        n.pitch - reference(score.key[0])
        for score in scores
        for n in _all_notes([score])
        if n.pitch is not None
    ]
    voices = []
    for k in range(len(scores[0].voices)):
        pitches = [n.pitch for score in scores for n in score.voices[k] if n.pitch is not None]
        voices.append((min(pitches, default=60), max(pitches, default=60)))
    frequent = [length for length, count in lengths.items() if count >= MIN_LENGTH_COUNT]
    names = tuple(sorted(metres))
    return ScoreCodec(
        metres=names,
        pickups=tuple(pickups[name] for name in names),
        lengths=tuple(sorted(frequent or lengths)),
        low=min(relative),
        high=max(relative),
        ranges=tuple(voices),
        parallels=share_of_parallels(scores) > RARE_PARALLELS,
    )


def _all_notes(scores: Sequence[Score]) -> Iterator[ScoreNote]:
    for score in scores:
        for voice in score.voices:
            yield from voice
