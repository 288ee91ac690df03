"""Composed scores as files and as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from memorycell.applications.music.midi import score_to_wav
from memorycell.applications.music.musicxml import engrave
from memorycell.applications.music.score.listening_page import listening_page
from memorycell.applications.music.score.midi_scores import to_symusic
from memorycell.applications.music.score.notation import TICKS, Score
from memorycell.applications.music.score.predict import score_of_record
from memorycell.applications.music.score.spelling import spelled_name
from memorycell.applications.music.score.written_music import score_to_musicxml
from memorycell.errors import UserError


def write_score(suffix: str, record: Mapping[str, Any]) -> str | bytes:
    """The record of one score, or for a page of several, as a file. Raises `UserError`."""
    if suffix == ".html":
        return listening_page(record)
    if suffix == ".json":
        return json.dumps(record)
    if "pieces" in record:
        raise UserError(f"--out: {suffix} holds one piece; write .html, or leave out pieces")
    score = score_of_record(record)
    if suffix == ".musicxml":
        return score_to_musicxml(score)
    if suffix == ".svg":
        return engrave(score_to_musicxml(score))
    written = to_symusic(score, record["tempo"])
    if suffix == ".wav":
        return score_to_wav(written)
    data: bytes = written.dumps_midi()
    return data


def render_scores(record: Mapping[str, Any]) -> str:
    """The key and metre, then the voices bar by bar: pitch:quarter notes, r for a rest, and a comma
    where a phrase ends.
    """
    blocks = []
    for piece in record.get("pieces", [record]):
        score = score_of_record(piece)
        lines = [
            *piece.get("notes", []),
            f"{piece['key']}, {piece['metre']}, {score.bars} bars, seed {piece['seed']}",
        ]
        for number, bar in enumerate(_notes_by_bar(score), 0 if score.pickup else 1):
            lines += [f"{number:>4}  " + "  |  ".join(bar)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _notes_by_bar(score: Score) -> list[list[str]]:
    """The notes that begin in each bar, as text, by voice."""
    first = score.pickup or score.metre.bar
    count = 1 + -(-max(0, score.length - first) // score.metre.bar)
    bars = [["" for _ in score.voices] for _ in range(count)]
    for k, voice in enumerate(score.voices):
        now = 0
        for note in voice:
            bar = 0 if now < first else 1 + (now - first) // score.metre.bar
            name = "r" if note.pitch is None else spelled_name(note.pitch, score.key)
            text = f"{name}:{Fraction(note.length, TICKS)}{',' * note.phrase_end}"
            bars[bar][k] = f"{bars[bar][k]} {text}".strip()
            now += note.length
    return bars
