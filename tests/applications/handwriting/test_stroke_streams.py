"""Sessions of handwriting that are given strokes and drawings, compared with points one by one."""

import json

import numpy as np
import pytest
from signal_data import shape

from memorycell.application import modelfile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.handwriting import APPLICATION
from memorycell.applications.handwriting.session import HandwritingSession
from memorycell.applications.handwriting.settings import HandwritingSettings
from memorycell.errors import DataError, UserError
from memorycell.training import loop as training


def by_points(file, strokes):
    session, answers = HandwritingSession(file), []
    for stroke in strokes:
        for x, y in stroke:
            answers += session.feed(json.dumps([x, y]))
        session.feed("up")
    return answers[-1]


@pytest.fixture(scope="module")
def shape_model(shapes, tmp_path_factory):
    out = tmp_path_factory.mktemp("streamed") / "s.safetensors"
    settings = HandwritingSettings(
        hidden=16, layers=1, budget=400, held_out="writer>4", checked="writer=4"
    )
    return training.train(APPLICATION, str(shapes), settings, TrainSettings(epochs=1), out), out


@pytest.fixture(scope="module")
def strokes():
    drawn = shape("cross", np.random.default_rng(3))
    return [np.round(stroke, 2).tolist() for stroke in drawn]


def test_strokes_and_drawings_give_the_answer_of_their_points(shape_model, strokes):
    file = modelfile.load(shape_model[1])
    expected = by_points(file, strokes)
    columns = [[list(axis) for axis in zip(*stroke, strict=True)] for stroke in strokes]
    assert min(len(stroke) for stroke in strokes) >= 8  # so that columns are recognised
    path = ["M " + " L ".join(f"{x} {y}" for x, y in stroke) for stroke in strokes]
    pad = [{"points": [{"x": x, "y": y} for x, y in stroke]} for stroke in strokes]
    for items in (strokes, columns, pad):
        for dump in (json.dumps, lambda item: item):
            session = HandwritingSession(file)
            if dump is json.dumps or items is pad:
                answers = [session.feed(dump(item)) for item in items]
                assert answers[-1] == [expected]
                assert len(answers[0]) == 1
    for data in (path, [" ".join(path)]):
        session = HandwritingSession(file)
        assert [session.feed(item) for item in data][-1] == [expected]
    session = HandwritingSession(file)
    for drawing in ({"strokes": strokes}, {"word": "x", "drawing": columns}, {"strokes": pad}):
        assert session.feed(json.dumps(drawing)) == [expected]  # takes the place of the one before
        assert session.feed(drawing) == [expected]


def test_a_stroke_follows_points_and_is_saved(shape_model, strokes):
    file = modelfile.load(shape_model[1])
    expected = by_points(file, strokes)
    session = HandwritingSession(file)
    for x, y in strokes[0]:
        session.feed(json.dumps([x, y]))
    other = HandwritingSession(file)
    other.restore(session.snapshot())
    assert other.feed(json.dumps(strokes[1])) == [expected]
    again = HandwritingSession(file)
    again.restore(other.snapshot())
    point = json.dumps(strokes[0][0])
    assert again.feed(point)[0]["strokes"] == len(strokes) + 1
    again.feed("")
    assert again.feed(point)[0]["points"] == 1


@pytest.mark.parametrize(
    "line",
    [
        "M 0 0 L 5",
        "M 0 0",
        '[[1, 2], ["3", 4]]',
        '{"strokes": 7}',
        '{"drawing": [[[1, 2], [3]]]}',
        '{"points": []}',
        "[[]]",
        "[]",
        "more",
    ],
)
def test_damaged_strokes_leave_the_drawing_unchanged(shape_model, strokes, line):
    session = HandwritingSession(modelfile.load(shape_model[1]))
    session.feed(json.dumps(strokes[0]))
    before = session.snapshot()
    with pytest.raises((DataError, UserError), match="stdin, line 2"):
        session.feed(line)
    assert session.snapshot() == before
