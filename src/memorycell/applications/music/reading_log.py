"""What was read from files of music, what was left out and what was changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from memorycell.applications.music.notes import MAX_SHIFT
from memorycell.reading import MAX_SKIPPED, Losses


@dataclass
class ReadingLog:
    """Counts of notes and files.

    num_notes   notes without drums
    moved       frames per quarter note -> notes that begin between frames, see `Notes.moved`
    """

    notes: Losses = field(default_factory=lambda: Losses("notes"))
    files: Losses = field(default_factory=lambda: Losses("files"))
    num_notes: int = 0
    num_files: int = 0
    moved: Counter[int] = field(default_factory=Counter)

    def add(self, other: ReadingLog) -> None:
        """Add the counts of another log."""
        for own, theirs in ((self.notes, other.notes), (self.files, other.files)):
            own.skipped.update(theirs.skipped)
            own.repaired.update(theirs.repaired)
        self.num_notes += other.num_notes
        self.num_files += other.num_files
        self.moved.update(other.moved)

    def lines(self, frames: int) -> list[str]:
        """One line per finding, for data that are read with `frames` frames per quarter note."""
        return [
            *self.files.notes(self.num_files),
            *self.notes.notes(self.num_notes),
            *self._moved_lines(frames),
        ]

    def check(self, where: str, lossy: bool) -> None:
        """Raises `DataError` where too many files or notes were left out; see `Losses`."""
        self.files.check(self.num_files, where, lossy)
        self.notes.check(self.num_notes, where, lossy)

    def _moved_lines(self, frames: int) -> list[str]:
        moved = self.moved[frames]
        if not moved:
            return []
        better = finer_grid(self.moved, self.num_notes)
        fix = f"; --set frames={better} represents them" if better and better != frames else ""
        return [
            f"{moved:,} of {self.num_notes:,} notes moved by more than 1/{round(1 / MAX_SHIFT)} of"
            f" a quarter note to the nearest of {frames} frames per quarter note{fix}"
        ]


def finer_grid(moved: Mapping[int, int], total: int) -> int | None:
    """The fewest frames per quarter note with at most `MAX_SKIPPED` of the notes moved."""
    return next((f for f in sorted(moved) if moved[f] <= MAX_SKIPPED * total), None)
