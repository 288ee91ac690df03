"""The style to draw in, given as drawings in memory, is that of the same drawings in a file."""

import json

import numpy as np
import pytest

import memorycell
from memorycell.errors import UserError

RNG = np.random.default_rng(0)
DRAWINGS = [([RNG.normal(size=(9, 2)).cumsum(0)], "ab"[k % 2]) for k in range(120)]
OPTIONS = {"count": 1, "candidates": 2, "longest": 6}


@pytest.fixture(scope="module")
def model():
    return memorycell.train("drawing", DRAWINGS, epochs=1, hidden=4, progress=False)


def test_a_style_in_memory_is_that_of_a_file(model, tmp_path):
    style = DRAWINGS[3:5]
    path = tmp_path / "style.jsonl"
    lines = [{"label": label, "strokes": [s.tolist() for s in strokes]} for strokes, label in style]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    of_file = model.predict("a", style=str(path), **OPTIONS)
    assert model.predict("a", style=style, **OPTIONS) == of_file
    assert model.predict("a", style=path, **OPTIONS) == of_file
    assert model.predict("a", **OPTIONS)["drawings"] != of_file["drawings"]
    for name, given in (("file", str(path)), ("memory", style)):
        model.write(tmp_path / f"{name}.svg", "a", style=given, **OPTIONS)
    assert (tmp_path / "file.svg").read_bytes() == (tmp_path / "memory.svg").read_bytes()


@pytest.mark.parametrize(
    ("style", "words"),
    [
        (DRAWINGS[0][0], r"takes a list of \(strokes, label\)"),
        ([(DRAWINGS[0][0], "z")], "data in memory: contains no drawing of a sign that the model"),
        ([], "this has none"),
        (7, "takes a path, the name of a dataset or a list of .strokes, label.*not 'int'"),
    ],
)
def test_a_style_that_cannot_be_used(model, style, words):
    with pytest.raises(UserError, match=words) as raised:
        model.predict("a", style=style, **OPTIONS)
    assert "\n" not in str(raised.value)
