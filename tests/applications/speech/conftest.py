"""Small trained speech models."""

import pytest
from signal_data import *  # noqa: F403
from signal_data import SMALL_SPEECH

from memorycell.application.train_settings import TrainSettings
from memorycell.applications.speech import APPLICATION
from memorycell.applications.speech.settings import SpeechSettings
from memorycell.training import loop as training


@pytest.fixture(scope="session")
def chirp_model(chirps, tmp_path_factory):
    """(result, path) of a classifier of chirps."""
    out = tmp_path_factory.mktemp("chirp_model") / "c.safetensors"
    settings = SpeechSettings(**SMALL_SPEECH, speed=0.02)
    train_settings = TrainSettings(epochs=16, lr=0.01, average=0.9)
    return training.train(APPLICATION, str(chirps), settings, train_settings, out), out


@pytest.fixture(scope="session")
def spelling_model(spellings, tmp_path_factory):
    """(result, path) of a transcriber of letter tones."""
    out = tmp_path_factory.mktemp("spelling_model") / "t.safetensors"
    settings = SpeechSettings(**{**SMALL_SPEECH, "hidden": 40}, speed=0.0, silence=0.2)
    train_settings = TrainSettings(epochs=40, lr=0.02, average=0.9)
    return training.train(APPLICATION, str(spellings), settings, train_settings, out), out
