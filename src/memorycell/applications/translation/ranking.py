"""The choice between a network's translation and those of near training sentences.

The chrF++ of each candidate is predicted by ridge regression from the similarity of its training
sentence, the probabilities that the network gives it and its own translation, its agreement with
the other candidates (as in minimum Bayes risk decoding, Kumar & Byrne 2004), and lengths. The best
one is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from memorycell.applications.translation.metrics import sentence_chrf

NUM_NEAREST = 5
"""Training sentences that are candidates."""
NETWORK_FEATURES, MEMORY_FEATURES = 8, 18
RIDGE = 0.01
"""Penalty of standardised features, per sentence."""
MIN_COMPARED = 60
"""Sentences to fit a ranking on."""
FOLDS = 5
UNSURE_SHARE = 0.1
"""Of held-out sentences, those whose translations have the lowest predicted chrF++."""


class Near(NamedTuple):
    """A training sentence and its translation, by similarity to a text."""

    similarity: float
    source: str
    target: str


@dataclass(frozen=True)
class Candidates:
    """Of one text.

    own     the network's translation
    near    training sentences, nearest first; one at least
    log_p   [1 + near] the network's mean log-probability per token of each translation
    """

    text: str
    own: str
    near: list[Near]
    log_p: np.ndarray

    @property
    def translations(self) -> list[str]:
        """The network's, then the others."""
        return [self.own, *(one.target for one in self.near)]

    def features(self) -> tuple[np.ndarray, np.ndarray]:
        """(of the network's translation [8], of the others [near, 18])."""
        texts, count = self.translations, len(self.near)
        similarity = np.array([one.similarity for one in self.near])
        agreement = np.array([sentence_chrf([a] * len(texts), texts) for a in texts])[:, 1:] / 100
        mean = agreement.mean(1)
        weighted = agreement @ similarity / max(similarity.sum(), 1e-6)
        first, own = similarity[0], self.log_p[0]
        length = np.log(len(self.text) + 1)
        common = np.array([own, length, first, first * own, first**2, own**2])
        network = np.array([mean[0], weighted[0], *common])
        log_p, with_own = self.log_p[1:], np.array(sentence_chrf(texts[1:], [self.own] * count))
        ratio = np.log([len(one.source) + 1 for one in self.near]) - length
        others = [
            *(similarity, similarity**2, similarity * own, with_own / 100, mean[1:], weighted[1:]),
            *(ratio, np.abs(ratio), log_p, log_p - own, log_p**2, log_p * similarity),
        ]
        memory = np.concatenate([np.stack(others, 1), np.tile(common, (count, 1))], 1)
        return network, memory


@dataclass(frozen=True)
class Ranking:
    """Weights of the features, a constant first, and the predicted chrF++ below which a translation
    is unsure.
    """

    network: np.ndarray
    memory: np.ndarray
    min_expected: float = 0.0

    @classmethod
    def from_array(cls, values: np.ndarray) -> Ranking:
        """Of `to_array`. Raises ValueError."""
        if values.shape != (NETWORK_FEATURES + MEMORY_FEATURES + 3,):
            raise ValueError("weights of a ranking")
        if not np.isfinite(values).all():
            raise ValueError("weights of a ranking are not finite")
        network, memory, limit = np.split(values, [NETWORK_FEATURES + 1, len(values) - 1])
        return cls(network, memory, float(limit[0]))

    def to_array(self) -> np.ndarray:
        """[F] float64."""
        return np.concatenate([self.network, self.memory, [self.min_expected]])

    def expected(self, candidates: Candidates) -> np.ndarray:
        """The predicted chrF++ of each translation [1 + near]."""
        network, memory = candidates.features()
        own = self.network[0] + self.network[1:] @ network
        return np.array([own, *(self.memory[0] + memory @ self.memory[1:])])


def fit_ranking(
    candidates: Sequence[Candidates], wanted: Sequence[str], weight: np.ndarray
) -> tuple[Ranking, np.ndarray] | None:
    """(the ranking, the chrF++ of its choices [N] when it is fitted without them) from texts, their
    references and the weight [N] of each; None for less than `MIN_COMPARED` texts.
    """
    if len(candidates) < MIN_COMPARED:
        return None
    features = [one.features() for one in candidates]
    scores = [
        np.array(sentence_chrf(one.translations, [reference] * len(one.translations)))
        for one, reference in zip(candidates, wanted, strict=True)
    ]
    fold = np.random.default_rng(0).permutation(len(candidates)) % FOLDS
    chosen, expected = np.empty(len(candidates)), np.empty(len(candidates))
    for k in range(FOLDS):
        ranking = _fitted(features, scores, np.where(fold == k, 0, weight))
        for n in np.flatnonzero(fold == k).tolist():
            predicted = ranking.expected(candidates[n])
            chosen[n], expected[n] = scores[n][predicted.argmax()], predicted.max()
    ranking = _fitted(features, scores, weight)
    limit = float(np.quantile(expected, UNSURE_SHARE))
    return Ranking(ranking.network, ranking.memory, limit), chosen


def _fitted(
    features: Sequence[tuple[np.ndarray, np.ndarray]],
    scores: Sequence[np.ndarray],
    weight: np.ndarray,
) -> Ranking:
    counts = [len(memory) for _, memory in features]
    network = np.stack([network for network, _ in features])
    memory = np.concatenate([memory for _, memory in features])
    own, others = np.array([s[0] for s in scores]), np.concatenate([s[1:] for s in scores])
    return Ranking(_ridge(network, own, weight), _ridge(memory, others, np.repeat(weight, counts)))


def _ridge(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weights [1 + F] for x [N, F], the constant first; the rows of weight 0 are not used."""
    x, y, w = x[weight > 0], y[weight > 0], weight[weight > 0, None] / weight.sum()
    mean, spread = (w * x).sum(0), x.std(0) + 1e-9
    z = np.concatenate([np.ones((len(x), 1)), (x - mean) / spread], 1)
    penalty = RIDGE * np.eye(z.shape[1])
    penalty[0, 0] = 0
    solved = np.linalg.solve((w * z).T @ z + penalty, (w * z).T @ y)
    slopes = solved[1:] / spread
    return np.array([solved[0] - slopes @ mean, *slopes])
