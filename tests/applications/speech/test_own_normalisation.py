"""Recordings that are scaled by their own statistics: silence at the ends makes no difference."""

from dataclasses import replace

import numpy as np
import pytest
from signal_data import RATE, chirp

from memorycell.applications.speech.audio import Sound
from memorycell.applications.speech.codec import AudioCodec

CODEC = AudioCodec(
    labels=("a", "b"), rate_hz=RATE, bins=23, ceps=10, whole=True, voiced=True, gain_control=True
)


@pytest.mark.parametrize("ceps", [0, 10])
def test_silence_at_the_ends_does_not_change_the_frames_with_speech(ceps):
    codec = replace(CODEC, ceps=ceps, stack=1)
    samples = chirp("up", np.random.default_rng(1))
    quiet = (1e-4 * np.random.default_rng(2).standard_normal(RATE)).astype(np.float32)
    alone = codec.encode(Sound(samples, RATE))
    padded = codec.encode(Sound(np.concatenate([quiet, samples, quiet]), RATE))
    first = len(quiet) // codec.shift
    inner = slice(8, len(alone) - 8)  # whose frames and differences have no sample of the ends
    np.testing.assert_allclose(padded[first : first + len(alone)][inner], alone[inner], atol=0.1)
    all_frames = replace(codec, voiced=False)
    changed = all_frames.encode(Sound(np.concatenate([quiet, samples, quiet]), RATE))
    before = all_frames.encode(Sound(samples, RATE))[inner]
    assert np.abs(changed[first : first + len(alone)][inner] - before).max() > 0.5


def test_frames_with_speech_have_mean_zero():
    quiet = np.zeros(RATE // 10, np.float32)
    samples = np.concatenate([quiet, chirp("down", np.random.default_rng(4))])
    frames, _ = CODEC.scale(CODEC.frames(samples))
    own = CODEC._with_speech(frames)
    assert 0.3 < own.mean() < 0.95
    loudness = np.exp(frames).mean(1)
    assert loudness[own].min() > loudness[~own].max()
    features = replace(CODEC, stack=1).stack_frames(frames)[own, :10]
    np.testing.assert_allclose(features.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(np.log(loudness.max()), 0, atol=1e-4)
    silent = np.full((7, 23), -3.0, np.float32)
    assert CODEC._with_speech(silent).all()
    assert np.isfinite(CODEC.stack_frames(silent)).all()
    assert CODEC.stack_frames(silent[:0]).shape == (0, CODEC.input_size)


def test_older_files_use_all_frames():
    values = {**CODEC.to_json(), "mean": [0.0] * 23, "std": [1.0] * 23}
    assert AudioCodec.from_json(values).voiced
    del values["voiced"]
    assert not AudioCodec.from_json(values).voiced
