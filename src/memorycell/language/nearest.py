"""The nearest of the training texts and what belongs to it: a translation, a reply.

A baseline, and a memory that a model answers from where that is better on the validation split.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from memorycell.errors import ModelFileError
from memorycell.setting_fields import parse_json

BATCH_SIZE = 200
MAX_PAIRS = 200_000
"""Of a memory in a model file."""
MAX_BYTES = 1 << 26
"""Of an unpacked memory."""
NEVER = 2.0
"""A similarity that no text reaches."""
THRESHOLDS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
MIN_GAIN = 0.2
"""Points of chrF on the validation split below which no memory is used."""

Unit = Literal["char_wb", "word"]


class NearestText:
    """Nearest by cosine similarity of TF-IDF vectors (scikit-learn): of character n-grams within
    words, n = 2 to 4, or of words.
    """

    def __init__(
        self, sources: Sequence[str], targets: Sequence[str], unit: Unit = "char_wb"
    ) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._vectorizer = TfidfVectorizer(
            analyzer=unit,
            ngram_range=(2, 4) if unit == "char_wb" else (1, 2),
            token_pattern=r"\w+(?:['’]\w+)?|[?!]" if unit == "word" else None,
            sublinear_tf=True,
            dtype=np.float32,
        )
        self._vectors = self._vectorizer.fit_transform(sources).T.tocsr()
        self.sources, self.targets = list(sources), list(targets)

    def find(self, texts: Sequence[str]) -> list[tuple[float, str]]:
        """(similarity from 0 to 1, what belongs to it) of the nearest source of each text."""
        found: list[tuple[float, str]] = []
        for begin in range(0, len(texts), BATCH_SIZE):
            batch = self._vectorizer.transform(texts[begin : begin + BATCH_SIZE])
            similarity = batch @ self._vectors
            nearest = np.asarray(similarity.argmax(1)).ravel()
            best = np.asarray(similarity.max(1).todense()).ravel()
            found += [(float(s), self.targets[k]) for s, k in zip(best, nearest, strict=True)]
        return found

    def find_several(self, texts: Sequence[str], count: int) -> list[list[tuple[float, int]]]:
        """(similarity, position) of up to `count` sources of each text, nearest first, without
        those that share nothing with it.
        """
        found: list[list[tuple[float, int]]] = []
        for begin in range(0, len(texts), BATCH_SIZE):
            similarity = self._vectorizer.transform(texts[begin : begin + BATCH_SIZE])
            similarity = (similarity @ self._vectors).tocsr()
            for row in range(similarity.shape[0]):
                own = slice(*similarity.indptr[row : row + 2])
                values, positions = similarity.data[own], similarity.indices[own]
                order = np.lexsort((positions, -values))[:count]
                found.append([(float(values[k]), int(positions[k])) for k in order])
        return found

    def answers(self, texts: Sequence[str]) -> list[str]:
        """What belongs to the nearest source of each text."""
        return [target for _, target in self.find(texts)]


def choose_threshold(
    similarity: Sequence[float],
    ours: Sequence[float],
    nearest: Sequence[float],
    weight: Sequence[float] | np.ndarray | None = None,
) -> float:
    """The similarity from which the nearest text's answer is given in place of the model's, so
    that the mean of their scores is highest; `NEVER` where that gains less than `MIN_GAIN`.

    weight   of each text in the mean; by default equal
    """
    s, a, b = (np.asarray(v, np.float64) for v in (similarity, ours, nearest))
    if not len(s):
        return NEVER
    means = {t: float(np.average(np.where(s >= t, b, a), weights=weight)) for t in THRESHOLDS}
    best = max(means, key=lambda t: (means[t], t))
    return best if means[best] >= float(np.average(a, weights=weight)) + MIN_GAIN else NEVER


def reply_scores(texts: Sequence[str], wanted: Sequence[str]) -> list[float]:
    """ChrF (Popović 2015) of each text, 0 to 100."""
    from sacrebleu.metrics.chrf import CHRF

    scorer = CHRF()
    return [scorer.sentence_score(t, [w]).score for t, w in zip(texts, wanted, strict=True)]


# ---- in a model file -----------------------------------------------------------------------------


def pack_pairs(pairs: Sequence[tuple[str, str]]) -> Tensor:
    """Pairs of texts as compressed bytes [N] uint8; evenly chosen ones of more than `MAX_PAIRS`."""
    step = -(-len(pairs) // MAX_PAIRS) or 1
    data = json.dumps([list(pair) for pair in pairs[::step]], ensure_ascii=False).encode()
    return torch.frombuffer(bytearray(zlib.compress(data, 6)), dtype=torch.uint8)


def unpack_nearest(packed: Tensor, unit: Unit = "char_wb") -> NearestText:
    """The memory of `pack_pairs`. Raises `ModelFileError`."""
    return _unpacked(packed.numpy().tobytes(), unit)


@lru_cache(maxsize=4)
def _unpacked(packed: bytes, unit: Unit) -> NearestText:
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(packed, MAX_BYTES)
        if not unpacker.eof:
            raise ValueError("incomplete, or too large")
        pairs = parse_json(data.decode())
        sides = [(str(source), str(target)) for source, target in pairs]
        return NearestText([s for s, _ in sides], [t for _, t in sides], unit)
    except (zlib.error, ValueError, TypeError) as error:
        raise ModelFileError(
            f"the memory of the model is damaged ({error}); copy the file again"
        ) from None
