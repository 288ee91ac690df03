"""Speech features of whole recordings: what they leave out, against a library's and a closed form."""

import numpy as np
import pytest
from scipy.signal import savgol_filter

from memorycell.application.modelfile import ModelFile
from memorycell.applications.speech.audio import AudioCodec, Sound, changes
from memorycell.applications.speech.live import LiveSpeech
from memorycell.errors import UserError
from memorycell.models.classifier import Classifier, ClassifierConfig


def test_changes_are_least_squares_slopes():
    x = np.random.default_rng(0).normal(size=(17, 3))
    expected = 3 * savgol_filter(x, 5, 1, deriv=1, axis=0, mode="nearest")
    np.testing.assert_allclose(changes(x), expected, atol=1e-12)


def test_loudness_is_left_out():
    codec = AudioCodec(rate_hz=8000, bins=24, ceps=10, whole=True, labels=("a", "b"))
    samples = np.random.default_rng(0).normal(size=8000).astype(np.float32) * np.linspace(
        0.01, 0.1, 8000, dtype=np.float32
    )
    soft, loud = (codec.encode(Sound(samples * gain, 8000)) for gain in (0.3, 3.0))
    assert soft.shape[1] == codec.input_size == 40
    np.testing.assert_allclose(soft, loud, atol=2e-3)


def test_it_cannot_run_live_and_says_so():
    codec = AudioCodec(rate_hz=8000, bins=24, ceps=10, whole=True, labels=("a", "b"))
    model = Classifier(
        ClassifierConfig(vocabulary=0, classes=2, input_size=40, hidden_size=8, bidirectional=False)
    )
    with pytest.raises(UserError, match="whole=yes"):
        LiveSpeech(ModelFile(model, codec, {"task": "speech"}))
    again = AudioCodec.from_json({**codec.to_json(), "mean": [0.0] * 24, "std": [1.0] * 24})
    assert again.whole
