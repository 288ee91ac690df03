"""Sequences live: the answer after every row is that for the rows so far."""

import csv
import json

import numpy as np
import pytest
import torch

from memorycell.application.contract import ModelFile
from memorycell.applications.sequences.answering import answers
from memorycell.applications.sequences.codec import Column, SequenceCodec
from memorycell.applications.sequences.model import SequenceModel, SequenceModelConfig
from memorycell.applications.sequences.predict import PredictOptions, predict
from memorycell.applications.sequences.session import SequencesSession
from memorycell.errors import DataError, StateError, UserError


def rows_of(table, name):
    """The rows of a sequence as a live source has them: without the target."""
    with table.open() as file:
        rows = [row for row in csv.DictReader(file) if row["recording"] == name]
    return [{k: v for k, v in row.items() if k != "y"} for row in rows]


def nameless(rows):
    return [{k: v for k, v in row.items() if k != "recording"} for row in rows]


def test_every_prefix_has_the_answer_of_the_whole(class_model):
    """Also in the middle of a patch of three rows, and with gaps and words."""
    _, file, table = class_model
    codec = file.codec
    rows = nameless(rows_of(table, "r003"))
    session = SequencesSession(file)
    values = np.array(
        [
            [float(row["a"]), float(row["b"] or "nan"), codec.channels[2].words.index(row["mode"])]
            for row in rows
        ]
    )
    static = codec.static_inputs(np.array([float(rows[0]["site"])]))
    for k, row in enumerate(rows, 1):
        (record,) = session.feed(row)
        (wanted,) = answers(file.model, codec, [codec.steps(codec.rows(values[:k]), static)])
        np.testing.assert_allclose(session.answer, wanted, rtol=1e-4, atol=1e-5)
        assert record["step"] == k
        assert record["probabilities"].keys() == {"up", "down"}


def test_the_last_answer_is_that_of_predict(class_model):
    _, file, table = class_model
    wanted = {one["name"]: one for one in predict(file, str(table), PredictOptions())["sequences"]}
    session = SequencesSession(file)
    for name in ("r000", "r001"):
        for row in nameless(rows_of(table, name)):
            session.feed(row)
        (final,) = session.feed("\n")
        assert final["end"] is True
        assert final["step"] == wanted[name]["steps"]
        assert final["label"] == wanted[name]["label"]
        assert final["p"] == pytest.approx(wanted[name]["p"], abs=2e-4)
        assert (final["sure_after"] is None) == (wanted[name]["sure_after"] is None)


def test_lines_of_csv_and_json_and_both_ends(class_model):
    _, file, table = class_model
    rows = nameless(rows_of(table, "r002"))
    by_rows, by_csv, by_json = (SequencesSession(file) for _ in range(3))
    wanted = [by_rows.feed(row)[0] for row in rows]
    assert by_csv.feed("\n") == []
    assert by_csv.feed(",".join(rows[0])) == []
    assert [by_csv.feed(",".join(row.values()))[0] for row in rows] == wanted
    assert [by_json.feed(json.dumps({**row, "a": float(row["a"])}))[0] for row in rows] == wanted
    (ended,) = by_json.feed('{"end": true}')
    assert by_csv.feed("") == by_rows.close() == [ended]
    assert by_csv.feed(",".join(rows[0].values()))[0]["step"] == 1  # a new sequence, same header


def test_sequences_side_by_side_do_not_mix(class_model):
    _, file, table = class_model
    names = ("r004", "r005")
    apart = {}
    for name in names:
        session = SequencesSession(file)
        apart[name] = [session.feed(row)[0] for row in rows_of(table, name)]
    session, together = SequencesSession(file), {name: [] for name in names}
    sources = {name: rows_of(table, name) for name in names}
    for k in range(max(map(len, sources.values()))):
        for name in names:
            if k < len(sources[name]):
                together[name] += session.feed(sources[name][k])
    assert together == apart
    (ended,) = session.feed({"recording": "r004", "end": True})
    assert ended["recording"] == "r004"
    assert [one["recording"] for one in session.close()] == ["r005"]


@pytest.mark.parametrize("at", [0, 1, 4])
def test_a_snapshot_continues_in_the_middle_of_a_patch(class_model, at):
    _, file, table = class_model
    rows = rows_of(table, "r006")
    first, second = SequencesSession(file), SequencesSession(file)
    for row in rows[:at]:
        first.feed(row)
    second.restore(first.snapshot())
    assert [second.feed(row) for row in rows[at:]] == [first.feed(row) for row in rows[at:]]
    assert second.close() == first.close()


def test_damaged_and_foreign_states_are_refused(class_model, number_model):
    _, file, table = class_model
    session = SequencesSession(file)
    for row in rows_of(table, "r001")[:4]:
        session.feed(row)
    before = session.snapshot()
    damaged = bytearray(before)
    damaged[len(damaged) // 2] ^= 1
    for bad in (bytes(damaged), b"", before[:-3], SequencesSession(number_model[1]).snapshot()):
        with pytest.raises(StateError):
            session.restore(bad)
    assert session.snapshot() == before


def test_rows_that_cannot_be_read_change_nothing(class_model):
    _, file, table = class_model
    rows = nameless(rows_of(table, "r001"))
    session = SequencesSession(file)
    session.feed(rows[0])
    before = session.snapshot()
    with pytest.raises(DataError, match="column 'a': 'much' is not a finite number"):
        session.feed({**rows[1], "a": "much"})
    with pytest.raises(DataError, match="no column 'b'"):
        session.feed({k: v for k, v in rows[1].items() if k != "b"})
    with pytest.raises(DataError, match="no open sequence to end"):
        session.feed({"recording": "other", "end": True})
    assert session.snapshot() == before
    assert session.feed({**rows[1], "mode": "never seen", "b": None})[0]["step"] == 2


def test_numbers_have_their_interval_live(number_model):
    _, file, table = number_model
    wanted = {one["name"]: one for one in predict(file, str(table), PredictOptions())["sequences"]}
    session = SequencesSession(file)
    for row in nameless(rows_of(table, "r007")):
        (record,) = session.feed(row)
    ours, whole = record["numbers"]["y"], wanted["r007"]["numbers"]["y"]
    assert ours["low80"] < ours["median"] < ours["high80"]
    assert ours == pytest.approx(whole, rel=1e-4, abs=1e-4)


def test_a_number_at_every_step_live(steps_model):
    _, file, table = steps_model
    wanted = {one["name"]: one for one in predict(file, str(table), PredictOptions())["sequences"]}
    session = SequencesSession(file)
    medians = [
        session.feed(row)[0]["numbers"]["y"]["median"] for row in nameless(rows_of(table, "r008"))
    ]
    np.testing.assert_allclose(medians, wanted["r008"]["numbers"]["y"]["median"], rtol=1e-4)


def plain_file(**options):
    """A model of numbers alone, with random weights."""
    torch.manual_seed(0)
    columns = (Column("x", mean=2.0, std=3.0, change=0.4), Column("y", std=2.0, gappy=True))
    codec = SequenceCodec("class", ("p", "q", "r"), columns, **options)
    config = SequenceModelConfig(
        target="class", input_size=codec.input_size, outputs=3, hidden_size=6, pooling="mean"
    )
    return ModelFile(SequenceModel(config).eval(), codec, {"task": "sequences"})


@pytest.mark.parametrize("patch", [1, 3])
def test_arrays_are_read_without_names(patch):
    """`read` gives what rows by name give, to the bit."""
    file = plain_file(patch=patch)
    by_name, by_array = SequencesSession(file), SequencesSession(file)
    values = np.random.default_rng(0).normal(size=(8, 2))
    values[2:4, 1] = np.nan
    for x, y in values.tolist():
        by_name.feed({"x": x, "y": None if np.isnan(y) else y})
        np.testing.assert_array_equal(by_array.read(np.array([x, y])), by_name.answer)
    assert by_array.close() == by_name.close()


def test_arrays_are_refused_where_inputs_are_words(number_model):
    with pytest.raises(UserError, match="words or values per sequence"):
        SequencesSession(number_model[1]).read(np.zeros(3))


def test_a_bidirectional_model_is_refused(class_model):
    import copy
    import dataclasses

    _, file, _ = class_model
    other = copy.copy(file)
    other.model = copy.copy(file.model)
    other.model.config = dataclasses.replace(file.model.config, bidirectional=True)
    with pytest.raises(UserError, match="needs its complete input"):
        SequencesSession(other)
