"""The page of a piece: its notes as a piano roll, pitch over time."""

from __future__ import annotations

from typing import Any

from memorycell.applications.music.musicxml import QUARTERS_PER_BAR
from memorycell.applications.music.pitches import pitch_name
from memorycell.inspection.page import BLUE, Page, Section, figure, page

MIN_RANGE = 12
"""Semitones that the figure shows at least."""


def piano_roll_page(record: dict[str, Any]) -> Page:
    """The notes of a prediction, as an HTML page. A pitch that sounds in consecutive frames is
    drawn as one note.
    """
    frames, per_quarter = record["frames"], record["frames_a_quarter"]
    notes = held_notes(frames)
    fig = figure(460)
    fig.add_bar(
        base=[begin / per_quarter for _, begin, _ in notes],
        x=[(end - begin) / per_quarter for _, begin, end in notes],
        y=[pitch for pitch, _, _ in notes],
        orientation="h",
        marker={"color": BLUE},
        customdata=[pitch_name(pitch) for pitch, _, _ in notes],
        hovertemplate="%{customdata}, quarter %{base}<extra></extra>",
    )
    pitches = [pitch for pitch, _, _ in notes] or [60]
    low, high = min(pitches) - 1, max(max(pitches) + 1, min(pitches) + MIN_RANGE)
    octaves = [p for p in range(low, high + 1) if p % 12 == 0]
    names = [pitch_name(p) for p in octaves]
    fig.update_layout(hovermode="closest", barmode="overlay", bargap=0.1)
    fig.update_yaxes(
        range=[low, high],
        tickvals=octaves,
        ticktext=names,
        title="pitch",
    )
    fig.update_xaxes(dtick=QUARTERS_PER_BAR, title="time in quarter notes; a line per bar")
    title = f"{record['key']}, {len(frames) / per_quarter / QUARTERS_PER_BAR:.3g} bars"
    return page(title, "", [Section("The notes", figure=fig, name="notes")], record["notes"])


def held_notes(frames: list[list[int]]) -> list[tuple[int, int, int]]:
    """(pitch, first frame, frame after the last) of every run of frames with the same pitch."""
    notes = []
    sounding: dict[int, int] = {}
    for k, frame in enumerate([*frames, []]):
        ended = [p for p in sounding if p not in frame]
        notes += [(pitch, sounding.pop(pitch), k) for pitch in ended]
        for pitch in frame:
            sounding.setdefault(pitch, k)
    return sorted(notes, key=lambda note: (note[1], note[0]))
