"""Words that a model does not learn are answered as "unknown"."""

import dataclasses
import shutil

import numpy as np
import pytest
import soundfile as sf
from signal_data import RATE, SMALL_SPEECH

from memorycell.application import modelfile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.speech import APPLICATION
from memorycell.applications.speech.dataset import prepare, reopen
from memorycell.applications.speech.predict import PredictOptions, predict, render
from memorycell.applications.speech.session import SpeechSession, StreamOptions
from memorycell.applications.speech.settings import SpeechSettings
from memorycell.errors import DataError
from memorycell.signals.recognise import recognise
from memorycell.signals.unknown import fit_threshold
from memorycell.training import loop as training
from memorycell.training.splits import SPLITS


@pytest.fixture(scope="module")
def noises(chirps, tmp_path_factory):
    """The chirps, and three classes of noise: "hiss", "hoot" and "hum"."""
    folder, rng = tmp_path_factory.mktemp("noises"), np.random.default_rng(3)
    for kind in ("up", "down", "flat"):
        shutil.copytree(chirps / kind, folder / kind)
    for kind, width in (("hiss", 1), ("hoot", 5), ("hum", 12)):
        (folder / kind).mkdir()
        for k in range(24):
            noise = np.convolve(rng.standard_normal(RATE // 3), np.ones(width) / width, "same")
            sf.write(folder / kind / f"{k}.wav", 0.1 * noise, RATE)
    return folder


@pytest.fixture(scope="module")
def trained(noises, tmp_path_factory):
    out = tmp_path_factory.mktemp("unknown") / "u.safetensors"
    settings = SpeechSettings(**SMALL_SPEECH, unknown="h*", false_acceptance=0.1)
    result = training.train(
        APPLICATION, str(noises), settings, TrainSettings(epochs=12, lr=0.01, average=0.9), out
    )
    return result, modelfile.load(out)


def test_threshold_accepts_at_most_the_share():
    p = np.random.default_rng(0).uniform(0.3, 1, 57)
    for share in (0.01, 0.05, 0.3):
        accepted = (p >= fit_threshold(p, share)).mean()
        assert share - 1 / 57 < accepted <= share


def test_unknown_classes_are_not_learnt_and_their_acceptance_is_measured(trained, noises):
    result, file = trained
    assert file.codec.labels == ("down", "flat", "up")
    assert 0.3 < file.codec.unknown_below < 1
    assert any(
        "24 of hiss are trained on without a label, 24 of hoot set the threshold" in note
        for note in file.notes
    )
    accepted, rejected = 0, 0
    for k in range(24):
        record = predict(file, str(noises / "hum" / f"{k}.wav"), PredictOptions())
        accepted += record["recordings"][0]["label"] != "unknown"
    assert result["metrics"]["false_acceptance"] == pytest.approx(accepted / 24)
    again = reopen(None, file)
    examples = again.splits["test"]
    for example in examples:
        p = np.exp(recognise(file, file.codec.encode(example.raw)))
        rejected += p.max() < file.codec.unknown_below
    assert result["metrics"]["false_rejection"] == pytest.approx(rejected / len(examples))
    assert again.evaluate(file.model, "test") == pytest.approx(result["metrics"])


def test_answers_name_the_nearest_class(trained, noises):
    codec = dataclasses.replace(trained[1].codec, unknown_below=1.0)
    file = dataclasses.replace(trained[1], codec=codec)
    record = predict(file, str(noises / "hum" / "0.wav"), PredictOptions())
    (answer,) = record["recordings"]
    assert (answer["label"], answer["nearest"]) == ("unknown", next(iter(answer["probabilities"])))
    assert render(record).startswith("unknown  ")
    assert "(nearest " in render(record)
    session = SpeechSession(file, options=StreamOptions(pause=0))
    session.feed_samples(sf.read(noises / "hum" / "0.wav", dtype="float32")[0], RATE)
    assert session.close()[-1]["label"] == "unknown"


def test_few_unknown_classes_are_divided_by_example(noises):
    dataset = prepare(str(noises), SpeechSettings(**SMALL_SPEECH, unknown="hum"))
    assert [{e.label for e in dataset.unknown[split]} for split in SPLITS] == [{"hum"}] * 3
    assert sum(map(len, dataset.unknown.values())) == 24
    assert min(map(len, dataset.unknown.values())) >= 4
    assert "hiss" in dataset.codec.labels
    dataset = prepare(str(noises), SpeechSettings(**SMALL_SPEECH, unknown="hum, hiss"))
    found = [{e.label for e in dataset.unknown[split]} for split in SPLITS]
    assert found == [{"hiss"}, {"hiss"}, {"hum"}]


def test_unknown_examples_are_trained_on_as_none_of_the_labels(noises):
    dataset = prepare(str(noises), SpeechSettings(**SMALL_SPEECH, unknown="h*"))
    targets = np.concatenate([batch.target.numpy() for batch in dataset.batches(0)])
    uniform = np.isclose(targets, 1 / 3).all(1)
    assert uniform.sum() == 24
    assert np.isin(targets[~uniform], (0, 1)).all()
    assert targets.sum(1) == pytest.approx(1)
    assert len(targets) == 24 + len(dataset.splits["train"])


def test_files_of_earlier_versions_have_no_threshold(trained):
    codec = trained[1].codec
    data = codec.to_json()
    del data["unknown_below"], data["gain_control"]
    assert type(codec).from_json(data) == dataclasses.replace(
        codec, unknown_below=0.0, gain_control=False
    )


@pytest.mark.parametrize(
    ("unknown", "message"),
    [("bell", "unknown=bell: no such class; there are 'down', 'flat', 'hiss'")],
)
def test_unknown_classes_that_are_not_there(noises, unknown, message):
    with pytest.raises(DataError, match=message):
        prepare(str(noises), SpeechSettings(**SMALL_SPEECH, unknown=unknown))


def test_a_class_may_not_be_named_unknown(noises, tmp_path):
    for kind in ("up", "down", "flat", "hum"):
        shutil.copytree(noises / kind, tmp_path / kind)
    shutil.copytree(noises / "hiss", tmp_path / "unknown")
    with pytest.raises(DataError, match='a class is named "unknown"'):
        prepare(str(tmp_path), SpeechSettings(**SMALL_SPEECH, unknown="hum"))
    assert prepare(str(tmp_path), SpeechSettings(**SMALL_SPEECH, unknown="unknown")).unknown


def test_a_trained_file_of_several_networks(chirps, tmp_path):
    settings = SpeechSettings(**{**SMALL_SPEECH, "members": 2, "hidden": 6})
    out = tmp_path / "chirps.safetensors"
    result = training.train(APPLICATION, str(chirps), settings, TrainSettings(epochs=2), out)
    file = modelfile.load(out)
    assert file.model.config.members == 2
    first, other = file.model.networks
    assert not np.allclose(first.head.linear.weight.detach(), other.head.linear.weight.detach())
    again = training.evaluate(APPLICATION, file, out, None)
    assert again["metrics"] == result["metrics"]
    path = next(chirps.rglob("*.wav"))
    session = SpeechSession(file, options=StreamOptions(pause=0))
    session.feed_samples(sf.read(path, dtype="float32")[0], RATE)
    (complete,) = predict(file, str(path), PredictOptions())["recordings"]
    assert session.close()[-1]["p"] == pytest.approx(complete["p"], abs=1e-3)
