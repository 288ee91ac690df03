"""The training recordings that a recording resembles, as further evidence for its class.

A network that was trained on few speakers is often sure and wrong where a new one speaks; the
nearest recordings by dynamic time warping err elsewhere. Their answers are joined as a product,

    log p(class) = log p_network(class) - weight · sum_i (d_i,class / d_i,nearest - 1) + constant,

with d_i,class the mean distance of `DtwClassifier` to the `NEIGHBOURS` nearest training recordings
of a class, and d_i,nearest the least of the classes. The sum is over two descriptions of a
recording, which the model file stores: its mel cepstra minus their mean (`mfcc`), and the features
of the network per frame, scaled by the recording's own deviation, with deltas and without the
silence at the ends (`AudioCodec.speech_features`). Each is right where the other is not: scaling
removes differences of voice and microphone, and with them some of the differences between sounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from memorycell.applications.speech.audio import Sound, mfcc, resample_sound
from memorycell.applications.speech.codec import AudioCodec
from memorycell.errors import ModelFileError
from memorycell.signals.dtw import DtwClassifier

PREFIX = "nearest."
"""Of the arrays in a model file."""
CEPSTRA = 13
NEIGHBOURS = 3
MIN_DISTANCE = 1e-6
MAX_FEATURE = 1e4
MAX_WEIGHT = 1000


class NearestRecordings:
    """Descriptions of training recordings, with their classes.

    cepstra    `mfcc` [T_k, 13] float16 of each
    features   `AudioCodec.speech_features` [S_k, F] float16 of each
    classes    [N] int64
    codec      of the network
    weight     of their evidence
    """

    def __init__(
        self,
        cepstra: Sequence[np.ndarray],
        features: Sequence[np.ndarray],
        classes: np.ndarray,
        codec: AudioCodec,
        weight: float,
    ) -> None:
        self.cepstra, self.features, self.classes = cepstra, features, classes
        self.codec, self.weight = codec, weight
        self._dtw = [DtwClassifier(known, classes) for known in (cepstra, features)]

    @classmethod
    def fit(
        cls, sounds: Sequence[Sound], classes: np.ndarray, codec: AudioCodec, weight: float
    ) -> NearestRecordings:
        """From training recordings at the codec's sample rate."""
        cepstra = [mfcc(sound, CEPSTRA).astype(np.float16) for sound in sounds]
        features = [codec.speech_features(sound).astype(np.float16) for sound in sounds]
        return cls(cepstra, features, classes, codec, weight)

    def excess(self, sound: Sound) -> np.ndarray:
        """The sum of d_i,class / d_i,nearest - 1 of each class [classes]."""
        sound = resample_sound(sound, self.codec.rate_hz)
        queries = (mfcc(sound, CEPSTRA), self.codec.speech_features(sound))
        total = np.zeros(len(self.codec.labels))
        for dtw, query in zip(self._dtw, queries, strict=True):
            distances = dtw.distances(query)
            nearest = [mean_of_least(distances[dtw.classes == k]) for k in range(len(total))]
            total += np.array(nearest) / max(min(nearest), MIN_DISTANCE) - 1
        return total

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
            f"{PREFIX}cepstra_lengths": torch.tensor([len(c) for c in self.cepstra]),
            f"{PREFIX}features": torch.from_numpy(np.concatenate(self.features)),
            f"{PREFIX}features_lengths": torch.tensor([len(f) for f in self.features]),
            f"{PREFIX}classes": torch.from_numpy(np.asarray(self.classes, np.int64)),
            f"{PREFIX}weight": torch.tensor([self.weight], dtype=torch.float64),
        }

    @classmethod
    def of(cls, arrays: Mapping[str, Tensor], codec: AudioCodec) -> NearestRecordings | None:
        """From the arrays of a model file; None where it has none. Raises `ModelFileError`."""
        if not any(name.startswith(PREFIX) for name in arrays):
            return None
        own = {name.removeprefix(PREFIX): array.numpy() for name, array in arrays.items()}
        try:
            cepstra = _split_sequences(own["cepstra"], own["cepstra_lengths"], CEPSTRA)
            width = replace(codec, stack=1).input_size
            features = _split_sequences(own["features"], own["features_lengths"], width)
            classes, weight = own["classes"].astype(np.int64), float(own["weight"][0])
            valid = (
                codec.whole
                and len(cepstra) == len(features) == len(classes)
                and classes.min() >= 0
                and classes.max() == len(codec.labels) - 1
                and 0 < weight <= MAX_WEIGHT
            )
            if not valid:
                raise ValueError("its arrays do not fit")
        except (KeyError, ValueError, IndexError, TypeError):
            raise ModelFileError("the training recordings of this model are damaged") from None
        return cls(cepstra, features, classes, codec, weight)


def mean_of_least(distances: np.ndarray) -> float:
    """The mean of the `NEIGHBOURS` least distances, or of all of fewer; infinity for none."""
    return float(np.sort(distances)[:NEIGHBOURS].mean()) if len(distances) else np.inf


def _split_sequences(joined: np.ndarray, lengths: np.ndarray, width: int) -> list[np.ndarray]:
    """[T, width] float16 -> sequences of these lengths. Raises ValueError."""
    valid = (
        joined.dtype == np.float16
        and joined.shape[1:] == (width,)
        and bool((np.abs(joined) <= MAX_FEATURE).all())
        and lengths.ndim == 1
        and lengths.min() > 0
        and lengths.sum() == len(joined)
    )
    if not valid:
        raise ValueError("sequences that do not fit their lengths")
    return np.split(joined, np.cumsum(lengths)[:-1])
