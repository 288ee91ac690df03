"""Splits by rule and by hash."""

import pytest

from memorycell.errors import DataError
from memorycell.signals.examples import Example
from memorycell.signals.splitting import SplitRule, SplitSettings, split_examples


def examples(count: int) -> list[Example[None]]:
    return [Example(None, f"label {k % 50}", f"name {k}", {"index": str(k)}) for k in range(count)]


def test_equal_transcripts_are_in_one_split():
    splits, _ = split_examples(examples(400), SplitSettings(), classes=False, where="set")
    labels = [{e.label for e in members} for members in splits.values()]
    assert not labels[0] & labels[1]
    assert not labels[0] & labels[2]
    assert not labels[1] & labels[2]
    assert sum(map(len, splits.values())) == 400


def test_rules_replace_the_hash():
    settings = SplitSettings(held_out="index<30", checked="index>350")
    splits, _ = split_examples(examples(400), settings, classes=True, where="set")
    assert [int(e.fields["index"]) for e in splits["test"]] == list(range(30))
    assert [int(e.fields["index"]) for e in splits["valid"]] == list(range(351, 400))
    assert len(splits["train"]) == 400 - 30 - 49


def test_invalid_rules_and_small_splits():
    with pytest.raises(ValueError, match="expected FIELD=VALUE"):
        SplitRule.parse("bob")
    with pytest.raises(DataError, match="cannot evaluate age>3; its fields: index=0"):
        split_examples(examples(100), SplitSettings(held_out="age>3"), classes=True, where="set")
    with pytest.raises(DataError, match="only 3 examples in the test split"):
        split_examples(examples(100), SplitSettings(held_out="index<3"), classes=True, where="set")


@pytest.mark.parametrize(
    "fields", [{"writer": "\u2028\x1b[31m\nmemorycell: all is well"}, {"wri\u2028ter\n": "4"}]
)
def test_hostile_fields_stay_on_one_line(fields):
    example = Example(None, "a", "1.wav", fields)
    with pytest.raises(DataError) as caught:
        SplitRule.parse("writer>4").matches(example)
    assert str(caught.value).isprintable()
