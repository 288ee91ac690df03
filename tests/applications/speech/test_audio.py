"""Sound: files good and bad, features in pieces and at other rates, and how training changes them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from signal_data import RATE, chirp, sf

from memorycell.applications.speech.audio import (
    AudioCodec,
    Ear,
    Sound,
    coloured,
    masked,
    mfcc,
    perturbed,
    read_audio,
    resampled,
)
from memorycell.errors import DataError

CODEC = AudioCodec(
    labels=("a", "b"), rate_hz=RATE, bins=23, stack=2, mean=(1.0,) * 23, std=(2.0,) * 23
)


def mel_frame(samples: np.ndarray, rate: int, bins: int) -> np.ndarray:
    """One frame as the book has it: mean taken off, pre-emphasis 0.97, Povey's window, power
    spectrum, triangles in mel.
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
        energy.append((weight[:-1] * power[:-1]).sum())  # the highest frequency belongs to no band
    return np.log(np.maximum(energy, np.finfo(np.float32).eps))


def test_a_frame_is_what_the_book_says():
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
)
def test_pieces_of_any_size_give_the_steps_of_the_whole(cuts, rate, adapt, ceps):
    codec = replace(CODEC, adapt=adapt, ceps=ceps)
    sound = Sound(chirp("down", np.random.default_rng(1), rate=rate), rate)
    whole = codec.encode(sound)
    ear = Ear(codec, rate)
    edges = [
        0,
        *sorted(min(c * rate // RATE, len(sound.samples)) for c in cuts),
        len(sound.samples),
    ]
    parts = [ear.hear(sound.samples[a:b]) for a, b in zip(edges, edges[1:], strict=False)]
    parts.append(ear.hear(np.zeros(0, np.float32), last=True))
    found = np.concatenate(parts)
    assert found.shape == whole.shape
    np.testing.assert_allclose(found, whole, atol=1e-5)


def test_another_rate_sounds_the_same():
    t = np.arange(16000) / 16000
    high = Sound((0.3 * np.sin(2 * np.pi * 700 * t)).astype(np.float32), 16000)
    low = Sound((0.3 * np.sin(2 * np.pi * 700 * np.arange(8000) / 8000)).astype(np.float32), 8000)
    a, b = CODEC.frames(resampled(high, RATE).samples), CODEC.frames(low.samples)
    length = min(len(a), len(b)) - 3
    loud = b.max(1, keepdims=True) - b < 8  # the bands that sound
    np.testing.assert_allclose(a[3:length][loud[3:length]], b[3:length][loud[3:length]], atol=0.05)


def test_scaling_is_that_of_training():
    frames = [np.random.default_rng(k).normal(3, 2, (50, 23)).astype(np.float32) for k in range(4)]
    codec = CODEC.fitted(frames)
    scaled = np.concatenate([codec.scaled(f)[0] for f in frames])
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(0), 1, atol=1e-4)
    adapting = replace(codec, adapt=10)
    for f in frames:
        z = (f - np.array(codec.mean)) / np.array(codec.std)
        by_hand = [z[t] - z[: t + 1].sum(0) / (10 + t + 1) for t in range(50)]
        np.testing.assert_allclose(adapting.scaled(f)[0], by_hand, atol=1e-4)
        first, heard = adapting.scaled(f[:17])
        np.testing.assert_array_equal(
            np.concatenate([first, adapting.scaled(f[17:], heard)[0]]), adapting.scaled(f)[0]
        )
    again = AudioCodec.from_json(codec.to_json())
    assert again == codec
    for wrong in (
        {"mean": [0.0]},
        {"std": [0.0] * 23},
        {"rate_hz": 1},
        {"stack": 99},
        {"labels": ["one"]},
    ):
        with pytest.raises(ValueError):
            AudioCodec.from_json({**codec.to_json(), **wrong})


def test_files_good_and_bad(tmp_path):
    tone = chirp("flat", np.random.default_rng(0))
    for ending in ("wav", "flac", "ogg"):
        sf.write(tmp_path / f"a.{ending}", tone, RATE)
        sound = read_audio(tmp_path / f"a.{ending}")
        assert (len(sound.samples), sound.rate_hz, sound.notes) == (len(tone), RATE, ())
    sf.write(tmp_path / "two.wav", np.stack([tone, 0 * tone], 1), RATE)
    two = read_audio(tmp_path / "two.wav")
    assert two.notes == ("stereo",)
    np.testing.assert_allclose(two.samples, tone / 2, atol=1e-4)
    sf.write(tmp_path / "loud.wav", 20 * tone, RATE)
    assert read_audio(tmp_path / "loud.wav").notes == ("clipped",)
    sf.write(tmp_path / "quiet.wav", 0 * tone, RATE)
    assert read_audio(tmp_path / "quiet.wav").notes == ("silent",)
    sf.write(tmp_path / "none.wav", tone[:0], RATE)
    (tmp_path / "text.wav").write_text("this is no recording")
    (tmp_path / "cut.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:20])
    bad = tone.copy()
    bad[7] = np.nan
    sf.write(tmp_path / "nan.wav", bad, RATE, subtype="FLOAT")
    wrong = {
        "none": "no samples",
        "text": "not a readable",
        "cut": "not a readable",
        "nan": "finite",
        "gone": "not a readable",
    }
    for name, what in wrong.items():
        with pytest.raises(DataError, match=what) as told:
            read_audio(tmp_path / f"{name}.wav")
        assert "\n" not in str(told.value)
        assert f"{name}.wav" in str(told.value)


def test_what_training_changes_is_seeded_and_bounded():
    samples = chirp("up", np.random.default_rng(0))
    draw = lambda seed, **how: perturbed(samples, np.random.default_rng(seed), **how)  # noqa: E731
    np.testing.assert_array_equal(draw(1, speed=0.2, noise=1.0), draw(1, speed=0.2, noise=1.0))
    lengths = [len(draw(k, speed=0.2, noise=0.0)) for k in range(60)]
    assert 0.82 * len(samples) < min(lengths) < 0.9 * len(samples)
    assert 1.12 * len(samples) < max(lengths) < 1.21 * len(samples)
    clean = draw(5, speed=0.0, noise=0.0)
    np.testing.assert_allclose(
        clean / samples, (clean / samples)[0], rtol=1e-5
    )  # only louder or softer
    shares = []
    for k in range(60):
        noisy, same = draw(k, speed=0.0, noise=1.0), draw(k, speed=0.0, noise=0.0)
        shares.append(20 * np.log10(same.std() / (noisy - same).std()))
    assert 3 < min(shares) < 12
    assert 28 < max(shares) < 37


def test_another_microphone_is_the_same_curve_on_every_frame():
    frames = np.random.default_rng(0).normal(size=(30, 23)).astype(np.float32)
    made = coloured(frames, np.random.default_rng(1), tilt=1.0, throat=0.0)
    curve = made - frames
    np.testing.assert_allclose(curve, np.broadcast_to(curve[0], curve.shape), atol=1e-5)
    assert 0.1 < curve.std() < 3
    np.testing.assert_allclose(
        coloured(frames, np.random.default_rng(1), tilt=0.0, throat=0.0), frames
    )
    peak = np.zeros((1, 23), np.float32)
    peak[0, 12] = 1
    places = [
        coloured(peak, np.random.default_rng(k), tilt=0.0, throat=0.2).argmax() for k in range(40)
    ]
    assert 9 <= min(places) < 12 < max(places) <= 15


def test_masks_are_whole_bands_and_times():
    frames = np.ones((60, 23), np.float32)
    seen = []
    for k in range(40):
        hidden = masked(frames, np.random.default_rng(k), bands=6, share=0.2) == 0
        bands, times = hidden.all(0), hidden.all(1)
        assert (hidden == (bands[None, :] | times[:, None])).all()
        assert bands.sum() <= 12
        assert times.sum() <= 24
        seen.append(hidden.mean())
    assert np.std(seen) > 0.05
    assert (frames == 1).all()


def test_cepstra_are_the_cosine_transform_of_the_bands():
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
