"""Handwriting: strokes and pictures from files good and bad, the task on both, live while it is
drawn.
"""

import json
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from signal_data import shape

from memorycell.application import modelfile
from memorycell.application.contract import TrainSettings
from memorycell.applications.handwriting import lines
from memorycell.applications.handwriting.dataset import (
    HANDWRITING,
    HandwritingSettings,
    prepare,
    reopen,
)
from memorycell.applications.handwriting.lines import Line, LineCodec, read_letters, read_line
from memorycell.applications.handwriting.live import LiveHandwriting, Reading, predict
from memorycell.errors import DataError, StateError, UserError
from memorycell.language.codec import fit
from memorycell.models.classifier import Classifier, ClassifierConfig
from memorycell.signals.strokes import StrokeCodec, checked, read_strokes, redrawn, respaced
from memorycell.streaming.stream import Stream
from memorycell.training import loop as training

CODEC = StrokeCodec(labels=("a", "b"))
SMALL = {"hidden": 24, "layers": 1, "dropout": 0.0, "budget": 400}


@pytest.fixture(scope="module")
def seen(shapes, tmp_path_factory):
    """(result, path) of a classifier of shapes, two writers held out."""
    out = tmp_path_factory.mktemp("seen") / "s.safetensors"
    settings = HandwritingSettings(**SMALL, warp=0.5, held_out="writer>4", checked="writer=4")
    return (
        training.train(
            HANDWRITING, str(shapes), settings, TrainSettings(epochs=12, lr=0.02, average=0.9), out
        ),
        out,
    )


# ---- strokes -------------------------------------------------------------------------------------


@given(seed=st.integers(0, 300), kind=st.sampled_from(["circle", "cross", "square", "bar"]))
def test_size_and_place_do_not_matter(seed, kind):
    rng = np.random.default_rng(seed)
    drawing = checked(shape(kind, rng), "x")
    moved = [s * rng.uniform(0.1, 50) + rng.uniform(-1e4, 1e4, 2) for s in drawing]
    moved = [s * 7.0 + [100, -3] for s in drawing] if len(drawing) > 1 else moved
    a, b = CODEC.encode(drawing), CODEC.encode(moved)
    np.testing.assert_allclose(a, b, atol=2e-3)
    assert a.shape[1] == CODEC.input_size
    np.testing.assert_allclose(np.hypot(a[1:, 0], a[1:, 1]), 1, atol=1e-5)
    np.testing.assert_allclose(np.hypot(a[:, 2], a[:, 3]), 1, atol=1e-5)
    assert np.abs(a[:, 6:]).max() <= 1.0001
    assert a[:, 4].sum() == len(drawing)


@given(
    points=st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=2, max_size=12),
    spacing=st.sampled_from([0.5, 3.0]),
)
def test_points_stand_at_equal_distances_along_the_line(points, spacing):
    stroke = np.array(points)
    found = respaced(stroke, spacing)
    length = np.hypot(*np.diff(stroke, axis=0).T).sum()
    np.testing.assert_allclose(found[0], stroke[0], atol=1e-9)
    if length == 0:
        assert len(found) == 1
        return
    np.testing.assert_allclose(found[-1], stroke[-1], atol=1e-9)
    gaps = np.hypot(*np.diff(found, axis=0).T)
    assert (
        gaps.max() <= length / (len(found) - 1) + 1e-9
    )  # a corner cut makes it shorter, nothing longer
    if length > 2 * spacing:
        assert 0.6 * spacing < length / (len(found) - 1) < 1.6 * spacing


def test_speed_of_the_pen_does_not_matter():
    t = np.linspace(0, 1, 200)
    slow = np.stack([t, t**2], 1)
    uneven = np.concatenate([slow[:100:10], slow[100:]])
    np.testing.assert_allclose(
        CODEC.encode([slow])[:, 6:], CODEC.encode([uneven])[:, 6:], atol=0.02
    )


def test_what_is_no_drawing():
    for strokes, what in (
        ([[[0, 0], [1]]], "stroke 1: expected points"),
        ([[[0, 0]], [[0, float("nan")]]], "stroke 2, point 1"),
        ([[[0, 1e9]]], "no place on a page"),
        ([["ab"]], "expected points"),
        ([], "holds no point"),
        ([[]], "holds no point"),
        ([[[0, k] for k in range(30_000)]], "20,000 at most"),
    ):
        with pytest.raises(DataError, match=what):
            checked(strokes, "file")
    dot = checked([[[3, 4]], [[5, 5], [5, 5], [5, 5]]], "file")
    assert [len(s) for s in dot] == [1, 1]
    assert np.isfinite(CODEC.encode(dot)).all()
    assert CODEC.encode(dot[:1]).shape == (1, 8)


def test_json_lines(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(
        '{"strokes": [[[0,0],[1,1]]], "label": "a", "writer": 7}\nno\n{"strokes":'
        ' [[[0,"x"]]]}\n\n{"strokes": [[[1,2]]]}\n'
    )
    found, notes = read_strokes(path, "d")
    assert [(d.said, dict(d.fields)) for d in found] == [("a", {"writer": "7"}), ("", {})]
    assert notes == [
        "left out: 2 drawings that are damaged (the first: d.jsonl: line 2: expected JSON like "
        '{"strokes": [[[x, y], …], …], "label": "a"})'
    ]
    path.write_text("no\n")
    with pytest.raises(DataError, match="line 1: expected JSON"):
        read_strokes(path, "d")
    with pytest.raises(DataError, match="ending .doc"):
        read_strokes(tmp_path / "d.doc", "d")


INKML = """<ink xmlns="http://www.w3.org/2003/InkML"><annotation type="truth">hi</annotation>
<annotation type="writer">3</annotation><trace>0 0 1, 1 1 2, 2 0 3</trace><trace>5 5, 6 6</trace></ink>"""
BOMB = (
    '<!DOCTYPE i [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><ink'
    ' xmlns="http://www.w3.org/2003/InkML"><trace>&b;</trace></ink>'
)


def test_inkml_and_what_would_do_harm(tmp_path):
    (tmp_path / "a.inkml").write_text(INKML)
    (tmp_path / "b.inkml").write_text(BOMB)
    (tmp_path / "c.inkml").write_text("<ink>")
    found, notes = read_strokes(tmp_path, "ink")
    assert len(found) == 1
    assert (found[0].said, found[0].fields["writer"]) == ("hi", "3")
    np.testing.assert_array_equal(found[0].drawing[0], [[0, 0], [1, 1], [2, 0]])
    assert "left out: 2 drawings" in notes[0]
    assert "not safe and whole InkML" in notes[0]


def test_omniglot_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "o.zip", "w") as archive:
        archive.writestr(
            "set/Latin/character05/0001_13.txt",
            "START\n0,0,1\n1,-2,3\nBREAK\n4,-4,9\n5,-4,9\nBREAK\n",
        )
        archive.writestr("set/Latin/character05/0001_14.txt", "START\n0,zero,1\nBREAK\n")
        archive.writestr("__MACOSX/set/Latin/character05/._0001_13.txt", "\0\1")
    found, notes = read_strokes(tmp_path / "o.zip", "o")
    assert [(d.said, d.fields["writer"], len(d.drawing)) for d in found] == [("Latin/05", "13", 2)]
    np.testing.assert_array_equal(found[0].drawing[0], [[0, 0], [1, 2]])
    assert "0001_14.txt: line 2: expected x,y,t" in notes[0]
    (tmp_path / "no.zip").write_text("no archive")
    with pytest.raises(DataError, match="not a readable archive"):
        read_strokes(tmp_path / "no.zip", "o")


def test_another_hand_is_seeded_and_draws_the_same_strokes():
    drawing = checked(shape("cross", np.random.default_rng(0)), "x")
    a, b = (redrawn(drawing, np.random.default_rng(3), warp=1, order=0) for _ in range(2))
    for one, two, was in zip(a, b, drawing, strict=True):
        np.testing.assert_array_equal(one, two)
        assert one.shape == was.shape
    still = redrawn(drawing, np.random.default_rng(3), warp=0, order=0)
    np.testing.assert_allclose(np.concatenate(still), np.concatenate(drawing), atol=1e-9)
    swapped = redrawn(drawing, np.random.default_rng(1), warp=0, order=1)
    flat = {tuple(np.round(p, 6)) for s in drawing for p in s}
    assert {tuple(np.round(p, 6)) for s in swapped for p in s} == flat
    assert not np.allclose(np.concatenate(swapped), np.concatenate(drawing))


# ---- the task ------------------------------------------------------------------------------------


def test_it_reads_hands_it_never_saw(seen):
    result, path = seen
    assert result["metrics"]["error"] < 0.1
    assert {"most frequent", "nearest (dtw)"} == set(result["baselines"])
    again = training.evaluate(HANDWRITING, modelfile.load(path), path, None, lambda line: None)
    assert again["metrics"] == pytest.approx(result["metrics"])


def test_writers_are_held_out(shapes):
    dataset = prepare(
        str(shapes), HandwritingSettings(**SMALL, held_out="writer>4", checked="writer=4")
    )
    writers = {split: {e.fields["writer"] for e in part} for split, part in dataset.parts.items()}
    assert writers == {"train": {"1", "2", "3"}, "valid": {"4"}, "test": {"5", "6"}}


def test_live_at_the_end_is_the_whole(seen, shapes, tmp_path):
    file = modelfile.load(seen[1])
    record = predict(file, str(shapes), Reading())
    drawn, _ = read_strokes(shapes, "s")
    for number in (0, 7, 31):
        live, told = LiveHandwriting(file), []
        for stroke in drawn[number].drawing:
            for x, y in stroke:
                told.append(live.line(json.dumps([x, y]), 1))
            assert live.line("up", 2) is None
        whole = record["drawings"][number]
        assert {k: told[-1][k] for k in ("label", "p")} == {k: whole[k] for k in ("label", "p")}
        assert told[-1]["strokes"] == len(drawn[number].drawing)
        assert told[3]["points"] == 4
    live.save(tmp_path / "d.json")
    other = LiveHandwriting(file)
    other.load(tmp_path / "d.json")
    assert other.line('{"x": 1, "y": 2}', 1) == live.line("[1, 2]", 1)
    assert live.line("", 3) is None
    assert live.line("[5, 5]", 4)["points"] == 1
    for wrong in ("[1]", "here", "[1, null]", "[1e99, 0]"):
        with pytest.raises(DataError, match="stdin, line 9"):
            live.line(wrong, 9)
    with pytest.raises(StateError):
        live.load(seen[1])


def test_the_command_line(seen, shapes, memorycell, tmp_path):
    status, out, _ = memorycell("predict", seen[1], shapes, "--set", "only=line 1", "--json")
    assert status == 0
    assert json.loads(out)["drawings"][0]["label"] == "circle"
    assert (
        memorycell(
            "predict", seen[1], shapes, "--set", "only=line 117", "--out", tmp_path / "p.html"
        )[0]
        == 0
    )
    assert (tmp_path / "p.html").read_text().count("line 117") == 1
    assert memorycell("inspect", seen[1], shapes, "--out", tmp_path / "i.html")[0] == 0
    assert memorycell("evaluate", seen[1], shapes, "--report", tmp_path / "e.html")[0] == 0
    status, out, _ = memorycell("prove", seen[1], "--json")
    assert status == 0
    wrong = (
        ("predict", seen[1], tmp_path / "gone.jsonl"),
        ("predict", seen[1], shapes, "--set", "only=zzz"),
        ("predict", seen[1]),
    )
    for words in wrong:
        status, _, err = memorycell(*words)
        assert (status, err.count("\n")) == (2, 1), words


@pytest.mark.parametrize("pooling", ["attention", "max", "last"])
def test_several_steps_at_once_can_be_taken_back(pooling):
    torch.manual_seed(0)
    config = ClassifierConfig(
        vocabulary=0, input_size=5, classes=3, pooling=pooling, bidirectional=False, hidden_size=7
    )
    model = Classifier(config).eval()
    x = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    stream, once = Stream(model, history=6), Stream(model, history=0)
    stream.step(x)
    stream.rewind(4)
    np.testing.assert_array_equal(stream.step(x[8]), once.step(x[:9])[-1])
    whole = model(torch.from_numpy(x[None]))[0][0].detach().numpy()
    np.testing.assert_allclose(stream.step(x[9:]), whole[9:], atol=1e-5)


# ---- pictures ------------------------------------------------------------------------------------


def test_pictures_dark_on_light_and_light_on_dark(tmp_path):
    page = np.full((40, 90), 240, np.uint8)
    page[10:30, 20:24] = 10
    page[10:14, 20:60] = 10
    Image.fromarray(page).save(tmp_path / "dark.png")
    Image.fromarray(255 - page).save(tmp_path / "light.png")
    dark, light = (read_line(tmp_path / f"{n}.png").ink for n in ("dark", "light"))
    assert dark.shape == light.shape == (20, 40)
    np.testing.assert_allclose(dark, light, atol=0.02)
    assert dark[:, :4].min() > 0.9
    assert dark[5:, 5:].max() < 0.1
    Image.fromarray(np.full((20, 20), 200, np.uint8)).save(tmp_path / "empty.png")
    (tmp_path / "no.png").write_text("no picture")
    for name, what in (
        ("empty", "no ink stands out"),
        ("no", "not a readable picture"),
        ("gone", "not a readable picture"),
    ):
        with pytest.raises(DataError, match=what):
            read_line(tmp_path / f"{name}.png")


def test_columns_are_steps():
    codec = LineCodec(text=fit(["ab"], "char", vocabulary=9), height=4, stack=2)
    ink = np.arange(20, dtype=np.float32).reshape(4, 5) / 20
    found = codec.encode(Line(ink))
    assert found.shape == (3, 8)
    np.testing.assert_allclose(found[1], np.concatenate([ink[:, 2], ink[:, 3]]) * 2 - 0.5)
    np.testing.assert_allclose(found[2, 4:], -0.5)
    assert codec.encode(Line(np.repeat(np.repeat(ink, 2, 0), 2, 1))).shape == (3, 8)
    assert LineCodec.from_json(codec.to_json()) == codec


def letters_file(path, words: list[str]) -> None:
    """Letters as rows of bits: a letter's number in binary, drawn as bars."""
    rng = np.random.default_rng(0)
    pixels, labels = [], []
    for word in words:
        for letter in word:
            k = ord(letter) - 97
            picture = np.zeros((16, 8), np.uint8)
            for bit in range(3):
                if k >> bit & 1:
                    picture[2 + 4 * bit : 4 + 4 * bit, 1:7] = 1
            picture[14, 3:5] = 1
            picture ^= (rng.random((16, 8)) < 0.01).astype(np.uint8)
            pixels.append(np.packbits(picture))
            labels.append(k)
    np.savez(
        path,
        pixels=np.array(pixels),
        labels=np.array(labels, np.uint8),
        lengths=np.array([len(w) for w in words], np.int32),
    )


def test_words_nobody_wrote_are_made_of_letters_of_training(tmp_path):
    letters_file(tmp_path / "w.npz", ["abc", "cab", "he"])
    words = read_letters(tmp_path / "w.npz")
    assert [said for _, said, _ in words] == ["abc", "cab", "he"]
    assert words[0][0].ink.shape == (16, 24)
    np.testing.assert_allclose(
        words[0][0].ink[:, :8], words[1][0].ink[:, 8:16], atol=1
    )  # both an a, but for specks
    line, said = lines.spliced(
        [w[0] for w in words], [w[1] for w in words], np.random.default_rng(0), 6
    )
    assert line.ink.shape == (16, 48)
    pieces = {
        (said, k): w.ink[:, 8 * k : 8 * k + 8].tobytes()
        for w, said, _ in words
        for k in range(len(said))
    }
    for k, letter in enumerate(said):
        assert line.ink[:, 8 * k : 8 * k + 8].tobytes() in {
            v for (w, j), v in pieces.items() if w[j] == letter
        }
    (tmp_path / "bad.npz").write_bytes(b"no")
    with pytest.raises(DataError, match="not a file of letters"):
        read_letters(tmp_path / "bad.npz")


def test_words_never_seen_are_read_from_pictures(tmp_path):
    rng = np.random.default_rng(1)
    kinds = sorted({"".join(rng.choice(list("abcdefgh"), rng.integers(2, 5))) for _ in range(70)})
    letters_file(tmp_path / "w.npz", [w for w in kinds for _ in range(4)])
    settings = HandwritingSettings(**{**SMALL, "hidden": 40, "budget": 300}, warp=0.1, stack=2)
    out = tmp_path / "m.safetensors"
    result = training.train(
        HANDWRITING,
        str(tmp_path / "w.npz"),
        settings,
        TrainSettings(epochs=14, lr=0.02, average=0.95),
        out,
    )
    assert result["metrics"]["cer"] < 0.15
    file = modelfile.load(out)
    dataset = reopen(None, file)
    assert not {e.said for e in dataset.parts["test"]} & {e.said for e in dataset.parts["train"]}
    folder = tmp_path / "pages"
    folder.mkdir()
    for k, e in enumerate(dataset.parts["test"][:8]):
        Image.fromarray((255 * (1 - np.pad(e.raw.ink, 3))).astype(np.uint8)).save(
            folder / f"{e.said}_{k}.png"
        )
    record = predict(file, str(folder), Reading())
    assert len(record["drawings"]) == 8
    with pytest.raises(UserError, match="reads pictures"):
        LiveHandwriting(file)


def test_folders_of_pictures_with_transcripts(tmp_path):
    rng = np.random.default_rng(0)
    rows = ["image,text"]
    for k in range(60):
        page = np.full((24, 60), 255, np.uint8)
        page[4:20, 10 + k % 7 : 14 + k % 7] = 0
        page[4 + k % 5 : 8 + k % 5, 10:40] = rng.integers(0, 60)
        Image.fromarray(page).save(tmp_path / f"p{k}.png")
        rows.append(f"p{k}.png,word {k}")
    (tmp_path / "p59.png").write_text("broken")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    dataset = prepare(str(tmp_path), HandwritingSettings(**SMALL))
    assert dataset.codec.text is not None
    assert any("left out: 1 pictures that cannot be read" in note for note in dataset.notes)


@pytest.mark.data
def test_the_public_sets(public_data):
    dataset = prepare("omniglot", HandwritingSettings())
    assert {e.fields["writer"] for e in dataset.parts["test"]} == {"16", "17", "18", "19", "20"}
    assert {e.fields["writer"] for e in dataset.parts["valid"]} == {"15"}
    assert len(dataset.codec.labels) == 136
    words = prepare("ocr-words", HandwritingSettings())
    said = {split: {e.said for e in part} for split, part in words.parts.items()}
    assert not said["test"] & (said["train"] | said["valid"])
    assert sum(map(len, words.parts.values())) == 6877
