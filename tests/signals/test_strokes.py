"""Pen strokes: features that depend on the shape alone, files good and bad, augmentation."""

import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from signal_data import shape

from memorycell.errors import DataError
from memorycell.signals.stroke_augmentation import augment_strokes
from memorycell.signals.stroke_files import read_strokes
from memorycell.signals.strokes import StrokeCodec, check_strokes, resample_stroke

CODEC = StrokeCodec(labels=("a", "b"))


@given(seed=st.integers(0, 300), kind=st.sampled_from(["circle", "cross", "square", "bar"]))
def test_features_do_not_depend_on_size_and_position(seed, kind):
    rng = np.random.default_rng(seed)
    drawing = check_strokes(shape(kind, rng), "x")
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
def test_resampled_points_are_equally_spaced(points, spacing):
    stroke = np.array(points)
    found = resample_stroke(stroke, spacing)
    length = np.hypot(*np.diff(stroke, axis=0).T).sum()
    np.testing.assert_allclose(found[0], stroke[0], atol=1e-9)
    if length == 0:
        assert len(found) == 1
        return
    np.testing.assert_allclose(found[-1], stroke[-1], atol=1e-9)
    gaps = np.hypot(*np.diff(found, axis=0).T)
    assert (
        gaps.max() <= length / (len(found) - 1) + 1e-9
    )  # a resampled corner is shorter, never longer
    if length > 2 * spacing:
        assert 0.6 * spacing < length / (len(found) - 1) < 1.6 * spacing


def test_features_do_not_depend_on_the_speed_of_the_pen():
    t = np.linspace(0, 1, 200)
    slow = np.stack([t, t**2], 1)
    uneven = np.concatenate([slow[:100:10], slow[100:]])
    np.testing.assert_allclose(
        CODEC.encode([slow])[:, 6:], CODEC.encode([uneven])[:, 6:], atol=0.02
    )


def test_invalid_strokes():
    for strokes, what in (
        ([[[0, 0], [1]]], "stroke 1: expected points"),
        ([[[0, 0]], [[0, float("nan")]]], "stroke 2, point 1"),
        ([[[0, 1e9]]], "invalid coordinates"),
        ([["ab"]], "expected points"),
        ([], "contains no points"),
        ([[]], "contains no points"),
        ([[[0, k] for k in range(30_000)]], "the maximum is 20,000"),
    ):
        with pytest.raises(DataError, match=what):
            check_strokes(strokes, "file")
    dot = check_strokes([[[3, 4]], [[5, 5], [5, 5], [5, 5]]], "file")
    assert [len(s) for s in dot] == [1, 1]
    assert np.isfinite(CODEC.encode(dot)).all()
    assert CODEC.encode(dot[:1]).shape == (1, 8)


def test_json_lines(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(
        '{"strokes": [[[0,0],[1,1]]], "label": "a", "writer": 7}\nno\n{"strokes":'
        ' [[[0,"x"]]]}\n\n{"strokes": [[[1,2]]]}\n'
    )
    with pytest.raises(DataError, match="d: 2 of 4 drawings would be left out .*lossy=true"):
        read_strokes(path, "d")
    found, notes = read_strokes(path, "d", lossy=True)
    assert [(d.label, dict(d.fields)) for d in found] == [("a", {"writer": "7"}), ("", {})]
    assert notes == [
        "2 of 4 drawings left out: damaged (the first: d.jsonl: line 2: expected JSON like "
        '{"strokes": [[[x, y], …], …], "label": "a"})'
    ]
    path.write_text("no\n")
    with pytest.raises(DataError, match="line 1: expected JSON"):
        read_strokes(path, "d")
    with pytest.raises(DataError, match="unknown file type '.doc'"):
        read_strokes(tmp_path / "d.doc", "d")


INKML = """<ink xmlns="http://www.w3.org/2003/InkML"><annotation type="truth">hi</annotation>
<annotation type="writer">3</annotation><trace>0 0 1, 1 1 2, 2 0 3</trace>
<trace>5 5, 6 6</trace></ink>"""
BOMB = (
    '<!DOCTYPE i [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><ink'
    ' xmlns="http://www.w3.org/2003/InkML"><trace>&b;</trace></ink>'
)


def test_inkml_and_malicious_xml(tmp_path):
    (tmp_path / "a.inkml").write_text(INKML)
    (tmp_path / "b.inkml").write_text(BOMB)
    (tmp_path / "c.inkml").write_text("<ink>")
    found, notes = read_strokes(tmp_path, "ink", lossy=True)
    assert len(found) == 1
    assert (found[0].label, found[0].fields["writer"]) == ("hi", "3")
    np.testing.assert_array_equal(found[0].drawing[0], [[0, 0], [1, 1], [2, 0]])
    assert notes == [
        "2 of 3 drawings left out: damaged (the first: b.inkml: XML with entities is not read"
        " (EntitiesForbidden))"
    ]


def test_omniglot_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "o.zip", "w") as archive:
        archive.writestr(
            "set/Latin/character05/0001_13.txt",
            "START\n0,0,1\n1,-2,3\nBREAK\n4,-4,9\n5,-4,9\nBREAK\n",
        )
        archive.writestr("set/Latin/character05/0001_14.txt", "START\n0,zero,1\nBREAK\n")
        archive.writestr("__MACOSX/set/Latin/character05/._0001_13.txt", "\0\1")
    found, notes = read_strokes(tmp_path / "o.zip", "o", lossy=True)
    assert [(d.label, d.fields["writer"], len(d.drawing)) for d in found] == [("Latin/05", "13", 2)]
    np.testing.assert_array_equal(found[0].drawing[0], [[0, 0], [1, 2]])
    assert "0001_14.txt: line 2: expected x,y,t" in notes[0]
    (tmp_path / "no.zip").write_text("no archive")
    with pytest.raises(DataError, match="not a readable archive"):
        read_strokes(tmp_path / "no.zip", "o")


def test_augmentation_is_seeded_and_keeps_the_strokes():
    drawing = check_strokes(shape("cross", np.random.default_rng(0)), "x")
    a, b = (augment_strokes(drawing, np.random.default_rng(3), warp=1, order=0) for _ in range(2))
    for one, two, was in zip(a, b, drawing, strict=True):
        np.testing.assert_array_equal(one, two)
        assert one.shape == was.shape
    still = augment_strokes(drawing, np.random.default_rng(3), warp=0, order=0)
    np.testing.assert_allclose(np.concatenate(still), np.concatenate(drawing), atol=1e-9)
    swapped = augment_strokes(drawing, np.random.default_rng(1), warp=0, order=1)
    flat = {tuple(np.round(p, 6)) for s in drawing for p in s}
    assert {tuple(np.round(p, 6)) for s in swapped for p in s} == flat
    assert not np.allclose(np.concatenate(swapped), np.concatenate(drawing))
