"""The text task: train, score, write on, complete, stream; the same whatever the pieces it is typed
in.
"""

import json
import math

import numpy as np
import pytest
import torch
from text_data import tale

import memorycell
from memorycell.application import modelfile
from memorycell.application.contract import TrainSettings
from memorycell.application.modelfile import ModelFile
from memorycell.applications.text.dataset import (
    TEXT,
    TextSettings,
    cut,
    dynamic_nats,
    prepare,
    reopen,
    sequence,
)
from memorycell.applications.text.live import LiveText, Writing, predict, score
from memorycell.errors import DataError, StateError, UserError
from memorycell.language.model import LanguageConfig, LanguageModel
from memorycell.language.ngram import KneserNey
from memorycell.ops import binding
from memorycell.training import loop as training

UNITS = ("char", "word", "piece")
HOW = TrainSettings(epochs=5, lr=0.02, average=0.9)


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
    made = {}
    for unit in UNITS:
        out = folder / f"{unit}.safetensors"
        made[unit] = training.train(TEXT, str(tale_file), settings(unit), HOW, out), out
    return made


@pytest.mark.parametrize("unit", UNITS)
def test_it_learns_and_says_how_well(trained, unit, tale_file):
    result, out = trained[unit]
    assert set(result["metrics"]) == {"nats", "perplexity", "bits_per_character"}
    assert result["metrics"]["perplexity"] == pytest.approx(math.exp(result["metrics"]["nats"]))
    file = modelfile.load(out)
    again = training.evaluate(TEXT, file, out, None, lambda line: None)
    assert again["metrics"] == pytest.approx(result["metrics"])
    assert again["baselines"] == result["baselines"]
    # Another implementation of the score: the whole test part at once, by cross-entropy.
    text = tale_file.read_text()[int(0.9 * len(tale_file.read_text())) :]
    tokens = torch.tensor([[1, *file.codec.encode(text), 1]])
    log_p = file.model(tokens[:, :-1])[0]
    nats = -log_p.detach().gather(2, tokens[:, 1:, None])
    assert result["metrics"]["nats"] == pytest.approx(float(nats.mean()), rel=1e-4)
    bits = float(nats.sum()) / math.log(2) / len(text)
    assert result["metrics"]["bits_per_character"] == pytest.approx(bits, rel=1e-4)


@pytest.mark.parametrize("unit", UNITS)
def test_typed_in_pieces_is_the_whole(trained, unit):
    file = modelfile.load(trained[unit][1])
    text = "The cat sat on the mat. The panda sings on the river.\nThe dog, sleeps"
    whole = score(file, text)
    for seed in range(4):
        cuts = np.sort(np.random.default_rng(seed).integers(0, len(text), 9))
        live = LiveText(file)
        for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            live.feed(text[begin:end])
        live.close()
        np.testing.assert_allclose(live.nats, [t["nats"] for t in whole["tokens"]], atol=2e-4)


@pytest.mark.parametrize("unit", UNITS)
def test_the_next_words_are_the_grammars(trained, unit):
    file = modelfile.load(trained[unit][1])
    live = LiveText(file)
    live.feed("The cat sat on the ")
    found = {w["word"]: w["p"] for w in live.next_words(10)}
    assert {"mat", "hill", "roof", "river"} <= set(found)
    assert sum(found[w] for w in ("mat", "hill", "roof", "river")) > 0.9
    assert sum(found.values()) <= 1.0001
    live.feed("r")  # half a word: only what it can become
    begun = {w["word"]: w["p"] for w in live.next_words(5)}
    likely = [w for w, p in begun.items() if p > 0.05]
    assert set(likely) == {"roof", "river"}
    assert 0.85 < sum(begun.values()) <= 1.0001


def test_next_words_of_a_word_model_are_its_probabilities(trained):
    file = modelfile.load(trained["word"][1])
    live = LiveText(file)
    live.feed("The cat ")
    log_p = file.model(torch.tensor([[1, *file.codec.encode("The cat")]]))[0][0, -1]
    for one in live.next_words(5):
        token = (
            file.codec.numbers[" " + one["word"]] if one["word"] != "." else file.codec.numbers["."]
        )
        assert one["p"] == pytest.approx(float(log_p[token].detach().exp()), rel=2e-3)


@pytest.mark.parametrize("unit", UNITS)
def test_writing_is_seeded_and_stops(trained, unit):
    file = modelfile.load(trained[unit][1])
    a, b = (predict(file, "The cat", Writing(length=40, seed=3))["continuation"] for _ in range(2))
    assert a == b
    assert a != predict(file, "The cat", Writing(length=40, seed=4))["continuation"]
    cold = predict(file, "The panda", Writing(length=60, temperature=0.0, stop="."))["continuation"]
    assert "." not in cold
    assert any(cold.strip().endswith(place) for place in ("mat", "hill", "roof", "river"))
    assert "<" not in a
    assert "�" not in a


@pytest.mark.parametrize("unit", UNITS)
def test_saved_and_taken_up_again(trained, unit, tmp_path):
    file = modelfile.load(trained[unit][1])
    one, two = LiveText(file), LiveText(file)
    one.feed("The cat sat on the ri")
    one.save(tmp_path / "s.bin")
    two.load(tmp_path / "s.bin")
    for live in (one, two):
        live.feed("ver. The pan")
    assert one.next_words(5) == two.next_words(5)
    other = LiveText(modelfile.load(trained[UNITS[UNITS.index(unit) - 1]][1]))
    with pytest.raises(StateError, match="other weights"):
        other.load(tmp_path / "s.bin")


def test_stream_lines(trained):
    live = LiveText(modelfile.load(trained["char"][1]))
    assert live.line("The", 1)["read"] == "The "
    assert live.line('"ca"', 2)["read"] == "ca"
    assert {w["word"] for w in live.line('"t "', 3)["next"]} >= {"sat", "sleeps", "sings"}
    assert live.line("", 4)["read"] == "\n"
    with pytest.raises(DataError, match="line 5"):
        live.line('"open', 5)


def test_another_text_is_scored_whole_with_the_baseline_that_learnt_the_same(trained, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text(tale(600, seed=9))
    file = modelfile.load(trained["char"][1])
    dataset = reopen(str(other), file)
    assert dataset.evaluate(file.model, "test")["nats"] == pytest.approx(
        trained["char"][0]["metrics"]["nats"], rel=0.05
    )
    assert "as the model has" in dataset.notes[1]
    file.info["data"] = "nowhere.txt"
    alone = training.evaluate(TEXT, file, other, str(other), lambda line: None)
    assert alone["baselines"] == {}
    assert alone["skill"] is None


def test_dynamic_evaluation_is_gradient_steps_and_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    model = LanguageModel(LanguageConfig(vocabulary=6, embedding_size=4, hidden_size=5)).eval()
    before = {n: v.clone() for n, v in model.state_dict().items()}
    tokens = torch.tensor([1, 3, 4, 5] * 40)
    still = dynamic_nats(model, tokens, 0.0)  # of forty texts, each read from the beginning
    one = float(model.nats(tokens[None, :4], tokens[None, 1:5]).sum()) * 40 - float(
        model.nats(tokens[None, :4], tokens[None, 1:5])[0, 3]
    )
    assert still == pytest.approx(one / 159, rel=1e-5)
    assert dynamic_nats(model, tokens, 2.0) < 0.95 * still
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())


def test_every_text_is_scored_from_its_own_beginning(tmp_path, trained):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(tale(200, seed=ord(name[0])))
    file = modelfile.load(trained["char"][1])
    dataset = prepare(str(tmp_path), settings("char"))
    nats = [n["nats"] for text in dataset.texts["test"] for n in score(file, text)["tokens"]]
    dataset.codec = file.codec
    dataset.tokens = {"test": sequence(file.codec, dataset.texts["test"])}
    for precision in ("float32", "bfloat16"):
        found = dataset.evaluate(file.model, "test", precision)["nats"]
        ends = (
            found * (len(dataset.tokens["test"]) - 1) - sum(nats)
        ) / 2  # what ends a text is counted too
        alone = np.mean([ending(file, text) for text in dataset.texts["test"]])
        assert ends == pytest.approx(alone, rel=0.02 if precision == "float32" else 0.2)


def ending(file: ModelFile, text: str) -> float:
    tokens = torch.tensor([[1, *file.codec.encode(text)]])
    return -float(file.model(tokens)[0][0, -1, 1].detach())


def test_cuts_are_by_place():
    parts = cut(["a" * 85 + "b" * 5 + "c" * 10, "d" * 17 + "e" + "f" * 2], 0.05)
    assert [set("".join(parts[s])) for s in ("train", "valid", "test")] == [
        set("ad"),
        set("be"),
        set("cf"),
    ]


def test_the_vocabulary_is_of_the_training_part(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("abcab " * 800 + "zzzzz " * 90)
    dataset = prepare(str(path), settings("char"))
    assert "z" not in dataset.codec.numbers
    assert (dataset.tokens["test"] == 0).any()


def test_several_files_and_mistakes(tmp_path):
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
    assert "too little text" in err


def test_a_model_of_another_task_is_told(trained):
    file = modelfile.load(trained["char"][1])
    from memorycell.applications.sentiment import live as sentiment
    from memorycell.applications.translation import live as translation

    for module in (sentiment, translation):
        with pytest.raises(UserError, match="not a"):
            module.predict(file, "x", module.Options())


@pytest.mark.data
def test_real_text_beats_a_trigram_model(public_data, tmp_path):
    """A few seconds of one play: already better than counting three characters."""
    text = (public_data / "text" / "tinyshakespeare.txt").read_text()[:150_000]
    (tmp_path / "play.txt").write_text(text)
    how = TrainSettings(epochs=8, lr=8e-3, average=0.98)
    small = TextSettings(hidden=160, lanes=16, bptt=64, dropout=0.1)
    result = training.train(
        TEXT, str(tmp_path / "play.txt"), small, how, tmp_path / "m.safetensors"
    )
    dataset = reopen(None, modelfile.load(tmp_path / "m.safetensors"))
    trigram = KneserNey(dataset.tokens["train"], len(dataset.codec), 3).probabilities(
        dataset.tokens["test"]
    )
    assert result["metrics"]["nats"] < -np.log(trigram[1:]).mean(), result


def test_a_model_file_keeps_the_codec(trained, tmp_path):
    file = modelfile.load(trained["piece"][1])
    ModelFile(file.model, file.codec, file.info).save(tmp_path / "again.safetensors")
    again = modelfile.load(tmp_path / "again.safetensors")
    assert again.codec == file.codec
    assert predict(again, "The", Writing(length=20)) == predict(file, "The", Writing(length=20))


def test_emoji_other_directions_and_long_texts(tmp_path):
    """Grapheme clusters are never broken; what is too long for `predict` is said."""
    draw = np.random.default_rng(0)
    words = ["👩‍👩‍👧‍👦", "🇮🇳", "שלום", "नमस्ते", "مرحبا", "hello"]
    path = tmp_path / "mixed.txt"
    path.write_text("\n".join(" ".join(draw.choice(words, 6)) for _ in range(300)))
    for unit in UNITS:
        training.train(
            TEXT,
            str(path),
            settings(unit),
            TrainSettings(epochs=4, lr=0.03, average=0.9),
            tmp_path / "m.safetensors",
        )
        file = modelfile.load(tmp_path / "m.safetensors")
        said = predict(file, "नमस्ते ", Writing(length=80))["continuation"]
        assert unit == "piece" or set(said.split()[:-1]) <= set(words), unit
    long = predict(file, "hello " * 20_000, Writing(length=1, top=0))
    assert long["note"] == "only the last 100,000 of 120,000 characters were read"
    assert predict(file, "", Writing(length=3))["score"] is None


def test_batches_are_the_text_with_the_state_zeroed_where_a_text_begins(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(tale(200, seed=ord(name[0])))
    dataset = prepare(str(tmp_path), settings("char", lanes=3, bptt=50))
    tokens = dataset.tokens["train"]
    follows = {(int(a), int(b)) for a, b in zip(tokens, tokens[1:], strict=False)}
    seen = 0
    for k, batch in enumerate(dataset.batches(0)):
        assert batch.carry == (k > 0)
        assert torch.equal(batch.reset, batch.x == 1)
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
    told: list[str] = []
    result = memorycell.prove(model, log=told.append, exports=["onnx", "c"])
    assert result.ok, told
    names = {check.name for check in result.checks}
    assert {
        "among others in a pool = step by step",
        "onnx = step by step",
        "native = reference",
    } <= names
    assert result.skipped["c in float32"] == "not for a language model yet"
