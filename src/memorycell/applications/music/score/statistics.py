"""Statistics of pieces: endings on the tonic, cadences, voice ranges, lengths of notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from memorycell.application.contract import Record
from memorycell.applications.music.score.notation import Score, ScoreNote, Voice
from memorycell.applications.music.score.spelling import signature

FIFTH, OCTAVE = 7, 12


def compare(
    groups: Mapping[str, Sequence[Score]],
    train: Sequence[Score],
    ranges: Sequence[tuple[int, int]],
) -> Record:
    """The statistics of groups of pieces. The distance of the distribution of lengths is that from
    the training pieces, so that of real pieces is what chance gives.
    """
    return {
        name: {**describe(scores, ranges), "length_distance": length_distance(scores, train)}
        for name, scores in groups.items()
    }


def describe(scores: Sequence[Score], ranges: Sequence[tuple[int, int]]) -> Record:
    """Shares of pieces, phrases or notes.

    tonic_endings     pieces whose lowest voice, and whose highest voice with a note of the tonic
                      triad, end on the tonic
    phrase_cadences   phrases before the last whose lowest voice ends on the tonic or the fifth
    out_of_range      notes outside the ranges [V] of the voices
    out_of_scale      notes outside the scale of the key
    crossings         onsets of a note above the note that sounds in the voice above
    parallels         pairs of voices moving together from a fifth or octave to another
    phrase_bars       mean length of a phrase, in bars
    """
    phrases = [degree for score in scores for degree in _phrase_degrees(score)]
    notes = [(k, pitch, s.key) for s in scores for k, pitch in _pitches(s)]
    crossings = [crossed for score in scores for crossed in _crossings(score)]
    bars = sum((s.length / s.metre.bar for s in scores), 0.0)
    ends = sum(1 + len(_phrase_degrees(score)) for score in scores)
    return {
        "pieces": len(scores),
        "tonic_endings": _share([ends_on_tonic(score) for score in scores]),
        "phrase_cadences": _share([degree in (0, FIFTH) for degree in phrases]),
        "out_of_range": _share([not ranges[k][0] <= p <= ranges[k][1] for k, p, _ in notes]),
        "out_of_scale": _share([not in_scale(p, key) for _, p, key in notes]),
        "crossings": _share(crossings),
        "parallels": share_of_parallels(scores),
        "phrase_bars": round(bars / max(ends, 1), 2),
    }


def share_of_parallels(scores: Sequence[Score]) -> float:
    """See `describe`."""
    return _share([pair for score in scores for pair in _moves(score)])


def _share(values: Sequence[bool]) -> float:
    return round(sum(values) / max(len(values), 1), 4)


def in_scale(pitch: int, key: tuple[int, str]) -> bool:
    """Whether a pitch is in the scale of the key signature, or the raised seventh of minor."""
    degree = (pitch - key[0]) % 12
    if key[1] == "minor" and degree == OCTAVE - 1:
        return True
    return (7 * pitch - signature(key) + 1) % 12 < 7


def _pitches(score: Score) -> Iterator[tuple[int, int]]:
    """(voice, pitch) of every note."""
    for k, voice in enumerate(score.voices):
        for note in voice:
            if note.pitch is not None:
                yield k, note.pitch


def _last_pitch(voice: Voice) -> int | None:
    return next((note.pitch for note in reversed(voice) if note.pitch is not None), None)


def ends_on_tonic(score: Score) -> bool:
    """The lowest voice ends on the tonic; the highest, if another, with a note of its triad."""
    low, high = _last_pitch(score.voices[-1]), _last_pitch(score.voices[0])
    if low is None or high is None or (low - score.key[0]) % 12:
        return False
    return (high - score.key[0]) % 12 in (0, 3, 4, FIFTH)


def _phrase_degrees(score: Score) -> list[int]:
    """Semitones above the tonic of the lowest voice at the end of each phrase of the highest voice,
    but the last.
    """
    degrees = []
    now = 0
    bass = _starts(score.voices[-1])
    for note in score.voices[0]:
        now += note.length
        if note.phrase_end and note.pitch is not None and now < score.length:
            sounding = [n.pitch for begin, n in bass if begin < now and n.pitch is not None]
            if sounding:
                degrees.append((sounding[-1] - score.key[0]) % 12)
    return degrees


def _starts(voice: Voice) -> list[tuple[int, ScoreNote]]:
    starts, now = [], 0
    for note in voice:
        starts.append((now, note))
        now += note.length
    return starts


def chords(score: Score) -> np.ndarray:
    """[V, N]: the pitches that sound in every voice at each onset of any; -1: a rest."""
    starts = [_starts(voice) for voice in score.voices]
    times = sorted({begin for own in starts for begin, _ in own})
    rows = []
    for own in starts:
        index = np.searchsorted([begin for begin, _ in own], times, "right") - 1
        rows.append([-1 if own[k][1].pitch is None else own[k][1].pitch for k in index])
    return np.array(rows, np.int64)


def _crossings(score: Score) -> list[bool]:
    pitches = chords(score)
    upper, lower = pitches[:-1], pitches[1:]
    both = (upper >= 0) & (lower >= 0)
    return [bool(crossed) for crossed in (lower > upper)[both]]


def _moves(score: Score) -> list[bool]:
    """For every pair of voices that both move from one chord to the next: whether they move in
    parallel from a perfect fifth or octave to another one.
    """
    pitches = chords(score)
    result: list[bool] = []
    for a in range(len(pitches)):
        for b in range(a + 1, len(pitches)):
            upper, lower = pitches[a], pitches[b]
            sounding = (upper >= 0) & (lower >= 0)
            moved = (upper[1:] != upper[:-1]) & (lower[1:] != lower[:-1])
            moved &= sounding[1:] & sounding[:-1]
            interval = (upper - lower) % OCTAVE
            same = (interval[1:] == interval[:-1]) & np.isin(interval[1:], (0, FIFTH))
            direction = np.sign(upper[1:] - upper[:-1]) == np.sign(lower[1:] - lower[:-1])
            result += [bool(value) for value in (same & direction)[moved]]
    return result


def length_distance(scores: Sequence[Score], others: Sequence[Score]) -> float:
    """Total variation distance, 0 to 1, of the distributions of the lengths of notes and rests."""
    counts = [
        Counter(
            (note.length, note.pitch is None)
            for score in group
            for voice in score.voices
            for note in voice
        )
        for group in (scores, others)
    ]
    totals = [max(1, sum(count.values())) for count in counts]
    keys = counts[0].keys() | counts[1].keys()
    distance = sum(abs(counts[0][k] / totals[0] - counts[1][k] / totals[1]) for k in keys) / 2
    return round(distance, 4)
