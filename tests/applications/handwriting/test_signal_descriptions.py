"""Codecs and saved drawings from JSON: every field is checked."""

import json

import pytest

from memorycell.applications.handwriting.codec import LineCodec
from memorycell.language.codec import fit_text_codec
from memorycell.signals.strokes import StrokeCodec

CODECS = {
    "strokes": StrokeCodec(labels=("a", "b"), height=3.5),
    "lines": LineCodec(text=fit_text_codec(["abc"], "char", vocabulary=9), sentences=("abc",)),
}
VALUES = (None, True, -1, 1e300, "x", [], {}, [1], ["a", "a"], [""], float("nan"), float("inf"))


@pytest.mark.parametrize("kind", CODECS)
def test_codecs_from_json(kind):
    codec = CODECS[kind]
    values = json.loads(json.dumps(codec.to_json()))
    assert type(codec).from_json(values) == codec
    for name in values:
        if name != "unknown_below":  # which files of earlier versions do not have
            with pytest.raises((ValueError, KeyError, TypeError)):
                type(codec).from_json({k: v for k, v in values.items() if k != name})
        for value in VALUES:
            if (name, value) in (("sentences", []), ("sentences", ["a", "a"]), ("sentences", [""])):
                continue
            if value == values[name] or (name == "labels" and kind == "lines" and value == []):
                continue
            with pytest.raises((ValueError, KeyError, TypeError)):
                type(codec).from_json({**values, name: value})
    with pytest.raises(ValueError, match="unknown field"):
        type(codec).from_json({**values, "more": 1})
