"""The training recordings that a recording resembles, as further evidence for its class.

A network that was trained on few speakers is often sure and wrong where a new one speaks; the
nearest recording by dynamic time warping errs elsewhere. Their answers are joined as a product,

    log p(class) = log p_network(class) - weight · (d_class / d_nearest - 1) + constant,

with d the distance of `DtwClassifier` to the nearest training recording of a class, on cepstra
(`mfcc`), which the model file stores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from memorycell.applications.speech.audio import Sound, mfcc, resample_sound
from memorycell.errors import ModelFileError
from memorycell.signals.dtw import DtwClassifier

PREFIX = "nearest."
"""Of the arrays in a model file."""
CEPSTRA = 13
MIN_DISTANCE = 1e-6
MAX_CEPSTRUM = 1e4
MAX_WEIGHT = 1000


class NearestRecordings:
    """Cepstra of training recordings, with their classes.

    cepstra   [T_k, 13] float16 each
    classes   [N] int64
    rate_hz   of the recordings
    weight    of their evidence
    """

    def __init__(
        self, cepstra: Sequence[np.ndarray], classes: np.ndarray, rate_hz: int, weight: float
    ) -> None:
        self.cepstra, self.classes = cepstra, classes
        self.rate_hz, self.weight = rate_hz, weight
        self._dtw = DtwClassifier([c.astype(np.float32) for c in cepstra], classes)
        self._of_class = [self._dtw.classes == k for k in range(int(classes.max()) + 1)]

    @classmethod
    def fit(cls, sounds: Sequence[Sound], classes: np.ndarray, weight: float) -> NearestRecordings:
        """From training recordings of one sample rate."""
        cepstra = [mfcc(sound, CEPSTRA).astype(np.float16) for sound in sounds]
        return cls(cepstra, classes, sounds[0].rate_hz, weight)

    def excess(self, sound: Sound) -> np.ndarray:
        """d_class / d_nearest - 1 of each class [classes]."""
        query = mfcc(resample_sound(sound, self.rate_hz), CEPSTRA)
        distances = self._dtw.distances(query)
        nearest = np.array([distances[own].min(initial=np.inf) for own in self._of_class])
        return np.asarray(nearest / max(float(nearest.min()), MIN_DISTANCE) - 1)

    def join(self, log_p: np.ndarray, excess: np.ndarray) -> np.ndarray:
        """Log-probabilities [classes], from the network's and `excess`."""
        joined = log_p - self.weight * excess
        highest = joined.max()
        result: np.ndarray = joined - highest - np.log(np.exp(joined - highest).sum())
        return result.astype(np.float32)

    def arrays(self) -> dict[str, Tensor]:
        """Tensors for a model file."""
        return {
            f"{PREFIX}cepstra": torch.from_numpy(np.concatenate(self.cepstra)),
            f"{PREFIX}lengths": torch.tensor([len(c) for c in self.cepstra]),
            f"{PREFIX}classes": torch.from_numpy(np.asarray(self.classes, np.int64)),
            f"{PREFIX}rate_hz": torch.tensor([self.rate_hz]),
            f"{PREFIX}weight": torch.tensor([self.weight], dtype=torch.float64),
        }

    @classmethod
    def of(cls, arrays: Mapping[str, Tensor], classes: int) -> NearestRecordings | None:
        """From the arrays of a model file; None where it has none. Raises `ModelFileError`."""
        if f"{PREFIX}cepstra" not in arrays:
            return None
        try:
            cepstra = arrays[f"{PREFIX}cepstra"].numpy()
            names = ("lengths", "classes", "rate_hz", "weight")
            lengths, labels, rate, weight = (arrays[f"{PREFIX}{n}"].numpy() for n in names)
            valid = (
                cepstra.dtype == np.float16
                and cepstra.shape[1:] == (CEPSTRA,)
                and bool((np.abs(cepstra) <= MAX_CEPSTRUM).all())
                and lengths.shape == labels.shape
                and lengths.min() > 0
                and lengths.sum() == len(cepstra)
                and labels.min() >= 0
                and labels.max() == classes - 1
                and 4000 <= int(rate[0]) <= 200_000
                and 0 < float(weight[0]) <= MAX_WEIGHT
            )
            if not valid:
                raise ValueError("its arrays do not fit")
        except (KeyError, ValueError, IndexError, TypeError):
            raise ModelFileError("the training recordings of this model are damaged") from None
        parts = np.split(cepstra, np.cumsum(lengths)[:-1])
        return cls(parts, labels.astype(np.int64), int(rate[0]), float(weight[0]))
