"""Speech: training, prediction and the command line."""

import io
import json
import sys

import numpy as np
import pytest
import torch
from signal_data import RATE, SMALL_SPEECH, letter_tones, sf

from memorycell.application import modelfile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.speech import APPLICATION
from memorycell.applications.speech.audio import read_audio
from memorycell.applications.speech.dataset import prepare
from memorycell.applications.speech.predict import PredictOptions, predict
from memorycell.applications.speech.settings import SpeechSettings
from memorycell.applications.speech.word_model import load_word_model
from memorycell.errors import DataError, UserError
from memorycell.language.codec import END_ID
from memorycell.training import loop as training

DELAY_S, TONE_S = 0.8, 0.1
STEP_REACH_S = 0.02 + 0.025
"""A step and a frame: the time over which a sample has an effect."""


def test_classifier_recognises_chirps(chirp_model, chirps):
    result, path = chirp_model
    metrics = result["metrics"]
    assert metrics["error"] < 0.15
    assert metrics["error"] < 0.5 * result["baselines"]["most frequent"]["error"]
    assert set(result["baselines"]) == {"most frequent", "nearest (dtw)"}
    dataset = prepare(str(chirps), SpeechSettings(**SMALL_SPEECH))
    confusion = {(a, b): n for a, row in result["confusion"].items() for b, n in row.items()}
    assert {a for a, _ in confusion} == {"up", "down", "flat"}
    assert sum(confusion.values()) == len(dataset.splits["test"])
    correct = sum(n for (a, b), n in confusion.items() if a == b)
    assert correct / len(dataset.splits["test"]) == pytest.approx(metrics["accuracy"])
    again = training.evaluate(APPLICATION, modelfile.load(path), path, None)
    assert again["metrics"] == pytest.approx(metrics)
    assert again["baselines"] == result["baselines"]


def test_predictions_are_those_of_the_model(chirp_model, chirps):
    file = modelfile.load(chirp_model[1])
    path = chirps / "up" / "up3.wav"
    record = predict(file, str(path), PredictOptions())["recordings"][0]
    features = file.codec.encode(read_audio(path))
    log_p = file.model.classify(torch.from_numpy(features)[None], torch.tensor([len(features)]))
    p = dict(zip(file.codec.labels, log_p[0].exp().tolist(), strict=True))
    assert record["label"] == max(p, key=p.get) == "up"
    assert record["probabilities"] == pytest.approx(p, abs=1e-4)
    assert record["p"] == pytest.approx(p["up"], abs=1e-4)
    folder = predict(file, str(chirps / "flat"), PredictOptions())["recordings"]
    assert len(folder) == 30
    assert sum(one["label"] == "flat" for one in folder) >= 27


def test_transcriber_writes_what_was_spelled(spelling_model):
    result, _ = spelling_model
    assert result["metrics"]["cer"] < 0.15
    assert result["metrics"]["wer"] < 0.4
    assert result["metrics"]["error"] == result["metrics"]["cer"]
    assert result["baselines"]["most frequent words"]["cer"] > 0.4
    assert {"source", "ours", "wanted"} == set(result["examples"][0])
    correct = [one["ours"] == one["wanted"] for one in result["examples"]]
    assert np.mean(correct) > 0.5


def test_words_have_their_times(spelling_model, tmp_path):
    """The tones of "cab dab" begin 0.06 s and 0.63 s after the silence before them."""
    file = modelfile.load(spelling_model[1])
    rng = np.random.default_rng(5)
    silence = (0.003 * rng.standard_normal(round(DELAY_S * RATE))).astype(np.float32)
    samples = np.concatenate([silence, letter_tones("cab dab", rng)])
    sf.write(tmp_path / "w.wav", samples, RATE)
    record = predict(file, str(tmp_path / "w.wav"), PredictOptions())["recordings"][0]
    assert record["text"] == "cab dab"
    assert record["seconds"] == pytest.approx(len(samples) / RATE, abs=1e-3)
    first, second = record["words"]
    for word, onset_s in ((first, 0.06), (second, 0.06 + 3 * 0.14 + 0.15)):
        onset_s += DELAY_S
        last_onset_s = onset_s + 2 * 0.14
        assert onset_s - STEP_REACH_S < word["begin_s"] < onset_s + TONE_S
        assert last_onset_s < word["end_s"] < last_onset_s + TONE_S + STEP_REACH_S
    assert first["end_s"] < second["begin_s"]
    assert second["end_s"] <= record["seconds"]


def test_silent_and_short_recordings(chirp_model, tmp_path):
    file = modelfile.load(chirp_model[1])
    sf.write(tmp_path / "s.wav", np.zeros(4000), RATE)
    record = predict(file, str(tmp_path / "s.wav"), PredictOptions())["recordings"][0]
    assert record["notes"] == ["silent"]
    assert set(record["probabilities"]) == {"up", "down", "flat"}
    assert sum(record["probabilities"].values()) == pytest.approx(1, abs=2e-4)
    assert record["p"] == max(record["probabilities"].values()) >= 1 / 3
    sf.write(tmp_path / "t.wav", np.zeros(100), RATE)
    with pytest.raises(DataError, match="too short: 100 samples"):
        predict(file, str(tmp_path / "t.wav"), PredictOptions())


@pytest.mark.slow
def test_subwords(spellings, tmp_path):
    out = tmp_path / "p.safetensors"
    options = {"unit": "piece", "vocabulary": 16, "direction": "both", "speed": 0.0}
    settings = SpeechSettings(**{**SMALL_SPEECH, "hidden": 40}, **options)
    train_settings = TrainSettings(epochs=30, lr=0.02, average=0.9)
    result = training.train(APPLICATION, str(spellings), settings, train_settings, out)
    text = modelfile.load(out).codec.text
    assert text.unit == "piece"
    assert max(len(surface.strip()) for surface in text.surfaces[text.num_special :]) > 1
    assert result["metrics"]["cer"] < 0.15
    assert result["baselines"]["most frequent words"]["cer"] > 0.4


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    """A language model of words, of which dab is three times as frequent as cab."""
    from memorycell.application.catalogue import load

    text = load("text")
    folder = tmp_path_factory.mktemp("lm")
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(["dab", "dab", "dab", "cab"], 4)) for _ in range(200)]
    (folder / "t.txt").write_text("\n".join(lines))
    settings = text.settings(hidden=16, lanes=4, bptt=16, dropout=0.0)
    train_settings = TrainSettings(epochs=6, lr=0.02, average=0.9)
    out = folder / "lm.safetensors"
    training.train(text, str(folder / "t.txt"), settings, train_settings, out)
    return out


def test_word_probabilities_are_those_of_the_language_model(language_model):
    words = load_word_model(str(language_model))
    file = modelfile.load(language_model)

    def log_p(text: str) -> float:
        tokens = [END_ID, *file.codec.encode(text)]
        y, _ = file.model(torch.tensor([tokens]))
        return float(y[0, range(len(tokens) - 1), tokens[1:]].sum().detach())

    assert words.log_p((), "dab") == pytest.approx(log_p("dab"), abs=1e-3)
    after = log_p("dab cab") - log_p("dab")
    assert words.log_p(("dab",), "cab") == pytest.approx(after, abs=1e-3)
    assert words.log_p(("dab",), "dab") > words.log_p(("dab",), "cab") > -5
    assert words.log_p(("dab",), None) == 0


def test_search_with_a_model_of_the_task_text(spelling_model, language_model, tmp_path):
    file = modelfile.load(spelling_model[1])
    sf.write(tmp_path / "w.wav", letter_tones("dab cab", np.random.default_rng(1)), RATE)
    options = PredictOptions(lm=str(language_model))
    record = predict(file, str(tmp_path / "w.wav"), options)["recordings"][0]
    assert record["searched"] == "dab cab"
    with pytest.raises(UserError, match="expected a model of the task text, got speech"):
        predict(file, str(tmp_path / "w.wav"), PredictOptions(lm=str(spelling_model[1])))


def test_command_line(chirp_model, spelling_model, chirps, memorycell, tmp_path, monkeypatch):
    classifier, transcriber = chirp_model[1], spelling_model[1]
    path = chirps / "down" / "down1.wav"
    status, out, _ = memorycell("predict", classifier, path, "--json")
    assert status == 0
    assert json.loads(out)["recordings"][0]["label"] == "down"
    assert memorycell("predict", classifier, path, "--out", tmp_path / "p.html")[0] == 0
    sound = tmp_path / "w.wav"
    sf.write(sound, letter_tones("dab cab", np.random.default_rng(1)), RATE)
    assert memorycell("predict", transcriber, sound, "--out", tmp_path / "w.html")[0] == 0
    assert "CTC" in (tmp_path / "w.html").read_text()
    status, out, _ = memorycell("predict", transcriber, sound, "--set", "search=no", "--json")
    assert status == 0
    assert "searched" not in json.loads(out)["recordings"][0]
    assert memorycell("inspect", transcriber, sound, "--out", tmp_path / "i.html")[0] == 0
    assert memorycell("inspect", classifier, "--out", tmp_path / "i.html")[0] == 0
    status, out, _ = memorycell("evaluate", transcriber, "--report", tmp_path / "e.html", "--json")
    assert status == 0
    assert json.loads(out)["metrics"] == pytest.approx(spelling_model[0]["metrics"])
    status, out, _ = memorycell("evaluate", classifier)
    assert status == 0
    assert "true class (rows)" in out

    class Stdin:
        buffer = io.BufferedReader(io.BytesIO(sound.read_bytes()))

    monkeypatch.setattr(sys, "stdin", Stdin())
    status, out, _ = memorycell("stream", transcriber, "--set", "pause=0.5")
    assert status == 0
    assert json.loads(out.splitlines()[-1])["text"] == "dab cab"
    Stdin.buffer = io.BufferedReader(io.BytesIO(b""))
    status, _, err = memorycell("stream", transcriber)
    assert (status, err.count("\n")) == (2, 1)
    mistakes = (
        ("predict", classifier, tmp_path / "gone.wav"),
        ("predict", classifier),
        ("stream", classifier, "--set", "format=mp3"),
    )
    for words in mistakes:
        status, _, err = memorycell(*words)
        assert (status, err.count("\n")) == (2, 1), words
