"""The sentiment task: tables and trees, splits that leak nothing, live scoring, the words that
mattered.
"""

import json
import random

import numpy as np
import polars as pl
import pytest
import torch

from memorycell.application import modelfile
from memorycell.application.contract import TrainSettings
from memorycell.applications.sentiment.codec import LabelledCodec, as_written, read_examples
from memorycell.applications.sentiment.dataset import SENTIMENT, SentimentSettings, prepare
from memorycell.applications.sentiment.live import (
    LiveSentiment,
    classify,
    predict,
    words_that_mattered,
)
from memorycell.applications.sentiment.live import Options as Explaining
from memorycell.errors import DataError, UserError
from memorycell.streaming.stream import Stream
from memorycell.training import loop as training
from memorycell.training import metrics

HOW = TrainSettings(epochs=14, lr=0.01, average=0.9)
SMALL = SentimentSettings(hidden=24, embedding=16, dropout=0.1, word_dropout=0.0, budget=250)
GOOD, BAD = ("good", "lovely", "fine"), ("bad", "awful", "dull")


def reviews(count: int, seed: int = 0, labels=("pos", "neg")) -> list[tuple[str, str]]:
    """A "not" two words before the adjective turns the label, so that counting words and pairs of
    words does not do.
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
    made = {}
    for direction in ("both", "forward"):
        settings = SentimentSettings(**{**vars(SMALL), "direction": direction, "pooling": "max"})
        out = folder / f"{direction}.safetensors"
        made[direction] = training.train(SENTIMENT, str(table), settings, HOW, out), out
    return made


@pytest.mark.parametrize("direction", ["both", "forward"])
def test_it_learns_what_counting_words_cannot(trained, direction):
    result, out = trained[direction]
    assert result["metrics"]["accuracy"] > 0.97
    assert result["skill"] > 0
    assert sum(sum(row.values()) for row in result["confusion"].values()) > 50
    again = training.evaluate(SENTIMENT, modelfile.load(out), out, None, lambda line: None)
    assert again["metrics"] == pytest.approx(result["metrics"])


def test_the_words_that_mattered_are_those_that_turn_it(trained):
    file = modelfile.load(trained["both"][1])
    words = words_that_mattered(file, "My day was not so awful, I think.")
    assert [w["word"] for w in words][:4] == ["my", "day", "was", "not"]
    strongest = sorted(words, key=lambda w: -abs(w["weight"]))[:2]
    assert {w["word"] for w in strongest} == {"not", "awful"}
    assert (
        next(w["weight"] for w in words if w["word"] == "not") > 0.3
    )  # without it the answer would be the other
    record = predict(
        file,
        "My day was just so lovely, I think.\n\nMy day was not so fine, I think.\n",
        Explaining(),
    )
    assert [one["label"] for one in record["texts"]] == ["pos", "neg"]
    p = classify(file, ["My day was just so lovely, I think."])[0]
    assert record["texts"][0]["probabilities"] == pytest.approx(
        dict(zip(file.codec.labels, p, strict=True)), abs=1e-3
    )


def test_live_word_by_word(trained, tmp_path):
    file = modelfile.load(trained["forward"][1])
    live = LiveSentiment(file)
    first = live.line("This book 7 was not so", 1)
    live.save(tmp_path / "s.bin")
    later = LiveSentiment(file)
    later.load(tmp_path / "s.bin")
    end = [one.line("dull, I think.", 2) for one in (live, later)]
    assert end[0] == end[1]
    assert end[0]["text"] == "This book 7 was not so dull, I think."
    whole = classify(file, [end[0]["text"]])[0]
    assert end[0]["probabilities"]["pos"] == pytest.approx(
        float(whole[file.codec.labels.index("pos")]), abs=1e-3
    )
    assert [w["word"] for w in first["words"]] == ["this", "book", "7", "was", "not", "so"]
    assert live.line("", 3) is None
    assert live.line("My day was just so bad, I think.", 4)["label"] == "neg"
    with pytest.raises(UserError, match="--set direction=forward"):
        LiveSentiment(modelfile.load(trained["both"][1]))


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
    # Always 80% sure and right 80% of the time: calibrated. Always sure and right half of the time:
    # off by a half.
    sure = np.log(np.tile([0.8, 0.2], (100, 1)))
    assert metrics.calibration_error(np.array([0] * 80 + [1] * 20), sure) == pytest.approx(
        0.0, abs=1e-9
    )
    certain = np.log(np.tile([1 - 1e-9, 1e-9], (100, 1)))
    assert metrics.calibration_error(np.array([0, 1] * 50), certain) == pytest.approx(0.5, abs=1e-6)


def test_equal_texts_fall_into_one_part(tmp_path):
    rows = reviews(200) + [(" The SAME text ", "pos")] * 40
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in rows))
    parts, _ = read_examples(path, "r")
    where = [
        split
        for split, examples in parts.items()
        if any("same text" in e.text.lower() for e in examples)
    ]
    assert len(where) == 1
    assert sum(map(len, parts.values())) == 240


def test_what_is_tested_is_not_learnt_from_whatever_the_folder_holds(tmp_path):
    held = reviews(30, seed=5)
    pl.DataFrame(reviews(300) + held, schema=["text", "label"], orient="row").write_csv(
        tmp_path / "train.csv"
    )
    pl.DataFrame(held[:15], schema=["text", "label"], orient="row").write_parquet(
        tmp_path / "dev.parquet"
    )
    pl.DataFrame(held[15:], schema=["text", "label"], orient="row").write_csv(tmp_path / "test.csv")
    parts, notes = read_examples(tmp_path, "folder")
    assert not {e.text for e in parts["train"]} & {t for t, _ in held}
    assert any("that also stand in a later part left out" in note for note in notes)


def test_trees(tmp_path):
    tree = "(3 (2 It) (4 (2 's) (4 (2 n't) (1 bad))))"
    (tmp_path / "train.txt").write_text(
        f"{tree}\n(0 (2 Dull) (2 .))\n(2 (2 So) (2 so))\n(1 (1 Bad) (2 film))\n"
    )
    (tmp_path / "dev.txt").write_text("(2 (2 So) (2 so))\n(4 (4 Fine) (2 .))\n")
    (tmp_path / "test.txt").write_text("(0 (2 Dull) (2 .))\n(3 (3 Good) (2 .))\n")
    parts, _ = read_examples(tmp_path, "trees")
    train = {(e.text, e.label, e.sure) for e in parts["train"]}
    assert ("It'sn't bad", "positive", 0.75) in train
    assert ("bad", "negative", 0.75) in train
    assert ("It", "negative", 0.5) in train
    assert not {"Dull", "Dull.", "So", "So so"} & {
        t for t, *_ in train
    }  # also where it is no example of the test
    assert [(e.text, e.label) for e in parts["valid"]] == [("Fine.", "positive")]
    five, _ = read_examples(tmp_path, "trees", trees="five")
    assert {e.label for e in five["valid"]} == {"neutral", "very positive"}
    numbers = [f"n{k}" for k in range(60)]
    (tmp_path / "one.txt").write_text("".join(f"(3 (2 {n}) (3 {n}x))\n" for n in numbers))
    parts, _ = read_examples(
        tmp_path / "one.txt", "trees"
    )  # a file is split by sentences, with all their phrases
    assert sum(len(parts[split]) for split in ("valid", "test")) == 60 - len(parts["train"]) / 3
    assert not {e.text.split()[0] for e in parts["test"]} & {e.text for e in parts["train"]}
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
def test_as_people_write(treebank, plain):
    assert as_written(treebank) == plain


def test_rare_labels_count_when_asked(tmp_path):
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


def test_it_starts_from_a_language_model(tmp_path, table):
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
        SENTIMENT,
        str(table),
        settings,
        TrainSettings(epochs=16, lr=0.01, average=0.9),
        tmp_path / "s.safetensors",
    )
    assert result["metrics"]["accuracy"] > 0.9
    assert Stream(modelfile.load(tmp_path / "s.safetensors").model).step([3.0]).shape == (2,)
    with pytest.raises(UserError, match="a model of the task text was expected"):
        prepare(str(table), SentimentSettings(start=str(tmp_path / "s.safetensors")))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("text,label\na,x\nb,x\n", "every text has the label 'x'"),
        ("words,kind\na,x\nb,y\n", "which column is the text"),
        ("text,label\na,x\nb,y\n", "too few texts"),
    ],
)
def test_mistakes(tmp_path, rows, message):
    path = tmp_path / "r.csv"
    path.write_text(rows)
    with pytest.raises(DataError, match=message):
        prepare(str(path), SentimentSettings())


def test_empty_and_long_rows_are_counted(tmp_path):
    rows = [*reviews(300), ("", "pos"), ("fine " * 2000, "pos")]
    path = tmp_path / "r.csv"
    pl.DataFrame(rows, schema=["text", "label"], orient="row").write_csv(path)
    notes = "\n".join(prepare(str(path), SMALL).notes)
    assert "1 rows without text or label left out" in notes
    assert "of 1 texts only the first 2,000 characters are read" in notes


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
def test_the_treebank(public_data):
    dataset = prepare("sst", SentimentSettings())
    assert len(dataset.examples["valid"]) == 872
    assert len(dataset.examples["test"]) == 1821
    tested = {e.text.lower() for e in dataset.examples["test"]}
    assert not [
        e for e in dataset.examples["train"] if e.text.lower() in tested and len(e.text) > 60
    ]
