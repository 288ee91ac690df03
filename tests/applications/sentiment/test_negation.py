"""Negations: added training phrases, sixty minimal pairs, and limits of certainty."""

from pathlib import Path

import numpy as np
import pytest

from memorycell.application import modelfile
from memorycell.application.datasets import named_dataset
from memorycell.applications.sentiment import APPLICATION
from memorycell.applications.sentiment.examples import Example
from memorycell.applications.sentiment.limits import Limits, fit_limits
from memorycell.applications.sentiment.negation import NEGATION, negated_examples
from memorycell.applications.sentiment.predict import classify
from memorycell.applications.sentiment.settings import SentimentSettings
from memorycell.errors import DataError, ModelFileError
from memorycell.training import loop as training

PAIRS = [
    tuple(line.split("\t"))
    for line in Path(__file__).with_name("negation_pairs.tsv").read_text().splitlines()
]
"""(positive, negative): sentences that differ in a negation."""


def test_short_clear_phrases_are_negated():
    examples = [
        Example("boring", "negative", 1.0),
        Example("a good film", "positive", 0.75),
        Example("not bad", "positive", 0.75),  # has a negation
        Example("a film", "negative", 0.5),  # unclear
        Example("a very long and very boring film", "negative", 1.0),  # too long
        Example(",", "positive", 1.0),
    ]
    added = [e for seed in range(20) for e in negated_examples(examples, seed)]
    negated = [e for e in added if NEGATION.search(e.text) or "far from" in e.text]
    assert {e.label for e in negated if "boring" in e.text} == {"positive"}
    assert {e.label for e in negated if "good film" in e.text} == {"negative"}
    affirmed = [e for e in added if e not in negated and "without" not in e.text]
    assert {(e.label, "boring" in e.text) for e in affirmed} <= {
        ("negative", True),
        ("positive", False),
    }
    assert not any("bad" in e.text or "very" in e.text for e in added)
    assert negated_examples(examples) == negated_examples(examples)
    assert negated_examples([Example("boring", "one star")]) == []


def test_the_pairs_are_minimal():
    assert len(PAIRS) == 60
    assert len({text for pair in PAIRS for text in pair}) == 120
    for positive, negative in PAIRS:
        a, b = (set(text.lower().split()) for text in (positive, negative))
        assert len(a & b) >= 1
        assert len(a ^ b) <= 6


@pytest.mark.slow
def test_minimal_pairs_of_the_default_model(tmp_path):
    try:
        named_dataset("sst").find()
    except DataError as error:
        pytest.skip(str(error))
    out = tmp_path / "s.safetensors"
    training.train(APPLICATION, None, SentimentSettings(), APPLICATION.training, out, minutes=4.5)
    file = modelfile.load(out)
    p = classify(file, [text for pair in PAIRS for text in pair])
    is_positive = (p.argmax(1) == file.codec.labels.index("positive")).reshape(-1, 2)
    right = is_positive[:, 0] & ~is_positive[:, 1]
    assert right.mean() >= 0.85, [pair for pair, ok in zip(PAIRS, right, strict=True) if not ok]


def test_limits_of_certainty():
    rng = np.random.default_rng(0)
    positive = rng.random(1000)
    p = np.stack([1 - positive, positive], 1)
    truth = (rng.random(1000) < positive).astype(np.int64)
    limits, note = fit_limits(p, truth, np.zeros(1000))
    best = p.max(1)
    assert (best < limits.min_p).mean() == pytest.approx(0.1, abs=0.002)
    wrong = (p.argmax(1) != truth)[best >= limits.min_p].mean()
    assert f"of those accepted {wrong:.1%} are wrong" in note
    assert limits.is_unsure(0.99, 0.9)
    assert limits.is_unsure(limits.min_p - 0.01, 0)
    assert not limits.is_unsure(0.99, 0.1)
    again = Limits.of(limits.arrays())
    assert again.min_p == pytest.approx(limits.min_p)
    with pytest.raises(ModelFileError, match="limits"):
        Limits.of({"limits": limits.arrays()["limits"][:1]})
