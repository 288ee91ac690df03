"""Text classification: tables and trees, splits without leaks, sessions, word weights."""

import json
import random
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from memorycell.application import modelfile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.sentiment import APPLICATION
from memorycell.applications.sentiment.baselines import TfIdf
from memorycell.applications.sentiment.codec import LabelledCodec
from memorycell.applications.sentiment.dataset import prepare
from memorycell.applications.sentiment.mixing import Mixture
from memorycell.applications.sentiment.predict import (
    PredictOptions,
    classify,
    predict,
    word_weights,
)
from memorycell.applications.sentiment.reading import ReadOptions, read_examples
from memorycell.applications.sentiment.session import SentimentSession
from memorycell.applications.sentiment.settings import SentimentSettings
from memorycell.applications.sentiment.trees import detokenise
from memorycell.errors import DataError, StateError, UserError
from memorycell.streaming.stream import Stream
from memorycell.training import loop as training
from memorycell.training import metrics

TRAIN_SETTINGS = TrainSettings(epochs=14, lr=0.01, average=0.9)
SMALL = SentimentSettings(hidden=24, embedding=16, dropout=0.1, word_dropout=0.0, budget=250)
GOOD, BAD = ("good", "lovely", "fine"), ("bad", "awful", "dull")


def reviews(count: int, seed: int = 0, labels=("pos", "neg")) -> list[tuple[str, str]]:
    """A "not" two words before the adjective changes the label, so that counts of words and word
    pairs are not sufficient.
    """
    draw = random.Random(seed)
    rows = []
    for k in range(count):
        word = draw.choice(GOOD + BAD)
        negated = draw.random() < 0.5
        subject, turn = (
            draw.choice(("The film", "This book", "My day")),
            "not" if negated else "just",
        )
        text = f"{subject} {k % 30} was {turn} so {word}, I think."
        rows.append((text, labels[0] if (word in GOOD) != negated else labels[1]))
    return rows


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("reviews") / "reviews.csv"
    pl.DataFrame(reviews(1500), schema=["review", "label"], orient="row").write_csv(path)
    return path


@pytest.fixture(scope="module")
def trained(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    models = {}
    for direction in ("both", "forward"):
        settings = SentimentSettings(**{**vars(SMALL), "direction": direction, "pooling": "max"})
        out = folder / f"{direction}.safetensors"
        models[direction] = (
            training.train(APPLICATION, str(table), settings, TRAIN_SETTINGS, out),
            out,
        )
    return models


@pytest.mark.parametrize("direction", ["both", "forward"])
def test_it_is_better_than_counts_of_words(trained, direction):
    result, out = trained[direction]
    assert result["metrics"]["accuracy"] > 0.97
    assert result["skill"] > 0
    assert sum(sum(row.values()) for row in result["confusion"].values()) > 50
    again = training.evaluate(APPLICATION, modelfile.load(out), out, None, lambda line: None)
    assert again["metrics"] == pytest.approx(result["metrics"])


def test_word_weights(trained):
    file = modelfile.load(trained["both"][1])
    words = word_weights(file, "My day was not so awful, I think.")
    assert [w["word"] for w in words][:4] == ["my", "day", "was", "not"]
    strongest = sorted(words, key=lambda w: -abs(w["weight"]))[:2]
    assert {w["word"] for w in strongest} == {"not", "awful"}
    # Without it the label would be the other one.
    assert next(w["weight"] for w in words if w["word"] == "not") > 0.3
    record = predict(
        file,
        "My day was just so lovely, I think.\n\nMy day was not so fine, I think.\n",
        PredictOptions(),
    )
    assert [text["label"] for text in record["texts"]] == ["pos", "neg"]
    p = classify(file, ["My day was just so lovely, I think."])[0]
    assert record["texts"][0]["probabilities"] == pytest.approx(
        dict(zip(file.codec.labels, p, strict=True)), abs=1e-3
    )


def test_word_weights_explain_the_mixed_answer(trained):
    """The linear model says the opposite of the network, and has most of the weight."""
    file = modelfile.load(trained["both"][1])
    texts = ["so lovely", "so fine", "so awful", "so dull"] * 3
    linear = TfIdf(texts, np.array([0, 0, 1, 1] * 3), texts, np.array([0, 0, 1, 1] * 3))
    network = replace(file, arrays={})
    mixed = replace(file, arrays=Mixture(0.9, linear).arrays())
    words = ["the", "film", "was", "just", "so", "lovely"]
    assert tuple(file.codec.labels) == ("neg", "pos")
    assert [classify(f, [" ".join(words)])[0].argmax() for f in (network, mixed)] == [1, 0]
    for one in (network, mixed):
        p = classify(one, [" ".join(words)])[0]
        label = p.argmax()
        without = [" ".join(words[:k] + words[k + 1 :]) for k in range(len(words))]
        expected = [p[label] - q[label] for q in classify(one, without)]
        found = word_weights(one, " ".join(words))
        assert [w["word"] for w in found] == words
        assert [w["weight"] for w in found] == pytest.approx(expected, abs=1e-4)


def test_a_session_word_by_word(trained):
    file = modelfile.load(trained["forward"][1])
    session, restored = SentimentSession(file), SentimentSession(file)
    (first,) = session.feed("This book 7 was not so")
    restored.restore(session.snapshot())
    (end,) = session.feed("dull, I think.")
    assert restored.feed("dull, I think.") == [end]
    assert end["text"] == "This book 7 was not so dull, I think."
    full = classify(file, [end["text"]])[0]
    assert end["probabilities"]["pos"] == pytest.approx(
        float(full[file.codec.labels.index("pos")]), abs=1e-3
    )
    assert [w["word"] for w in first["words"]] == ["this", "book", "7", "was", "not", "so"]
    assert session.feed("") == []
    assert session.feed("My day was just so bad, I think.")[0]["label"] == "neg"
    before = session.snapshot()
    for bad in (b"xx", session._stream.snapshot()):
        with pytest.raises(StateError):
            session.restore(bad)
    with pytest.raises(DataError, match="line 5: expected a line of text"):
        session.feed({"text": "bad"})
    assert session.snapshot() == before
    assert session.close() == []
    with pytest.raises(UserError, match="--set direction=forward"):
        SentimentSession(modelfile.load(trained["both"][1]))


def test_metrics_against_scikit_learn():
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
    from sklearn.metrics import log_loss as sk_log_loss

    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 300)
    log_p = np.log(rng.dirichlet(np.ones(4), 300))
    answer = log_p.argmax(1)
    assert metrics.accuracy(truth, log_p) == pytest.approx(accuracy_score(truth, answer))
    assert metrics.macro_f1(truth, log_p) == pytest.approx(f1_score(truth, answer, average="macro"))
    assert metrics.log_loss(truth, log_p) == pytest.approx(sk_log_loss(truth, np.exp(log_p)))
    np.testing.assert_array_equal(
        metrics.confusion_matrix(truth, answer, 4), confusion_matrix(truth, answer)
    )
    # Confidence 80% and accuracy 80%: calibrated. Confidence 1 and accuracy one half: off by 0.5.
    confident = np.log(np.tile([0.8, 0.2], (100, 1)))
    assert metrics.calibration_error(np.array([0] * 80 + [1] * 20), confident) == pytest.approx(
        0.0, abs=1e-9
    )
    certain = np.log(np.tile([1 - 1e-9, 1e-9], (100, 1)))
    assert metrics.calibration_error(np.array([0, 1] * 50), certain) == pytest.approx(0.5, abs=1e-6)


def test_equal_texts_are_in_the_same_split(tmp_path):
    rows = reviews(200) + [(" The SAME text ", "pos")] * 40
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in rows))
    splits, _ = read_examples(path, "r")
    found = [
        split
        for split, examples in splits.items()
        if any("same text" in e.text.lower() for e in examples)
    ]
    assert len(found) == 1
    assert sum(map(len, splits.values())) == 240


def test_texts_of_later_splits_are_removed_from_training(tmp_path):
    held_out = reviews(30, seed=5)
    pl.DataFrame(reviews(300) + held_out, schema=["text", "label"], orient="row").write_csv(
        tmp_path / "train.csv"
    )
    pl.DataFrame(held_out[:15], schema=["text", "label"], orient="row").write_parquet(
        tmp_path / "dev.parquet"
    )
    pl.DataFrame(held_out[15:], schema=["text", "label"], orient="row").write_csv(
        tmp_path / "test.csv"
    )
    splits, notes = read_examples(tmp_path, "folder")
    assert not {e.text for e in splits["train"]} & {t for t, _ in held_out}
    assert any("texts that are also in a later split" in note for note in notes)


def test_trees(tmp_path):
    tree = "(3 (2 It) (4 (2 's) (4 (2 n't) (1 bad))))"
    (tmp_path / "train.txt").write_text(
        f"{tree}\n(0 (2 Dull) (2 .))\n(2 (2 So) (2 so))\n(1 (1 Bad) (2 film))\n"
    )
    (tmp_path / "dev.txt").write_text("(2 (2 So) (2 so))\n(4 (4 Fine) (2 .))\n")
    (tmp_path / "test.txt").write_text("(0 (2 Dull) (2 .))\n(3 (3 Good) (2 .))\n")
    splits, _ = read_examples(tmp_path, "trees")
    train = {(e.text, e.label, e.confidence) for e in splits["train"]}
    assert ("It'sn't bad", "positive", 0.75) in train
    assert ("bad", "negative", 0.75) in train
    assert ("It", "negative", 0.5) in train
    # Also neutral sentences, which are no examples of a later split.
    assert not {"Dull", "Dull.", "So", "So so"} & {t for t, *_ in train}
    assert [(e.text, e.label) for e in splits["valid"]] == [("Fine.", "positive")]
    five, _ = read_examples(tmp_path, "trees", ReadOptions(trees="five"))
    assert {e.label for e in five["valid"]} == {"neutral", "very positive"}
    names = [f"n{k}" for k in range(60)]
    (tmp_path / "one.txt").write_text("".join(f"(3 (2 {n}) (3 {n}x))\n" for n in names))
    # A file is split by sentences, with all their phrases.
    splits, _ = read_examples(tmp_path / "one.txt", "trees")
    assert sum(len(splits[split]) for split in ("valid", "test")) == 60 - len(splits["train"]) / 3
    assert not {e.text.split()[0] for e in splits["test"]} & {e.text for e in splits["train"]}
    (tmp_path / "dev.txt").write_text("(2 (2 So) (2 so)\n")
    with pytest.raises(DataError, match=r"dev.txt: line 1: not a tree"):
        read_examples(tmp_path, "trees")


@pytest.mark.parametrize(
    ("treebank", "plain"),
    [
        ("It 's n't `` good '' , they say ...", "It'sn't \"good\", they say..."),
        ("-LRB- a \\/ b -RRB- costs $ 5 !", "(a / b) costs $5!"),
    ],
)
def test_detokenise(treebank, plain):
    assert detokenise(treebank) == plain


def test_rare_labels_are_weighted(tmp_path):
    rows = [row for row in reviews(1500) if row[1] == "pos"] + [
        row for row in reviews(1500) if row[1] == "neg"
    ][:60]
    path = tmp_path / "r.csv"
    pl.DataFrame(rows, schema=["text", "label"], orient="row").write_csv(path)
    weights = {
        b: prepare(str(path), SentimentSettings(balance=b)).build().class_weight
        for b in ("yes", "no", "auto")
    }
    neg, pos = 0, 1
    assert weights["no"].tolist() == [1, 1]
    assert weights["yes"][neg] > 8 * weights["yes"][pos]
    assert weights["auto"][neg] ** 2 == pytest.approx(float(weights["yes"][neg]), rel=1e-4)


def test_the_layers_of_a_language_model_are_the_initial_ones(tmp_path, table):
    from memorycell.applications.text import APPLICATION as TEXT
    from memorycell.applications.text.settings import TextSettings

    text = tmp_path / "text.txt"
    text.write_text("\n".join(t for t, _ in reviews(900, seed=3)))
    options = TextSettings(unit="word", vocabulary=200, hidden=24, embedding=16, lanes=8, bptt=32)
    training.train(
        TEXT, str(text), options, TrainSettings(epochs=2, lr=0.01), tmp_path / "lm.safetensors"
    )
    settings = SentimentSettings(
        start=str(tmp_path / "lm.safetensors"),
        pooling="max",
        budget=250,
        word_dropout=0.0,
        dropout=0.1,
    )
    dataset = prepare(str(table), settings)
    language = modelfile.load(tmp_path / "lm.safetensors").model
    model = dataset.build()
    assert torch.equal(model.embedding.weight, language.embedding.weight)
    assert torch.equal(model.recurrent.weight_hh_l0, language.recurrent.weight_hh_l0)
    assert dataset.frozen_parameters(0) == ("embedding", "recurrent")
    assert dataset.frozen_parameters(1) == ()
    result = training.train(
        APPLICATION,
        str(table),
        settings,
        TrainSettings(epochs=16, lr=0.01, average=0.9),
        tmp_path / "s.safetensors",
    )
    assert result["metrics"]["accuracy"] > 0.9
    assert Stream(modelfile.load(tmp_path / "s.safetensors").model).step([3.0]).shape == (2,)
    with pytest.raises(UserError, match="expected a model of the task text"):
        prepare(str(table), SentimentSettings(start=str(tmp_path / "s.safetensors")))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("text,label\na,x\nb,x\n", "every text has the label 'x'"),
        ("words,kind\na,x\nb,y\n", "which column is the text"),
        ("text,label\na,x\nb,y\n", "too few texts"),
    ],
)
def test_user_errors(tmp_path, rows, message):
    path = tmp_path / "r.csv"
    path.write_text(rows)
    with pytest.raises(DataError, match=message):
        prepare(str(path), SentimentSettings())


def test_empty_and_long_rows_are_counted(tmp_path):
    rows = [*reviews(300), ("", "pos"), ("fine " * 2000, "pos")]
    path = tmp_path / "r.csv"
    pl.DataFrame(rows, schema=["text", "label"], orient="row").write_csv(path)
    notes = "\n".join(prepare(str(path), SMALL).notes)
    assert "1 of 302 rows left out: without text" in notes
    assert "1 row: text cut to 2,000 characters" in notes


def test_the_codec_of_a_file_is_checked():
    good = {
        "text": {
            "unit": "word",
            "surfaces": ["<unk>", "<end>", " a"],
            "marks": 2,
            "pieces": "",
            "lower": True,
        },
        "labels": ["a", "b"],
    }
    assert LabelledCodec.from_json(good).vocabulary == 3
    with pytest.raises(ValueError):
        LabelledCodec.from_json({**good, "labels": ["a"]})


def test_the_command_line(trained, memorycell, tmp_path):
    path = trained["both"][1]
    status, out, _ = memorycell("predict", path, "My day was just so lovely, I think.", "--json")
    assert status == 0
    assert json.loads(out)["texts"][0]["label"] == "pos"
    assert memorycell("predict", path, "My day was bad.", "--out", tmp_path / "w.html")[0] == 0
    assert memorycell("inspect", path, "My day was bad.", "--out", tmp_path / "i.html")[0] == 0
    status, _, err = memorycell("predict", path, " ")
    assert (status, err.count("\n")) == (2, 1)
    status, out, _ = memorycell("prove", trained["forward"][1], "--json")
    assert status == 0
    assert json.loads(out.splitlines()[-1])["ok"]


@pytest.mark.data
@pytest.mark.slow
def test_the_treebank(public_data):
    dataset = prepare("sst", SentimentSettings())
    assert len(dataset.examples["valid"]) == 872
    assert len(dataset.examples["test"]) == 1821
    tested = {e.text.lower() for e in dataset.examples["test"]}
    assert not [
        e for e in dataset.examples["train"] if e.text.lower() in tested and len(e.text) > 60
    ]
