"""The baseline of translators: the translation of the nearest training sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BATCH_SIZE = 200


class NearestSentence:
    """Nearest by cosine similarity of TF-IDF vectors of character n-grams within words, n = 2 to 4
    (scikit-learn).
    """

    def __init__(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._vectorizer = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, dtype=np.float32
        )
        self._sources = self._vectorizer.fit_transform(sources).T.tocsr()
        self._targets = list(targets)

    def translate(self, sources: Sequence[str]) -> list[str]:
        """The training translation of the nearest training source of each source."""
        translations: list[str] = []
        for begin in range(0, len(sources), BATCH_SIZE):
            batch = self._vectorizer.transform(sources[begin : begin + BATCH_SIZE])
            nearest = (batch @ self._sources).argmax(1)
            translations += [self._targets[k] for k in np.asarray(nearest).ravel()]
        return translations
