"""Translation: reading pairs, placeholders, copied unknown words, training in seconds."""

import gzip
import json
import random
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorycell.application import modelfile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.translation import APPLICATION
from memorycell.applications.translation.cleaning import ReadOptions
from memorycell.applications.translation.codec import PairCodec, fit_pair_codec
from memorycell.applications.translation.dataset import prepare
from memorycell.applications.translation.metrics import translation_metrics
from memorycell.applications.translation.pairs import read_pairs, split_pairs
from memorycell.applications.translation.placeholders import mask, mask_pair, unmask
from memorycell.applications.translation.predict import PredictOptions, predict
from memorycell.applications.translation.settings import TranslationSettings
from memorycell.applications.translation.translate import Translation, translate
from memorycell.errors import DataError, UserError
from memorycell.language.codec import PLACEHOLDERS, UNKNOWN_ID
from memorycell.training import loop as training

TRAIN_SETTINGS = TrainSettings(epochs=16, lr=0.015, average=0.9)
SMALL = TranslationSettings(
    unit="word", vocabulary=200, hidden=32, embedding=24, dropout=0.0, budget=500
)
NOUNS = {
    "cat": "chat",
    "dog": "chien",
    "house": "maison",
    "book": "livre",
    "tree": "arbre",
    "bird": "oiseau",
}
COLOURS = {"red": "rouge", "green": "vert", "blue": "bleu", "black": "noir", "white": "blanc"}
VERBS = {"sees": "voit", "likes": "aime", "takes": "prend"}


def phrases(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Colours precede the noun in one language and follow it in the other; some phrases have a
    %s.
    """
    draw = random.Random(seed)
    pairs = []
    while len(pairs) < count:
        a, b, c, d, v = (draw.choice(list(x)) for x in (NOUNS, NOUNS, COLOURS, COLOURS, VERBS))
        thing = "%s" if draw.random() < 0.2 else None
        pairs.append(
            (
                f"the {c} {a} {v} the {d} {thing or b}.",
                f"le {NOUNS[a]} {COLOURS[c]} {VERBS[v]} le {thing or NOUNS[b]} {COLOURS[d]}.",
            )
        )
    return list(dict.fromkeys(pairs))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "en-fr.tsv"
    path.write_text("\n".join(f"{a}\t{b}\tlicence" for a, b in phrases(1200)) + "\n")
    return path


def translations(file: modelfile.ModelFile, *texts: str) -> list[Translation]:
    return translate(file.model, file.codec, list(texts))


@pytest.fixture(scope="module")
def trained(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "t.safetensors"
    return training.train(APPLICATION, str(table), SMALL, TRAIN_SETTINGS, out), out


def test_word_order_is_learned(trained, table):
    result, out = trained
    assert result["metrics"]["bleu"] > 95, result["examples"]
    assert result["metrics"]["chrf"] > 95
    assert result["skill"] > 0.1
    assert "nw:2" in result["signatures"]["chrf"]
    file = modelfile.load(out)
    again = training.evaluate(APPLICATION, file, out, None, lambda line: None)
    assert again["metrics"] == pytest.approx(result["metrics"])
    (found,) = translations(file, "the red cat sees the blue dog.")
    assert found.text == "le chat rouge voit le chien bleu."
    attended = {
        t.strip(): found.source_tokens[int(row.argmax())].strip()
        for t, row in zip(found.tokens, found.attention, strict=True)
    }
    assert attended["chat"] in ("cat", "red")
    assert found.attention.sum(1) == pytest.approx(1.0, abs=1e-4)


def test_placeholders_are_copied(trained):
    file = modelfile.load(trained[1])
    found = translations(
        file,
        "the red cat sees the blue %s.",
        "the red cat sees the {name} %(file)s.",
        "the red cat <b>likes</b> the dog.",
    )
    assert found[0].text == "le chat rouge voit le %s bleu."
    for text, copied in [(found[1].text, ("{name}", "%(file)s")), (found[2].text, ("<b>", "</b>"))]:
        assert all(text.count(c) == 1 for c in copied), text


def test_all_placeholders_are_in_the_training_data(table):
    dataset = prepare(str(table), SMALL)
    ids = {dataset.codec.target.token_ids[c] for c in PLACEHOLDERS}
    used = {int(t) for _, target in dataset.tokens["train"] for t in target} & ids
    assert len(used) > 5
    for source, target in dataset.tokens["train"]:  # the same in both
        assert set(source.tolist()) & ids == set(target.tolist()) & ids


def test_translations_do_not_depend_on_the_batch(trained):
    file = modelfile.load(trained[1])
    texts = ["the red cat sees the blue dog.", "", "the white tree likes the black bird.", "   "]
    together = [t.text for t in translations(file, *texts)]
    assert together == [translations(file, text)[0].text for text in texts]
    assert together[1] == together[3] == ""
    record = predict(file, "\n".join(texts), PredictOptions())
    assert [t["text"] for t in record["translations"]] == together[:3]


def test_unknown_words_are_copied(tmp_path):
    """Names in both languages that are too rare for the vocabulary."""
    draw = random.Random(0)
    names = [
        "".join(draw.choice("bdfgklmnprstvz") + draw.choice("aeiou") for _ in range(3)).title()
        for _ in range(700)
    ]
    path = tmp_path / "names.tsv"
    path.write_text(
        "\n".join(
            f"{n} sees the {a}\t{n} voit le {NOUNS[a]}"
            for n in names
            for a in [draw.choice(list(NOUNS))]
        )
    )
    train_settings = TrainSettings(epochs=14, lr=0.01, average=0.9)
    training.train(
        APPLICATION,
        str(path),
        replace(SMALL, budget=120),
        train_settings,
        tmp_path / "n.safetensors",
    )
    file = modelfile.load(tmp_path / "n.safetensors")
    assert " Zyxo" not in file.codec.source.surfaces
    assert translations(file, "Zyxo sees the dog")[0].text == "Zyxo voit le chien"


copied_strings = st.lists(
    st.sampled_from(
        [
            "%s",
            "%1$d",
            "%5.2f",
            "{name}",
            "{0}",
            "${x}",
            "$(N1)",
            "<b>",
            "</b>",
            "%(n)s",
            "https://a.b/c",
            "x@y.org",
        ]
    ),
    max_size=6,
)


@given(copied_strings, st.text(st.sampled_from("ab .,é"), max_size=8))
def test_mask_and_unmask(copied, between):
    text = f" {between} ".join(copied)
    masked, replaced = mask(text)
    assert unmask(masked, replaced) == text
    assert not any(c in masked for c in copied)
    assert set(replaced) == set(copied)


def test_the_placeholders_of_the_target_are_those_of_the_source():
    source, target, replaced = mask_pair("%s of %d, 100% sure", "%d में से %s {x}, 100% sure")
    assert (source, replaced) == (
        f"{PLACEHOLDERS[0]} of {PLACEHOLDERS[1]}, 100% sure",
        ["%s", "%d"],
    )
    assert target == f"{PLACEHOLDERS[1]} में से {PLACEHOLDERS[0]} {{x}}, 100% sure"
    assert mask_pair("plain", "%s")[1] == "%s"


def test_hindi():
    pairs = [("The peacock is a bird.", "मोर एक पक्षी है।"), ("What is this?", "यह क्या है?")] * 60
    codec = fit_pair_codec(pairs, "piece", vocabulary=60, joint=False)
    assert not codec.shared
    tokens = codec.target.encode("मोर एक पक्षी है।")
    assert UNKNOWN_ID not in tokens
    assert codec.target.decode(tokens) == "मोर एक पक्षी है।"
    assert codec.target.encode("ज\u093cरा") == codec.target.encode("\u095bरा")
    again = PairCodec.from_json(codec.to_json())
    assert again == codec
    assert PairCodec.from_json(
        fit_pair_codec(pairs, "word", vocabulary=60, joint=True).to_json()
    ).shared


def test_metrics_are_those_of_sacrebleu():
    import sacrebleu

    ours, wanted = ["the cat sat on the mat", "a dog"], ["the cat sat on a mat", "the dog"]
    found = translation_metrics(ours, wanted)
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(ours, [wanted]).score)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(ours, [wanted], word_order=2).score)


def test_every_file_format(tmp_path):
    pairs = phrases(30)
    sides = ["\n".join(side) + "\n" for side in zip(*pairs, strict=True)]
    (tmp_path / "a.en").write_text(sides[0])
    (tmp_path / "a.fr.gz").write_bytes(gzip.compress(sides[1].encode()))
    pl.DataFrame(pairs, schema=["en", "fr"], orient="row").write_csv(tmp_path / "t.csv")
    pl.DataFrame(pairs, schema=["en", "fr"], orient="row").write_ndjson(tmp_path / "t.jsonl")
    (tmp_path / "t.tsv.gz").write_bytes(
        gzip.compress("\n".join(f"{a}\t{b}" for a, b in pairs).encode())
    )
    entries = "\n".join(f'msgid "{a}"\nmsgstr "{b}"\n' for a, b in pairs)
    head = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'
    (tmp_path / "t.po").write_text(
        head + entries + '\n#, fuzzy\nmsgid "not sure"\nmsgstr "?"\n\nmsgid "none"\nmsgstr ""\n'
    )
    import polib

    polib.pofile(str(tmp_path / "t.po")).save_as_mofile(str(tmp_path / "t.mo"))
    for name in ("a", "t.csv", "t.jsonl", "t.tsv.gz", "t.po", "t.mo"):
        languages = None if name[2:] in ("tsv.gz", "po", "mo") else ("en", "fr")
        found, _ = read_pairs(tmp_path / name, name, ReadOptions(languages))
        assert sorted(found["all"]) == sorted(pairs), name
    swapped, _ = read_pairs(tmp_path / "t.csv", "t", ReadOptions(("fr", "en")))
    assert sorted(swapped["all"]) == sorted((b, a) for a, b in pairs)


def test_similar_sources_are_in_the_same_split():
    splits = split_pairs(
        [(f"Open file {k}", "x") for k in range(50)]
        + [("open FILE!", "y")]
        + [(f"Close it {'a' * k}", "z") for k in range(200)]
    )
    found = [
        name for name, part in splits.items() if any(s.lower().startswith("open") for s, _ in part)
    ]
    assert len(found) == 1
    assert 150 < len([p for p in splits["train"] if p[1] == "z"]) < 198


def test_a_named_dataset_has_a_direction(tmp_path, monkeypatch):
    folder = tmp_path / "translation" / "multi30k"
    folder.mkdir(parents=True)
    pairs = phrases(400)
    end = len(pairs) - 40
    for split, part in {"train": pairs[:end], "val": pairs[end:-20], "test": pairs[-20:]}.items():
        sources, targets = zip(*part, strict=True)
        for language, side in (("de", sources), ("en", targets), ("fr", ("x",))):
            (folder / f"{split}.{language}").write_text("\n".join(side))
    monkeypatch.setenv("MEMORYCELL_DATA", str(tmp_path))
    dataset = prepare("multi30k-de-en", SMALL)
    assert dataset.pairs["train"] == pairs[:end]
    reverse = prepare("multi30k-de-en", replace(SMALL, languages="en-de"))
    assert reverse.pairs["train"] == [(b, a) for a, b in pairs[:end]]
    assert dataset.info()["settings"]["languages"] is None  # other data have their own direction
    with pytest.raises(DataError, match="--set languages="):
        prepare(str(folder), SMALL)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.tsv", "no tab here\nnor here\n", "line 1: no tab"),
        ("t.csv", "only\none\n", "expected two columns"),
        ("t.tsv", "a\tb\n" * 20, "too few pairs"),
        ("t.po", "this is no catalogue", "not a readable message catalogue"),
    ],
)
def test_user_errors(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        prepare(str(tmp_path / name), SMALL)


def test_files_that_are_not_aligned(tmp_path):
    (tmp_path / "a.en").write_text("one\ntwo\n")
    (tmp_path / "a.fr").write_text("un\n")
    with pytest.raises(DataError, match=r"a.en has 2 lines and a.fr 1: they are not aligned"):
        prepare(str(tmp_path / "a"), SMALL)
    (tmp_path / "a.de").write_text("eins\nzwei\n")
    with pytest.raises(DataError, match="--set languages="):
        prepare(str(tmp_path / "a"), SMALL)
    with pytest.raises(ValueError, match="languages='deen'"):
        TranslationSettings(languages="deen")


def test_notes_on_what_is_left_out(tmp_path):
    lines = [f"{a}\t{b}" for a, b in phrases(400)]
    (tmp_path / "t.tsv").write_text("\n".join([*lines, "empty\t", f"{'x' * 500}\ty", "no tab"]))
    notes = "\n".join(prepare(str(tmp_path / "t.tsv"), SMALL).notes)
    assert "lines left out: no tab (the first: line" in notes
    assert "pairs left out: one side is empty" in notes
    assert "pairs left out: longer than 400 characters" in notes


def test_the_command_line(trained, memorycell, tmp_path):
    path = trained[1]
    (tmp_path / "in.txt").write_text(
        "the red cat sees the blue dog.\nthe white tree likes the black bird.\n"
    )
    status, out, _ = memorycell("predict", path, tmp_path / "in.txt", "--json")
    assert status == 0
    record = json.loads(out)
    assert record["translations"][1]["text"] == "le arbre blanc aime le oiseau noir."
    assert len(record["translations"][0]["attention"]) == len(record["translations"][0]["tokens"])
    assert (
        memorycell("predict", path, "the red cat sees the blue dog.", "--out", tmp_path / "p.html")[
            0
        ]
        == 0
    )
    assert (
        memorycell("inspect", path, "the red cat sees the blue dog.", "--out", tmp_path / "i.html")[
            0
        ]
        == 0
    )
    for words, message in [
        (("stream", path), "needs its whole input"),
        (("prove", path), "has no steps"),
        (("export", path, "--to", "onnx"), "not for a model of the task translation"),
        (("predict", path), "no text"),
    ]:
        status, _, err = memorycell(*words)
        assert status == 2
        assert message in err
        assert "Traceback" not in err


def test_training_pairs_are_left_out_of_other_data(trained, tmp_path):
    file = modelfile.load(trained[1])
    other = tmp_path / "o.tsv"
    other.write_text("\n".join(f"{a}\t{b}" for a, b in phrases(1500, seed=7)))
    lines: list[str] = []
    result = training.evaluate(APPLICATION, file, trained[1], str(other), lines.append)
    assert "that the model was trained on" in lines[0]
    assert result["metrics"]["bleu"] > 90


def test_another_model_is_refused():
    with pytest.raises(UserError):
        predict(modelfile.ModelFile(None, None, {}), "x", PredictOptions())
