"""Sound: files good and bad, and augmentation."""

import numpy as np
import pytest
from signal_data import RATE, chirp, sf

from memorycell.applications.speech import audio
from memorycell.applications.speech.audio import Sound, part_of_sound, read_audio
from memorycell.applications.speech.augmentation import (
    augment_frames,
    augment_samples,
    mask_frames,
)
from memorycell.errors import DataError


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
    (tmp_path / "text.wav").write_text("not a recording")
    (tmp_path / "cut.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:20])
    bad = tone.copy()
    bad[7] = np.nan
    sf.write(tmp_path / "nan.wav", bad, RATE, subtype="FLOAT")
    errors = {
        "none": "no samples",
        "text": "not a readable",
        "cut": "not a readable",
        "nan": "finite",
        "gone": "not a readable",
    }
    for name, message in errors.items():
        with pytest.raises(DataError, match=message) as error:
            read_audio(tmp_path / f"{name}.wav")
        assert "\n" not in str(error.value)
        assert f"{name}.wav" in str(error.value)


def test_long_files_are_read_in_blocks(tmp_path, monkeypatch):
    tone = chirp("flat", np.random.default_rng(0))
    sf.write(tmp_path / "a.flac", np.stack([tone, 0 * tone], 1), RATE)
    whole = read_audio(tmp_path / "a.flac").samples
    monkeypatch.setattr(audio, "BLOCK_SAMPLES", 200)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.flac").samples, whole)
    assert len(whole) == len(tone)


def test_parts_of_recordings():
    samples = np.sin(np.arange(2 * RATE)).astype(np.float32)
    sound = Sound(samples, RATE, ("stereo", "clipped"))
    part = part_of_sound(sound, 0.25, 1.5, "a.wav")
    np.testing.assert_array_equal(part.samples, samples[RATE // 4 : 3 * RATE // 2])
    assert part.notes == ("stereo",)
    assert len(part_of_sound(sound, 1.5, np.inf, "a.wav").samples) == RATE // 2
    assert len(part_of_sound(sound, 1.5, 2.25, "a.wav").samples) == RATE // 2
    silent = Sound(np.concatenate([samples, 0 * samples]), RATE)
    assert part_of_sound(silent, 2, 4, "a.wav").notes == ("silent",)
    for start, end in ((2, 3), (1, 2.6), (3, np.inf)):
        with pytest.raises(DataError, match="a.wav: the part .* is outside the recording of 2 s"):
            part_of_sound(sound, start, end, "a.wav")
    with pytest.raises(DataError, match="contains no samples"):
        part_of_sound(sound, 1, 1 + 1e-9, "a.wav")


OFF = {"rate_hz": RATE, "speed": 0.0, "noise": 0.0, "silence": 0.0, "level": 1.0}


def augmented(samples, seed, **options):
    return augment_samples(samples, np.random.default_rng(seed), **(OFF | options))


def test_augmentation_of_speed_is_seeded_and_bounded():
    samples = chirp("up", np.random.default_rng(0))
    twice = [augmented(samples, 1, speed=0.2, noise=1.0, silence=0.5, level=9.0) for _ in range(2)]
    np.testing.assert_array_equal(*twice)
    lengths = [len(augmented(samples, k, speed=0.2)) for k in range(60)]
    assert 0.82 * len(samples) < min(lengths) < 0.9 * len(samples)
    assert 1.12 * len(samples) < max(lengths) < 1.21 * len(samples)
    np.testing.assert_array_equal(augmented(samples, 1), samples)


def test_augmentation_of_level_multiplies_and_clips():
    samples = chirp("up", np.random.default_rng(0))
    factors = []
    for k in range(60):
        scaled = augmented(samples, k, level=10.0)
        factors.append(scaled[1000] / samples[1000])
        np.testing.assert_allclose(scaled, np.clip(samples * factors[-1], -1, 1), rtol=1e-4)
    assert 0.1 <= min(factors) < 0.15


def test_augmentation_by_noise_has_the_stated_signal_to_noise_ratio():
    samples = chirp("up", np.random.default_rng(0))
    ratios = []
    for k in range(60):
        noisy = augmented(samples, k, noise=1.0)
        ratios.append(20 * np.log10(samples.std() / (noisy - samples).std()))
    assert 3 < min(ratios) < 12
    assert 28 < max(ratios) < 37


def test_augmentation_adds_silence_at_both_ends():
    samples = chirp("up", np.random.default_rng(0))
    begins, kinds = [], set()
    for k in range(60):
        longer = augmented(samples, k, silence=0.25)
        inside = np.lib.stride_tricks.sliding_window_view(longer, len(samples))
        begin = int(np.flatnonzero((inside == samples).all(1))[0])
        ends = np.concatenate([longer[:begin], longer[begin + len(samples) :]])
        begins.append(begin)
        kinds.add("none" if len(ends) == 0 else "digital" if not ends.any() else "noise")
        if ends.any():
            assert -65 < 20 * np.log10(ends[ends != 0].std() / samples.std()) < -17
    assert kinds == {"none", "digital", "noise"}
    assert 0.15 * RATE < max(begins) <= 0.25 * RATE


def test_augmentation_of_frames_adds_one_curve_and_shifts_bands():
    frames = np.random.default_rng(0).normal(size=(30, 23)).astype(np.float32)
    made = augment_frames(frames, np.random.default_rng(1), tilt=1.0, throat=0.0)
    curve = made - frames
    np.testing.assert_allclose(curve, np.broadcast_to(curve[0], curve.shape), atol=1e-5)
    assert 0.1 < curve.std() < 3
    np.testing.assert_allclose(
        augment_frames(frames, np.random.default_rng(1), tilt=0.0, throat=0.0), frames
    )
    peak = np.zeros((1, 23), np.float32)
    peak[0, 12] = 1
    places = [
        augment_frames(peak, np.random.default_rng(k), tilt=0.0, throat=0.2).argmax()
        for k in range(40)
    ]
    assert 9 <= min(places) < 12 < max(places) <= 15


def test_masks_cover_bands_and_times():
    frames = np.ones((60, 23), np.float32)
    seen = []
    for k in range(40):
        hidden = mask_frames(frames, np.random.default_rng(k), bands=6, share=0.2) == 0
        bands, times = hidden.all(0), hidden.all(1)
        assert (hidden == (bands[None, :] | times[:, None])).all()
        assert bands.sum() <= 12
        assert times.sum() <= 24
        seen.append(hidden.mean())
    assert np.std(seen) > 0.05
    assert (frames == 1).all()
