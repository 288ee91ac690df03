"""The labels of a network mixed with those of a linear model of words and word pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from memorycell.applications.sentiment.baselines import TfIdf
from memorycell.errors import ModelFileError

WEIGHT = "mixture"
"""The array of a model file."""
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
MIN_GAIN = 0.002
"""Of the validation log loss, below which nothing is mixed."""


class Mixture:
    """p = (1 - weight) p_network + weight p_linear."""

    def __init__(self, weight: float = 0.0, linear: TfIdf | None = None) -> None:
        self.weight, self._linear = weight, linear

    @classmethod
    def of(cls, arrays: Mapping[str, Tensor]) -> Mixture:
        """Of a model file. Raises `ModelFileError`."""
        if WEIGHT not in arrays:
            return cls()
        if arrays[WEIGHT].shape != (1,) or not 0 <= float(arrays[WEIGHT]) <= 1:
            raise ModelFileError("the mixture of the model is damaged; copy the file again")
        return cls(float(arrays[WEIGHT]), TfIdf.of(arrays))

    def arrays(self) -> dict[str, Tensor]:
        """For a model file: none where nothing is mixed."""
        if not self.weight or self._linear is None:
            return {}
        return {WEIGHT: torch.tensor([self.weight]), **self._linear.arrays()}

    def mix(self, p: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """Probabilities [N, classes] of texts."""
        if not self.weight or self._linear is None:
            return p
        linear = np.exp(self._linear.log_probabilities(texts))
        if linear.shape != p.shape:
            raise ModelFileError("the linear model of the classifier has other classes")
        return np.asarray((1 - self.weight) * p + self.weight * linear)


def fit_mixture(
    linear: TfIdf, p: np.ndarray, texts: Sequence[str], truth: np.ndarray
) -> tuple[Mixture, str]:
    """(the mixture of the lowest log loss, a note) from the network's probabilities [N, classes] of
    validation texts and their classes [N].
    """
    mixtures = [Mixture(weight, linear) for weight in WEIGHTS]
    losses = [
        float(-np.log(np.maximum(m.mix(p, texts)[np.arange(len(p)), truth], 1e-30)).mean())
        for m in mixtures
    ]
    best = int(np.argmin(losses))
    if losses[0] - losses[best] < MIN_GAIN:
        return Mixture(), "not mixed with the linear model of TF-IDF, which would not help"
    return mixtures[best], (
        f"mixed with the linear model of TF-IDF, weight {WEIGHTS[best]:g} (mix=no: the network"
        f" alone); log loss on validation {losses[0]:.4f}, mixed {losses[best]:.4f}"
    )
