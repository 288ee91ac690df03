"""The baselines of text classifiers: the most frequent label, and a linear model of TF-IDF."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memorycell.errors import ModelFileError
from memorycell.setting_fields import parse_json

PREFIX = "tfidf."
"""Of the arrays in a model file."""
MAX_BYTES = 1 << 26
"""Of the unpacked terms."""
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
        from sklearn.linear_model import LogisticRegression

        self._vectorizer = _vectorizer(min_df=2 if len(texts) > MANY_TEXTS else 1)
        train = self._vectorizer.fit_transform(texts)
        valid = self._vectorizer.transform(valid_texts)
        models = [
            LogisticRegression(C=c, max_iter=MAX_ITERATIONS).fit(train, truth)
            for c in INVERSE_PENALTIES
        ]
        best = max(models, key=lambda model: model.score(valid, valid_truth))
        self._weight, self._bias = best.coef_, best.intercept_

    def log_probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """[N, classes] float64."""
        scores = np.asarray(self._vectorizer.transform(texts) @ self._weight.T + self._bias)
        if scores.shape[1] == 1:  # of the second of two classes
            scores = np.concatenate([np.zeros_like(scores), scores], 1)
        scores -= scores.max(1, keepdims=True)
        return np.asarray(scores - np.log(np.exp(scores).sum(1, keepdims=True)))

    def arrays(self) -> dict[str, Tensor]:
        """For a model file."""
        terms = self._vectorizer.get_feature_names_out().tolist()
        data = zlib.compress(json.dumps(terms, ensure_ascii=False).encode(), 6)
        values = {"idf": self._vectorizer.idf_, "weight": self._weight, "bias": self._bias}
        return {
            f"{PREFIX}terms": torch.frombuffer(bytearray(data), dtype=torch.uint8),
            **{f"{PREFIX}{k}": torch.from_numpy(v.astype(np.float32)) for k, v in values.items()},
        }

    @classmethod
    def of(cls, arrays: Mapping[str, Tensor]) -> TfIdf:
        """Of a model file. Raises `ModelFileError`."""
        self = object.__new__(cls)
        try:
            terms = _terms(arrays[f"{PREFIX}terms"].numpy().tobytes())
            idf, weight, bias = (
                arrays[f"{PREFIX}{name}"].double().numpy() for name in ("idf", "weight", "bias")
            )
            if not idf.shape == (len(terms),) or weight.shape != (len(bias), len(terms)):
                raise ValueError("its arrays differ in size")
            self._vectorizer = _vectorizer(vocabulary=terms)
            self._vectorizer.idf_ = idf
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise ModelFileError(
                f"the linear model of the classifier is damaged ({error}); copy the file again"
            ) from None
        self._weight, self._bias = weight, bias
        return self


@lru_cache(maxsize=4)
def _terms(packed: bytes) -> dict[str, int]:
    """Term -> column. Raises ValueError or zlib.error."""
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(packed, MAX_BYTES)
    if not unpacker.eof:
        raise ValueError("incomplete, or too large")
    return {str(term): k for k, term in enumerate(parse_json(data.decode()))}


def _vectorizer(**options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        ngram_range=(1, 2),
        sublinear_tf=True,
        token_pattern=r"(?u)\b\w+(?:'\w+)?\b|[!?]",
        **options,
    )


def class_frequencies(counts: np.ndarray, size: int) -> np.ndarray:
    """Log-probabilities [size, classes] float64: the frequencies of class counts [classes]."""
    log_p = np.log(np.maximum(counts, 1e-3) / counts.sum())
    return np.tile(log_p, (size, 1))
