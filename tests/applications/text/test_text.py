"""Language models of text: training, scores, generation, next words, sessions."""

import json
import math

import numpy as np
import pytest
import torch
from text_data import tale

import memorycell
from memorycell.application import catalogue, modelfile
from memorycell.application.contract import ModelFile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.text import APPLICATION
from memorycell.applications.text.dataset import split_texts, token_sequence
from memorycell.applications.text.dynamic_evaluation import dynamic_nats
from memorycell.applications.text.predict import PredictOptions, predict, score
from memorycell.applications.text.prepare import prepare, reopen
from memorycell.applications.text.session import TextSession
from memorycell.applications.text.settings import TextSettings
from memorycell.errors import DataError, StateError, UserError
from memorycell.language.codec import END_ID, UNKNOWN_ID
from memorycell.language.model import LanguageConfig, LanguageModel
from memorycell.language.ngram import KneserNey
from memorycell.ops import binding
from memorycell.training import loop as training

UNITS = ("char", "word", "piece")
TRAIN_SETTINGS = TrainSettings(epochs=5, lr=0.02, average=0.9)


def settings(unit: str, **options) -> TextSettings:
    return TextSettings(
        **{
            "unit": unit,
            "vocabulary": 90,
            "hidden": 24,
            "lanes": 8,
            "bptt": 32,
            "dropout": 0.0,
            **options,
        }
    )


@pytest.fixture(scope="module")
def trained(tale_file, tmp_path_factory):
    """unit -> (result, path), trained for a few seconds."""
    folder = tmp_path_factory.mktemp("models")
    models = {}
    for unit in UNITS:
        out = folder / f"{unit}.safetensors"
        models[unit] = (
            training.train(APPLICATION, str(tale_file), settings(unit), TRAIN_SETTINGS, out),
            out,
        )
    return models


@pytest.mark.parametrize("unit", UNITS)
def test_training_and_its_metrics(trained, unit, tale_file):
    result, out = trained[unit]
    assert set(result["metrics"]) - {"network"} == {"nats", "perplexity", "bits_per_character"}
    assert result["metrics"]["perplexity"] == pytest.approx(math.exp(result["metrics"]["nats"]))
    file = modelfile.load(out)
    again = training.evaluate(APPLICATION, file, out, None, lambda line: None)
    assert again["metrics"] == pytest.approx(result["metrics"])
    assert again["baselines"] == result["baselines"]
    # The same by cross-entropy over the complete test split.
    text = tale_file.read_text()[int(0.9 * len(tale_file.read_text())) :]
    tokens = torch.tensor([[END_ID, *file.codec.encode(text), END_ID]])
    log_p = file.model(tokens[:, :-1])[0]
    nats = -log_p.detach().gather(2, tokens[:, 1:, None])
    assert result["metrics"]["nats"] == pytest.approx(float(nats.mean()), rel=1e-4)
    bits = float(nats.sum()) / math.log(2) / len(text)
    assert result["metrics"]["bits_per_character"] == pytest.approx(bits, rel=1e-4)


@pytest.mark.parametrize("unit", UNITS)
def test_reading_in_pieces_equals_the_full_text(trained, unit):
    file = modelfile.load(trained[unit][1])
    text = "The cat sat on the mat. The panda sings on the river.\nThe dog, sleeps"
    full = score(file, text)
    for seed in range(4):
        cuts = np.sort(np.random.default_rng(seed).integers(0, len(text), 9))
        session = TextSession(file)
        for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            session.read(text[begin:end])
        session.finish_word()
        np.testing.assert_allclose(session.nats, [t["nats"] for t in full["tokens"]], atol=2e-4)


@pytest.mark.parametrize("unit", UNITS)
def test_next_words_follow_the_grammar(trained, unit):
    file = modelfile.load(trained[unit][1])
    session = TextSession(file)
    session.read("The cat sat on the ")
    found = {w["word"]: w["p"] for w in session.next_words(10)}
    assert {"mat", "hill", "roof", "river"} <= set(found)
    assert sum(found[w] for w in ("mat", "hill", "roof", "river")) > 0.9
    assert sum(found.values()) <= 1.0001
    session.read("r")  # half a word: its completions
    completions = {w["word"]: w["p"] for w in session.next_words(5)}
    likely = [w for w, p in completions.items() if p > 0.05]
    assert set(likely) == {"roof", "river"}
    assert 0.85 < sum(completions.values()) <= 1.0001


def test_next_words_of_a_word_model_have_its_probabilities(trained):
    file = modelfile.load(trained["word"][1])
    session = TextSession(file)
    session.read("The cat ")
    log_p = file.model(torch.tensor([[END_ID, *file.codec.encode("The cat")]]))[0][0, -1]
    for one in session.next_words(5):
        token = (
            file.codec.token_ids[" " + one["word"]]
            if one["word"] != "."
            else file.codec.token_ids["."]
        )
        assert one["p"] == pytest.approx(float(log_p[token].detach().exp()), rel=2e-3)


@pytest.mark.parametrize("unit", UNITS)
def test_generation_is_seeded_and_stops(trained, unit):
    file = modelfile.load(trained[unit][1])
    a, b = (
        predict(file, "The cat", PredictOptions(length=40, seed=3))["continuation"]
        for _ in range(2)
    )
    assert a == b
    assert a != predict(file, "The cat", PredictOptions(length=40, seed=4))["continuation"]
    cold = predict(file, "The panda", PredictOptions(length=60, temperature=0.0, stop="."))[
        "continuation"
    ]
    assert "." not in cold
    assert any(cold.strip().endswith(place) for place in ("mat", "hill", "roof", "river"))
    assert "<" not in a
    assert "�" not in a


@pytest.mark.parametrize("unit", UNITS)
def test_snapshot_and_restore(trained, unit):
    file = modelfile.load(trained[unit][1])
    one, two = TextSession(file), TextSession(file)
    one.read("The cat sat on the ri")
    state = one.snapshot()
    two.restore(state)
    for session in (one, two):
        session.read("ver. The pan")
    assert one.next_words(5) == two.next_words(5)
    other = TextSession(modelfile.load(trained[UNITS[UNITS.index(unit) - 1]][1]))
    with pytest.raises(StateError, match="other weights"):
        other.restore(state)
    before = two.snapshot()
    extra = {"tail": "", "begins": True, "word": "", "log_p": [0.0]}
    with pytest.raises(StateError, match="not the state of a text session"):
        two.restore(two._stream.snapshot(**extra))
    assert two.snapshot() == before


def test_lines_of_text(trained):
    session = TextSession(modelfile.load(trained["char"][1]))
    assert session.feed("The")[0]["read"] == "The "
    assert session.feed('"ca"')[0]["read"] == "ca"
    assert {w["word"] for w in session.feed('"t "')[0]["next"]} >= {"sat", "sleeps", "sings"}
    assert session.feed("")[0]["read"] == "\n"
    with pytest.raises(DataError, match="line 5"):
        session.feed('"open')
    with pytest.raises(DataError, match="line 6: expected a line of text"):
        session.feed({"text": "The"})
    assert session.close() == []


def test_all_of_another_text_is_evaluated_with_the_original_baseline(trained, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text(tale(600, seed=9))
    file = modelfile.load(trained["char"][1])
    dataset = reopen(str(other), file)
    assert dataset.evaluate(file.model, "test")["nats"] == pytest.approx(
        trained["char"][0]["metrics"]["nats"], rel=0.05
    )
    assert "as the model is" in dataset.notes[1]
    file.info["data"] = "nowhere.txt"
    alone = training.evaluate(APPLICATION, file, other, str(other), lambda line: None)
    assert alone["baselines"] == {}
    assert alone["skill"] is None


def test_dynamic_evaluation_takes_gradient_steps_and_restores_the_model():
    torch.manual_seed(0)
    model = LanguageModel(LanguageConfig(vocabulary=6, embedding_size=4, hidden_size=5)).eval()
    before = {n: v.clone() for n, v in model.state_dict().items()}
    tokens = torch.tensor([1, 3, 4, 5] * 40)
    static = dynamic_nats(model, tokens, 0.0)  # of forty texts, each from the initial state
    one = float(model.nats(tokens[None, :4], tokens[None, 1:5]).sum()) * 40 - float(
        model.nats(tokens[None, :4], tokens[None, 1:5])[0, 3]
    )
    assert static == pytest.approx(one / 159, rel=1e-5)
    assert dynamic_nats(model, tokens, 2.0) < 0.95 * static
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())


def test_every_text_is_evaluated_from_the_initial_state(tmp_path, trained):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(tale(200, seed=ord(name[0])))
    file = modelfile.load(trained["char"][1])
    dataset = prepare(str(tmp_path), settings("char"))
    nats = [n["nats"] for text in dataset.texts["test"] for n in score(file, text)["tokens"]]
    dataset.codec = file.codec
    dataset.tokens = {"test": token_sequence(file.codec, dataset.texts["test"])}
    for precision in ("float32", "bfloat16"):
        found = dataset.evaluate(file.model, "test", precision)["nats"]
        # The end tokens of the two texts are counted too.
        mean_end = (found * (len(dataset.tokens["test"]) - 1) - sum(nats)) / 2
        expected = np.mean([end_nats(file, text) for text in dataset.texts["test"]])
        assert mean_end == pytest.approx(expected, rel=0.02 if precision == "float32" else 0.2)


def end_nats(file: ModelFile, text: str) -> float:
    tokens = torch.tensor([[END_ID, *file.codec.encode(text)]])
    return -float(file.model(tokens)[0][0, -1, END_ID].detach())


def test_texts_are_split_by_position():
    splits = split_texts(["a" * 85 + "b" * 5 + "c" * 10, "d" * 17 + "e" + "f" * 2], 0.05)
    assert [set("".join(splits[s])) for s in ("train", "valid", "test")] == [
        set("ad"),
        set("be"),
        set("cf"),
    ]


def test_the_vocabulary_is_that_of_the_training_split(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("abcab " * 800 + "zzzzz " * 90)
    dataset = prepare(str(path), settings("char"))
    assert "z" not in dataset.codec.token_ids
    assert (dataset.tokens["test"] == UNKNOWN_ID).any()


def test_several_files_and_user_errors(tmp_path):
    for name in ("a.txt", "b.md"):
        (tmp_path / name).write_text(tale(100))
    assert "2 texts" in prepare(str(tmp_path), settings("char")).notes[0]
    (tmp_path / "empty").mkdir()
    for data, message in [
        (str(tmp_path / "empty"), "no .txt or .md file"),
        (str(tmp_path / "none.txt"), "no such file"),
    ]:
        with pytest.raises(DataError, match=message):
            prepare(data, settings("char"))
    (tmp_path / "short.txt").write_text("too short")
    with pytest.raises(DataError, match="9 characters; a language model needs"):
        prepare(str(tmp_path / "short.txt"), settings("char"))
    with pytest.raises(ValueError, match="unit=line"):
        TextSettings(unit="line")


def test_the_command_line(trained, memorycell, tmp_path):
    path = trained["word"][1]
    status, out, err = memorycell("predict", path, "The cat ", "--set", "length=5", "--json")
    record = json.loads(out.splitlines()[-1])
    assert (status, err) == (0, "")
    assert record["task"] == "text"
    assert len(record["next"]) == 10
    assert record["score"]["tokens"][0]["token"] == " The"
    status, _, err = memorycell("predict", path, "The cat", "--out", tmp_path / "p.html")
    assert status == 0
    assert "The next word" in (tmp_path / "p.html").read_text()
    assert memorycell("predict", path, "The cat", "--set", "temperature=-1")[0] == 2
    assert memorycell("predict", path, "The cat", "--set", "warmth=1")[0] == 2
    assert (
        memorycell(
            "inspect",
            path,
            "The cat sat on the mat. The dog sings on the roof.",
            "--out",
            tmp_path / "i.html",
        )[0]
        == 0
    )
    status, _, err = memorycell("inspect", path, "", "--out", tmp_path / "i.html")
    assert status == 2
    assert "too short to inspect: 0 tokens" in err


def test_a_model_of_another_task_is_refused(trained):
    file = modelfile.load(trained["char"][1])
    for name in ("sentiment", "translation"):
        other = catalogue.load(name)
        with pytest.raises(UserError, match="not a"):
            other.predict(file, "x", other.predict_options())


@pytest.mark.data
@pytest.mark.slow
def test_real_text_beats_a_trigram_model(public_data, tmp_path):
    """Within a few seconds of training."""
    text = (public_data / "text" / "tinyshakespeare.txt").read_text()[:150_000]
    (tmp_path / "play.txt").write_text(text)
    train_settings = TrainSettings(epochs=8, lr=8e-3, average=0.98)
    small = TextSettings(hidden=160, lanes=16, bptt=64, dropout=0.1)
    result = training.train(
        APPLICATION, str(tmp_path / "play.txt"), small, train_settings, tmp_path / "m.safetensors"
    )
    dataset = reopen(None, modelfile.load(tmp_path / "m.safetensors"))
    trigram = KneserNey(dataset.tokens["train"], len(dataset.codec), 3).probabilities(
        dataset.tokens["test"]
    )
    assert result["metrics"]["nats"] < -np.log(trigram[1:]).mean(), result


def test_a_model_file_stores_the_codec(trained, tmp_path):
    file = modelfile.load(trained["piece"][1])
    ModelFile(file.model, file.codec, file.info, file.arrays).save(tmp_path / "again.safetensors")
    again = modelfile.load(tmp_path / "again.safetensors")
    assert again.codec == file.codec
    assert predict(again, "The", PredictOptions(length=20)) == predict(
        file, "The", PredictOptions(length=20)
    )


def test_emoji_other_directions_and_long_texts(tmp_path):
    """Grapheme clusters are never split; `predict` notes that a long text is truncated."""
    draw = np.random.default_rng(0)
    words = ["👩‍👩‍👧‍👦", "🇮🇳", "שלום", "नमस्ते", "مرحبا", "hello"]
    path = tmp_path / "mixed.txt"
    path.write_text("\n".join(" ".join(draw.choice(words, 6)) for _ in range(300)))
    for unit in UNITS:
        training.train(
            APPLICATION,
            str(path),
            settings(unit),
            TrainSettings(epochs=4, lr=0.03, average=0.9),
            tmp_path / "m.safetensors",
        )
        file = modelfile.load(tmp_path / "m.safetensors")
        text = predict(file, "नमस्ते ", PredictOptions(length=80))["continuation"]
        assert unit == "piece" or set(text.split()[:-1]) <= set(words), unit
    long = predict(file, "hello " * 20_000, PredictOptions(length=1, top=0))
    assert long["note"] == "only the last 100,000 of 120,000 characters were read"
    assert predict(file, "", PredictOptions(length=3))["score"] is None


def test_batches_reset_the_state_at_the_start_of_each_text(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(tale(200, seed=ord(name[0])))
    dataset = prepare(str(tmp_path), settings("char", lanes=3, bptt=50))
    tokens = dataset.tokens["train"]
    follows = {(int(a), int(b)) for a, b in zip(tokens, tokens[1:], strict=False)}
    seen = 0
    for k, batch in enumerate(dataset.batches(0)):
        assert batch.carry == (k > 0)
        assert torch.equal(batch.reset, batch.x == END_ID)
        assert {
            (int(a), int(b)) for a, b in zip(batch.x.flatten(), batch.target.flatten(), strict=True)
        } <= follows
        seen += batch.steps
    assert seen == (len(tokens) - 1) // 3 * 3


@pytest.mark.skipif(binding.engine is None, reason=binding.missing or "built")
@pytest.mark.parametrize("cell", ["lstm", "gru", "layernorm"])
def test_a_language_model_is_proved(cell):
    torch.manual_seed(0)
    model = LanguageModel(
        LanguageConfig(vocabulary=9, embedding_size=5, hidden_size=8, num_layers=2, cell=cell)
    )
    lines: list[str] = []
    result = memorycell.prove(model, log=lines.append, exports=["onnx", "c"])
    assert result.ok, lines
    names = {check.name for check in result.checks}
    assert {
        "among others in a pool = step by step",
        "onnx = step by step",
        "native = reference",
    } <= names
    assert result.skipped["c in float32"] == "not for a language model yet"
