"""The dataset of sequences: parts, members that validate each other, training and evaluation."""

import dataclasses

import numpy as np
import pytest
from sequence_data import TINY, write_table

from memorycell.applications.sequences.augmentation import LEVELS, augmented
from memorycell.applications.sequences.prepare import (
    default_patch,
    patch_and_stride,
    prepare,
    reopen,
)
from memorycell.applications.sequences.settings import SequencesSettings
from memorycell.errors import UserError

SETTINGS = SequencesSettings(sequence="recording", time="step", target="y", **TINY)


@pytest.fixture(scope="module")
def dataset(class_model):
    _, _, table = class_model
    return prepare(str(table), dataclasses.replace(SETTINGS, members=3))


def test_a_separable_problem_is_learnt(class_model):
    result, _, _ = class_model
    assert result["metrics"]["accuracy"] > result["baselines"]["most frequent class"]["accuracy"]
    assert result["metrics"]["accuracy"] >= 0.8
    assert 0 < result["metrics"]["seen"] <= 1
    assert result["primary"] == "accuracy"
    assert sum(sum(row.values()) for row in result["confusion"].values()) == 6


def test_numbers_are_learnt_with_their_interval(number_model):
    result, _, _ = number_model
    assert result["primary"] == "mae"
    assert result["metrics"]["mae"] < result["baselines"]["mean"]["mae"]
    assert 0.3 <= result["metrics"]["coverage"] <= 1


def test_steps_are_learnt(steps_model):
    result, _, _ = steps_model
    assert result["primary"] == "nse"
    assert result["metrics"]["nse"] > result["baselines"]["mean"]["nse"]


@pytest.mark.parametrize("name", ["class_model", "number_model", "steps_model"])
def test_a_reopened_model_has_the_same_metrics(name, request):
    result, file, _ = request.getfixturevalue(name)
    again = reopen(None, file)
    assert again.evaluate(file.model, "test") == pytest.approx(result["metrics"])
    assert again.fingerprint == file.fingerprint


def test_other_data_are_evaluated_whole(class_model, tmp_path):
    _, file, _ = class_model
    other = write_table(tmp_path / "other.csv", count=12, seed=9)
    found = reopen(str(other), file)
    assert len(found.part("test")) == 12
    assert found.evaluate(file.model, "test")["accuracy"] >= 0.75
    assert found.part("train").names == reopen(None, file).part("train").names  # for baselines


def test_classes_that_training_did_not_have_are_left_out(class_model, tmp_path):
    _, file, _ = class_model
    other = write_table(tmp_path / "other.csv", count=12, seed=9)
    text = other.read_text().split("\n")
    renamed = [
        line.replace(",down", ",sideways") if line.startswith("r000") else line for line in text
    ]
    other.write_text("\n".join(renamed))
    found = reopen(str(other), file)
    assert len(found.part("test")) == 11
    assert any("1 of 12 sequences left out" in note and "sideways" in note for note in found.notes)


def test_each_sequence_is_validated_by_one_member(dataset):
    left_out = dataset.parts.left_out
    sizes = dataset.parts.sizes()
    assert "valid" not in sizes
    assert sorted(np.unique(left_out)) == [0, 1, 2]
    assert len(left_out) == sizes["train"] == len(dataset.inputs("valid"))
    assert max(np.bincount(left_out)) - min(np.bincount(left_out)) <= 2
    model = dataset.build().eval()
    mixed = dataset.predictions(model, "valid")
    for k in (0, 5):
        single = type(model)(dataclasses.replace(model.config, members=1)).eval()
        single.members[0].load_state_dict(model.networks[int(left_out[k])].state_dict())
        from memorycell.applications.sequences.answering import answers

        (alone,) = answers(single, dataset.codec, [dataset.inputs("valid")[k]])
        np.testing.assert_allclose(mixed[k], alone, atol=1e-6)


def test_batches_depend_on_the_seed_alone_and_leave_out(dataset):
    first, again, other = (list(dataset.batches(seed)) for seed in (1, 1, 2))
    assert all((a.x == b.x).all() for a, b in zip(first, again, strict=True))
    assert any(
        a.x.shape != b.x.shape or (a.x != b.x).any() for a, b in zip(first, other, strict=False)
    )
    assert sum(len(batch.x) for batch in first) >= 256
    assert all(((batch.weight == 0).sum(1) == 1).all() for batch in first)


def test_validation_is_kept_apart_where_asked(class_model):
    _, _, table = class_model
    found = prepare(str(table), dataclasses.replace(SETTINGS, members=1))
    assert found.parts.left_out is None
    assert set(found.parts.sizes()) == {"train", "valid", "test"}


def test_the_settings_are_checked():
    for bad, message in (
        ({"split": "0.5,0.5"}, "three shares"),
        ({"members": 0}, "members=0"),
        ({"patch": 1000}, "patch=1000"),
        ({"augment": "much"}, "augment=much"),
        ({"quantiles": 4}, "odd number"),
        ({"members": 2, "cell": "layernorm"}, "not with the cell layernorm"),
    ):
        with pytest.raises(ValueError, match=message):
            SequencesSettings(**bad)


def test_a_table_without_a_target_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "recording,step,a\n" + "".join(f"r{k},{t},1.5\n" for k in range(9) for t in range(4))
    )
    with pytest.raises(UserError, match="target"):
        prepare(str(path), SequencesSettings(sequence="recording", time="step"))


def test_a_typical_sequence_becomes_twenty_steps(dataset):
    part = dataset.part("train")
    long = dataclasses.replace(part, values=[np.zeros((1000, 3))] * 3, names=["a", "b", "c"])
    assert default_patch(part) == 1
    assert default_patch(long) == 50


@pytest.mark.parametrize(
    ("steps", "given", "expected"),
    [
        (24, {}, (1, 1)),
        (150, {}, (8, 2)),
        (300, {}, (16, 4)),
        (100_000, {}, (64, 64)),
        (300, {"patch": 6}, (6, 2)),
        (300, {"stride": 5}, (15, 5)),
        (300, {"patch": 7, "stride": 7}, (7, 7)),
    ],
)
def test_a_patch_is_some_strides(dataset, steps, given, expected):
    part = dataset.part("train")
    sized = dataclasses.replace(part, values=[np.zeros((steps, 3))] * len(part))
    assert patch_and_stride(sized, SequencesSettings(**given)) == expected


def test_a_stride_that_does_not_divide_the_patch_is_refused(dataset):
    with pytest.raises(UserError, match="stride=4: expected a divisor of patch=6"):
        patch_and_stride(dataset.part("train"), SequencesSettings(patch=6, stride=4))


@pytest.mark.parametrize("level", ["light", "strong"])
def test_augmentation_keeps_flags_and_words(level):
    rng = np.random.default_rng(0)
    rows = np.stack([np.sin(np.arange(60) / 5), np.arange(60) % 2], 1).astype(np.float32)
    numbers = np.array([True, False])
    made = [augmented(rows, numbers, LEVELS[level], rng) for _ in range(30)]
    assert len({len(one) for one in made}) > 3
    assert all(set(np.unique(one[:, 1])) <= {0.0, 1.0} for one in made)
    assert all(np.isfinite(one).all() for one in made)
    middle = np.mean([np.abs(one[:, 0]).max() for one in made])
    assert 0.7 < middle < 1.6
