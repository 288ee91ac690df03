"""Recordings read as by several vocal tracts, and joined with the nearest training recordings."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.fft import dct
from scipy.special import log_softmax, logsumexp
from signal_data import RATE, SMALL_SPEECH, chirp

from memorycell.application import catalogue, modelfile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.speech.audio import Sound, mfcc
from memorycell.applications.speech.augmentation import stretch_bands
from memorycell.applications.speech.codec import AudioCodec
from memorycell.applications.speech.dataset import reopen
from memorycell.applications.speech.nearest import NearestRecordings
from memorycell.applications.speech.predict import PredictOptions, predict
from memorycell.applications.speech.settings import SpeechSettings
from memorycell.errors import ModelFileError
from memorycell.signals.recognise import mean_of_views, recognise
from memorycell.training import loop as training

SPEECH = catalogue.load("speech")
CODEC = AudioCodec(
    labels=("a", "b"), rate_hz=RATE, bins=23, ceps=10, whole=True, voiced=True, gain_control=True
)


def sounds(kind: str, seeds) -> list[Sound]:
    return [Sound(chirp(kind, np.random.default_rng(seed)), RATE) for seed in seeds]


@pytest.fixture(scope="module")
def model(chirps, tmp_path_factory):
    """(result, path) of a small model with views and nearest recordings."""
    out = tmp_path_factory.mktemp("unseen") / "s.safetensors"
    small = {**SMALL_SPEECH, "whole": True, "ceps": 8, "throat": 0.2, "test_share": 0.2}
    settings = SpeechSettings(**small, views=3, nearest=5.0)
    return training.train(SPEECH, str(chirps), settings, TrainSettings(epochs=2), out), out


def test_bands_are_stretched():
    frames = np.arange(23.0)[None].astype(np.float32) ** 2
    np.testing.assert_array_equal(stretch_bands(frames, 1.0), frames)
    at = np.minimum(1.3 * np.arange(23), 22)
    np.testing.assert_allclose(
        stretch_bands(frames, 1.3)[0], np.interp(at, np.arange(23), frames[0]), rtol=1e-5
    )


def test_views_are_the_features_of_stretched_bands():
    (sound,) = sounds("up", [3])
    views = replace(CODEC, stretches=(0.8, 1.0, 1.25)).encode_views(sound)
    np.testing.assert_array_equal(views[1], CODEC.encode(sound))
    assert CODEC.encode_views(sound)[0].shape == views[0].shape
    assert np.abs(views[0] - views[1]).max() > 0.1
    other = np.repeat(sound.samples, 2)
    views = replace(CODEC, stretches=(1.0,)).encode_views(Sound(other, 2 * RATE))
    np.testing.assert_array_equal(views[0], CODEC.encode(Sound(other, 2 * RATE)))


def test_probabilities_of_views_are_averaged():
    log_p = log_softmax(np.random.default_rng(0).normal(size=(3, 4)), axis=1)
    np.testing.assert_allclose(
        mean_of_views(list(log_p)), logsumexp(log_p, axis=0) - np.log(3), rtol=1e-5
    )
    np.testing.assert_array_equal(mean_of_views(list(log_p[:1])), log_p[0])


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Dynamic time warping by its definition."""
    cost = ((a[:, None] - b[None]) ** 2).sum(-1)
    total = np.full((len(a) + 1, len(b) + 1), np.inf)
    total[0, 0] = 0
    for s in range(len(a)):
        for t in range(len(b)):
            before = min(total[s, t + 1], total[s + 1, t], total[s, t])
            total[s + 1, t + 1] = cost[s, t] + before
    return total[-1, -1] / (len(a) + len(b))


def deltas(frames: np.ndarray) -> np.ndarray:
    """Three times the slope of a line through five frames, of which those at the ends repeat."""
    near = np.clip(np.arange(len(frames))[:, None] + np.arange(-2, 3), 0, len(frames) - 1)
    return 3 * np.array([np.polyfit(np.arange(-2, 3), frames[five], 1)[0] for five in near])


def test_features_of_speech_are_those_of_single_frames_without_silent_ends():
    silence = np.zeros(RATE // 2, np.float32)
    (sound,) = sounds("up", [3])
    padded = Sound(np.concatenate([silence, sound.samples, silence]), RATE)
    frames = CODEC.frames(padded.samples)
    loudness = logsumexp(frames.astype(float), axis=1)
    spoken = loudness > loudness.max() - 7
    rate = dct(np.maximum(frames - loudness.max() + np.log(23), -10), norm="ortho")[:, :10]
    rate = rate * np.minimum(1, np.arange(1, 11) / 5)
    rate[:, 0] *= np.sqrt(2)  # the orthonormal transform has its first coefficient halved
    own = (rate - rate[spoken].mean(0)) / (rate[spoken].std(0) + 0.5)
    begin, end = spoken.nonzero()[0][[0, -1]]
    found = CODEC.speech_features(padded)
    assert len(found) == end + 1 - begin < 0.5 * len(frames)
    np.testing.assert_allclose(found[:, :10], own[begin : end + 1], atol=1e-4)
    np.testing.assert_allclose(found[:, 10:], deltas(own)[begin : end + 1], atol=1e-4)
    assert CODEC.speech_features(Sound(silence[:9], RATE)).shape == (1, 20)


def test_excess_is_relative_to_the_nearest_recordings():
    known = [*sounds("up", range(5)), *sounds("down", range(5, 7))]
    nearest = NearestRecordings.fit(known, np.array([0, 0, 0, 0, 0, 1, 1]), CODEC, 2.0)
    (query,) = sounds("down", [9])
    expected = np.zeros(2)
    for describe in (mfcc, CODEC.speech_features):
        distances = np.array([distance(describe(query), describe(one)) for one in known])
        means = np.array([np.sort(distances[:5])[:3].mean(), distances[5:].mean()])
        expected += means / means.min() - 1
    assert expected[1] == 0
    np.testing.assert_allclose(nearest.excess(query), expected, rtol=0.01, atol=1e-3)
    again = NearestRecordings.of(nearest.arrays(), CODEC)
    np.testing.assert_array_equal(again.excess(query), nearest.excess(query))
    log_p = np.log(np.array([0.9, 0.1]))
    product = np.array([0.9, 0.1]) * np.exp([-2 * 1.3, 0])
    np.testing.assert_allclose(
        np.exp(again.join(log_p, np.array([1.3, 0]))), product / product.sum(), rtol=1e-5
    )
    assert NearestRecordings.of({}, CODEC) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cepstra", torch.zeros(7, 12, dtype=torch.float16)),
        ("cepstra", torch.full((74, 13), torch.nan, dtype=torch.float16)),
        ("features", torch.zeros(7, 20)),
        ("cepstra_lengths", torch.tensor([1, 2])),
        ("features_lengths", torch.tensor([])),
        ("classes", torch.tensor([0, 0, 0, 5])),
        ("classes", torch.tensor([0, 0, 0, 0])),
        ("weight", torch.tensor([-1.0])),
        ("weight", torch.zeros(0)),
    ],
)
def test_damaged_recordings_are_refused(name, value):
    known = [*sounds("up", range(2)), *sounds("down", range(2, 4))]
    arrays = NearestRecordings.fit(known, np.array([0, 0, 1, 1]), CODEC, 2.0).arrays()
    with pytest.raises(ModelFileError, match="damaged"):
        NearestRecordings.of({**arrays, f"nearest.{name}": value}, CODEC)
    del arrays[f"nearest.{name}"]
    with pytest.raises(ModelFileError, match="damaged"):
        NearestRecordings.of(arrays, CODEC)


def test_a_saved_model_gives_the_same_answers(model, chirps):
    result, path = model
    file = modelfile.load(path)
    assert len(file.codec.stretches) == 3
    np.testing.assert_allclose(file.codec.stretches, [1 / 1.2, 1, 1.2])
    assert file.codec.voiced
    again = training.evaluate(SPEECH, file, path, None, lambda line: None)
    assert again["metrics"] == pytest.approx(result["metrics"], abs=1e-5)
    dataset = reopen(None, file)
    joined = np.exp(np.array(dataset.log_p(file.model, "test")))
    np.testing.assert_allclose(joined.sum(1), 1, rtol=1e-4)
    example = dataset.splits["test"][0]
    record = predict(file, str(chirps / example.name), PredictOptions())["recordings"][0]
    expected = dict(zip(file.codec.labels, joined[0], strict=True))
    assert record["probabilities"] == pytest.approx(expected, abs=1e-3)
    views = [recognise(file, x) for x in file.codec.encode_views(example.raw)]
    alone = np.exp(mean_of_views(views))
    assert np.abs(alone - joined[0]).max() > 0.01  # the nearest recordings count
    dataset.nearest = None
    log_p = dataset.log_p(file.model, "test")
    np.testing.assert_allclose(log_p[0], logsumexp(views, axis=0) - np.log(3), atol=2e-6)
    assert np.abs(log_p[0] - views[0]).max() > 1e-4


def test_settings_that_do_not_fit_are_refused():
    for values in ({"views": 3}, {"views": 3, "whole": True}, {"views": 0}, {"nearest": 3.0}):
        with pytest.raises(ValueError, match=r"^(views|nearest)="):
            SpeechSettings(**values)
    for values in ({"nearest": -1.0}, {"nearest": 3.0, "unknown": "a"}):
        with pytest.raises(ValueError, match=r"^nearest="):
            SpeechSettings(**values, whole=True)
