"""The settings of a speech model."""

from __future__ import annotations

from dataclasses import dataclass

from memorycell.applications.speech.codec import MAX_STRETCHES
from memorycell.applications.speech.nearest import MAX_WEIGHT
from memorycell.signals.settings import SignalSettings, check_ranges

MAX_TILT = 100
"""Nats."""
MAX_SILENCE_S, MAX_LEVEL = 10, 1000


@dataclass(frozen=True)
class SpeechSettings(SignalSettings):
    """Settings of a speech model, besides `SignalSettings`.

    names     a pattern of the file names, such as "{label}_{group}_{index}", for recordings without
              a list of transcripts
    rate      sample rate in Hz of the features; by default the recordings', at most 16,000
    bins, stack   mel bands per frame, frames (10 ms) per step
    ceps      number of cepstra per frame to use instead of the bands; 0: the bands
    adapt     subtract the running mean of the features, where training's mean counts as this many
              frames; 0: off
    gain_control   energies relative to the recent level, so that volume makes no difference
    whole     normalise every recording by its own mean and standard deviation and append delta
              features, for unknown speakers; such a model cannot run live
    speed     augmentation: maximum change of speed, as a fraction
    noise     augmentation: probability of added noise
    silence   augmentation: maximum silence at each end, in seconds
    level     augmentation: the level changes by up to this factor, both ways; 1: off
    tilt      augmentation: microphone response, height in nats of a smooth curve over the bands
    throat    augmentation: vocal tract length, maximum stretch of the bands, as a fraction
    views     for classes and `whole`: a recording is read as if by this many vocal tracts, with its
              bands stretched by up to `throat`, and the probabilities are averaged; 1: once
    nearest   for classes and `whole`: weight of the nearest training recordings, which the model
              file stores, besides the network; see `speech.nearest`; 0: the network alone
    bands, share   augmentation: maximum width of the masked bands, and maximum fraction of the
                   masked time, twice each (SpecAugment)
    """

    names: str | None = None
    rate: int | None = None
    bins: int = 40
    stack: int = 2
    adapt: int = 0
    ceps: int = 0
    gain_control: bool = True
    whole: bool = False
    speed: float = 0.1
    noise: float = 0.6
    silence: float = 1.0
    level: float = 30.0
    tilt: float = 0.0
    throat: float = 0.0
    views: int = 1
    nearest: float = 0.0
    bands: int = 8
    share: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, rate=(4000, 200_000), bins=(4, 200), stack=(1, 10), adapt=(0, 999_999))
        check_ranges(self, views=(1, MAX_STRETCHES))
        if self.views > 1 and not (self.whole and self.throat):
            raise ValueError(f"views={self.views}: needs whole=yes and throat above 0")
        if not 0 <= self.nearest <= MAX_WEIGHT:
            raise ValueError(f"nearest={self.nearest}: expected 0 to {MAX_WEIGHT}")
        if self.nearest and (not self.whole or self.unknown):
            raise ValueError(f"nearest={self.nearest}: needs whole=yes, and no unknown classes")
        if not 0 <= self.ceps <= self.bins:
            raise ValueError(f"ceps={self.ceps}: expected 0 to {self.bins}, the number of bands")
        if not 0 <= self.tilt <= MAX_TILT or not 0 <= self.throat < 1:
            raise ValueError(f"tilt: expected 0 to {MAX_TILT}; throat: a fraction below 1")
        if not 0 <= self.silence <= MAX_SILENCE_S or not 1 <= self.level <= MAX_LEVEL:
            raise ValueError(
                f"silence: expected 0 to {MAX_SILENCE_S} seconds; level: a factor of 1 to"
                f" {MAX_LEVEL}"
            )
        fractions_valid = 0 <= self.speed < 1 and 0 <= self.noise <= 1 and 0 <= self.share < 1
        if not fractions_valid or not 0 <= self.bands < self.bins:
            raise ValueError(
                "speed, noise, share: expected fractions below 1; bands: fewer than bins"
            )
