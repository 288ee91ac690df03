"""The codec of sequences: scaling, gaps, words, patches and descriptions."""

import dataclasses
import json

import numpy as np
import pytest

from memorycell.applications.sequences.codec import Column, SequenceCodec, fill_forward
from memorycell.applications.sequences.codec_fitting import fit_codec
from memorycell.applications.sequences.sequence_set import Channel, SequenceSet, Target
from memorycell.errors import DataError

NAN = np.nan
WORDS = ("off", "on")


def data(seed: int = 0) -> SequenceSet:
    rng = np.random.default_rng(seed)
    values = []
    for length in (6, 9, 1):
        own = np.stack(
            [rng.normal(5, 2, length), rng.normal(size=length), rng.integers(0, 2, length)], 1
        )
        own[rng.random(length) < 0.3, 1] = NAN
        values.append(own)
    return SequenceSet(
        "mem",
        ["a", "b", "c"],
        [Channel("x"), Channel("y"), Channel("state", WORDS)],
        values,
        Target("number", ("t",), np.array([[1.0], [3.0], [8.0]])),
        static_channels=[Channel("mass"), Channel("kind", ("p", "q"))],
        static=np.array([[1.0, 0], [2.0, 1], [3.0, 1]]),
    )


def test_inputs_are_scaled_by_training_alone():
    given = data()
    codec = fit_codec(given, patch=1, changes=False)
    x = np.concatenate(given.values)[:, 0]
    rows = np.concatenate([codec.rows(v) for v in given.values])
    np.testing.assert_allclose(rows[:, 0], (x - x.mean()) / x.std(), rtol=1e-5)
    assert codec.row_size == rows.shape[1] == 1 + 2 + 2  # x; y and its flag; two words
    assert codec.input_size == 5 + 1 + 2
    np.testing.assert_array_equal(codec.static_inputs(given.static[2])[1:], [0, 1])


def test_gaps_repeat_the_last_value_and_are_flagged():
    values = np.array([[NAN, 1], [2, NAN], [NAN, NAN], [5, 3]])
    np.testing.assert_array_equal(fill_forward(values), [[NAN, 1], [2, 1], [2, 1], [5, 3]])
    codec = SequenceCodec("class", ("a", "b"), (Column("v", mean=1, std=2, gappy=True),))
    np.testing.assert_allclose(
        codec.rows(values[:, :1]),
        [[0, 1], [0.5, 0], [0.5, 1], [2, 0]],  # 0: the mean
    )


def test_rows_one_at_a_time_are_the_rows_of_the_whole():
    given = data(1)
    codec = fit_codec(given, patch=1, changes=True)
    for values in given.values:
        last, rows = np.full(3, NAN), []
        for row in values:
            rows.append(codec.rows(row[None], last))
            last = np.where(np.isnan(row), last, row)
        np.testing.assert_array_equal(np.concatenate(rows), codec.rows(values))


def test_changes_are_differences_of_scaled_values():
    codec = SequenceCodec("class", ("a", "b"), (Column("v", mean=1, std=2, change=0.5),))
    rows = codec.rows(np.array([[1.0], [3.0], [2.0]]))
    np.testing.assert_allclose(rows, [[0, 0], [1, 2], [0.5, -1]])


def test_a_patch_is_filled_up_with_its_last_row():
    codec = SequenceCodec("class", ("a", "b"), (Column("v"),), (Column("s"),), patch=3)
    rows = np.array([[1], [2], [3], [4]], np.float32)
    steps = codec.steps(rows, np.array([9], np.float32))
    np.testing.assert_array_equal(steps, [[1, 2, 3, 9], [4, 4, 4, 9]])


def test_heavy_tails_are_read_through_asinh():
    rng = np.random.default_rng(0)
    values = [np.exp(rng.normal(0, 3, (200, 1))), rng.normal(size=(200, 1))]
    heavy, light = (
        fit_codec(
            SequenceSet("m", ["a"], [Channel("x")], [v], Target("class", ("a",), np.zeros(1, int))),
            patch=1,
            changes=False,
        ).channels[0]
        for v in values
    )
    assert heavy.unit > 0
    assert light.unit == 0
    assert np.abs(heavy.scaled(values[0])).max() < 6


def test_an_absurd_reading_and_an_unknown_word_stay_finite():
    codec = fit_codec(data(), patch=1, changes=True)
    rows = codec.rows(np.array([[1e300, -1e300, 7.0], [0.0, 0.0, NAN]]))
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(rows[0, -2:], [0, 0])


def test_targets_are_matched_by_name():
    codec = SequenceCodec("class", ("a", "b"), (Column("v"),))
    target = Target("class", ("b", "c", "a"), np.array([0, 1, 2, 0]))
    np.testing.assert_array_equal(codec.matched(target, "m").values, [1, -1, 0, 1])
    with pytest.raises(DataError, match="the target is a number, the model predicts a class"):
        codec.matched(Target("number", ("a",), np.zeros((1, 1))), "m")


def test_numbers_come_back_in_their_units():
    given = data()
    codec = fit_codec(given, patch=1, changes=False)
    scaled = codec.scaled_target(given.target)
    np.testing.assert_allclose(
        codec.answers(scaled[:, :, None])[..., 0], given.target.values, rtol=1e-5
    )


def test_json_gives_the_same_codec_and_damage_is_refused():
    codec = fit_codec(data(), patch=2, changes=True)
    stored = json.loads(json.dumps(codec.to_json()))
    assert SequenceCodec.from_json(stored) == codec
    channel = dataclasses.asdict(codec.channels[0])
    for damage in (
        {"patch": 0},
        {"channels": []},
        {"channels": [channel, channel]},
        {"channels": [{**channel, "std": 0.0}]},
        {"channels": [{**channel, "mean": "1"}]},
        {"target_mean": [1.0, 2.0]},
        {"target": "steps"},
        {"names": ["t", "t"]},
        {"unknown": 1},
        {"target": "step_number", "patch": 2},
    ):
        with pytest.raises(ValueError, match=r"\w"):
            SequenceCodec.from_json({**stored, **damage})
