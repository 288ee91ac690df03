"""From sound to model inputs, for full recordings and in chunks.

A frame is the log energy in `bins` mel bands over 25 ms, one every 10 ms (Davis & Mermelstein
1980), as computed by Kaldi. A step is `stack` frames side by side. A frame depends only on its own
samples, so chunks give the same numbers as the full recording.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from memorycell.applications.speech.audio import Sound, resample_sound
from memorycell.applications.speech.augmentation import stretch_bands
from memorycell.errors import StateError
from memorycell.signals.codec import SignalCodec

FRAME_S, SHIFT_S = 0.025, 0.010
"""Length of a frame, and distance between frames, in seconds."""
MAX_LOG_ENERGY, MIN_SCALE = 1000.0, 1e-3
"""Of the mean and the standard deviation of frames, in nats."""
MAX_SAVED = 1e15
"""Of the values in a saved state."""
MAX_STRETCHES = 100
MIN_LEVEL, LEVEL_DECAY, MAX_BELOW_LEVEL = -13.0, 0.01, 10.0
"""In nats of the energy, of samples in -1 … 1, and nats per frame: 4.3 dB per second."""
SPEECH_RANGE = 7.0
"""Nats of the energy below the loudest frame: 30 dB."""
MIN_STD = 0.5
"""Added to a recording's own standard deviation, in nats, so that near-constant bands are not
amplified.
"""


@dataclass(frozen=True)
class AudioCodec(SignalCodec):
    """Sound in, one of `labels` or a text out.

    rate_hz     sample rate of the frames; other rates are resampled (soxr)
    bins        mel bands per frame
    stack       frames per step
    mean, std   [bins] of the training frames, for scaling
    adapt       subtract the running mean of the scaled frames, where training's mean counts as this
                many frames (online cepstral mean normalisation, Atal 1974); 0: off
    ceps        number of cepstra per frame (cosine transform of the bands) to use instead of the
                bands; 0: the bands
    whole       scale by the recording's own mean and standard deviation, and append delta features
                (Furui 1986); cannot run live
    voiced      of `whole`: energies relative to the loudest frame, and the mean and the standard
                deviation of the frames with speech, so that silence at the ends does not change
                them; False in older files
    gain_control   energies relative to the recent level, see `relative_to_level`
    stretches   of `whole` and classes: a recording is read with its bands stretched by each factor,
                and the probabilities are averaged; none: read once
    """

    kind: ClassVar[str] = "audio"
    rate_hz: Annotated[int, Meta(ge=4000, le=200_000)] = 16000
    bins: Annotated[int, Meta(ge=4, le=200)] = 40
    stack: Annotated[int, Meta(ge=1, le=10)] = 2
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    adapt: Annotated[int, Meta(ge=0, lt=10**6)] = 0
    ceps: Annotated[int, Meta(ge=0, le=200)] = 0
    whole: bool = False
    voiced: bool = False
    gain_control: bool = False
    stretches: Annotated[
        tuple[Annotated[float, Meta(ge=0.1, le=10)], ...], Meta(max_length=MAX_STRETCHES)
    ] = ()

    @property
    def input_size(self) -> int:
        """See `SignalCodec`."""
        return (self.ceps or self.bins) * self.stack * (2 if self.whole else 1)

    @property
    def step_s(self) -> float:
        """Seconds per step."""
        return SHIFT_S * self.stack

    @property
    def window(self) -> int:
        """Samples per frame."""
        return round(FRAME_S * self.rate_hz)

    @property
    def shift(self) -> int:
        """Samples from one frame to the next."""
        return round(SHIFT_S * self.rate_hz)

    @cached_property
    def _cosines(self) -> np.ndarray:
        """[bins, ceps]: the orthonormal cosine transform, with the first coefficients, which vary
        most, scaled down.
        """
        k = np.arange(self.ceps)
        basis = np.cos(np.pi / self.bins * (np.arange(self.bins) + 0.5)[:, None] * k) * np.sqrt(
            2 / self.bins
        )
        return (basis * np.minimum(1, (k + 1) / 5)).astype(np.float32)

    @cached_property
    def _filterbank_options(self) -> Any:
        import kaldi_native_fbank as knf

        options = knf.FbankOptions()
        options.frame_opts.samp_freq = self.rate_hz
        options.frame_opts.frame_length_ms = 1000 * FRAME_S
        options.frame_opts.frame_shift_ms = 1000 * SHIFT_S
        options.frame_opts.dither = 0.0
        options.frame_opts.snip_edges = True
        options.mel_opts.num_bins = self.bins
        return options

    def frames(self, samples: np.ndarray) -> np.ndarray:
        """Samples [N] at `rate_hz` -> log energies [T, bins] float32 of the complete frames."""
        import kaldi_native_fbank as knf

        extractor = knf.OnlineFbank(self._filterbank_options)
        extractor.accept_waveform(self.rate_hz, np.ascontiguousarray(samples, np.float32))
        count = extractor.num_frames_ready
        if count == 0:
            return np.zeros((0, self.bins), np.float32)
        return np.stack([extractor.get_frame(k) for k in range(count)])

    def scale(
        self, frames: np.ndarray, sums: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Frames [T, bins] -> (scaled frames float32, sums).

        sums   float64, `no_frames` before the first: for `adapt` the sum and the number of the
               frames so far [bins + 1], and for `gain_control` the level; pass the returned value
               with the next frames
        """
        sums = self.no_frames if sums is None else sums
        if self.voiced:
            return relative_to_loudest(frames), sums
        if self.gain_control:
            frames, level = relative_to_level(frames, sums[-1])
            scaled, rest = self._scale(frames, sums[:-1])
            return scaled, np.append(rest, level)
        return self._scale(frames, sums)

    @property
    def no_frames(self) -> np.ndarray:
        """What `scale` carries, before the first frame."""
        sums = np.zeros(self.bins + 1)
        return np.append(sums, MIN_LEVEL) if self.gain_control else sums

    def _scale(self, frames: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.whole:
            return frames, sums
        if self.mean:
            frames = (frames - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        if not self.adapt:
            return frames, sums
        terms = np.column_stack([frames.astype(np.float64), np.ones(len(frames))])
        running = np.concatenate([sums[None], terms]).cumsum(0)  # adds frame by frame
        mean = running[1:, :-1] / (self.adapt + running[1:, -1:])
        return (frames - mean).astype(np.float32), running[-1]

    def stack_frames(self, frames: np.ndarray) -> np.ndarray:
        """Scaled frames [T, bins] -> features [T // stack, input_size] float32."""
        own = self._with_speech(frames)
        if self.ceps:
            # Not a matrix product, whose rounding depends on the number of frames.
            frames = (frames[..., None] * self._cosines).sum(1)
        if self.whole and len(frames):
            frames = (frames - frames[own].mean(0)) / (frames[own].std(0) + MIN_STD)
            frames = np.concatenate([frames, delta_features(frames)], 1).astype(np.float32)
        count = len(frames) // self.stack * self.stack
        return np.ascontiguousarray(frames[:count].reshape(-1, self.input_size))

    def speech_features(self, sound: Sound) -> np.ndarray:
        """Features [T, F] float32 of every frame, without stacking, from the first frame with
        speech to the last; one frame of zeros of a sound without a frame.
        """
        each = replace(self, stack=1)
        frames, _ = self.scale(self.frames(resample_sound(sound, self.rate_hz).samples))
        spoken = np.flatnonzero(self._with_speech(frames))
        if not len(spoken):
            return np.zeros((1, each.input_size), np.float32)
        return each.stack_frames(frames)[spoken[0] : spoken[-1] + 1]

    def _with_speech(self, frames: np.ndarray) -> np.ndarray:
        """Which frames [T, bins] are within `SPEECH_RANGE` of the loudest: [T] bool."""
        if not self.voiced or not len(frames):
            return np.ones(len(frames), bool)
        loudness = np.log(np.exp(frames.astype(np.float64)).mean(1))
        return np.asarray(loudness >= loudness.max() - SPEECH_RANGE)

    def encode(self, sound: Sound) -> np.ndarray:
        """Features [T, input_size] float32 of a recording."""
        return FeatureStream(self, sound.rate_hz).feed(sound.samples, last=True)

    def encode_views(self, sound: Sound) -> list[np.ndarray]:
        """The features of a recording with its bands stretched by each of `stretches`, or its
        features.
        """
        if not self.stretches:
            return [self.encode(sound)]
        frames = self.frames(resample_sound(sound, self.rate_hz).samples)
        stretched = (stretch_bands(frames, factor) for factor in self.stretches)
        return [self.stack_frames(self.scale(each)[0]) for each in stretched]

    def fit_scaling(self, frames: Sequence[np.ndarray]) -> AudioCodec:
        """The codec with the mean and standard deviation of training frames."""
        if self.gain_control:
            frames = [relative_to_level(f, MIN_LEVEL)[0] for f in frames]
        joined = np.concatenate(frames).astype(np.float64)
        std = np.maximum(joined.std(0), MIN_SCALE)
        return replace(self, mean=tuple(joined.mean(0).tolist()), std=tuple(std.tolist()))

    def to_json(self) -> dict[str, Any]:
        """See `Codec`."""
        own = {
            name: value
            for name, value in asdict(self).items()
            if name not in ("text", "labels", "sentences")
        }
        return {**super().to_json(), **own}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AudioCodec:
        """See `Codec`."""
        codec = cls._checked_from_json(
            data, optional=("whole", "voiced", "gain_control", "stretches")
        )
        mean, std = np.array(codec.mean), np.array(codec.std)
        if not len(mean) == len(std) == codec.bins:
            raise ValueError("mean and std do not fit the bins")
        if not (np.abs(mean) <= MAX_LOG_ENERGY).all():
            raise ValueError(f"mean: expected numbers of at most {MAX_LOG_ENERGY:g}")
        if not ((std >= MIN_SCALE) & (std <= MAX_LOG_ENERGY)).all():
            raise ValueError(f"std: expected numbers from {MIN_SCALE:g} to {MAX_LOG_ENERGY:g}")
        if codec.ceps > codec.bins:
            raise ValueError("ceps: more than bins")
        codec.check_bands()
        return codec

    def check_bands(self) -> None:
        """Raises ValueError where a band would be narrower than the spectrum's resolution."""
        import kaldi_native_fbank as knf

        try:
            knf.OnlineFbank(self._filterbank_options)
        except (ValueError, RuntimeError):
            raise ValueError(
                f"bins={self.bins}: too many bands at {self.rate_hz:,} Hz; use fewer"
            ) from None


def relative_to_level(frames: np.ndarray, level: float) -> tuple[np.ndarray, float]:
    """Automatic gain control. Log energies [T, bins] -> (the same minus the level, at least
    -`MAX_BELOW_LEVEL`, float32; the level after the last frame).

    level   before the first frame, in nats; the level of a frame is the log of its mean energy or,
            where that is less, the previous level minus `LEVEL_DECAY`, but never below `MIN_LEVEL`

    So a recording at another volume, or with faint noise in its pauses, gives the same features.
    """
    levels = np.empty(len(frames))
    loudness = np.log(np.exp(frames.astype(np.float64)).mean(1))
    for t, loud in enumerate(loudness.tolist()):
        level = levels[t] = max(loud, level - LEVEL_DECAY, MIN_LEVEL)
    relative = np.maximum(frames - levels[:, None], -MAX_BELOW_LEVEL)
    return relative.astype(np.float32), float(level)


def relative_to_loudest(frames: np.ndarray) -> np.ndarray:
    """Log energies [T, bins] minus the log of the mean energy of the loudest frame, at least
    -`MAX_BELOW_LEVEL`, float32.
    """
    if not len(frames):
        return frames
    loudest = np.log(np.exp(frames.astype(np.float64)).mean(1)).max()
    return np.maximum(frames - loudest, -MAX_BELOW_LEVEL).astype(np.float32)


def delta_features(frames: np.ndarray) -> np.ndarray:
    """[T, F]: three times the least-squares slope of every feature over five frames."""
    padded = np.pad(frames, ((2, 2), (0, 0)), mode="edge")
    return np.asarray(3 * (2 * (padded[4:] - padded[:-4]) + padded[3:-1] - padded[1:-3]) / 10)


class FeatureStream:
    """Chunks of samples in, at any rate and of any size; the features of completed steps out."""

    def __init__(self, codec: AudioCodec, rate_hz: int) -> None:
        self.codec, self.rate_hz = codec, rate_hz
        self._resampler: Any = None
        if rate_hz != codec.rate_hz:
            import soxr

            self._resampler = soxr.ResampleStream(rate_hz, codec.rate_hz, 1, dtype="float32")
        self._samples = np.zeros(0, np.float32)  # from the start of the next frame
        self._frames = np.zeros((0, codec.bins), np.float32)  # scaled, of an incomplete step
        self._sums = codec.no_frames

    def feed(self, samples: np.ndarray, *, last: bool = False) -> np.ndarray:
        """Samples [N] -> features [n, input_size] of the steps they complete.

        last   no samples follow: flush the resampler
        """
        codec = self.codec
        samples = np.ascontiguousarray(samples, np.float32)
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=last)
        self._samples = np.concatenate([self._samples, samples])
        count = max(0, (len(self._samples) - codec.window) // codec.shift + 1)
        if count:
            frames = codec.frames(self._samples[: (count - 1) * codec.shift + codec.window])
            self._samples = self._samples[count * codec.shift :]
            scaled, self._sums = codec.scale(frames, self._sums)
            self._frames = np.concatenate([self._frames, scaled])
        complete = len(self._frames) // codec.stack * codec.stack
        ready, self._frames = self._frames[:complete], self._frames[complete:]
        return codec.stack_frames(ready)

    def fork(self) -> FeatureStream:
        """An independent copy. Raises `StateError` while resampling, since the resampler cannot be
        copied.
        """
        if self._resampler is not None:
            raise StateError(
                f"stream: samples of {self.rate_hz:,} Hz are resampled, and the resampler cannot be"
                f" copied; send {self.codec.rate_hz:,} Hz"
            )
        return copy.copy(self)  # what `feed` changes, it replaces

    def snapshot(self) -> dict[str, list[float]] | None:
        """JSON values for `restore`; None while resampling, since the resampler's state is not
        accessible.
        """
        if self._resampler is not None:
            return None
        arrays: dict[str, np.ndarray] = {
            "samples": self._samples,
            "frames": self._frames,
            "heard": self._sums,
        }
        return {name: array.ravel().tolist() for name, array in arrays.items()}

    def restore(self, data: Mapping[str, Any]) -> None:
        """Continue from a snapshot. Raises KeyError, TypeError or ValueError for invalid data."""
        samples, frames, sums = (
            np.array(data[name], np.float64) for name in ("samples", "frames", "heard")
        )
        codec = self.codec
        if sums.shape != self._sums.shape or frames.size % codec.bins or samples.ndim != 1:
            raise ValueError("the number of bands differs")
        if frames.size >= codec.stack * codec.bins or len(samples) >= codec.window + codec.shift:
            raise ValueError("more samples than between two steps")
        if not all((np.abs(array) <= MAX_SAVED).all() for array in (samples, frames, sums)):
            raise ValueError("values that are not finite or too large")
        if sums[codec.bins] < 0:
            raise ValueError("a negative number of frames")
        self._samples, self._sums = samples.astype(np.float32), sums
        self._frames = frames.astype(np.float32).reshape(-1, self.codec.bins)
