"""The sessions of every application: many stepped together equal single ones, and copies are
independent.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import memorycell
from memorycell.application.contract import Forkable, Stepwise
from memorycell.errors import UserError
from memorycell.streaming.finite import NonFiniteError
from memorycell.streaming.stepwise import run, run_together, step_streams

PATH = Path(__file__).parents[1] / "cli" / "untrained.py"
SPEC = importlib.util.spec_from_file_location("untrained_models", PATH)
untrained = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(untrained)
untrained.DATA["sequences"] = "many.csv"
untrained.SETTINGS["sequences"] = {
    "hidden": "4",
    "sequence": "id",
    "target": "label",
    "patch": "2",
    "members": "1",
    "encoder": "none",
    "augment": "none",
}
untrained.SETTINGS["sentiment"] = {**untrained.SETTINGS["sentiment"], "direction": "forward"}

ROWS = [{"time": f"2024-03-01 {k:02d}:00:00", "y": k % 5, "x": k * 0.1} for k in range(12)]
ITEMS = {
    "forecast": ROWS,
    "anomaly": ROWS,
    "text": ["the cat sat", "", "on a crane and", '"sle"'],
    "sentiment": ["a dog sings here", "now there", "", "the crane"],
    "chat": ["the cat", "sleeps now"],
    "music": ["C3 E4 G4", "-", "C3 F4"],
    "handwriting": ["[0, 0]", "[1, 2]", "[3, 1]", '"up"', "[5, 5]"],
    "speech": None,
    "sequences": [
        *({"id": "u", "a": 0.1 * k, "b": 1 - k} for k in range(3)),
        {"id": "v", "a": 0.5, "b": 2},
        {"id": "u", "end": True},
        {"id": "v", "a": 0.7, "b": None},
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    untrained.write_data(folder)
    rows = [f"{n},{(n * 7 + k) % 5},{k},{n % 2}" for n in range(60) for k in range(6)]
    (folder / "many.csv").write_text("\n".join(["id,a,b,label", *rows]) + "\n")
    return folder


def items_of(task, folder):
    if task != "speech":
        return ITEMS[task]
    data = (folder / "sounds" / "400" / "0.wav").read_bytes()
    return [data[:30], data[30:900], data[900:4000], data[4000:]]


@pytest.mark.parametrize("task", ITEMS)
def test_together_equals_alone_and_forks_are_independent(task, folder):
    model = memorycell.load(untrained.write_model(task, folder))
    items = items_of(task, folder)
    single = model.session()
    expected = [single.feed(item) for item in items]
    assert isinstance(single, Forkable)

    first = model.session()
    others = [first.fork() for _ in range(3)]
    for item, answers in zip(items, expected, strict=True):
        if isinstance(first, Stepwise):
            found = run_together([one.steps(item) for one in (first, *others)])
        else:
            found = [one.feed(item) for one in (first, *others)]
        for one in found:
            assert json.dumps(one) == json.dumps(answers)

    # A copy continues as its original would, and the original does not notice.
    half = len(items) // 2
    original = model.session()
    for item in items[:half]:
        original.feed(item)
    copy = original.fork()
    for one in (copy, original):
        found = [one.feed(item) for item in items[half:]]
        assert json.dumps(found) == json.dumps(expected[half:])


def test_a_generator_that_raises_leaves_the_others(folder):
    model = memorycell.load(untrained.write_model("text", folder))
    first = model.session()
    second, third = first.fork(), first.fork()
    expected = first.fork().feed("the cat")
    works = [first.steps("the cat"), second.steps('"open'), third.steps("the cat")]
    found = run_together(works)
    assert found[0] == found[2] == expected
    assert isinstance(found[1], UserError)


def test_streams_step_together_alone_and_with_errors():
    layer = memorycell.LSTM(3, 4, batch_first=True)
    rng = np.random.default_rng(0)
    streams = [memorycell.Stream(layer, history=2)]
    streams += [streams[0].fork() for _ in range(4)]
    other = memorycell.Stream(layer)  # packed again: steps alone
    alone = [stream.fork() for stream in (*streams, other)]
    for _ in range(5):
        x = rng.normal(size=(6, 3)).astype(np.float32)
        together = step_streams(list(zip((*streams, other), x, strict=True)))
        for y, stream, row in zip(together, alone, x, strict=True):
            np.testing.assert_array_equal(y, stream.step(row))
    x = rng.normal(size=(2, 3)).astype(np.float32)
    x[1, 0] = np.nan
    found = step_streams([(streams[0], x[0]), (streams[1], x[1])])
    np.testing.assert_array_equal(found[0], alone[0].step(x[0]))
    assert isinstance(found[1], NonFiniteError)
    streams[0].rewind(1)
    np.testing.assert_array_equal(streams[0].step(x[0]), found[0])
    several = rng.normal(size=(4, 3)).astype(np.float32)
    found = step_streams([(streams[0], several), (streams[2], x[0])])
    np.testing.assert_array_equal(found[0], alone[0].step(several))

    def read():
        first = yield streams[3], x[0]
        try:
            yield streams[3], x[1]
        except NonFiniteError:
            return first

    np.testing.assert_array_equal(run(read()), alone[3].step(x[0]))


def test_a_pool_adopts_weights_of_the_same_layout():
    old, new = (memorycell.LSTM(3, 4, batch_first=True) for _ in range(2))
    pool, other = memorycell.Pool(old), memorycell.Pool(new)
    slots = pool.open_many(2)
    x = np.ones((2, 3), np.float32)
    pool.step(slots, x)
    stream = memorycell.Stream(new)
    stream.state = pool.state(slots[:1])
    rows = pool.rows(slots)
    pool.adopt(other)
    np.testing.assert_array_equal(pool.step(slots, x)[0], stream.step(x[0]))
    assert pool.fingerprint == other.fingerprint
    pool.set_rows(slots, rows)
    np.testing.assert_array_equal(pool.rows(slots), rows)
    with pytest.raises(ValueError, match="layout"):
        pool.adopt(memorycell.Pool(memorycell.LSTM(3, 5)))
