"""Strokes in JSON as canvases and programs keep them, each compared with the same points."""

import json

import pytest

from memorycell.errors import DataError
from memorycell.signals.canvas_strokes import to_strokes
from memorycell.signals.stroke_files import read_strokes

X, Y = list(range(0, 18, 2)), [k * k for k in range(9)]
LONG, SHORT = list(zip(X, Y, strict=True)), [(3, 4), (5, 9)]
POINTS = [[list(p) for p in LONG], [list(p) for p in SHORT]]
COLUMNS = [[X, Y], [[3, 5], [4, 9]]]
FORMS = {
    "points": POINTS,
    "points with times": [[[*p, k] for k, p in enumerate(stroke)] for stroke in POINTS],
    "points by name": [[{"x": x, "y": y, "time": 1} for x, y in stroke] for stroke in POINTS],
    "columns": COLUMNS,
    "columns with times": [[*stroke, list(range(len(stroke[0])))] for stroke in COLUMNS],
    "columns by name": [{"x": x, "y": y} for x, y in COLUMNS],
    "signature pad": [
        {"penColor": "black", "points": [{"x": x, "y": y, "pressure": 0.5} for x, y in stroke]}
        for stroke in POINTS
    ],
}


def read(folder, text: str, name: str = "a.json"):
    path = folder / "cat" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    found, _ = read_strokes(folder, "set")
    path.unlink()
    return [(d.label, [s.tolist() for s in d.drawing]) for d in found]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_points(tmp_path, form):
    strokes = FORMS[form]
    labelled = {"label": "dog", "strokes": strokes}
    assert read(tmp_path, json.dumps(labelled)) == [("dog", POINTS)]
    assert read(tmp_path, json.dumps([labelled, labelled])) == [("dog", POINTS)] * 2
    if form != "columns by name":  # needs the key `strokes`
        alone = json.dumps(strokes)
        assert read(tmp_path, alone) == [("cat", POINTS)]  # its folder
        assert read(tmp_path, f"{alone}\n{alone}\n", "a.jsonl") == [("cat", POINTS)] * 2
        assert read(tmp_path, json.dumps(strokes, indent=1)) == [("cat", POINTS)]


def test_a_point_is_no_column():
    pen = [[[1, 2, 0, 0.5, 30, 40], [3, 4, 1, 0.5, 30, 40]]]  # x, y, t, pressure, two angles
    assert to_strokes(pen) == pen
    assert to_strokes([[[3, 5], [4, 9]]]) == [[[3, 5], [4, 9]]]


@pytest.mark.parametrize(
    "strokes",
    [
        [[X, Y[:-1]]],
        [[X]],
        [[X, Y, X, Y]],
        [[X, Y], [[1, 2]]],
        [{"x": X}],
        [{"x": X, "y": Y[1:]}],
        [{"points": 7}],
        [7],
        7,
    ],
)
def test_columns_that_do_not_match_are_refused(tmp_path, strokes):
    with pytest.raises(DataError, match="a.json"):
        read(tmp_path, json.dumps({"label": "a", "strokes": strokes}))
    with pytest.raises(DataError, match="a.json"):
        read(tmp_path, json.dumps(strokes))


def test_columns_of_words_name_their_stroke(tmp_path):
    with pytest.raises(DataError, match="stroke 1: expected points"):
        read(tmp_path, json.dumps([[[*X[:-1], "9"], Y]]))
