"""Pairs that can be learned from, and a count of the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memorycell.errors import DataError
from memorycell.reading import Losses, normalise

MAX_PAIR_CHARS = 400
"""Pairs with a longer text are left out."""
MAX_LENGTH_RATIO = 10
"""Pairs of which one side is longer by more are no translations, ..."""
MIN_RATIO_CHARS = 60
"""... where that side has at least so many characters."""
MAX_IDENTICAL = 0.5
"""Share of pairs with equal sides, above which they are taken for one language."""

Pairs = list[tuple[str, str]]
"""(source, target)"""


@dataclass(frozen=True)
class ReadOptions:
    """How files are read.

    languages        (source, target): suffixes of aligned files, or columns by name, number or
                     language
    encoding, sheet  see `read_table`
    lossy            accept that more than 5% of the pairs are left out
    """

    languages: tuple[str, str] | None = None
    encoding: str | None = None
    sheet: str | None = None
    lossy: bool = False


def clean_pairs(pairs: Pairs, path: Path, options: ReadOptions, notes: list[str]) -> Pairs:
    """The distinct pairs with two sides of similar length, neither longer than `MAX_PAIR_CHARS`.

    Raises `DataError` where too many are left out, or are identical on both sides.
    """
    losses = Losses("pairs")
    kept: Pairs = []
    for pair in pairs:
        source, target = (normalise(side).strip() for side in pair)
        short, long = sorted((len(source), len(target)))
        if not long:
            losses.repair("both sides empty, left out")
        elif not short:
            losses.skip("one side is empty")
        elif long > MAX_PAIR_CHARS:
            losses.skip(f"longer than {MAX_PAIR_CHARS} characters")
        elif long > max(MAX_LENGTH_RATIO * short, MIN_RATIO_CHARS):
            losses.skip(f"one side is over {MAX_LENGTH_RATIO} times as long as the other")
        else:
            kept.append((source, target))
    losses.check(len(pairs), str(path), options.lossy)
    identical = sum(source == target for source, target in kept)
    if identical > MAX_IDENTICAL * len(kept) and not options.lossy:
        raise DataError(
            f"{path}: {identical:,} of {len(kept):,} pairs are identical on both sides; are both of"
            " one language? Name the columns or files: --set languages=…, or accept it: --set"
            " lossy=true"
        )
    losses.repair("identical on both sides, kept", identical)
    distinct = list(dict.fromkeys(kept))
    losses.repair("repeated, used once", len(kept) - len(distinct))
    notes += [f"{path.name}: {note}" for note in losses.notes(len(pairs))]
    return distinct
