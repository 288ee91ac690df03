"""Pairs as other programs write them: columns, directions, encodings, what is left out."""

import gzip
import json
import random

import polars as pl
import pytest

from memorycell.application.contract import ModelFile
from memorycell.applications.translation.cleaning import ReadOptions
from memorycell.applications.translation.codec import PairCodec, fit_pair_codec
from memorycell.applications.translation.dataset import prepare, reopen
from memorycell.applications.translation.languages import language_code, named_direction
from memorycell.applications.translation.model import TranslatorConfig
from memorycell.applications.translation.pairs import read_pairs
from memorycell.applications.translation.predict import PredictOptions
from memorycell.applications.translation.settings import TranslationSettings
from memorycell.errors import DataError

WORDS = {"red": "rouge", "cat": "chat", "sees": "voit", "the": "le", "old": "vieux", "dog": "chien"}


def pairs(count, seed=0):
    """(English, French), distinct."""
    draw = random.Random(seed)
    found = {}
    while len(found) < count:
        words = [draw.choice(list(WORDS)) for _ in range(6)]
        found[" ".join(words)] = " ".join(WORDS[w] for w in words)
    return list(found.items())


PAIRS = pairs(100)


def read(tmp_path, content, name="t.tsv", **options):
    """(pairs, notes)"""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    splits, notes = read_pairs(path, name, ReadOptions(**options))
    return splits["all"], notes


def rows(table, separator="\t"):
    return "\n".join(separator.join(map(str, row)) for row in table) + "\n"


def write_aligned(folder, stem, **sides):
    for suffix, lines in sides.items():
        (folder / f"{stem}.{suffix}").write_text("\n".join(lines) + "\n")
    return folder / stem


ENGLISH, FRENCH = ([pair[k] for pair in PAIRS] for k in (0, 1))


@pytest.mark.parametrize(
    ("table", "note"),
    [
        (
            [(k, a, 5000 + k, b) for k, (a, b) in enumerate(PAIRS)],
            "column 2 to column 4, of 4",
        ),
        ([(f"#{k}", "eng", a, "fra", b) for k, (a, b) in enumerate(PAIRS)], "column 3 to column 5"),
        ([(a, b, f"CC-BY #{k} (x)") for k, (a, b) in enumerate(PAIRS)], "column 1 to column 2"),
        ([(f"https://a.b/{k}", a, b) for k, (a, b) in enumerate(PAIRS)], "column 2 to column 3"),
        ([("source", "target"), *PAIRS], "from 'source' to 'target'"),
        ([("id", "en", "fr"), *((k, a, b) for k, (a, b) in enumerate(PAIRS))], "'en' to 'fr'"),
        ([("notes", "English", "French"), *((b[::-1], a, b) for a, b in PAIRS)], "'English' to"),
        (
            [("target", "source"), *((b, a) for a, b in PAIRS)],
            "from 'source' to 'target'",
        ),
    ],
)
def test_the_two_columns_of_text(tmp_path, table, note):
    found, notes = read(tmp_path, rows(table))
    assert found == PAIRS
    line = next(n for n in notes if ": from " in n)
    assert note in line
    assert "the other direction: --set languages=" in line


def test_columns_are_named_by_number_language_or_name(tmp_path):
    numbered = rows([(k, a, b) for k, (a, b) in enumerate(PAIRS)])
    assert read(tmp_path, numbered, languages=("3", "2"))[0] == [(b, a) for a, b in PAIRS]
    named = rows([("id", "text_en", "text_fr"), *((k, a, b) for k, (a, b) in enumerate(PAIRS))])
    for languages in (("en", "fr"), ("English", "fr"), ("TEXT_EN", "text_fr"), ("2", "3")):
        assert read(tmp_path, named, languages=languages)[0] == PAIRS
    with pytest.raises(DataError, match="no column of the language 'de'.*--set languages=1,2"):
        read(tmp_path, named, languages=("de", "fr"))


def test_numbers_are_no_language(tmp_path):
    table = rows([(k, a) for k, (a, _) in enumerate(PAIRS)])
    with pytest.raises(DataError, match="found 1; column 1 holds no text, such as '0'; name them"):
        read(tmp_path, table)
    assert read(tmp_path, table, languages=("1", "2"))[0][5] == ("5", ENGLISH[5])


def test_a_table_without_a_header_line_loses_no_pair(tmp_path):
    found, notes = read(tmp_path, rows(PAIRS, ","), "t.csv")
    assert found == PAIRS
    assert "t.csv: line 1 is not a header, but a pair" in notes
    # A first sentence that speaks of languages is no header.
    first = ("Do you speak English?", "Sprechen Sie Deutsch?")
    assert read(tmp_path, rows([first, *PAIRS]))[0] == [first, *PAIRS]


def test_nested_translations(tmp_path):
    lines = [
        json.dumps({"id": str(k), "translation": {"en": a, "fr": b}})
        for k, (a, b) in enumerate(PAIRS)
    ]
    assert read(tmp_path, "\n".join(lines), "t.jsonl")[0] == PAIRS
    reverse = read(tmp_path, "\n".join(lines), "t.jsonl", languages=("fr", "en"))[0]
    assert reverse == [(b, a) for a, b in PAIRS]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_encodings(tmp_path, encoding):
    accented = [(f"{a} café", f"{b} été") for a, b in PAIRS]
    named = {"encoding": encoding} if encoding == "cp1252" else {}
    for name, separator in (("t.tsv", "\t"), ("t.csv", ";")):
        table = [("source", "target"), *accented] if name == "t.csv" else accented
        data = rows(table, separator).replace("\n", "\r\n").encode(encoding)
        assert read(tmp_path, data, name, **named)[0] == accented
        assert read(tmp_path, gzip.compress(data), f"{name}.gz", **named)[0] == accented
    for k, suffix in enumerate(("en", "fr")):
        text = "\r\n".join(pair[k] for pair in accented)
        (tmp_path / f"u.{suffix}").write_bytes(text.encode(encoding))
    splits, _ = read_pairs(tmp_path / "u", "u", ReadOptions(**named))
    assert splits["all"] == accented
    if named:
        with pytest.raises(DataError, match="u.en: line 1: byte .*--set encoding=cp1252"):
            read_pairs(tmp_path / "u", "u")


def test_the_direction_of_aligned_files(tmp_path):
    reverse = [(b, a) for a, b in PAIRS]
    (tmp_path / "a").mkdir()
    stem = write_aligned(tmp_path / "a", "u", en=ENGLISH, de=FRENCH)
    splits, notes = read_pairs(stem, "u")
    assert splits["all"] == reverse
    assert notes == [
        "from u.de to u.en (by the alphabet); the other direction: --set languages=en,de"
    ]
    for languages in (("en", "de"), ("EN", "German")):
        splits, notes = read_pairs(stem, "u", ReadOptions(languages))
        assert (splits["all"], notes) == (PAIRS, ["from u.en to u.de"])
    # Named by the source's file.
    splits, notes = read_pairs(tmp_path / "a" / "u.en", "u.en")
    assert (splits["all"], notes) == (PAIRS, ["from u.en to u.de"])


def test_moses_files_with_a_direction_in_their_names(tmp_path):
    stem = write_aligned(tmp_path, "Books.en-de", en=ENGLISH, de=FRENCH, ids=["x"] * 100)
    splits, notes = read_pairs(stem, "b")
    assert splits["all"] == PAIRS
    assert "from Books.en-de.en to Books.en-de.de (by their names)" in notes[0]
    with pytest.raises(DataError, match="--set languages="):
        read_pairs(stem, "b", ReadOptions(("en", "hi")))
    write_aligned(tmp_path, "x", en=ENGLISH, de=FRENCH, fr=FRENCH)
    with pytest.raises(DataError, match="found 'de, en, fr'"):
        read_pairs(tmp_path / "x", "x")
    write_aligned(tmp_path, "b[1]", en=ENGLISH, fr=FRENCH)
    assert read_pairs(tmp_path / "b[1]", "b")[0]["all"] == PAIRS


def test_lines_stay_aligned(tmp_path):
    sides = {
        "en": [*ENGLISH, "odd\rline", "separated\u2028line", ""],
        "fr": [*FRENCH, "ligne\rbizarre", "ligne séparée", ""],
    }
    for suffix, lines in sides.items():
        end = "\n\n" if suffix == "en" else ""
        (tmp_path / f"u.{suffix}").write_bytes(("\n".join(lines) + end).encode())
    splits, notes = read_pairs(tmp_path / "u", "u")
    assert splits["all"][:100] == PAIRS
    assert splits["all"][100] == ("odd line", "ligne bizarre")
    assert len(splits["all"]) == 102
    assert "u.en: 1 line: a carriage return inside is read as a space" in notes


def test_what_cannot_be_learned_is_counted(tmp_path):
    table = [
        *PAIRS,
        ("nothing", ""),
        ("x" * 500, "y"),
        ("y", "a long explanation " * 6),
        PAIRS[0],
        ("OK", "OK"),
        ("one", "tab\ttoo many"),
    ]
    found, notes = read(tmp_path, rows(table) + "no tab\n")
    assert found == [*PAIRS, ("OK", "OK")]
    assert "t.tsv: 1 of 107 lines left out: no tab (the first: line 107)" in notes
    assert "t.tsv: 1 of 107 lines left out: more than 1 tabs" in notes
    assert "t.tsv: 1 of 105 pairs left out: one side is empty" in notes
    assert "t.tsv: 1 of 105 pairs left out: longer than 400 characters" in notes
    assert any("1 of 105 pairs left out: one side is over 10 times" in note for note in notes)
    assert "t.tsv: 1 pair: identical on both sides, kept" in notes
    assert "t.tsv: 1 pair: repeated, used once" in notes


def test_more_than_a_twentieth_left_out_is_refused(tmp_path):
    table = rows([*PAIRS, *((f"source {k}", "") for k in range(9))])
    with pytest.raises(DataError, match="9 of 109 pairs .*one side is empty.*lossy=true"):
        read(tmp_path, table)
    assert read(tmp_path, table, lossy=True)[0] == PAIRS
    same = rows([(a, a) for a, _ in PAIRS])
    with pytest.raises(DataError, match="100 of 100 pairs are identical on both sides"):
        read(tmp_path, same)
    with pytest.raises(DataError, match="9 of 109 lines .*no tab .*line 101"):
        read(tmp_path, rows(PAIRS) + "no tab\n" * 9)


def test_quotation_marks(tmp_path):
    table = [(f'"{a}', f'{b}" dit-il') for a, b in PAIRS]
    assert read(tmp_path, rows(table))[0] == table
    enclosed = rows([(f'"say ""{a}"""', b) for a, b in PAIRS])
    found, notes = read(tmp_path, enclosed)
    assert found == [(f'say "{a}"', b) for a, b in PAIRS]
    assert "t.tsv: quotation marks around cells removed, doubled ones halved" in notes


def test_a_folder_of_tables(tmp_path):
    for split, part in (("train", PAIRS[:80]), ("dev", PAIRS[80:90]), ("test", PAIRS[90:])):
        pl.DataFrame(part, schema=["en", "fr"], orient="row").write_csv(tmp_path / f"{split}.csv")
    splits, notes = read_pairs(tmp_path, "folder")
    assert splits == {"train": PAIRS[:80], "valid": PAIRS[80:90], "test": PAIRS[90:]}
    assert len([note for note in notes if "from 'en' to 'fr'" in note]) == 3


@pytest.mark.parametrize("damage", [b"", b"\xde\x12\x04\x95" + b"\xff" * 40, b"\x95\x04\x12\xde"])
def test_damaged_catalogues(tmp_path, damage):
    with pytest.raises(DataError, match="not a readable message catalogue"):
        read(tmp_path, damage, "t.mo")


def test_catalogues_count_what_is_not_translated(tmp_path):
    head = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=ISO-8859-1\\n"\n\n'
    entries = [f'msgid "{a}"\nmsgstr "{b} été"\n' for a, b in PAIRS]
    more = ['msgid "none"\nmsgstr ""\n', '#, fuzzy\nmsgid "unsure"\nmsgstr "?"\n']
    found, notes = read(tmp_path, (head + "\n".join(entries + more)).encode("latin-1"), "t.po")
    assert found == [(a, f"{b} été") for a, b in PAIRS]
    assert "t.po: 1 message: not translated, left out" in notes
    assert "t.po: 1 message: fuzzy or obsolete, left out" in notes


def test_other_data_need_not_have_the_training_columns(tmp_path):
    many = pairs(400, seed=1)
    stem = write_aligned(tmp_path, "u", en=[a for a, _ in many], fr=[b for _, b in many])
    settings = TranslationSettings(unit="word", vocabulary=50, languages="en,fr")
    dataset = prepare(str(stem), settings)
    info = {"task": "translation", "data": str(stem), "settings": vars(settings), "fingerprint": ""}
    (tmp_path / "o.tsv").write_text(rows(pairs(50, seed=2)))
    other = reopen(str(tmp_path / "o.tsv"), ModelFile(None, dataset.codec, info))
    assert (
        "o.tsv: from column 1 to column 2; the other direction: --set languages=2,1" in other.notes
    )


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("de", "de"),
        ("German", "de"),
        ("text_de", "de"),
        ("translation.en", "en"),
        ("zh-CN", "zh"),
        ("source", None),
        ("en-de", None),
        ("", None),
    ],
)
def test_language_codes(name, code):
    assert language_code(name) == code


def test_directions_in_names():
    assert named_direction("Books.de-en", ["de", "en"]) == ("de", "en")
    assert named_direction("corpus.en_de", ["de", "en"]) == ("en", "de")
    assert named_direction("corpus.de-en", ["de", "fr"]) is None
    assert named_direction("well-known", ["de", "en"]) is None


@pytest.mark.parametrize("languages", ["en,de", "en-de", " en , de "])
def test_the_setting_of_languages(languages):
    assert TranslationSettings(languages=languages).language_pair == ("en", "de")
    assert TranslationSettings(languages="zh-CN,en").language_pair == ("zh-CN", "en")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        *(
            (TranslationSettings, {"languages": v})
            for v in ("en", "en,", "en,en", "a-b-c", "a,b,c")
        ),
        (TranslationSettings, {"alpha": float("nan")}),
        (TranslationSettings, {"alpha": -1.0}),
        (TranslationSettings, {"beam": 0}),
        (TranslationSettings, {"beam": 1000}),
        (TranslationSettings, {"encoding": "rot13"}),
        (PredictOptions, {"alpha": float("inf")}),
        (PredictOptions, {"beam": 101}),
    ],
)
def test_settings_and_options_are_checked(kind, values):
    with pytest.raises(ValueError, match=rf"^{next(iter(values))}="):
        kind(**values)


@pytest.mark.parametrize(
    "damage",
    [
        {"source_vocabulary": True},
        {"source_vocabulary": -1},
        {"hidden_size": 7},
        {"smoothing": float("nan")},
        {"vocabulary": 0},
    ],
)
def test_a_damaged_configuration_is_refused(damage):
    good = {"vocabulary": 9, "embedding_size": 4, "hidden_size": 8}
    assert TranslatorConfig(**good).source_vocabulary == 0
    with pytest.raises(ValueError):
        TranslatorConfig(**{**good, **damage})


def test_a_damaged_codec_is_refused():
    good = fit_pair_codec(PAIRS, "word", vocabulary=60, joint=False).to_json()
    assert PairCodec.from_json(good).to_json() == good
    piece = fit_pair_codec(PAIRS, "char", vocabulary=60, joint=False).to_json()
    for damage in (
        {"source": 5},
        {"source": piece["source"]},
        {"target": None},
        {"more": 1},
        {"target": {**good["target"], "surfaces": good["target"]["surfaces"][1:]}},
    ):
        with pytest.raises(ValueError):
            PairCodec.from_json({**good, **damage})
    with pytest.raises(ValueError):
        PairCodec.from_json({"target": good["target"]})
