"""A million sequences: encoded together, tried and validated on some of them."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from memorycell.applications.sequences import many_rows
from memorycell.applications.sequences.arrays import from_arrays
from memorycell.applications.sequences.choices import sampled
from memorycell.applications.sequences.codec import Column, SequenceCodec
from memorycell.applications.sequences.many_rows import rows_of_many
from memorycell.applications.sequences.prepare import prepare_set, split_parts
from memorycell.applications.sequences.settings import SequencesSettings

COLUMNS = (
    Column("plain", mean=1.0, std=2.0, change=0.5),
    Column("gappy", std=3.0, unit=0.5, change=1.5, gappy=True),
    Column("word", words=("a", "b")),
)


def sequences(count=200):
    rng = np.random.default_rng(0)
    found = []
    for size in rng.integers(1, 9, count):
        values = rng.normal(size=(size, 3)) * 4
        values[:, 2] = rng.integers(0, 2, size)
        values[rng.random((size, 3)) < 0.3] = np.nan
        found.append(values)
    return found


@pytest.mark.parametrize("most", [1, 7, 1 << 18])
def test_together_as_each_by_itself(monkeypatch, most):
    monkeypatch.setattr(many_rows, "MAX_ROWS", most)
    codec, values = SequenceCodec("class", ("x", "y"), COLUMNS), sequences()
    found = rows_of_many(codec, values)
    assert len(found) == len(values)
    for own, given in zip(found, values, strict=True):
        np.testing.assert_array_equal(own, codec.rows(given))


def test_columns_relative_to_their_own_sequence():
    codec = SequenceCodec("class", ("x", "y"), (Column("a", floor=0.1), *COLUMNS[1:]))
    for own, given in zip(rows_of_many(codec, sequences()), sequences(), strict=True):
        np.testing.assert_array_equal(own, codec.rows(given))


def labelled(count):
    rng = np.random.default_rng(1)
    return from_arrays(rng.normal(size=(count, 3, 1)), np.arange(count) % 2, kind="class")


def test_few_of_many_are_validated_and_tried(monkeypatch):
    monkeypatch.setattr(sys.modules[prepare_set.__module__], "MAX_VALIDATED", 30)
    parts, _, _ = split_parts(labelled(2000), SequencesSettings(members=1))
    assert parts.sizes() == {"train": 1670, "valid": 30, "test": 300}
    names = [set(own.names) for own in parts.sets.values()]
    assert sum(map(len, names)) == len(set.union(*names)) == 2000
    settings = SequencesSettings(augment="none", encoder="none", members=1)
    dataset = prepare_set(labelled(2000), settings)
    few = sampled(dataset, 100)
    assert few.parts.sizes() == {"train": 100, "valid": 30, "test": 300}
    assert set(few.part("train").names) < set(dataset.part("train").names)
    assert sampled(dataset, 2000) is dataset


@pytest.mark.parametrize(("count", "members"), [(300, 10), (400, 5), (4000, 1)])
def test_more_networks_for_fewer_sequences(monkeypatch, count, members):
    monkeypatch.setattr(sys.modules[prepare_set.__module__], "MAX_CROSS_VALIDATED_ROWS", 0)
    parts, settings, _ = split_parts(labelled(count), SequencesSettings())
    assert settings.members == members
    if members > 1:
        assert parts.left_out is not None
        counts = np.bincount(parts.left_out)
        assert len(counts) == members
        assert np.ptp(counts) <= 2


def test_fewer_networks_validate_fewer_sequences():
    """Trials use fewer networks than the training, with the same encoded sequences."""
    settings = SequencesSettings(augment="none", encoder="none", members=4)
    dataset = prepare_set(labelled(100), settings)
    assert len(dataset.inputs("valid")) == len(dataset.part("valid")) == 84
    fewer = dataset.with_settings(replace(dataset.settings, members=2))
    assert len(fewer.inputs("valid")) == len(fewer.part("valid")) < 50
    for own, values in zip(fewer.inputs("valid"), fewer.part("valid").values, strict=True):
        np.testing.assert_array_equal(own, dataset.codec.rows(values))


@pytest.mark.parametrize(("size", "longest"), [(9000, 4096), (4000, 4000)])
def test_a_sequence_much_longer_than_the_others_is_trained_on_in_parts(size, longest):
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(size if k == 3 else 20, 1)).cumsum(0) for k in range(40)]
    data = from_arrays(values, np.arange(40) % 2, kind="class")
    settings = SequencesSettings(
        augment="none", encoder="none", members=1, patch=1, changes=False, split="0.9,0.05,0.05"
    )
    dataset = prepare_set(data, settings)
    own = next(v for v in dataset.part("train").values if len(v) == size)
    whole = dataset.codec.rows(own)[:, 0].tolist()
    seen = []
    for epoch in range(3):
        for batch in dataset.batches(epoch):
            for x, length in zip(batch.x[..., 0], batch.lengths.tolist(), strict=True):
                if length > 20:
                    seen.append(whole.index(x[0].item()))
                    assert x[:length].tolist() == whole[seen[-1] : seen[-1] + longest]
    assert len(seen) > 10
    assert (len(set(seen)) > 5) == (longest < size)
