"""Handwriting: classes from strokes, text from images, and sessions."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from memorycell.application import modelfile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.handwriting import APPLICATION
from memorycell.applications.handwriting.augmentation import splice_letters
from memorycell.applications.handwriting.codec import Line, LineCodec
from memorycell.applications.handwriting.dataset import prepare, reopen
from memorycell.applications.handwriting.images import read_letters, read_line
from memorycell.applications.handwriting.predict import PredictOptions, predict
from memorycell.applications.handwriting.session import HandwritingSession
from memorycell.applications.handwriting.settings import HandwritingSettings
from memorycell.errors import DataError, StateError, UserError
from memorycell.language.codec import fit_text_codec
from memorycell.models.classifier import Classifier, ClassifierConfig
from memorycell.signals.stroke_files import read_strokes
from memorycell.streaming.stream import Stream
from memorycell.training import loop as training

SMALL = {"hidden": 24, "layers": 1, "dropout": 0.0, "budget": 400}


@pytest.fixture(scope="module")
def shape_model(shapes, tmp_path_factory):
    """(result, path) of a classifier of shapes; writers 5 and 6 are the test split."""
    out = tmp_path_factory.mktemp("shape_model") / "s.safetensors"
    settings = HandwritingSettings(**SMALL, warp=0.5, held_out="writer>4", checked="writer=4")
    train_settings = TrainSettings(epochs=12, lr=0.02, average=0.9)
    return training.train(APPLICATION, str(shapes), settings, train_settings, out), out


# ---- strokes -------------------------------------------------------------------------------------


def test_classifier_recognises_shapes_of_new_writers(shape_model):
    result, path = shape_model
    assert result["metrics"]["error"] < 0.1
    assert result["baselines"]["most frequent"]["error"] > 0.5
    assert sum(n for row in result["confusion"].values() for n in row.values()) == 40
    assert {"most frequent", "nearest (dtw)"} == set(result["baselines"])
    again = training.evaluate(APPLICATION, modelfile.load(path), path, None)
    assert again["metrics"] == pytest.approx(result["metrics"])


def test_writers_are_held_out(shapes):
    dataset = prepare(
        str(shapes), HandwritingSettings(**SMALL, held_out="writer>4", checked="writer=4")
    )
    writers = {
        split: {e.fields["writer"] for e in examples} for split, examples in dataset.splits.items()
    }
    assert writers == {"train": {"1", "2", "3"}, "valid": {"4"}, "test": {"5", "6"}}


@pytest.mark.parametrize(("head", "spacing", "order"), [("classes", 0.1, 0.6), ("text", 0.06, 0.2)])
def test_characters_have_wider_steps_than_text(shapes, head, spacing, order):
    """And strokes in any order more often, which would disarrange a line."""
    small = {**SMALL, "held_out": "writer>4", "checked": "writer=4", "head": head, "warp": 0.0}
    dataset = prepare(str(shapes), HandwritingSettings(**small))
    assert dataset.codec.spacing == spacing
    assert swapped_share(dataset) == pytest.approx(order, abs=0.1)
    own = prepare(str(shapes), HandwritingSettings(**small, spacing=0.2, order=0.0))
    assert own.codec.spacing == 0.2
    assert swapped_share(own) == 0


def swapped_share(dataset) -> float:
    """How often the second stroke of a cross is drawn first in 300 augmentations."""
    cross = next(e for e in dataset.splits["train"] if e.label == "cross")
    first = dataset.encode(cross)[1, :2]  # the direction of its second point; strokes are reversed
    found = [dataset.augment(cross, np.random.default_rng(seed))[1, :2] for seed in range(300)]
    return float(np.mean(np.abs(np.array(found) @ first) < 0.5))


def test_last_answer_is_that_of_the_complete_drawing(shape_model, shapes):
    file = modelfile.load(shape_model[1])
    records = predict(file, str(shapes), PredictOptions())["drawings"]
    drawings, _ = read_strokes(shapes, "s")
    for number in (0, 7, 31):
        session, answers = HandwritingSession(file), []
        for stroke in drawings[number].drawing:
            for x, y in stroke:
                answers += session.feed(json.dumps([x, y]))
            assert session.feed("up") == []
        for key in ("label", "p", "probabilities"):
            assert answers[-1][key] == records[number][key]
        assert answers[-1]["strokes"] == len(drawings[number].drawing)
        assert answers[3]["points"] == 4
        assert session.close() == []


def test_points_new_drawings_and_mistakes(shape_model):
    session = HandwritingSession(modelfile.load(shape_model[1]))
    other = HandwritingSession(session.file)
    for line in ("[0, 0]", "[0, 5]", "up", '"up"', "[3, 3]"):
        session.feed(line)
    other.restore(session.snapshot())
    expected = session.feed("[1, 2]")
    assert (expected[0]["strokes"], expected[0]["points"]) == (2, 4)
    assert other.feed({"x": 1, "y": 2}) == expected
    assert session.feed("") == []
    assert session.feed(b"[5, 5]")[0]["points"] == 1
    state = session.snapshot()
    for number, line in enumerate(("[1]", "here", "[1, null]", "[1e99, 0]"), 9):
        with pytest.raises(DataError, match=f"stdin, line {number}: "):
            session.feed(line)
    with pytest.raises(DataError, match="row: "):
        session.feed({"x": 1})
    for invalid in (b"", b"{}", state[:-9], b'{"format": "other", "strokes": []}'):
        with pytest.raises(StateError):
            session.restore(invalid)
    assert session.snapshot() == state


def test_command_line(shape_model, shapes, memorycell, tmp_path):
    status, out, _ = memorycell("predict", shape_model[1], shapes, "--set", "only=line 1", "--json")
    assert status == 0
    assert json.loads(out)["drawings"][0]["label"] == "circle"
    only = ("--set", "only=line 117")
    page = tmp_path / "p.html"
    assert memorycell("predict", shape_model[1], shapes, *only, "--out", page)[0] == 0
    assert page.read_text().count("line 117") == 1
    assert memorycell("inspect", shape_model[1], shapes, "--out", tmp_path / "i.html")[0] == 0
    assert memorycell("evaluate", shape_model[1], shapes, "--report", tmp_path / "e.html")[0] == 0
    status, out, _ = memorycell("prove", shape_model[1], "--json")
    assert status == 0
    mistakes = (
        ("predict", shape_model[1], tmp_path / "gone.jsonl"),
        ("predict", shape_model[1], shapes, "--set", "only=zzz"),
        ("predict", shape_model[1]),
    )
    for words in mistakes:
        status, _, err = memorycell(*words)
        assert (status, err.count("\n")) == (2, 1), words


@pytest.mark.parametrize("pooling", ["attention", "max", "last"])
def test_several_steps_can_be_rewound(pooling):
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
    full = model(torch.from_numpy(x[None]))[0][0].detach().numpy()
    np.testing.assert_allclose(stream.step(x[9:]), full[9:], atol=1e-5)


# ---- images --------------------------------------------------------------------------------------


def test_images_dark_on_light_and_light_on_dark(tmp_path):
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
    (tmp_path / "no.png").write_text("no image")
    for name, what in (
        ("empty", "no ink stands out"),
        ("no", "not a readable image"),
        ("gone", "not a readable image"),
    ):
        with pytest.raises(DataError, match=what):
            read_line(tmp_path / f"{name}.png")


def test_features_are_columns():
    codec = LineCodec(text=fit_text_codec(["ab"], "char", vocabulary=9), height=4, stack=2)
    ink = np.arange(20, dtype=np.float32).reshape(4, 5) / 20
    found = codec.encode(Line(ink))
    assert found.shape == (3, 8)
    np.testing.assert_allclose(found[1], np.concatenate([ink[:, 2], ink[:, 3]]) * 2 - 0.5)
    np.testing.assert_allclose(found[2, 4:], -0.5)
    assert codec.encode(Line(np.repeat(np.repeat(ink, 2, 0), 2, 1))).shape == (3, 8)
    assert LineCodec.from_json(codec.to_json()) == codec


def letters_file(path, words: list[str]) -> None:
    """Letters as images of their numbers in binary: one bar per bit below a line."""
    rng = np.random.default_rng(0)
    pixels, labels = [], []
    for word in words:
        for letter in word:
            k = ord(letter) - 97
            image = np.zeros((16, 8), np.uint8)
            for bit in range(3):
                if k >> bit & 1:
                    image[2 + 4 * bit : 4 + 4 * bit, 1:7] = 1
            image[0] = image[15, 3:5] = 1  # the bounding box
            image ^= (rng.random((16, 8)) < 0.01).astype(np.uint8)
            pixels.append(np.packbits(image))
            labels.append(k)
    np.savez(
        path,
        pixels=np.array(pixels),
        labels=np.array(labels, np.uint8),
        lengths=np.array([len(w) for w in words], np.int32),
    )


def test_spliced_words_are_made_of_given_letters(tmp_path):
    letters_file(tmp_path / "w.npz", ["abc", "cab", "he"])
    words = read_letters(tmp_path / "w.npz")
    assert [text for _, text, _ in words] == ["abc", "cab", "he"]
    assert words[0][0].ink.shape == (16, 24)
    np.testing.assert_allclose(
        words[0][0].ink[:, :8], words[1][0].ink[:, 8:16], atol=1
    )  # both are an a, with noise
    line, text = splice_letters(
        [w[0] for w in words], [w[1] for w in words], np.random.default_rng(0), 6
    )
    assert line.ink.shape == (16, 48)
    pieces = {
        (word, k): w.ink[:, 8 * k : 8 * k + 8].tobytes()
        for w, word, _ in words
        for k in range(len(word))
    }
    for k, letter in enumerate(text):
        assert line.ink[:, 8 * k : 8 * k + 8].tobytes() in {
            v for (w, j), v in pieces.items() if w[j] == letter
        }
    (tmp_path / "bad.npz").write_bytes(b"no")
    with pytest.raises(DataError, match="not a file of letters"):
        read_letters(tmp_path / "bad.npz")


def test_transcriber_reads_images_of_new_words(tmp_path):
    rng = np.random.default_rng(1)
    kinds = sorted({"".join(rng.choice(list("abcdefgh"), rng.integers(2, 5))) for _ in range(70)})
    letters_file(tmp_path / "w.npz", [w for w in kinds for _ in range(4)])
    settings = HandwritingSettings(**{**SMALL, "hidden": 40, "budget": 300}, warp=0.1, stack=2)
    out = tmp_path / "m.safetensors"
    result = training.train(
        APPLICATION,
        str(tmp_path / "w.npz"),
        settings,
        TrainSettings(epochs=14, lr=0.02, average=0.95),
        out,
    )
    assert result["metrics"]["cer"] < 0.15
    file = modelfile.load(out)
    dataset = reopen(None, file)
    labels = {split: {e.label for e in examples} for split, examples in dataset.splits.items()}
    assert not labels["test"] & labels["train"]
    folder = tmp_path / "pages"
    folder.mkdir()
    for k, e in enumerate(dataset.splits["test"][:8]):
        Image.fromarray((255 * (1 - np.pad(e.raw.ink, 3))).astype(np.uint8)).save(
            folder / f"{e.label}_{k}.png"
        )
    record = predict(file, str(folder), PredictOptions())
    assert len(record["drawings"]) == 8
    expected = {str(path): path.stem.split("_")[0] for path in folder.iterdir()}
    assert sum(one["text"] == expected[one["name"]] for one in record["drawings"]) >= 7
    with pytest.raises(UserError, match="reads images"):
        HandwritingSession(file)


def test_folders_of_images_with_transcripts(tmp_path):
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
    assert any("1 of 60 images left out: unreadable" in note for note in dataset.notes)


@pytest.mark.data
def test_public_datasets(public_data):
    dataset = prepare("omniglot", HandwritingSettings())
    assert {e.fields["writer"] for e in dataset.splits["test"]} == {"16", "17", "18", "19", "20"}
    assert {e.fields["writer"] for e in dataset.splits["valid"]} == {"15"}
    assert len(dataset.codec.labels) == 136
    words = prepare("ocr-words", HandwritingSettings())
    labels = {split: {e.label for e in examples} for split, examples in words.splits.items()}
    assert not labels["test"] & (labels["train"] | labels["valid"])
    assert sum(map(len, words.splits.values())) == 6877
