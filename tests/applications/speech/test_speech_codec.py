"""Features: against their definition, in chunks, at other rates, and of full recordings."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import savgol_filter
from signal_data import RATE, chirp

from memorycell.application.contract import ModelFile
from memorycell.applications.speech.audio import Sound, mfcc, resample_sound
from memorycell.applications.speech.codec import (
    LEVEL_DECAY,
    MAX_BELOW_LEVEL,
    MIN_LEVEL,
    AudioCodec,
    FeatureStream,
    delta_features,
    relative_to_level,
)
from memorycell.applications.speech.session import SpeechSession
from memorycell.errors import UserError
from memorycell.models.classifier import Classifier, ClassifierConfig

CODEC = AudioCodec(
    labels=("a", "b"), rate_hz=RATE, bins=23, stack=2, mean=(1.0,) * 23, std=(2.0,) * 23
)


def mel_frame(samples: np.ndarray, rate: int, bins: int) -> np.ndarray:
    """One frame by definition: mean removed, pre-emphasis 0.97, Povey's window, power spectrum,
    triangular mel filters.
    """
    x = samples.astype(np.float64) - samples.mean()
    x = x - 0.97 * np.concatenate([x[:1], x[:-1]])
    n = len(x)
    x = x * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / (n - 1))) ** 0.85
    size = 1 << (n - 1).bit_length()
    power = np.abs(np.fft.rfft(x, size)) ** 2
    mel = lambda hertz: 1127 * np.log(1 + np.asarray(hertz) / 700)  # noqa: E731
    edges = np.linspace(mel(20.0), mel(rate / 2), bins + 2)
    at = mel(np.arange(len(power)) * rate / size)
    energy = []
    for k in range(bins):
        left, middle, right = edges[k : k + 3]
        weight = np.minimum((at - left) / (middle - left), (right - at) / (right - middle)).clip(0)
        energy.append((weight[:-1] * power[:-1]).sum())  # no band contains the highest frequency
    return np.log(np.maximum(energy, np.finfo(np.float32).eps))


def test_frames_are_kaldis():
    samples = chirp("up", np.random.default_rng(3))
    frames = CODEC.frames(samples)
    assert len(frames) == (len(samples) - 200) // 80 + 1
    for k in (0, 9, len(frames) - 1):
        np.testing.assert_allclose(
            frames[k], mel_frame(samples[80 * k : 80 * k + 200], RATE, 23), atol=2e-3
        )


@given(
    cuts=st.lists(st.integers(0, 3000), max_size=12),
    rate=st.sampled_from([RATE, 11025, 16000, 44100]),
    adapt=st.sampled_from([0, 20]),
    ceps=st.sampled_from([0, 9]),
    gain_control=st.booleans(),
)
def test_chunks_give_the_features_of_the_full_recording(cuts, rate, adapt, ceps, gain_control):
    codec = replace(CODEC, adapt=adapt, ceps=ceps, gain_control=gain_control)
    sound = Sound(chirp("down", np.random.default_rng(1), rate=rate), rate)
    full = codec.encode(sound)
    stream = FeatureStream(codec, rate)
    edges = [
        0,
        *sorted(min(c * rate // RATE, len(sound.samples)) for c in cuts),
        len(sound.samples),
    ]
    parts = [stream.feed(sound.samples[a:b]) for a, b in zip(edges, edges[1:], strict=False)]
    parts.append(stream.feed(np.zeros(0, np.float32), last=True))
    found = np.concatenate(parts)
    assert found.shape == full.shape
    np.testing.assert_allclose(found, full, atol=1e-5)


def test_levels_are_those_of_the_definition():
    """The level is the maximum over the frames so far of their loudness minus its decay since."""
    frames = np.random.default_rng(0).normal(-6, 3, (400, 23)).astype(np.float32)
    frames[100:] -= 5
    found, last = relative_to_level(frames, MIN_LEVEL)
    loudness = np.log(np.exp(frames.astype(np.float64)).mean(1))
    for t in (0, 1, 99, 150, 399):
        decayed = loudness[: t + 1] - LEVEL_DECAY * np.arange(t, -1, -1)
        level = max(decayed.max(), MIN_LEVEL)
        expected = np.maximum(frames[t] - level, -MAX_BELOW_LEVEL)
        np.testing.assert_allclose(found[t], expected, atol=1e-5)
    assert last == pytest.approx(level)


@pytest.mark.parametrize("factor", [0.05, 0.2, 5.0, 20.0])
def test_features_do_not_depend_on_the_level(factor):
    codec = replace(CODEC, gain_control=True)
    samples = (0.05 * np.random.default_rng(0).normal(size=4000)).astype(np.float32)
    at_level = codec.encode(Sound(samples * np.float32(factor), RATE))
    np.testing.assert_allclose(at_level, codec.encode(Sound(samples, RATE)), atol=2e-3)


def test_features_do_not_depend_on_faint_noise_after_a_word():
    codec = replace(CODEC, gain_control=True)
    word = chirp("up", np.random.default_rng(0))
    silence = np.zeros(RATE // 2, np.float32)
    faint = (3e-5 * np.random.default_rng(1).standard_normal(RATE // 2)).astype(np.float32)
    digital, noisy = (
        codec.encode(Sound(np.concatenate([word, s]), RATE)) for s in (silence, faint)
    )
    np.testing.assert_allclose(digital, noisy, atol=0.02)
    unchanged = CODEC.encode(Sound(np.concatenate([word, faint]), RATE))
    assert abs(unchanged - CODEC.encode(Sound(np.concatenate([word, silence]), RATE))).max() > 0.5


def test_features_do_not_depend_on_the_sample_rate():
    t = np.arange(16000) / 16000
    high = Sound((0.3 * np.sin(2 * np.pi * 700 * t)).astype(np.float32), 16000)
    low = Sound((0.3 * np.sin(2 * np.pi * 700 * np.arange(8000) / 8000)).astype(np.float32), 8000)
    a, b = CODEC.frames(resample_sound(high, RATE).samples), CODEC.frames(low.samples)
    length = min(len(a), len(b)) - 3
    loud = b.max(1, keepdims=True) - b < 8  # bands with signal
    np.testing.assert_allclose(a[3:length][loud[3:length]], b[3:length][loud[3:length]], atol=0.05)


def test_scaling_normalises_the_training_frames():
    frames = [np.random.default_rng(k).normal(3, 2, (50, 23)).astype(np.float32) for k in range(4)]
    codec = CODEC.fit_scaling(frames)
    scaled = np.concatenate([codec.scale(f)[0] for f in frames])
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(0), 1, atol=1e-4)
    adapting = replace(codec, adapt=10)
    for f in frames:
        z = (f - np.array(codec.mean)) / np.array(codec.std)
        by_hand = [z[t] - z[: t + 1].sum(0) / (10 + t + 1) for t in range(50)]
        np.testing.assert_allclose(adapting.scale(f)[0], by_hand, atol=1e-4)
        first, sums = adapting.scale(f[:17])
        np.testing.assert_array_equal(
            np.concatenate([first, adapting.scale(f[17:], sums)[0]]), adapting.scale(f)[0]
        )
    again = AudioCodec.from_json(codec.to_json())
    assert again == codec
    for invalid in (
        {"mean": [0.0]},
        {"std": [0.0] * 23},
        {"rate_hz": 1},
        {"stack": 99},
        {"labels": ["one"]},
    ):
        with pytest.raises(ValueError):
            AudioCodec.from_json({**codec.to_json(), **invalid})


def test_mfcc_is_the_cosine_transform_of_the_bands():
    sound = Sound(chirp("up", np.random.default_rng(3)), RATE)
    found = mfcc(sound)
    assert abs(found.mean(0)).max() < 1e-4
    bands = np.stack(
        [mel_frame(sound.samples[80 * k : 80 * k + 200], RATE, 23) for k in range(len(found))]
    )
    basis = np.sqrt(2 / 23) * np.cos(np.pi / 23 * (np.arange(23) + 0.5)[:, None] * np.arange(13))
    basis[:, 0] = np.sqrt(1 / 23)
    lifter = 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    expected = bands @ basis * lifter
    np.testing.assert_allclose(found, expected - expected.mean(0), atol=0.05)


def test_delta_features_are_least_squares_slopes():
    x = np.random.default_rng(0).normal(size=(17, 3))
    expected = 3 * savgol_filter(x, 5, 1, deriv=1, axis=0, mode="nearest")
    np.testing.assert_allclose(delta_features(x), expected, atol=1e-12)


def test_normalised_recordings_do_not_depend_on_gain():
    codec = AudioCodec(rate_hz=8000, bins=24, ceps=10, whole=True, labels=("a", "b"))
    samples = np.random.default_rng(0).normal(size=8000).astype(np.float32) * np.linspace(
        0.01, 0.1, 8000, dtype=np.float32
    )
    soft, loud = (codec.encode(Sound(samples * gain, 8000)) for gain in (0.3, 3.0))
    assert soft.shape[1] == codec.input_size == 40
    np.testing.assert_allclose(soft, loud, atol=2e-3)


def test_models_that_normalise_recordings_cannot_run_live():
    codec = AudioCodec(rate_hz=8000, bins=24, ceps=10, whole=True, labels=("a", "b"))
    model = Classifier(
        ClassifierConfig(vocabulary=0, classes=2, input_size=40, hidden_size=8, bidirectional=False)
    )
    with pytest.raises(UserError, match="whole=yes"):
        SpeechSession(ModelFile(model, codec, {"task": "speech"}))
    restored = AudioCodec.from_json({**codec.to_json(), "mean": [0.0] * 24, "std": [1.0] * 24})
    assert restored.whole


def test_a_codec_needs_an_output():
    scaling = {"rate_hz": RATE, "bins": 4, "stack": 1, "mean": [0.0] * 4, "std": [1.0] * 4}
    scaling |= {"adapt": 0, "ceps": 0}
    with pytest.raises(ValueError, match="two labels or more"):
        AudioCodec.from_json({"labels": [], "text": None, "sentences": [], **scaling})
