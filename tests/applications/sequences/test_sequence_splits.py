"""Parts of labelled sequences: by class, by group, in time."""

import numpy as np
import pytest

from memorycell.applications.sequences.sequence_set import Channel, SequenceSet, Target
from memorycell.applications.sequences.splits import (
    TEST,
    TRAIN,
    VALID,
    folds,
    select_part,
    split_notes,
    split_sequences,
    split_spans,
)
from memorycell.errors import DataError

SHARES = (0.7, 0.15, 0.15)


def labelled(classes, groups=None, split=None) -> SequenceSet:
    classes = np.asarray(classes)
    names = tuple(f"c{k}" for k in range(classes.max() + 1))
    return SequenceSet(
        "mem",
        [f"s{k}" for k in range(len(classes))],
        [Channel("x")],
        [np.full((3, 1), k) for k in range(len(classes))],
        Target("class", names, classes),
        groups=groups,
        split=split,
    )


def stepwise(lengths, unknown=0) -> SequenceSet:
    values = [np.arange(n, dtype=float)[:, None] for n in lengths]
    target = [v.copy() for v in values]
    if unknown:
        target[0][-unknown:] = np.nan
    names = [f"s{k}" for k in range(len(lengths))]
    return SequenceSet("mem", names, [Channel("x")], values, Target("step_number", ("y",), target))


def test_every_class_keeps_its_shares_and_the_seed_decides():
    classes = np.repeat([0, 1, 2], [100, 40, 20])
    parts = split_sequences(labelled(classes), SHARES, seed=1)
    for k, count in enumerate((100, 40, 20)):
        got = np.bincount(parts[classes == k], minlength=3)
        np.testing.assert_array_equal(got[[VALID, TEST]], round(0.15 * count))
    np.testing.assert_array_equal(parts, split_sequences(labelled(classes), SHARES, seed=1))
    assert (parts != split_sequences(labelled(classes), SHARES, seed=2)).any()


def test_rare_classes_are_trained_on():
    data = labelled([0] * 20 + [1] * 2 + [2])
    parts = split_sequences(data, SHARES)
    assert sorted(parts[20:22]) == [TRAIN, TEST]
    assert parts[22] == TRAIN
    assert any(
        "classes with one sequence, which is trained on: 'c2'" in n
        for n in split_notes(data, parts)
    )


def test_a_class_only_in_the_test_part_is_noted():
    data = labelled([0, 1, 0, 1, 0, 2], split=np.array([0, 0, 0, 0, 2, 2], np.int8))
    parts = split_sequences(data, SHARES)
    notes = "; ".join(split_notes(data, parts))
    assert "'c2' is not in the training part; its 1 sequence will be" in notes


@pytest.mark.parametrize("seed", range(4))
def test_groups_stay_in_one_part(seed):
    rng = np.random.default_rng(seed)
    groups = [f"g{k}" for k in rng.integers(0, 12, 200)]
    parts = split_sequences(labelled(rng.integers(0, 3, 200), groups), SHARES, seed)
    for name in set(groups):
        assert len({int(p) for p, g in zip(parts, groups, strict=True) if g == name}) == 1
    shares = np.bincount(parts, minlength=3) / 200
    np.testing.assert_allclose(shares, SHARES, atol=0.09)
    for train, valid in folds(labelled(rng.integers(0, 3, 200), groups), 4, seed):
        assert not {groups[k] for k in train} & {groups[k] for k in valid}


def test_official_parts_are_kept_and_validation_comes_from_training():
    split = np.repeat(np.array([0, 2], np.int8), [40, 30])
    classes = np.arange(70) % 2
    parts = split_sequences(labelled(classes, split=split), (0.8, 0.2, 0.0))
    np.testing.assert_array_equal(parts == TEST, split == 2)
    assert np.bincount(parts[:40]).tolist() == [32, 8]
    with_valid = np.where(np.arange(70) < 10, 1, split).astype(np.int8)
    kept = split_sequences(labelled(classes, split=with_valid), SHARES)
    np.testing.assert_array_equal(kept, with_valid)


def test_too_few_sequences():
    with pytest.raises(DataError, match="1 sequence in 1 group: none is left to test on"):
        split_sequences(labelled([0], ["a"]), SHARES)


def test_few_long_sequences_are_cut_in_time():
    data = stepwise([100, 40], unknown=20)  # 80 and 40 steps with a target
    spans = split_spans(data, (0.5, 0.25, 0.25))
    assert [np.bincount(s).tolist() for s in spans] == [[40, 20, 40], [20, 10, 10]]
    assert all((np.diff(s) >= 0).all() for s in spans)
    valid = select_part(data, spans, VALID)
    assert valid.lengths.tolist() == [60, 30]  # the inputs before the part are there
    for values, target, begin in zip(valid.values, valid.target.values, (40, 20), strict=True):
        np.testing.assert_array_equal(np.isnan(target[:, 0]), np.arange(len(target)) < begin)
        np.testing.assert_array_equal(values[begin:], target[begin:])
    assert np.nanmax(select_part(data, spans, TRAIN).target.array) == 39
    assert select_part(data, spans, TEST).lengths.tolist() == [100, 40]
    assert data.target.values[0][0, 0] == 0  # unchanged


def test_what_is_not_cut_in_time():
    assert split_spans(labelled([0, 1]), SHARES) is None
    assert split_spans(stepwise([50] * 9), SHARES) is None
    with pytest.raises(DataError, match="sequence 's1' has 20 steps up to its last target"):
        split_spans(stepwise([50, 20]), SHARES)


def test_folds_are_stratified_and_cover_all():
    classes = np.repeat([0, 1], [30, 10])
    found = folds(labelled(classes), 5)
    assert len(found) == 5
    assert sorted(np.concatenate([valid for _, valid in found])) == list(range(40))
    for train, valid in found:
        assert len(set(train) & set(valid)) == 0
        assert np.bincount(classes[valid]).tolist() == [6, 2]
    assert len(folds(labelled([0] * 9 + [1] * 3), 5)) == 3
    assert folds(labelled([0]), 5) == []
