"""The translation memory: what it answers, its limits in a file, several sets joined."""

import pytest
import torch

from memorycell.applications.translation import APPLICATION
from memorycell.applications.translation.codec import fit_pair_codec
from memorycell.applications.translation.dataset import prepare
from memorycell.applications.translation.memory import Limits, Memory, fit_memory
from memorycell.applications.translation.model import Translator
from memorycell.applications.translation.pairs import source_key
from memorycell.applications.translation.settings import TranslationSettings
from memorycell.errors import ModelFileError
from memorycell.language.nearest import NEVER, NearestText

PAIRS = [("open the file %s", "ouvrez %s"), ("close it", "fermez"), ("a red cat", "un chat rouge")]
SMALL = TranslationSettings(unit="word", vocabulary=60, hidden=8, embedding=8)


@pytest.fixture(scope="module")
def model_and_codec():
    torch.manual_seed(0)
    codec = fit_pair_codec(PAIRS * 2, "word", vocabulary=60, joint=False)
    config = SMALL.model_config(len(codec.target), len(codec.source))
    return Translator(config).eval(), codec


def texts_of(memory, model_and_codec, *texts):
    return memory.translate(*model_and_codec, list(texts), (2, 1.0, 0.0))


def test_near_sentences_come_from_the_memory(model_and_codec):
    nearest = NearestText(*map(list, zip(*PAIRS, strict=True)))
    memory = Memory(Limits(0.6, 0.5), nearest)
    near, copy, other, empty = texts_of(
        memory, model_and_codec, "close it!", "open the file %d", "zebras", ""
    )
    assert near.text == "fermez"
    assert near.similarity > 0.6
    assert not memory.is_unsure(near)
    assert copy.similarity is None  # the remembered translation would copy another string
    assert "%s" not in copy.text
    assert other.similarity is None
    assert memory.is_unsure(other) == (other.p < 0.5)
    assert empty.text == ""


def test_the_memory_is_kept_in_a_file_where_it_is_used(model_and_codec):
    nearest = NearestText(*map(list, zip(*PAIRS, strict=True)))
    arrays = Memory(Limits(0.5, 0.25), nearest).arrays(PAIRS)
    again = Memory.of(arrays)
    assert again.limits == Limits(0.5, 0.25)
    assert texts_of(again, model_and_codec, "a red cat")[0].text == "un chat rouge"
    unused = Memory(Limits(NEVER, 0.25), nearest).arrays(PAIRS)
    assert set(unused) == {"limits"}
    assert texts_of(Memory.of({}), model_and_codec, "a red cat")[0].similarity is None
    with pytest.raises(ModelFileError, match="limits"):
        Memory.of({"limits": torch.zeros(1)})


def test_an_untrained_network_is_replaced_by_the_nearest_sentence(model_and_codec):
    nearest = NearestText(*map(list, zip(*PAIRS, strict=True)))
    valid = [("close it now", "fermez"), ("the red cat", "un chat rouge")]
    memory, note = fit_memory(*model_and_codec, nearest, valid, (2, 1.0, 0.0))
    assert memory.limits.similarity < 0.9
    assert texts_of(memory, model_and_codec, "close it")[0].text == "fermez"
    assert "nearest sentence 100.0" in note


def test_joined_sets_share_no_held_out_source(tmp_path):
    for name, offset in (("one", 0), ("two", 150)):
        rows = (f"number {chr(97 + k % 26)}{chr(97 + k // 26)}\tnombre {k}" for k in range(400))
        (tmp_path / f"{name}.tsv").write_text("\n".join(list(rows)[offset:]))
    both = f"{tmp_path / 'one.tsv'}+{tmp_path / 'two.tsv'}"
    dataset = prepare(both, SMALL)
    keys = {s: {source_key(a) for a, _ in part} for s, part in dataset.pairs.items()}
    assert not keys["train"] & (keys["valid"] | keys["test"])
    assert not keys["valid"] & keys["test"]
    alone = prepare(str(tmp_path / "one.tsv"), SMALL)
    assert keys["test"] >= {source_key(a) for a, _ in alone.pairs["test"]}
    assert APPLICATION.reads
