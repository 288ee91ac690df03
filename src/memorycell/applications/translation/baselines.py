"""What a translator must beat: the translation of the most similar sentence it has learnt from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Nearest:
    """The nearest source by cosine of TF-IDF vectors over parts of words, two to four characters
    (scikit-learn).
    """

    def __init__(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._vectors = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, dtype=np.float32
        )
        self._known = self._vectors.fit_transform(sources).T.tocsr()
        self._targets = list(targets)

    def translate(self, sources: Sequence[str]) -> list[str]:
        """A translation of each, word for word one of those it knows."""
        found: list[str] = []
        for begin in range(0, len(sources), 200):
            likeness = self._vectors.transform(sources[begin : begin + 200]) @ self._known
            found += [self._targets[k] for k in np.asarray(likeness.argmax(1)).ravel()]
        return found
