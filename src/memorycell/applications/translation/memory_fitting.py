"""Which translations come from the memory, decided on the validation split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from memorycell.applications.translation.cleaning import Pairs
from memorycell.applications.translation.codec import PairCodec
from memorycell.applications.translation.memory import (
    Limits,
    Memory,
    Search,
    candidates,
    same_copies,
)
from memorycell.applications.translation.metrics import sentence_chrf
from memorycell.applications.translation.model import Translator
from memorycell.applications.translation.ranking import (
    UNSURE_SHARE,
    Candidates,
    Ranking,
    fit_ranking,
)
from memorycell.language.nearest import MIN_GAIN, NEVER, NearestText, choose_threshold

MAX_COMPARED = 300
"""Validation pairs of each set that the limits are fitted on."""


class Compared(NamedTuple):
    """Validation pairs.

    parts   the set of each [N], a position in `names`
    """

    pairs: Pairs
    parts: np.ndarray
    names: Sequence[str]

    def some(self) -> Compared:
        """Up to `MAX_COMPARED` of every set, evenly chosen."""
        rows: list[int] = []
        for part in range(len(self.names)):
            own = np.flatnonzero(self.parts == part)
            rows += own[:: -(-len(own) // MAX_COMPARED) or 1].tolist()
        return Compared([self.pairs[k] for k in rows], self.parts[rows], self.names)

    @property
    def weight(self) -> np.ndarray:
        """Of each pair [N], so that the sets count equally."""
        sizes = np.bincount(self.parts, minlength=len(self.names))
        return np.asarray(len(self.parts) / np.count_nonzero(sizes) / sizes[self.parts])

    def means(self, scores: Sequence[float] | np.ndarray) -> list[float]:
        """The mean of scores [N] in every set."""
        values = np.asarray(scores)
        present = np.unique(self.parts)
        return [float(values[self.parts == part].mean()) for part in present]


def fit_memory(
    model: Translator,
    codec: PairCodec,
    nearest: NearestText,
    valid: Compared,
    search: Search,
) -> tuple[Memory, str]:
    """(the memory that is best on validation pairs, a note). A method is used where the mean of the
    chrF++ of sentences is higher than that of a simpler one, and in no set lower than that of the
    nearest sentence.
    """
    compared = valid.some()
    sources, wanted = [source for source, _ in compared.pairs], [t for _, t in compared.pairs]
    own = Memory(Limits(), None).translate(model, codec, sources, search)
    found = nearest.find(sources)
    ours = sentence_chrf([t.text for t in own], wanted)
    theirs = sentence_chrf([target for _, target in found], wanted)
    usable = [
        similarity if same_copies(source, target) else -1.0
        for source, (similarity, target) in zip(sources, found, strict=True)
    ]
    similarity = choose_threshold(usable, ours, theirs, compared.weight)
    given = np.array(usable) >= similarity
    scores = np.where(given, theirs, ours)
    if similarity >= NEVER:
        use = "every translation is the network's"
    elif similarity <= 0:
        use = "too few data for the network: every translation is that of the nearest sentence"
    else:
        use = (
            f"from a similarity of {similarity:g} the nearest sentence's is given, for"
            f" {given.mean():.0%} of the sentences"
        )
    limits = Limits(similarity, float(np.quantile([t.p for t in own], UNSURE_SHARE)))
    better = _better_ranking(
        candidates(model, codec, nearest, own), wanted, compared, ours, scores, theirs
    )
    ranking = None
    if better is not None:
        ranking, scores = better
        limits = Limits(NEVER, limits.min_p)
        use = (
            "chosen for each sentence, by the chrF++ that similarity, probabilities and agreement"
            " predict"
        )
    rows = zip(compared.means(ours), compared.means(theirs), compared.means(scores), strict=True)
    labels = [valid.names[part] for part in np.unique(compared.parts)]
    parts = "; ".join(
        f"{label}network {a:.1f}, nearest sentence {b:.1f}, used {c:.1f}"
        for label, (a, b, c) in zip(
            [f"{name}: " if len(labels) > 1 else "" for name in labels], rows, strict=True
        )
    )
    note = f"chrF++ per sentence on validation: {parts}; {use}"
    return Memory(limits, nearest, ranking), f"{note}; unsure: {UNSURE_SHARE:.0%} of them"


def _better_ranking(
    found: list[Candidates | None],
    wanted: list[str],
    compared: Compared,
    ours: list[float],
    scores: np.ndarray,
    theirs: list[float],
) -> tuple[Ranking, np.ndarray] | None:
    """(a ranking, its chrF++ of each sentence when it is fitted without that); None where it is not
    better than the scores of a simpler method.
    """
    rows = [k for k, one in enumerate(found) if one is not None]
    fitted = fit_ranking(
        [one for one in found if one is not None],
        [wanted[k] for k in rows],
        compared.weight[rows],
    )
    if fitted is None:
        return None
    ranking, chosen = fitted
    own = np.array(ours)
    own[rows] = chosen
    gain = np.average(own - scores, weights=compared.weight)
    wins = all(a >= b for a, b in zip(compared.means(own), compared.means(theirs), strict=True))
    return (ranking, own) if wins and gain >= MIN_GAIN else None
