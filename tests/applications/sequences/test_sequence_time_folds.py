"""Few long sequences: networks that validate each other on blocks of time."""

import numpy as np
import pytest

from memorycell.applications.sequences.arrays import from_arrays
from memorycell.applications.sequences.prepare import prepare_set, split_parts
from memorycell.applications.sequences.sequence_set import Target
from memorycell.applications.sequences.settings import SequencesSettings
from memorycell.applications.sequences.time_folds import CONTEXT

SHARES = SequencesSettings(split="0.6,0.1,0.3")


def rivers(sizes=(1000, 700), kind="step_number"):
    """The input at each step is its number, and so is the target."""
    steps = [np.arange(size, dtype=float) for size in sizes]
    data = from_arrays([s[:, None] for s in steps], steps, kind="step_number")
    if kind == "step_class":
        data.target = Target(kind, ("even", "odd"), [s.astype(int) % 2 for s in steps])
    return data


@pytest.mark.parametrize("kind", ["step_number", "step_class"])
def test_blocks_cover_the_training_time_once(kind):
    parts, settings, notes = split_parts(rivers(kind=kind), SHARES)
    train = parts.sets["train"]
    assert settings.members == 5
    assert len(train) == len(parts.left_out) == 10
    assert parts.left_out.tolist() == [0, 1, 2, 3, 4] * 2
    assert len(set(train.names)) == 10
    for sequence, end in ((0, 700), (1, 490)):
        seen = []
        for k in range(5 * sequence, 5 * sequence + 5):
            values, target = train.values[k][:, 0], train.target.values[k]
            known = (target >= 0) if kind == "step_class" else ~np.isnan(target[:, 0])
            np.testing.assert_array_equal(np.diff(values), 1)  # consecutive rows of the sequence
            own = values[known]
            seen += own.tolist()
            assert own[0] - values[0] == min(CONTEXT, own[0])
            wanted = own % 2 if kind == "step_class" else own
            np.testing.assert_array_equal(np.ravel(target[known]), wanted)
        assert seen == list(range(end))
    first = parts.sets["test"].target.values[0]
    known = (first >= 0) if kind == "step_class" else ~np.isnan(first[:, 0])
    assert np.flatnonzero(known).tolist() == list(range(700, 1000))
    assert [len(v) for v in parts.uncut.values] == [700, 490]
    assert "1,190 steps to train on" in notes[0]


def test_one_network_or_short_blocks_keep_a_validation_part():
    for sizes, own in (((1000, 700), {"members": 1}), ((1000, 200), {})):
        settings = SequencesSettings(split=SHARES.split, **own)
        parts, settings, _ = split_parts(rivers(sizes), settings)
        assert settings.members == 1
        assert parts.left_out is None
        assert list(parts.sets) == ["train", "valid", "test"]


def test_baselines_read_complete_sequences():
    """Ridge for each sequence is fitted by its name, which the test part has, too."""
    dataset = prepare_set(rivers(), SHARES)
    found = dataset.baselines("test")
    assert set(found) == {"mean", "ridge from a window", "ridge of each sequence"}
    assert found["ridge of each sequence"]["nse"] > 0.99
