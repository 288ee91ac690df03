"""Scores from files and folders, by split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from memorycell.application.datasets import locate
from memorycell.applications.music.midi import MIDI_SUFFIXES, RIFF_SUFFIX
from memorycell.applications.music.musicxml import MUSICXML_SUFFIXES
from memorycell.applications.music.reading import MAX_ERROR_CHARS, SPLIT_ONE_IN, Source
from memorycell.applications.music.score.abc_tunes import UnreadableTune, abc_tunes
from memorycell.applications.music.score.midi_scores import read_midi_scores
from memorycell.applications.music.score.musicxml_scores import read_musicxml_score
from memorycell.applications.music.score.notation import Score
from memorycell.errors import DataError, quote
from memorycell.reading import Losses, read_text
from memorycell.training.splits import SPLITS, split_of

ABC_SUFFIX = ".abc"
SCORE_SUFFIXES = (*MIDI_SUFFIXES, RIFF_SUFFIX, *MUSICXML_SUFFIXES, ABC_SUFFIX)


def read_voiced_scores(data: str, lossy: bool = False) -> Source:
    """The scores of a file, a folder or a named dataset, by split; pieces on the same melody are in
    the same split. Raises `DataError`, also where more than a twentieth of the pieces would be left
    out, unless `lossy`.
    """
    path, dataset = locate(data)
    where = dataset.name if dataset else data
    losses = Losses("pieces")
    scores = list(_all_scores(path, losses))
    total = len(scores) + sum(losses.skipped.values())
    if not scores:
        reason = next(iter(losses.skipped), f"no music here ({', '.join(SCORE_SUFFIXES)})")
        raise DataError(f"{where}: {reason}")
    losses.check(total, where, lossy)
    splits: dict[str, list[Score]] = {split: [] for split in SPLITS}
    for score in scores:
        splits[split_of(score.melody(), SPLIT_ONE_IN)].append(score)
    return Source(dict(splits), where, losses.notes(total))


def read_first_score(path: Path) -> Score:
    """The first score of a file. Raises `DataError`."""
    losses = Losses("pieces")
    for score in _file_scores(path, losses):
        return score
    raise DataError(f"{path}: {next(iter(losses.skipped), 'contains no tune')}")


def _all_scores(path: Path, losses: Losses) -> Iterator[Score]:
    """Those of a file or of the files of a folder; what cannot be read is counted by reason."""
    if not path.is_dir():
        yield from _file_scores(path, losses)
        return
    for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in SCORE_SUFFIXES):
        try:
            yield from _file_scores(file, losses)
        except DataError as error:
            losses.skip(str(error).removeprefix(f"{file}: ")[:MAX_ERROR_CHARS])


def _file_scores(path: Path, losses: Losses) -> Iterator[Score]:
    suffix = path.suffix.lower()
    if suffix in (*MIDI_SUFFIXES, RIFF_SUFFIX):
        yield from read_midi_scores(path, losses)
    elif suffix in MUSICXML_SUFFIXES:
        yield read_musicxml_score(path)
    elif suffix == ABC_SUFFIX:
        for tune in abc_tunes(read_text(path)):
            if isinstance(tune, UnreadableTune):
                losses.skip(str(tune))
            else:
                yield tune
    elif suffix == ".json":
        raise DataError(f"{path}: frames in JSON have no metre; train with --set view=voices")
    else:
        raise DataError(f"{path}: {quote(suffix)} is not one of {', '.join(SCORE_SUFFIXES)}")
