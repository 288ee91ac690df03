"""The baselines of text classifiers: the most frequent label, and a linear model of TF-IDF."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

INVERSE_PENALTIES = (0.25, 1.0, 4.0, 16.0)
MAX_ITERATIONS = 300
MANY_TEXTS = 1000
"""With more texts, terms of one text only are dropped."""


class TfIdf:
    """Multinomial logistic regression on the TF-IDF (Spärck Jones 1972) of words and word pairs.

    By scikit-learn; the penalty with the best validation accuracy is selected.
    """

    def __init__(
        self,
        texts: Sequence[str],
        truth: np.ndarray,
        valid_texts: Sequence[str],
        valid_truth: np.ndarray,
    ) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        self._vectorizer = TfidfVectorizer(
            ngram_range=(1, 2),
            sublinear_tf=True,
            min_df=2 if len(texts) > MANY_TEXTS else 1,
            token_pattern=r"(?u)\b\w+(?:'\w+)?\b|[!?]",
        )
        train = self._vectorizer.fit_transform(texts)
        valid = self._vectorizer.transform(valid_texts)
        models = [
            LogisticRegression(C=c, max_iter=MAX_ITERATIONS).fit(train, truth)
            for c in INVERSE_PENALTIES
        ]
        self._model = max(models, key=lambda model: model.score(valid, valid_truth))

    def log_probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """[N, classes] float64."""
        return np.asarray(self._model.predict_log_proba(self._vectorizer.transform(texts)))


def class_frequencies(counts: np.ndarray, size: int) -> np.ndarray:
    """Log-probabilities [size, classes] float64: the frequencies of class counts [classes]."""
    log_p = np.log(np.maximum(counts, 1e-3) / counts.sum())
    return np.tile(log_p, (size, 1))
