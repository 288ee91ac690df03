"""Augmentation of sound and of filterbank frames for training."""

from __future__ import annotations

import numpy as np

MIN_SNR_DB, MAX_SNR_DB = 5, 35
SILENCE_PROBABILITY, DIGITAL_SILENCE_PROBABILITY = 0.5, 0.3
"""Of silence at one end, and of zeros there rather than noise."""
MIN_FLOOR_DB, MAX_FLOOR_DB = 20, 60
"""Of the noise in that silence, below the recording."""


def augment_samples(
    samples: np.ndarray,
    rng: np.random.Generator,
    *,
    rate_hz: int,
    speed: float,
    noise: float,
    silence: float,
    level: float,
) -> np.ndarray:
    """Change speed, surroundings, noise and level of samples [N] in -1 … 1.

    speed     the speed changes by a factor of 1/(1 + speed) … 1 + speed, and the pitch with it (Ko
              et al. 2015, Audio augmentation for speech recognition)
    silence   maximum length in seconds of silence, digital or with faint noise, at each end
    noise     probability of white or brownish noise, 5 to 35 dB below the signal
    level     the level changes by a factor of 1/level … level; above full scale it is clipped
    """
    if speed:
        factor = np.exp(rng.uniform(-1, 1) * np.log1p(speed))
        at = np.arange(0, len(samples) - 1, factor)
        samples = np.interp(at, np.arange(len(samples)), samples)
    power = float(np.sqrt((samples**2).mean()))
    if silence:
        ends = [_silence(power, rng, round(silence * rate_hz)) for _ in range(2)]
        samples = np.concatenate([ends[0], samples, ends[1]])
    if noise and rng.random() < noise:
        added = rng.standard_normal(len(samples))
        if rng.random() < 0.5:
            added = np.convolve(added, 0.9 ** np.arange(20), "same")
        scale = power / max(float(added.std()), 1e-9)
        samples = samples + added * scale * 10 ** (-rng.uniform(MIN_SNR_DB, MAX_SNR_DB) / 20)
    samples = samples * level ** rng.uniform(-1, 1)
    return np.clip(samples, -1, 1).astype(np.float32)


def _silence(power: float, rng: np.random.Generator, max_samples: int) -> np.ndarray:
    """Up to `max_samples` of silence at one end; often none."""
    if rng.random() >= SILENCE_PROBABILITY:
        return np.zeros(0)
    count = int(rng.random() ** 2 * (max_samples + 1))  # more often short
    if rng.random() < DIGITAL_SILENCE_PROBABILITY:
        return np.zeros(count)
    amplitude = power * 10 ** (-rng.uniform(MIN_FLOOR_DB, MAX_FLOOR_DB) / 20)
    return amplitude * rng.standard_normal(count)


def augment_frames(
    frames: np.ndarray, rng: np.random.Generator, *, tilt: float, throat: float
) -> np.ndarray:
    """Change the microphone and the vocal tract in frames [T, bins].

    tilt     height in nats of a smooth curve over the bands that is added to every frame
    throat   the bands are stretched by a factor of 1/(1 + throat) … 1 + throat (vocal tract length
             perturbation, Jaitly & Hinton 2013)
    """
    bins = frames.shape[1]
    if throat:
        frames = stretch_bands(frames, np.exp(rng.uniform(-1, 1) * np.log1p(throat)))
    if tilt:
        waves = np.cos(np.pi * np.arange(1, 4)[:, None] * (np.arange(bins) + 0.5) / bins)
        frames = frames + (rng.normal(0, tilt / np.sqrt(2), 3) / np.arange(1, 4)) @ waves
    return frames.astype(np.float32)


def stretch_bands(frames: np.ndarray, factor: float) -> np.ndarray:
    """Frames [T, bins] in which band k is the band at factor · k, interpolated: as if the vocal
    tract were longer (above 1) or shorter.
    """
    bins = frames.shape[1]
    at = np.clip(np.arange(bins) * factor, 0, bins - 1)
    low = np.minimum(at.astype(int), bins - 2)
    fraction = (at - low).astype(np.float32)
    stretched: np.ndarray = (1 - fraction) * frames[:, low] + fraction * frames[:, low + 1]
    return stretched


def mask_frames(
    frames: np.ndarray, rng: np.random.Generator, *, bands: int, share: float
) -> np.ndarray:
    """SpecAugment (Park et al. 2019, arXiv:1904.08779): set parts of scaled frames [T, bins] to
    zero, their mean: twice up to `bands` bands, and twice up to a `share` of the time.
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
