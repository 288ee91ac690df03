"""Damaged descriptions of codecs are refused, or give a codec that works."""

import base64
import copy
import random

import pytest
from text_data import tale

from memorycell.language.codec import TextCodec, fit_text_codec
from memorycell.language.model import LanguageConfig

VALUES = [None, True, 0, -1, 2.5, 1e300, "", "x", "\n", [], {}, ["a"], {"a": 1}, 10**30, "<unk>"]


@pytest.fixture(scope="module", params=["char", "word", "piece"])
def described(request):
    codec = fit_text_codec([tale(400)], request.param, vocabulary=60, special_tokens=("<you>",))
    return codec.to_json()


def mutated(data, draw):
    """The description with a value changed, removed or added somewhere."""
    data = copy.deepcopy(data)
    where = data["surfaces"] if draw.random() < 0.4 else data
    key = draw.choice(range(len(where)) if isinstance(where, list) else list(where))
    action = draw.random()
    if action < 0.2:
        del where[key]
    elif action < 0.3 and isinstance(where, dict):
        where["more"] = draw.choice(VALUES)
    else:
        where[key] = draw.choice(VALUES)
    return data


def test_a_mutated_description_never_fails_later(described):
    draw = random.Random(7)
    refused = 0
    for _ in range(600):
        data = mutated(described, draw)
        try:
            codec = TextCodec.from_json(data)
        except ValueError:
            refused += 1
            continue
        tokens = codec.encode("The cat sat.\n 😀 xyz")
        assert all(0 <= token < len(codec) for token in tokens)
        assert isinstance(codec.decode(range(len(codec))), str)
        assert TextCodec.from_json(codec.to_json()) == codec
    assert refused > 300


@pytest.mark.parametrize(
    "damage",
    [
        {"marks": 2.0},
        {"marks": True},
        {"marks": 1},
        {"lower": "yes"},
        {"lower": 1},
        {"pieces": None},
        {"unit": None},
        {"unit": "Char"},
        {"surfaces": "abc"},
        {"surfaces": None},
    ],
)
def test_types_are_strict(described, damage):
    with pytest.raises(ValueError):
        TextCodec.from_json({**described, **damage})


def test_fields_are_all_there_and_no_others(described):
    for name in described:
        with pytest.raises(ValueError, match=name):
            TextCodec.from_json({k: v for k, v in described.items() if k != name})
    with pytest.raises(ValueError, match="'more'"):
        TextCodec.from_json({**described, "more": 1})


def test_a_sentencepiece_model_fits_its_vocabulary():
    codec = fit_text_codec([tale(400)], "piece", vocabulary=60)
    data = codec.to_json()
    surfaces = data["surfaces"]
    for damage in (
        {"pieces": ""},
        {"pieces": "not base64!"},
        {"pieces": "AAAA"},
        {"pieces": base64.b64encode(base64.b64decode(data["pieces"])[:100]).decode()},
        {"surfaces": [*surfaces[:-1], " other"]},
        {"surfaces": [*surfaces[:-2], surfaces[-1], surfaces[-2]]},
        {"unit": "word"},
        {"pieces": fit_text_codec(["other words here\n" * 50], "piece", vocabulary=30).pieces},
    ):
        with pytest.raises(ValueError):
            TextCodec.from_json({**data, **damage})
    char = fit_text_codec([tale(40)], "char", vocabulary=60).to_json()
    with pytest.raises(ValueError, match="does not go with the unit char"):
        TextCodec.from_json({**char, "pieces": data["pieces"]})


def test_mutated_sentencepiece_models():
    codec = fit_text_codec([tale(400)], "piece", vocabulary=60)
    data = codec.to_json()
    model = base64.b64decode(data["pieces"])
    draw = random.Random(3)
    refused = 0
    for _ in range(300):
        damaged = bytearray(model)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        pieces = base64.b64encode(damaged).decode()
        try:
            found = TextCodec.from_json({**data, "pieces": pieces})
        except ValueError:
            refused += 1
            continue
        assert all(0 <= token < len(found) for token in found.encode("The cat sat. 😀"))
    assert refused > 100


def test_half_characters_are_no_error(described):
    codec = TextCodec.from_json(described)
    assert isinstance(codec.decode(codec.encode("cat \udce9 sat")), str)


@pytest.mark.parametrize(
    "damage",
    [
        {"activation": float("nan")},
        {"activation": float("inf")},
        {"slowness": -1.0},
        {"noise": 1.0},
        {"noise": float("nan")},
        {"vocabulary": 0},
        {"vocabulary": 2.0},
        {"embedding_size": True},
        {"embedding_size": 10**9},
    ],
)
def test_a_damaged_configuration_is_refused(damage):
    good = {"vocabulary": 9, "embedding_size": 4, "hidden_size": 8}
    assert LanguageConfig(**good).tied
    with pytest.raises(ValueError, match=next(iter(damage))):
        LanguageConfig(**{**good, **damage})
