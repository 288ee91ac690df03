"""The pairs of a path or of a named dataset, or of several of them, joined by +."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from memorycell.application.datasets import locate, with_dataset_settings
from memorycell.applications.translation.cleaning import Pairs, ReadOptions
from memorycell.applications.translation.pairs import read_pairs, source_key, split_pairs
from memorycell.applications.translation.settings import TranslationSettings
from memorycell.errors import DataError
from memorycell.training.splits import SPLITS


@dataclasses.dataclass(frozen=True)
class Sources:
    """Pairs of texts.

    name    as it is given; of several sets, their names joined by +
    pairs   split -> pairs
    parts   split -> the set of each pair [N] int64: its position in `name`
    notes   what was found in them
    """

    name: str
    pairs: dict[str, Pairs]
    parts: dict[str, np.ndarray]
    notes: list[str] = dataclasses.field(default_factory=list)

    def with_test(self, pairs: Pairs, name: str) -> Sources:
        """With other pairs to test on."""
        parts = {**self.parts, "test": np.zeros(len(pairs), np.int64)}
        return dataclasses.replace(
            self, name=name, pairs={**self.pairs, "test": pairs}, parts=parts
        )


def read_sources(data: str, settings: TranslationSettings) -> Sources:
    """The pairs of a path or a named dataset, or of several joined by +, by split. Raises
    `DataError`.
    """
    names = data.split("+")
    if len(names) > 1 and not Path(data).exists():
        return _joined([read_sources(name, settings) for name in names])
    path, named = locate(data, stem=True)
    name = named.name if named else str(data)
    settings = with_dataset_settings(settings, named)
    options = ReadOptions(settings.language_pair, settings.encoding, settings.sheet, settings.lossy)
    pairs, notes = read_pairs(path, name, options)
    pairs = split_pairs(pairs["all"]) if "all" in pairs else pairs
    parts = {split: np.zeros(len(own), np.int64) for split, own in pairs.items()}
    return Sources(name, pairs, parts, notes)


def read_other_sources(data: str, settings: TranslationSettings) -> Sources:
    """As `read_sources`, of data that may not have the column names or suffixes of the training
    data.
    """
    try:
        return read_sources(data, settings)
    except DataError:
        if settings.languages is None:
            raise
        return read_sources(data, dataclasses.replace(settings, languages=None))


def repeated(parts: np.ndarray, balance: float, seed: int) -> np.ndarray:
    """Positions of training pairs for one epoch, of the sets in `parts` [N]: those of the largest
    set once, those of a smaller one repeated, so that the sets' shares are in proportion to their
    sizes to the power of `balance` (Arivazhagan et al. 2019, arXiv:1907.05019).
    """
    sizes = np.bincount(parts)
    times = (sizes.max() / np.maximum(sizes, 1)) ** (1 - balance)
    whole, rest = np.floor(times[parts]).astype(np.int64), (times % 1)[parts]
    extra = np.random.default_rng(seed).random(len(parts)) < rest
    return np.repeat(np.arange(len(parts)), whole + extra)


def _joined(sets: Sequence[Sources]) -> Sources:
    """Without training and validation pairs whose source is in a later split of another set."""
    held_out: set[str] = set()
    pairs: dict[str, Pairs] = {}
    parts: dict[str, np.ndarray] = {}
    for split in reversed(SPLITS):
        found = [(pair, k) for k, one in enumerate(sets) for pair in one.pairs[split]]
        kept = [(pair, k) for pair, k in found if source_key(pair[0]) not in held_out]
        if split == "train":
            first: dict[tuple[str, str], int] = {}
            for pair, k in kept:
                first.setdefault(pair, k)
            kept = list(first.items())
        pairs[split] = [pair for pair, _ in kept]
        parts[split] = np.array([k for _, k in kept], np.int64)
        held_out |= {source_key(pair[0]) for pair in pairs[split]}
    name = "+".join(one.name for one in sets)
    notes = [note for one in sets for note in one.notes]
    return Sources(name, {s: pairs[s] for s in SPLITS}, {s: parts[s] for s in SPLITS}, notes)
