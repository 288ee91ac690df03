"""Sounds and drawings in memory are written with the values they have."""

import json

import numpy as np
import pytest
import soundfile
import torch

import memorycell
from memorycell.errors import UserError
from memorycell.face.writers import UNLABELLED, WRITERS

RATE_HZ = 8000
WAVE = np.sin(np.arange(400) / 5) * 0.5


@pytest.mark.parametrize(
    ("samples", "tolerance"),
    [
        (WAVE, 1e-7),
        (WAVE.astype(np.float16), 1e-3),
        (WAVE.astype(np.longdouble), 1e-7),
        (WAVE.astype(">f4"), 1e-7),
        ((WAVE * 2**15).astype(np.int16), 1e-4),
        ((WAVE * 2**31).astype(np.int32), 1e-8),
        ((WAVE * 128 + 128).astype(np.uint8), 1 / 128),
        (np.repeat(WAVE, 3)[::3], 1e-7),
        (WAVE.tolist(), 1e-7),
        (torch.tensor(WAVE), 1e-7),
        (np.asfortranarray(np.c_[WAVE, -WAVE]), 1e-7),
    ],
    ids=str,
)
def test_samples_of_every_type_have_the_same_level(samples, tolerance, tmp_path):
    """Integers of 32 bits were written as they are into a file of floats."""
    UNLABELLED["sounds"]((samples, RATE_HZ), tmp_path)
    read, rate = soundfile.read(tmp_path / "000000.wav", always_2d=True)
    assert rate == RATE_HZ
    np.testing.assert_allclose(read[:, 0], WAVE, atol=tolerance)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (WAVE.astype(complex), r"sound 1: complex128 \[400\]"),
        (np.zeros((2, 400)), "sound 1 has 400 channels; give samples as .T. or .T, channels."),
        (np.zeros(0), r"sound 1: float64 \[0\]"),
        ((WAVE * 99).astype(np.int64), "sound 1: int64; give floats, or integers of 8, 16 or 32"),
        (WAVE > 0, r"sound 1: bool \[400\]"),
    ],
)
def test_samples_that_cannot_be_used(samples, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        UNLABELLED["sounds"]((samples, RATE_HZ), tmp_path)


STROKES = [np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([[4.0, 5.0]])]
WRITTEN = [[[0, 1], [2, 3]], [[4, 5]]]


@pytest.mark.parametrize(
    ("drawings", "labels"),
    [
        (STROKES, [None]),
        (tuple(STROKES), [None]),
        ([[(0, 1), (2, 3)], [(4, 5)]], [None]),
        ([STROKES, STROKES], [None, None]),
        ([(STROKES, "a"), (STROKES, "b")], ["a", "b"]),
        ([(STROKES, 7)], ["7"]),
        ([[STROKES, np.int64(7)]], ["7"]),
        ([[stroke.astype(np.float16) for stroke in STROKES]], [None]),
        ([torch.tensor(stroke) for stroke in STROKES], [None]),
    ],
    ids=range(9),
)
def test_drawings_with_and_without_labels(drawings, labels, tmp_path):
    """A label that is a number was read as a stroke."""
    path = UNLABELLED["strokes"](drawings, tmp_path)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [one["strokes"] for one in records] == [WRITTEN] * len(labels)
    assert [one.get("label") for one in records] == labels


@pytest.mark.parametrize(
    ("drawings", "words"),
    [
        (STROKES[0], "this is one stroke; a drawing is a list of strokes"),
        (STROKES[0].tolist(), "this is one stroke"),
        ([], "there are no points"),
        ([[]], "there are no points"),
    ],
    ids=range(4),
)
def test_drawings_that_cannot_be_used(drawings, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        UNLABELLED["strokes"](drawings, tmp_path)


def test_a_drawing_without_a_label_is_not_of_the_class_none(tmp_path):
    with pytest.raises(UserError, match="label 2 is missing"):
        WRITERS["strokes"]([(STROKES, "a"), (STROKES, None)], tmp_path)
    with pytest.raises(UserError, match="label 1 is missing"):
        memorycell.train("handwriting", [(STROKES, float("nan"))] * 9, progress=False)
