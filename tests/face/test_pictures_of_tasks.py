"""Main pictures against the predictions and the metrics of the same model."""

import json

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from quick import QUICK

import memorycell
from memorycell.application.picture import Picture
from memorycell.face.notebook import picture_html
from memorycell.face.picture_parts import word_lines
from memorycell.face.pictures import picture_figure

SMALL = {**QUICK, "members": 1, "augment": "none", "encoder": "none", "baselines": False}


def test_text_shows_the_nats_of_the_words_of_the_test_text():
    rng = np.random.default_rng(0)
    words = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree"]
    text = "\n".join(" ".join(rng.choice(words, 6)) + "." for _ in range(200))
    model = memorycell.train("text", [text], **QUICK)
    picture = model.picture
    every = "".join(word for word, _ in picture.words)
    shown = every.removesuffix("\n")  # of the file in which the text is written
    begin = text.index(shown)
    assert begin >= 0.85 * len(text)
    assert picture.full == pytest.approx(np.log(model.codec.model_sizes()["vocabulary"]), abs=1e-3)
    test_text = text[text.rindex("\n", 0, int(0.9 * len(text)) + 2) :]  # a context that is as long
    score = model.predict(test_text, length=0)["score"]["tokens"]
    ours = np.array([value for _, value in picture.words])[: len(shown)]
    at = test_text.index(shown)
    theirs = np.array([token["nats"] for token in score[at : at + len(ours)]])
    np.testing.assert_allclose(ours[100:], theirs[100:], atol=0.02)
    assert ours.std() > 0.3
    assert f"{ours[0]:.3g} nats" in picture_html(picture)
    figure = model.figure("main")
    drawn = ["".join(row) for row in figure.data[0].text]
    assert "".join(drawn).replace("⏎", "\n").replace("\u00a0", " ") == every
    assert figure.data[0].z[0][0] == picture.words[0][1]


def test_chat_shows_replies_beside_those_in_the_data():
    rng = np.random.default_rng(0)
    names = ["tea", "rain", "sun", "dog", "cat", "bus", "sea", "song", "map", "pen", "ice", "oak"]
    pairs = [[f"do you like {a} or {b}", f"i like {b}"] for a in names for b in names for _ in "ab"]
    data = [pairs[k] for k in rng.permutation(len(pairs))]
    model = memorycell.train("chat", data, **QUICK)
    header, *rows = model.picture.table
    assert header[0] == "message"
    assert len(rows) >= 3
    for message, ours, wanted in rows:
        assert [message, wanted] in pairs
        assert model.predict(message)["turns"][0]["reply"] == ours
    cells = model.figure("main").data[0].cells.values
    assert [list(row) for row in zip(*cells, strict=True)] == rows


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """Chords in two voices over a bass, in JSON."""
    rng = np.random.default_rng(0)

    def piece():
        root = int(rng.integers(55, 66))
        chords = [[root + d, root + d + 4, root + d - 12] for d in (0, 5, 7, 0)]
        return [sorted(chords[(t // 2) % 4]) if t % 8 != 7 else [] for t in range(24)]

    parts = {"train": 12, "valid": 4, "test": 4}
    data = {split: [piece() for _ in range(count)] for split, count in parts.items()}
    path = tmp_path_factory.mktemp("music") / "pieces.json"
    path.write_text(json.dumps(data))
    return path, data


def test_music_shows_a_piece_and_the_probabilities_of_its_keys(pieces):
    path, data = pieces
    model = memorycell.train("music", path, view="keys", voices=88, epochs=4, hidden=6,
                             progress=False)  # fmt: skip
    picture = model.picture
    piece = max(data["test"], key=len)
    low = 60 - picture.rows.index("C4")
    dots = {(t, pitch - low) for t, frame in enumerate(piece) for pitch in frame}
    assert set(picture.dots) == dots
    frames = np.zeros((len(piece), 88), np.float32)
    for t, frame in enumerate(piece):
        frames[t, [pitch - 21 for pitch in frame]] = 1
    past = np.concatenate([np.zeros((1, 88), np.float32), frames[:-1]])
    with torch.no_grad():
        hidden, _ = model.model(torch.from_numpy(past)[None])
        p = torch.sigmoid(model.model.head.linear(hidden))[0].numpy()
    shares = {(t, row): share for t, row, share in picture.cells}
    expected = np.array([p[t, row + low - 21] for t, row in shares])
    errors = np.abs(np.array(list(shares.values())) - expected)
    assert errors.max() < 5 * np.sqrt(0.25 / 200)
    missing = [p[t, k] for t in range(len(p)) for k in range(88) if (t, k + 21 - low) not in shares]
    assert max(missing) < 0.15
    assert np.nanmax(np.array(model.figure("main").data[0].z, float)) == max(shares.values())
    assert picture_html(picture).count("<circle") == len(dots)


def test_events_show_where_notes_begin_and_the_probability_of_their_pitch(pieces):
    model = memorycell.train("music", pieces[0], view="events", **QUICK)
    picture, codec = model.picture, model.codec
    assert picture.x[:2] == ["0", f"{1 / codec.frames:g}"]
    assert {(t, row) for t, row, _ in picture.cells} == set(picture.dots)
    t, row, p = picture.cells[0]
    assert t == 0
    pitch = 60 - picture.rows.index("C4") + row
    with torch.no_grad():  # the first pitch follows the end of a piece, a bar and a position
        tokens = [1, *(codec.token_ids[name] for name in ("Bar_None", "Position_0"))]
        hidden, _ = model.model.hidden(torch.tensor([tokens]), None)
        scores = model.model.head(hidden, model.model.embedding.weight)[0, -1]
        network = torch.log_softmax(scores.float(), -1)[codec.token_ids[f"Pitch_{pitch}"]]
    assert p == pytest.approx(float(network.exp()), abs=2e-3)


@pytest.fixture(scope="module")
def numbers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 12, 2))
    y = x[:, :, 0].sum(1)
    return x, y, memorycell.train("sequences", (x, y), **SMALL)


def test_numbers_show_predicted_and_true_values(numbers):
    x, y, model = numbers
    points = np.array(model.picture.points)
    assert len(points) == model.info["split"]["test"]
    assert np.abs(points[:, 1] - points[:, 0]).mean() == pytest.approx(
        model.metrics["mae"], rel=1e-3
    )
    first = int(np.abs(y - points[0, 0]).argmin())
    answer = model.predict(x[[first]])
    median = answer["sequences"][0]["numbers"]["label"]["median"]
    assert points[0, 1] == pytest.approx(median, rel=1e-3)
    figure = model.figure("main")
    assert isinstance(figure, go.Figure)
    residuals = figure.data[3]
    np.testing.assert_allclose(residuals.y, points[:, 1] - points[:, 0], rtol=1e-3, atol=1e-3)
    assert picture_html(model.picture).count("<circle") == 2 * len(points)


def test_a_number_per_step_shows_one_sequence():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": np.repeat([f"s{k}" for k in range(40)], 15),
            "x": rng.normal(size=600),
        }
    )
    frame["level"] = frame.groupby("id")["x"].cumsum()
    model = memorycell.train(
        "sequences", frame, sequence="id", target="level", kind="step_number", **SMALL
    )
    picture = model.picture
    name = next(word for word in picture.title.replace(",", "").split() if word.startswith("s"))
    own = frame[frame["id"] == picture.title.split(" sequence ")[1].split(",")[0]]
    assert name
    np.testing.assert_allclose(picture.lines["true"], own["level"], rtol=1e-3, atol=1e-3)
    assert len(picture.low) == len(picture.high) == 15
    (band,) = [trace for trace in model.figure("main").data if trace.name == "interval"]
    assert [y for y in band.y if y is not None] == [*picture.high, *reversed(picture.low)]
    assert all(low <= high for low, high in zip(picture.low, picture.high, strict=True))


def test_labels_show_a_table():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"id": np.repeat(np.arange(90), 8), "x": rng.normal(size=720)})
    frame["up"] = (frame.groupby("id")["x"].transform("mean") > 0).astype(int)
    frame["first"] = (frame.groupby("id")["x"].transform("first") > 0).astype(int)
    model = memorycell.train(
        "sequences", frame, sequence="id", target="up,first", kind="labels", **SMALL
    )
    header, *rows = model.picture.table
    assert header == ["label", "count", "precision", "recall", "f1"]
    assert [row[0] for row in rows] == ["up", "first"]
    for label, *cells in rows:
        scores = list(model.result["per_class"][label].values())
        np.testing.assert_allclose(np.array(cells, float), scores, rtol=1e-3)


def test_lines_of_words_hold_all_characters():
    words = [("a b", 1.0), ("c\n", 2.0), ("d" * 25, 3.0), ("\n\n", 0.5)]
    lines = word_lines(words, 10)
    assert ["".join(word for word, _ in line) for line in lines] == [
        "a bc⏎", "d" * 10, "d" * 10, "d" * 5 + "⏎", "⏎",
    ]  # fmt: skip


def test_text_of_the_data_is_no_markup():
    hostile = "<script>alert(1)</script>"
    words = Picture(title="t", words=[(hostile, 1.0)], unit=hostile)
    points = Picture(title="t", points=[(0.0, 1.0), (1.0, 1.0)], x_name=hostile, y=hostile)
    grid = Picture(title="t", x=["0"], rows=[hostile], cells=[(0, 0, 0.5)], x_name=hostile)
    for picture in (words, points, grid):
        assert "<script" not in picture_html(picture)
        assert "&lt;" in picture_html(picture)
        assert isinstance(picture_figure(picture), go.Figure)
    with pytest.raises(ValueError, match="row"):
        Picture(title="t", x=["0"], rows=["a"], dots=[(0, 1)])
    with pytest.raises(ValueError, match="position"):
        Picture(title="t", x=["0"], rows=["a"], cells=[(1, 0, 0.5)])
