"""Sound from files: reading, resampling, and cepstra for the baseline."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from memorycell.applications.speech.pcm import check_samples
from memorycell.applications.speech.wav import WAV_MAGIC, SampleReader
from memorycell.errors import DataError, quote

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
UNREADABLE_SUFFIXES = (
    ".m4a",
    ".aac",
    ".wma",
    ".mp4",
    ".m4b",
    ".3gp",
    ".amr",
    ".webm",
    ".mka",
    ".ac3",
    ".ape",
    ".wv",
)
"""Recordings that need ffmpeg."""
CHUNK_BYTES, BLOCK_SAMPLES = 1 << 22, 1 << 20
MAX_SILENT_PEAK = 1e-4
"""Peak of a silent recording: -80 dB of full scale."""
MAX_OVERRUN_S = 0.5
"""By which the end of a part may exceed its recording."""
CLIPPING_LEVEL, MAX_CLIPPED_SHARE = 0.999, 0.005


class Sound(NamedTuple):
    """One channel: samples [N] float32 in -1 … 1. `notes` name what is wrong with it."""

    samples: np.ndarray
    rate_hz: int
    notes: tuple[str, ...] = ()


def read_audio(path: str | Path) -> Sound:
    """Read WAV, FLAC, OGG, MP3 and other formats of libsndfile; channels are averaged.

    notes: "truncated", "stereo", "silent", "clipped". Raises `DataError` for a file that is not a
    recording or has no samples.
    """
    path = Path(path)
    if path.suffix.lower() in UNREADABLE_SUFFIXES:
        wav = path.with_suffix(".wav").name
        raise DataError(
            f"{path}: {path.suffix} recordings are not read; install ffmpeg and convert it: ffmpeg"
            f" -i {path.name} {wav}"
        )
    read = _read_wav(path) or _read_with_libsndfile(path)
    samples, rate, is_truncated = read
    if len(samples) == 0:
        raise DataError(f"{path}: contains no samples")
    check_samples(samples, str(path))
    mono = np.ascontiguousarray(samples.mean(1))
    clipped_share = float((np.abs(samples) >= CLIPPING_LEVEL).mean())
    conditions = {
        "truncated": is_truncated,
        "stereo": samples.shape[1] > 1,
        "silent": float(np.abs(mono).max()) < MAX_SILENT_PEAK,
        "clipped": clipped_share > MAX_CLIPPED_SHARE,
    }
    return Sound(mono, int(rate), tuple(name for name, holds in conditions.items() if holds))


def part_of_sound(sound: Sound, start_s: float, end_s: float, where: str) -> Sound:
    """The samples from one time to another, at the most `MAX_OVERRUN_S` beyond the end. Raises
    `DataError` where the sound is shorter.
    """
    duration = len(sound.samples) / sound.rate_hz
    if start_s >= duration or (end_s != math.inf and end_s > duration + MAX_OVERRUN_S):
        raise DataError(
            f"{where}: the part {start_s:g}–{end_s:g} s is outside the recording of {duration:g} s"
        )
    begin = round(start_s * sound.rate_hz)
    end = len(sound.samples) if end_s == math.inf else round(end_s * sound.rate_hz)
    samples = np.ascontiguousarray(sound.samples[begin:end])
    if len(samples) == 0:
        raise DataError(f"{where}: the part {start_s:g}–{end_s:g} s contains no samples")
    notes = [note for note in sound.notes if note == "stereo"]
    if float(np.abs(samples).max()) < MAX_SILENT_PEAK:
        notes.append("silent")
    return Sound(samples, sound.rate_hz, tuple(notes))


def _read_wav(path: Path) -> tuple[np.ndarray, int, bool] | None:
    """(samples [N, channels], rate, whether fewer samples came than the header says), as a live
    session reads them; None for what such a session does not read.
    """
    reader, parts = SampleReader(where=str(path)), []
    try:
        with path.open("rb") as file:
            if file.read(4) not in WAV_MAGIC:
                return None
            file.seek(0)
            while data := file.read(CHUNK_BYTES):
                parts.append(reader.read_frames(data))
        reader.finish()
    except (OSError, DataError):
        return None  # libsndfile says why, or reads it
    parts = [part for part in parts if len(part)] or [np.zeros((0, 1), np.float32)]
    return np.concatenate(parts), reader.rate_hz, bool(reader.missing)


def _read_with_libsndfile(path: Path) -> tuple[np.ndarray, int, bool]:
    import soundfile

    parts = []
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate = file.samplerate
            # In blocks: the header of a damaged file may promise any number of samples.
            size = max(1, BLOCK_SAMPLES // file.channels)
            while len(block := file.read(size, dtype="float32", always_2d=True)):
                parts.append(block)
            parts.append(np.zeros((0, file.channels), np.float32))
    except (soundfile.LibsndfileError, OSError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).rsplit(": ", 1)[-1].rstrip(".")
        shown = reason if reason.isprintable() and len(reason) < 100 else quote(reason)
        raise DataError(f"{path}: not a readable recording ({shown})") from None
    return np.concatenate(parts), int(rate), False


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
