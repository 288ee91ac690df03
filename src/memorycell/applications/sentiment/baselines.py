"""What texts with labels must beat: words counted, and a linear classifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

STRENGTHS = (0.25, 1.0, 4.0, 16.0)


class TfIdf:
    """Words and pairs of words weighted by TF-IDF (Spärck Jones 1972), into multinomial logistic
    regression.

    By scikit-learn; the strength of the penalty is chosen on the validation examples, by accuracy.
    """

    def __init__(
        self, texts: Sequence[str], labels: np.ndarray, valid: Sequence[str], truth: np.ndarray
    ) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        least = 2 if len(texts) > 1000 else 1
        self._vectors = TfidfVectorizer(
            ngram_range=(1, 2),
            sublinear_tf=True,
            min_df=least,
            token_pattern=r"(?u)\b\w+(?:'\w+)?\b|[!?]",
        )
        train, held_out = self._vectors.fit_transform(texts), self._vectors.transform(valid)
        found = [LogisticRegression(C=c, max_iter=300).fit(train, labels) for c in STRENGTHS]
        self._model = max(found, key=lambda m: m.score(held_out, truth))

    def log_probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """[N, classes] float64."""
        return np.asarray(self._model.predict_log_proba(self._vectors.transform(texts)))
