"""Texts of none of the labels are answered as "unknown"."""

import random

import numpy as np
import polars as pl
import pytest

from memorycell.application import modelfile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.sentiment import APPLICATION
from memorycell.applications.sentiment.dataset import prepare, reopen
from memorycell.applications.sentiment.predict import PredictOptions, classify, predict, render
from memorycell.applications.sentiment.session import SentimentSession
from memorycell.applications.sentiment.settings import SentimentSettings
from memorycell.errors import DataError
from memorycell.training import loop as training

WORDS = {
    "sport": "goal team match coach ball",
    "food": "bread soup cook taste salt",
    "law": "court judge trial clause appeal",
    "sea": "boat wave harbour sail tide",
}
GERMAN = "das Haus steht neben einem alten Baum und der Hund schläft davor"
SMALL = {
    "hidden": 8,
    "embedding": 8,
    "budget": 250,
    "direction": "forward",
    "word_dropout": 0.0,
    "mix": False,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """(a table of four topics, a file of texts in another language)."""
    folder, draw = tmp_path_factory.mktemp("topics"), random.Random(0)
    rows = [
        (" ".join(draw.choices(words.split(), k=4)) + f" and {k % 9}", topic)
        for topic, words in WORDS.items()
        for k in range(120)
    ]
    table, german = folder / "topics.csv", folder / "german.txt"
    pl.DataFrame(rows, schema=["text", "label"], orient="row").write_csv(table)
    lines = [" ".join(draw.choices(GERMAN.split(), k=6)) for _ in range(90)]
    german.write_text("\n".join(lines) + "\n\n")
    return table, german


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    table, german = data
    settings = SentimentSettings(**SMALL, members=2, unknown=f"law,sea,{german}")
    out = tmp_path_factory.mktemp("model") / "topics.safetensors"
    result = training.train(
        APPLICATION, str(table), settings, TrainSettings(epochs=12, lr=0.01, average=0.9), out
    )
    return result, modelfile.load(out)


def test_the_texts_are_divided_by_class(data):
    table, german = data
    dataset = prepare(str(table), SentimentSettings(**SMALL, unknown=f"{german},law,s?a"))
    assert dataset.codec.labels == ("food", "sport")
    assert [len(dataset.unknown[split]) for split in ("train", "valid", "test")] == [90, 120, 120]
    assert set(dataset.unknown["train"][0].split()) <= set(GERMAN.split())
    assert (
        "german.txt are trained on without a label, 120 of law set the threshold"
        in dataset.notes[-3]
    )
    targets = np.concatenate([batch.target.numpy() for batch in dataset.batches(0)])
    assert len(targets) == len(dataset.examples["train"]) + 90
    assert np.isclose(targets, 0.5).all(1).sum() == 90


def test_shares_are_those_of_the_answers(trained):
    result, file = trained
    dataset = reopen(None, file)
    below = float(file.arrays["limits"][2])
    assert 0.5 < below <= 1
    unknown = classify(file, list(dataset.unknown["test"])).max(1)
    known = classify(file, [e.text for e in dataset.examples["test"]]).max(1)
    metrics = result["metrics"]
    assert metrics["false_acceptance"] == pytest.approx((unknown >= below).mean(), abs=0.01)
    assert metrics["false_rejection"] == pytest.approx((known < below).mean(), abs=0.01)
    assert metrics["false_acceptance"] < 0.5 < 1 - metrics["false_rejection"]
    valid = classify(file, list(dataset.unknown["valid"])).max(1)
    assert (valid >= below).mean() <= 0.05
    assert dataset.evaluate(file.model, "test") == pytest.approx(metrics)


def test_answers_live_and_complete(trained):
    _, file = trained
    text = "harbour tide boat wave"
    (record,) = predict(file, text, PredictOptions())["texts"]
    assert (record["label"], record["nearest"] in file.codec.labels) == ("unknown", True)
    assert render({"texts": [record]}).startswith(f"unknown (nearest {record['nearest']}, ")
    (live,) = SentimentSession(file).feed(text)
    assert (live["label"], live["nearest"]) == ("unknown", record["nearest"])
    assert live["p"] == pytest.approx(record["p"], abs=1e-3)
    (known,) = predict(file, "goal team coach and 3", PredictOptions())["texts"]
    assert known["label"] == "sport"
    assert "nearest" not in known


def test_labels_that_are_not_there(data):
    with pytest.raises(DataError, match="unknown=opera: no such class; there are 'food', 'law'"):
        prepare(str(data[0]), SentimentSettings(unknown="opera"))
    with pytest.raises(ValueError, match="false_acceptance=0: expected 0 to 1"):
        SentimentSettings(false_acceptance=0)
