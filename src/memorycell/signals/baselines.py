"""Baselines of classifiers and transcribers, besides dynamic time warping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from memorycell.application.contract import Metrics
from memorycell.training import metrics

MAX_WORDS = 12
"""Of the most frequent words."""
MAX_TUNING_TRANSCRIPTS = 300


def majority_class(train: np.ndarray, size: int) -> np.ndarray:
    """The most frequent of the training classes [N], `size` times."""
    return np.full(size, np.bincount(train).argmax())


def frequent_words(transcripts: Sequence[str]) -> str:
    """The k most frequent words, with the k that gives the lowest character error rate."""
    counts = Counter(word for text in transcripts for word in text.split())
    words = [word for word, _ in counts.most_common(MAX_WORDS)]
    candidates = [" ".join(words[:k]) for k in range(1, len(words) + 1)]
    sample = transcripts[:MAX_TUNING_TRANSCRIPTS]
    return min(candidates, key=lambda text: constant_text(sample, text)["cer"])


def constant_text(transcripts: Sequence[str], text: str) -> Metrics:
    """The metrics of giving the same text for every example."""
    return metrics.transcription_metrics(transcripts, [text] * len(transcripts))
