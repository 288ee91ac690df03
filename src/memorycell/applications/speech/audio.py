"""Sound from files: reading, resampling, and cepstra for the baseline."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from memorycell.errors import DataError

AUDIO_SUFFIXES = (
    ".wav",
    ".flac",
    ".ogg",
    ".oga",
    ".opus",
    ".mp3",
    ".aiff",
    ".aif",
    ".au",
    ".gsm",
    ".w64",
)
MAX_SILENT_PEAK = 1e-4
"""Peak of a silent recording: -80 dB of full scale."""
CLIPPING_LEVEL, MAX_CLIPPED_SHARE = 0.999, 0.005


class Sound(NamedTuple):
    """One channel: samples [N] float32 in -1 … 1. `notes` name what is wrong with it."""

    samples: np.ndarray
    rate_hz: int
    notes: tuple[str, ...] = ()


def read_audio(path: str | Path) -> Sound:
    """Read WAV, FLAC, OGG, MP3 and other formats of libsndfile; channels are averaged.

    notes: "stereo", "silent", "clipped". Raises `DataError` for a file that is not a recording or
    has no samples.
    """
    import soundfile

    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, ValueError, TypeError) as error:
        reason = str(error).rsplit(": ", 1)[-1].rstrip(".")
        raise DataError(f"{path}: not a readable recording ({reason})") from None
    if len(samples) == 0:
        raise DataError(f"{path}: contains no samples")
    mono = np.ascontiguousarray(samples.mean(1))
    if not np.isfinite(mono).all():
        raise DataError(f"{path}: contains samples that are not finite")
    clipped_share = float((np.abs(samples) >= CLIPPING_LEVEL).mean())
    conditions = {
        "stereo": samples.shape[1] > 1,
        "silent": float(np.abs(mono).max()) < MAX_SILENT_PEAK,
        "clipped": clipped_share > MAX_CLIPPED_SHARE,
    }
    return Sound(mono, int(rate), tuple(name for name, holds in conditions.items() if holds))


def resample_sound(sound: Sound, rate_hz: int) -> Sound:
    """The sound at another rate (soxr), with the resampler that live sessions use."""
    if sound.rate_hz == rate_hz:
        return sound
    import soxr

    resampler = soxr.ResampleStream(sound.rate_hz, rate_hz, 1, dtype="float32")
    samples = resampler.resample_chunk(sound.samples, last=True)
    return sound._replace(samples=samples, rate_hz=rate_hz)


def mfcc(sound: Sound, ceps: int = 13) -> np.ndarray:
    """Mel-frequency cepstra [T, ceps] float32 minus their mean, for the baseline (Kaldi's)."""
    import kaldi_native_fbank as knf

    options = knf.MfccOptions()
    options.frame_opts.samp_freq, options.frame_opts.dither = sound.rate_hz, 0.0
    options.num_ceps = ceps
    options.use_energy = False
    extractor = knf.OnlineMfcc(options)
    extractor.accept_waveform(sound.rate_hz, sound.samples)
    count = extractor.num_frames_ready
    if count == 0:
        return np.zeros((1, ceps), np.float32)
    cepstra = np.stack([extractor.get_frame(k) for k in range(count)])
    return (cepstra - cepstra.mean(0)).astype(np.float32)
