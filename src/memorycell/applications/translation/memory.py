"""A translation memory: the translation of a near training sentence, where that is better.

With few pairs the nearest sentence may be better than any network; then every translation comes
from the memory, and the model is the fallback that the command says it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass

import numpy as np
import torch
from torch import Tensor

from memorycell.applications.translation.cleaning import Pairs
from memorycell.applications.translation.codec import PairCodec
from memorycell.applications.translation.metrics import sentence_chrf
from memorycell.applications.translation.model import Translator
from memorycell.applications.translation.placeholders import mask
from memorycell.applications.translation.translate import Translation, translate
from memorycell.errors import ModelFileError
from memorycell.language.nearest import (
    NEVER,
    NearestText,
    choose_threshold,
    pack_pairs,
    unpack_nearest,
)

Search = tuple[int, float, float]
"""(beam, alpha, coverage) of `beam_search`."""
LIMITS, MEMORY = "limits", "memory"
"""The arrays of a model file."""
MAX_COMPARED = 300
"""Validation pairs that the limits are fitted on."""
UNSURE_SHARE = 0.1
"""Of the network's translations of held-out sentences."""


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
    """The limits of a translator, and its training sentences where they are needed."""

    def __init__(self, limits: Limits, nearest: NearestText | None) -> None:
        self.limits = limits
        self._nearest = nearest if limits.similarity < NEVER else None

    @classmethod
    def of(cls, arrays: Mapping[str, Tensor]) -> Memory:
        """Of a model file. Raises `ModelFileError`."""
        if LIMITS not in arrays:
            return cls(Limits(), None)
        if arrays[LIMITS].shape != (2,):
            raise ModelFileError("the limits of the model are damaged; copy the file again")
        limits = Limits(*arrays[LIMITS].double().tolist())
        is_used = limits.similarity < NEVER and MEMORY in arrays
        return cls(limits, unpack_nearest(arrays[MEMORY]) if is_used else None)

    def arrays(self, pairs: Pairs) -> dict[str, Tensor]:
        """For a model file."""
        arrays = {LIMITS: torch.tensor(astuple(self.limits), dtype=torch.float32)}
        if self._nearest is not None:
            arrays[MEMORY] = pack_pairs(pairs)
        return arrays

    def translate(
        self, model: Translator, codec: PairCodec, texts: list[str], search: Search
    ) -> list[Translation]:
        """Translate texts: from the memory where one is near enough, the others by the model."""
        found = self._remembered(texts)
        others = [k for k, one in enumerate(found) if one is None]
        beam, alpha, coverage = search
        by_model = translate(
            model, codec, [texts[k] for k in others], beam=beam, alpha=alpha, coverage=coverage
        )
        translations = dict(zip(others, by_model, strict=True))
        return [translations[k] if one is None else one for k, one in enumerate(found)]

    def _remembered(self, texts: list[str]) -> list[Translation | None]:
        if self._nearest is None:
            return [None] * len(texts)
        return [
            _from_memory(text, target, similarity)
            if similarity >= self.limits.similarity and _same_copies(text, target) and text.strip()
            else None
            for text, (similarity, target) in zip(texts, self._nearest.find(texts), strict=True)
        ]

    def is_unsure(self, translation: Translation) -> bool:
        """Whether the network gives its translation a low probability."""
        return translation.similarity is None and translation.p < self.limits.min_p


def fit_memory(
    model: Translator,
    codec: PairCodec,
    nearest: NearestText,
    valid: Pairs,
    search: Search,
) -> tuple[Memory, str]:
    """(the memory with limits fitted on validation pairs, a note)."""
    pairs = valid[:: -(-len(valid) // MAX_COMPARED) or 1]
    sources, wanted = [source for source, _ in pairs], [target for _, target in pairs]
    own = Memory(Limits(), None).translate(model, codec, sources, search)
    found = nearest.find(sources)
    ours = sentence_chrf([t.text for t in own], wanted)
    theirs = sentence_chrf([target for _, target in found], wanted)
    usable = [
        similarity if _same_copies(source, target) else -1.0
        for source, (similarity, target) in zip(sources, found, strict=True)
    ]
    similarity = choose_threshold(usable, ours, theirs)
    min_p = float(np.quantile([t.p for t in own], UNSURE_SHARE))
    chosen = np.where(np.array(usable) >= similarity, theirs, ours)
    scores = (
        f"chrF++ per sentence on validation: network {np.mean(ours):.1f}, nearest sentence"
        f" {np.mean(theirs):.1f}"
    )
    if similarity >= NEVER:
        use = "every translation is the network's"
    elif similarity <= 0:
        use = "too few data for the network: every translation is that of the nearest sentence"
    else:
        use = (
            f"from a similarity of {similarity:g} the nearest sentence's is given, for"
            f" {np.mean(np.array(usable) >= similarity):.0%} of the sentences: {chosen.mean():.1f}"
        )
    note = f"{scores}; {use}; unsure: {UNSURE_SHARE:.0%} of the network's translations"
    return Memory(Limits(similarity, min_p), nearest), note


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


def _same_copies(source: str, target: str) -> bool:
    """Whether a translation holds the strings that its source wants copied, and no others."""
    return sorted(mask(source)[1]) == sorted(mask(target)[1])
