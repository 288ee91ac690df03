"""From when a text classifier is unsure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass

import numpy as np
import torch
from torch import Tensor

from memorycell.errors import ModelFileError

LIMITS = "limits"
"""The array of a model file."""
UNSURE_SHARE = 0.1
"""Of validation texts, those with the least certain labels."""
MIN_UNKNOWN = 0.4
"""Share of a text's tokens that are not in the vocabulary, above which it may be unsure."""
UNKNOWN_QUANTILE = 0.99
"""Of validation texts, below whose share of unknown tokens a text is never unsure for it."""


@dataclass(frozen=True)
class Limits:
    """Fitted on the validation split; the defaults are those of files without them.

    min_p         probability of the label, below which it is unsure
    max_unknown   share of tokens out of the vocabulary, above which it is unsure
    unknown_below   probability of the label below which the answer is "unknown"
    """

    min_p: float = 0.0
    max_unknown: float = 1.0
    unknown_below: float = 0.0

    @classmethod
    def of(cls, arrays: Mapping[str, Tensor]) -> Limits:
        """Of a model file. Raises `ModelFileError`."""
        if LIMITS not in arrays:
            return cls()
        if arrays[LIMITS].shape not in ((2,), (3,)):
            raise ModelFileError("the limits of the model are damaged; copy the file again")
        return cls(*arrays[LIMITS].double().tolist())

    def arrays(self) -> dict[str, Tensor]:
        """For a model file."""
        return {LIMITS: torch.tensor(astuple(self), dtype=torch.float32)}

    def is_unsure(self, p: float, unknown: float) -> bool:
        """Whether a label of a text with this share of unknown tokens is unsure."""
        return p < self.min_p or unknown > self.max_unknown


def fit_limits(p: np.ndarray, truth: np.ndarray, unknown: np.ndarray) -> tuple[Limits, str]:
    """(the limits, a note) from the probabilities [N, classes], classes [N] and shares of unknown
    tokens [N] of validation texts.
    """
    best, wrong = p.max(1), p.argmax(1) != truth
    limits = Limits(
        float(np.quantile(best, UNSURE_SHARE)),
        max(MIN_UNKNOWN, float(np.quantile(unknown, UNKNOWN_QUANTILE))),
    )
    unsure = np.array([limits.is_unsure(a, b) for a, b in zip(best, unknown, strict=True)])
    accepted = float((wrong & ~unsure).sum() / max((~unsure).sum(), 1))
    refused = float((wrong & unsure).sum() / max(unsure.sum(), 1))
    return limits, (
        f"unsure below a probability of {limits.min_p:.2f} or above {limits.max_unknown:.0%}"
        f" unknown words: {unsure.mean():.0%} of the validation texts, {refused:.0%} of them wrong;"
        f" of those accepted {accepted:.1%} are wrong"
    )
