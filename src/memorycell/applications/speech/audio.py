"""Sound: from files and samples of any rate to the steps a model reads, whole or in pieces as they
come from a microphone.

A step is `stack` frames side by side; a frame is the log of the energy in `bins` bands of the mel
scale over 25 ms, one every 10 ms (Davis & Mermelstein 1980), as Kaldi computes it. Each frame
depends on its own samples alone, so that pieces give the numbers of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from memorycell.errors import DataError
from memorycell.signals.codec import SignalCodec

ENDINGS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".gsm", ".w64")
"""Of the files that are taken for recordings."""
FRAME_S, SHIFT_S = 0.025, 0.010
"""Length of a frame, and from one to the next, in seconds."""
LEAST = 0.5
"""Added to a recording's own deviation, in nats: what hardly varies is not blown up."""
SILENT = 1e-4
"""Highest sample of a recording that holds nothing: -80 dB of full scale."""


class Sound(NamedTuple):
    """One channel: samples [N] float32 in -1 … 1, so many a second; `notes` say what was found
    wrong with it.
    """

    samples: np.ndarray
    rate_hz: int
    notes: tuple[str, ...] = ()


def read_audio(path: str | Path) -> Sound:
    """A recording: WAV, FLAC, OGG, MP3 and what else libsndfile reads. Channels are mixed down.

    notes: "stereo", "silent", "clipped". Raises `DataError` for what is no recording, and for one
    without samples.
    """
    import soundfile

    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, ValueError, TypeError) as error:
        reason = str(error).rsplit(": ", 1)[-1].rstrip(".")
        raise DataError(f"{path}: not a readable recording ({reason})") from None
    if len(samples) == 0:
        raise DataError(f"{path}: holds no samples")
    mono = np.ascontiguousarray(samples.mean(1))
    if not np.isfinite(mono).all():
        raise DataError(f"{path}: holds samples that are not finite")
    top = float(np.abs(mono).max())
    notes = [
        name
        for name, found in (
            ("stereo", samples.shape[1] > 1),
            ("silent", top < SILENT),
            ("clipped", float((np.abs(samples) >= 0.999).mean()) > 0.005),
        )
        if found
    ]
    return Sound(mono, int(rate), tuple(notes))


@dataclass(frozen=True)
class AudioCodec(SignalCodec):
    """Sound in, one of `labels` or text out.

    rate_hz     samples a second that frames are made from; other rates are converted (soxr)
    bins        bands of a frame; stack: frames in a step
    mean, std   [bins] of the training frames: what makes a step's features have mean 0 and
                deviation 1
    adapt       frames after which the mean of what was heard counts as much as training's, and is
                taken off: a room, a microphone, a voice (cepstral mean normalisation, Atal 1974, as
                it can be had live); 0: training's alone
    ceps        of a frame's bands, so many cepstra (the first coefficients of their cosine
                transform) are read, which tell the throat's shape and leave out the voice's pitch;
                0: the bands themselves
    whole       a recording's features are taken by their own mean and deviation over it, and how
                they change stands beside them (Furui 1986): the voice and the room are left out,
                and it cannot be done live
    """

    kind: ClassVar[str] = "audio"
    rate_hz: int = 16000
    bins: int = 40
    stack: int = 2
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    adapt: int = 0
    ceps: int = 0
    whole: bool = False

    @property
    def input_size(self) -> int:
        """Features a step."""
        return (self.ceps or self.bins) * self.stack * (2 if self.whole else 1)

    @property
    def step_s(self) -> float:
        """Seconds from one step to the next."""
        return SHIFT_S * self.stack

    @property
    def window(self) -> int:
        """Samples of a frame."""
        return round(FRAME_S * self.rate_hz)

    @property
    def shift(self) -> int:
        """Samples from one frame to the next."""
        return round(SHIFT_S * self.rate_hz)

    @cached_property
    def _cosines(self) -> np.ndarray:
        """[bins, ceps]: the orthonormal cosine transform, the first coefficients, which vary most,
        made smaller.
        """
        k = np.arange(self.ceps)
        basis = np.cos(np.pi / self.bins * (np.arange(self.bins) + 0.5)[:, None] * k) * np.sqrt(
            2 / self.bins
        )
        return (basis * np.minimum(1, (k + 1) / 5)).astype(np.float32)

    @cached_property
    def _options(self) -> Any:
        import kaldi_native_fbank as knf

        options = knf.FbankOptions()
        options.frame_opts.samp_freq = self.rate_hz
        options.frame_opts.frame_length_ms, options.frame_opts.frame_shift_ms = (
            1000 * FRAME_S,
            1000 * SHIFT_S,
        )
        options.frame_opts.dither = 0.0
        options.frame_opts.snip_edges = True
        options.mel_opts.num_bins = self.bins
        return options

    def frames(self, samples: np.ndarray) -> np.ndarray:
        """Samples [N] at `rate_hz` -> log energies [T, bins] float32 of the frames that lie wholly
        inside.
        """
        import kaldi_native_fbank as knf

        bank = knf.OnlineFbank(self._options)
        bank.accept_waveform(self.rate_hz, np.ascontiguousarray(samples, np.float32))
        count = bank.num_frames_ready
        return (
            np.stack([bank.get_frame(k) for k in range(count)])
            if count
            else np.zeros((0, self.bins), np.float32)
        )

    def scaled(
        self, frames: np.ndarray, heard: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Frames [T, bins] with mean 0 and deviation 1, float32; and the sum of all frames so far
        and how many they are, [bins + 1] float64, to be given again with those that follow.
        """
        heard = np.zeros(self.bins + 1) if heard is None else heard
        if self.whole:
            return frames, heard
        if self.mean:
            frames = (frames - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        if not self.adapt:
            return frames, heard
        terms = np.column_stack([frames.astype(np.float64), np.ones(len(frames))])
        sums = np.concatenate([heard[None], terms]).cumsum(0)  # added in the order of single frames
        return (frames - sums[1:, :-1] / (self.adapt + sums[1:, -1:])).astype(np.float32), sums[-1]

    def steps(self, frames: np.ndarray) -> np.ndarray:
        """Scaled frames [T, bins] -> features [T // stack, input_size] float32."""
        if self.ceps:
            # Not a matrix product: each frame gets the same bits alone.
            frames = (frames[..., None] * self._cosines).sum(1)
        if self.whole and len(frames):
            frames = (frames - frames.mean(0)) / (frames.std(0) + LEAST)
            frames = np.concatenate([frames, changes(frames)], 1).astype(np.float32)
        return np.ascontiguousarray(
            frames[: len(frames) // self.stack * self.stack].reshape(-1, self.input_size)
        )

    def encode(self, sound: Sound) -> np.ndarray:
        """Features [T, input_size] float32 of a whole recording."""
        return Ear(self, sound.rate_hz).hear(sound.samples, last=True)

    def fitted(self, frames: Sequence[np.ndarray]) -> AudioCodec:
        """The same with the mean and deviation of training frames."""
        everything = np.concatenate(frames).astype(np.float64)
        deviation = np.maximum(everything.std(0), 1e-3)
        return replace(self, mean=tuple(everything.mean(0).tolist()), std=tuple(deviation.tolist()))

    def to_json(self) -> dict[str, Any]:
        """What a model file keeps."""
        own = {
            name: value
            for name, value in asdict(self).items()
            if name not in ("text", "labels", "sentences")
        }
        return {**super().to_json(), **own}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AudioCodec:
        """Raises KeyError, TypeError or ValueError where the JSON is not a codec's."""
        mean, std = (tuple(float(v) for v in data[name]) for name in ("mean", "std"))
        codec = cls(
            **cls.outputs(data),
            rate_hz=int(data["rate_hz"]),
            bins=int(data["bins"]),
            stack=int(data["stack"]),
            adapt=int(data["adapt"]),
            ceps=int(data["ceps"]),
            whole=bool(data.get("whole", False)),
            mean=mean,
            std=std,
        )
        if not (
            4000 <= codec.rate_hz <= 200_000
            and 4 <= codec.bins <= 200
            and 1 <= codec.stack <= 10
            and 0 <= codec.adapt < 10**6
            and 0 <= codec.ceps <= codec.bins
        ):
            raise ValueError("not a codec of sound")
        if not len(mean) == len(std) == codec.bins or min(std) <= 0:
            raise ValueError("the scaling is not whole")
        return codec


def changes(frames: np.ndarray) -> np.ndarray:
    """[T, F]: the slope of every feature over five frames, by least squares, times three to be as
    large as the features.
    """
    wide = np.pad(frames, ((2, 2), (0, 0)), mode="edge")
    return np.asarray(3 * (2 * (wide[4:] - wide[:-4]) + wide[3:-1] - wide[1:-3]) / 10)


class Ear:
    """Samples come in pieces of any size and at any rate; the steps they complete come out."""

    def __init__(self, codec: AudioCodec, rate_hz: int) -> None:
        self.codec, self.rate_hz = codec, rate_hz
        self._resampler: Any = None
        if rate_hz != codec.rate_hz:
            import soxr

            self._resampler = soxr.ResampleStream(rate_hz, codec.rate_hz, 1, dtype="float32")
        self._samples = np.zeros(0, np.float32)  # from where the next frame begins
        self._frames = np.zeros((0, codec.bins), np.float32)  # scaled, of a step that is not full
        self._heard = np.zeros(codec.bins + 1)

    def hear(self, samples: np.ndarray, *, last: bool = False) -> np.ndarray:
        """Samples [N] -> features [n, input_size] of the steps that are now full. `last`: nothing
        follows.
        """
        codec = self.codec
        samples = np.ascontiguousarray(samples, np.float32)
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=last)
        self._samples = np.concatenate([self._samples, samples])
        count = max(0, (len(self._samples) - codec.window) // codec.shift + 1)
        if count:
            fresh = codec.frames(self._samples[: (count - 1) * codec.shift + codec.window])
            self._samples = self._samples[count * codec.shift :]
            scaled, self._heard = codec.scaled(fresh, self._heard)
            self._frames = np.concatenate([self._frames, scaled])
        full = len(self._frames) // codec.stack * codec.stack
        ready, self._frames = self._frames[:full], self._frames[full:]
        return codec.steps(ready)

    def rest(self) -> dict[str, list[float]] | None:
        """What is kept between two pieces, JSON values to be set again; None where a converter
        holds samples back.
        """
        if self._resampler is not None:
            return None
        kept: dict[str, np.ndarray] = {
            "samples": self._samples,
            "frames": self._frames,
            "heard": self._heard,
        }
        return {name: value.ravel().tolist() for name, value in kept.items()}

    def resume(self, kept: Mapping[str, Any]) -> None:
        """Set what `rest` gave. Raises KeyError, TypeError or ValueError for anything else."""
        samples, frames, heard = (
            np.array(kept[name], np.float64) for name in ("samples", "frames", "heard")
        )
        if heard.shape != self._heard.shape:
            raise ValueError("another number of bands")
        self._samples, self._heard = samples.astype(np.float32), heard
        self._frames = frames.astype(np.float32).reshape(-1, self.codec.bins)


def resampled(sound: Sound, rate_hz: int) -> Sound:
    """The same at another rate (soxr), by the converter that a live stream uses."""
    if sound.rate_hz == rate_hz:
        return sound
    import soxr

    converter = soxr.ResampleStream(sound.rate_hz, rate_hz, 1, dtype="float32")
    return sound._replace(
        samples=converter.resample_chunk(sound.samples, last=True), rate_hz=rate_hz
    )


def mfcc(sound: Sound, ceps: int = 13) -> np.ndarray:
    """Mel-frequency cepstra [T, ceps] float32, less their mean over the recording: what simple
    methods compare.
    """
    import kaldi_native_fbank as knf

    options = knf.MfccOptions()
    options.frame_opts.samp_freq, options.frame_opts.dither = sound.rate_hz, 0.0
    options.num_ceps = ceps
    options.use_energy = False
    bank = knf.OnlineMfcc(options)
    bank.accept_waveform(sound.rate_hz, sound.samples)
    found = (
        np.stack([bank.get_frame(k) for k in range(bank.num_frames_ready)])
        if bank.num_frames_ready
        else np.zeros((1, ceps))
    )
    return (found - found.mean(0)).astype(np.float32)


# ---- for training: the same said otherwise -------------------------------------------------------


def perturbed(
    samples: np.ndarray, rng: np.random.Generator, *, speed: float, noise: float
) -> np.ndarray:
    """Samples [N] played faster or slower by a factor of 1/(1 + speed) … 1 + speed, which also
    shifts the pitch (Ko et al. 2015, Audio augmentation for speech recognition), louder or softer
    by 10 dB at most, and, with probability `noise`, with white or brownish noise 5 to 35 dB below
    them.
    """
    if speed:
        factor = np.exp(rng.uniform(-1, 1) * np.log1p(speed))
        samples = np.interp(
            np.arange(0, len(samples) - 1, factor), np.arange(len(samples)), samples
        )
    samples = samples * 10 ** (rng.uniform(-0.5, 0.5))
    if noise and rng.random() < noise:
        rough = rng.standard_normal(len(samples))
        if rng.random() < 0.5:
            rough = np.convolve(rough, 0.9 ** np.arange(20), "same")
        power = np.sqrt((samples**2).mean()) / max(float(rough.std()), 1e-9)
        samples = samples + rough * power * 10 ** (-rng.uniform(5, 35) / 20)
    return samples.astype(np.float32)


def coloured(
    frames: np.ndarray, rng: np.random.Generator, *, tilt: float, throat: float
) -> np.ndarray:
    """Frames [T, bins] as of another microphone, a smooth curve over the bands `tilt` nats high
    added to all of them, and of another throat, the bands stretched by a factor of 1/(1 + throat) …
    1 + throat (vocal tract length perturbation, Jaitly & Hinton 2013).
    """
    bins = frames.shape[1]
    band = np.arange(bins)
    if throat:
        at = np.clip(band * np.exp(rng.uniform(-1, 1) * np.log1p(throat)), 0, bins - 1)
        low = np.minimum(at.astype(int), bins - 2)
        share = (at - low).astype(np.float32)
        frames = (1 - share) * frames[:, low] + share * frames[:, low + 1]
    if tilt:
        waves = np.cos(np.pi * np.arange(1, 4)[:, None] * (band + 0.5) / bins)
        frames = frames + (rng.normal(0, tilt / np.sqrt(2), 3) / np.arange(1, 4)) @ waves
    return frames.astype(np.float32)


def masked(frames: np.ndarray, rng: np.random.Generator, *, bands: int, share: float) -> np.ndarray:
    """SpecAugment (Park et al. 2019, arXiv:1904.08779): of scaled frames [T, bins], twice up to
    `bands` bands and twice up to a `share` of the time are set to their mean, zero.
    """
    frames = frames.copy()
    bins = frames.shape[1]
    for _ in range(2):
        width = int(rng.integers(0, bands + 1))
        begin = int(rng.integers(0, bins - width + 1))
        frames[:, begin : begin + width] = 0
        width = int(rng.uniform(0, share) * len(frames))
        begin = int(rng.integers(0, len(frames) - width + 1))
        frames[begin : begin + width] = 0
    return frames
