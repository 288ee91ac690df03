"""A translation memory: the translation of a near training sentence, where that is better.

With few pairs the nearest sentence may be better than any network; then every translation comes
from the memory, and the model is the fallback that the command says it is. Otherwise a ranking (see
`ranking`) chooses between the network's translation and those of the nearest sentences, or the
nearest sentence's is given from a similarity on. `memory_fitting` finds out which is best.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from memorycell.applications.translation.cleaning import Pairs
from memorycell.applications.translation.codec import PairCodec
from memorycell.applications.translation.model import Translator
from memorycell.applications.translation.placeholders import mask
from memorycell.applications.translation.ranking import NUM_NEAREST, Candidates, Near, Ranking
from memorycell.applications.translation.translate import Translation, mean_log_p, translate
from memorycell.errors import ModelFileError
from memorycell.language.nearest import (
    NEVER,
    NearestText,
    pack_pairs,
    unpack_nearest,
)

Search = tuple[int, float, float]
"""(beam, alpha, coverage) of `beam_search`."""
LIMITS, MEMORY, RANKING = "limits", "memory", "ranking"
"""The arrays of a model file."""


@dataclass(frozen=True)
class Limits:
    """Fitted on the validation split; the defaults are those of files without them.

    similarity   of a training sentence, from which its translation is given
    min_p        geometric mean of the probabilities of a translation's tokens, below which it is
                 unsure
    """

    similarity: float = NEVER
    min_p: float = 0.0


class Memory:
    """The limits of a translator, and its training sentences where they are needed.

    ranking   chooses among candidates; None: the limits do
    """

    def __init__(
        self, limits: Limits, nearest: NearestText | None, ranking: Ranking | None = None
    ) -> None:
        self.limits, self.ranking = limits, ranking
        is_used = ranking is not None or limits.similarity < NEVER
        self._nearest = nearest if is_used else None

    @classmethod
    def of(cls, arrays: Mapping[str, Tensor]) -> Memory:
        """Of a model file. Raises `ModelFileError`."""
        if LIMITS not in arrays:
            return cls(Limits(), None)
        if arrays[LIMITS].shape != (2,):
            raise ModelFileError("the limits of the model are damaged; copy the file again")
        limits = Limits(*arrays[LIMITS].double().tolist())
        if MEMORY not in arrays:
            return cls(limits, None)
        ranking = None
        if RANKING in arrays:
            try:
                ranking = Ranking.from_array(arrays[RANKING].double().numpy())
            except ValueError as error:
                raise ModelFileError(
                    f"the model is damaged ({error}); copy the file again"
                ) from None
        return cls(limits, unpack_nearest(arrays[MEMORY]), ranking)

    def arrays(self, pairs: Pairs) -> dict[str, Tensor]:
        """For a model file."""
        arrays = {LIMITS: torch.tensor(astuple(self.limits), dtype=torch.float32)}
        if self._nearest is not None:
            arrays[MEMORY] = pack_pairs(pairs)
        if self.ranking is not None:
            arrays[RANKING] = torch.from_numpy(self.ranking.to_array())
        return arrays

    def translate(
        self, model: Translator, codec: PairCodec, texts: list[str], search: Search
    ) -> list[Translation]:
        """Translate texts: from the memory where that is expected to be better, the others by the
        model.
        """
        if self.ranking is not None and self._nearest is not None:
            own = _by_model(model, codec, texts, search)
            return self._ranked(self.ranking, candidates(model, codec, self._nearest, own), own)
        found = self._remembered(texts)
        others = [k for k, one in enumerate(found) if one is None]
        by_model = _by_model(model, codec, [texts[k] for k in others], search)
        translations = dict(zip(others, by_model, strict=True))
        return [translations[k] if one is None else one for k, one in enumerate(found)]

    def _ranked(
        self, ranking: Ranking, found: list[Candidates | None], own: list[Translation]
    ) -> list[Translation]:
        chosen: list[Translation] = []
        for candidate, translation in zip(found, own, strict=True):
            if candidate is None:
                chosen.append(translation)
                continue
            expected = ranking.expected(candidate)
            best = int(expected.argmax())
            if best:
                near = candidate.near[best - 1]
                translation = _from_memory(translation.source, near.target, near.similarity)
            chosen.append(replace(translation, expected=float(expected[best])))
        return chosen

    def _remembered(self, texts: list[str]) -> list[Translation | None]:
        if self._nearest is None:
            return [None] * len(texts)
        return [
            _from_memory(text, target, similarity)
            if similarity >= self.limits.similarity and same_copies(text, target) and text.strip()
            else None
            for text, (similarity, target) in zip(texts, self._nearest.find(texts), strict=True)
        ]

    def is_unsure(self, translation: Translation) -> bool:
        """Whether a translation is expected to be poor: of a low predicted chrF++, or the network's
        of a low probability.
        """
        if self.ranking is not None and translation.expected is not None:
            return translation.expected < self.ranking.min_expected
        return translation.similarity is None and translation.p < self.limits.min_p


def candidates(
    model: Translator, codec: PairCodec, nearest: NearestText, own: list[Translation]
) -> list[Candidates | None]:
    """The candidates of texts with the network's translations; None for a text without a near
    sentence that copies the same strings.
    """
    texts = [one.source for one in own]
    near = [
        [
            Near(similarity, nearest.sources[k], nearest.targets[k])
            for similarity, k in found
            if same_copies(text, nearest.targets[k])
        ]
        for text, found in zip(texts, nearest.find_several(texts, NUM_NEAREST), strict=True)
    ]
    rows = [k for k, found in enumerate(near) if found and own[k].text]
    pairs = [
        (texts[k], target) for k in rows for target in (own[k].text, *(n.target for n in near[k]))
    ]
    log_p = mean_log_p(model, codec, pairs)
    ends = np.cumsum([1 + len(near[k]) for k in rows])
    result: list[Candidates | None] = [None] * len(texts)
    for k, end in zip(rows, ends.tolist(), strict=True):
        result[k] = Candidates(texts[k], own[k].text, near[k], log_p[end - 1 - len(near[k]) : end])
    return result


def _by_model(
    model: Translator, codec: PairCodec, texts: list[str], search: Search
) -> list[Translation]:
    beam, alpha, coverage = search
    return translate(model, codec, texts, beam=beam, alpha=alpha, coverage=coverage)


def _from_memory(text: str, target: str, similarity: float) -> Translation:
    return Translation(
        source=text,
        text=target,
        p=similarity,
        tokens=[],
        source_tokens=[],
        attention=np.zeros((0, 0), np.float32),
        truncated=False,
        similarity=similarity,
    )


def same_copies(source: str, target: str) -> bool:
    """Whether a translation holds the strings that its source wants copied, and no others."""
    return sorted(mask(source)[1]) == sorted(mask(target)[1])
