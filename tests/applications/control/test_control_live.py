"""Sessions, predictions, figures and exports of policies."""

import dataclasses
import io
import json
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import memorycell
from memorycell.application import modelfile
from memorycell.applications.control.codec import ControlCodec
from memorycell.applications.control.figures import episode_gif
from memorycell.applications.control.model import PolicyConfig, RecurrentPolicy
from memorycell.applications.control.predict import PredictOptions, action_columns, predict, render
from memorycell.applications.control.session import ControlSession
from memorycell.errors import DataError, StateError, UserError
from memorycell.streaming.pool import Pool
from memorycell.streaming.stream import Stream


@pytest.fixture(scope="module")
def file(maze):
    """The policy of the T-maze."""
    return modelfile.load(maze[0])


@pytest.fixture(scope="module")
def swing(pendulum):
    """The policy of the pendulum."""
    return modelfile.load(pendulum)


def policies():
    """Policies of every kind, with a scaling that is not trivial."""
    for cell in ("lstm", "gru", "rnn", "peephole", "layernorm", "coupled"):
        for own in ({"choices": (2, 3)}, {"low": (-2.0, 0.0), "high": (2.0, 5.0)}):
            torch.manual_seed(1)
            policy = RecurrentPolicy(
                PolicyConfig(hidden_size=9, input_size=3, cell=cell, num_layers=2, **own)
            )
            torch.nn.init.normal_(policy.actor.weight, std=4.0)
            policy.scaling.mean.copy_(torch.tensor([100.0, -1.0, 0.01]))
            policy.scaling.std.copy_(torch.tensor([20.0, 0.3, 0.02]))
            yield policy.eval()


@pytest.mark.parametrize(
    "policy", list(policies()), ids=lambda p: f"{p.config.cell}-{p.config.outputs}"
)
def test_a_step_is_the_whole_sequence(policy):
    x = torch.randn(2, 20, 3) * policy.scaling.std * 2 + policy.scaling.mean
    reset = torch.zeros(2, 20, dtype=torch.bool)
    reset[0, 7] = reset[1, 13] = True
    expected = policy(x, reset=reset)[0].detach().numpy()
    pool = Pool(policy)
    slots = [pool.open(), pool.open()]
    for t in range(20):
        for k in range(2):
            if reset[k, t]:
                pool.close(slots[k])
                slots[k] = pool.open()
        y = pool.step(slots, x[:, t].numpy())
        np.testing.assert_allclose(y, expected[:, t], atol=1e-4, rtol=1e-5)
    if policy.config.low:
        low, high = np.array(policy.config.low), np.array(policy.config.high)
        assert (expected >= low - 1e-6).all()
        assert (expected <= high + 1e-6).all()
        assert (np.abs(expected - low) < 1e-6).any()  # some are at their bounds


def test_lines_in_actions_out(file):
    session = ControlSession(file)
    first = [session.feed(line)[0] for line in ("1,0,0", "0 1 0", "[0, 1, 0]")]
    assert [one["step"] for one in first] == [1, 2, 3]
    assert session.feed("") == []
    assert session.feed('{"reset": true}') == []
    again = [
        session.feed(line)[0]
        for line in (
            '{"observation": [1, 0, 0]}',
            {"value[0]": 0, "value[1]": 1, "value[2]": 0},
            b"0,1,0",
        )
    ]
    assert again == first
    assert session.close() == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1,0", r"2 values in an observation; expected 3 \(value\[0\]"),
        ("1,0,nan", "'nan' is not a number"),
        ("1,0,1e39", "not a finite number"),
        ("1,0,x", "'x' is not a number"),
        ('{"observation": "a"}', "list of numbers"),
        ('{"observation": [1, 0, null]}', "None is not a number"),
        ('{"value[0]": 1}', "no 'value"),
        ('{"observation": [1, 0', "stdin, line 1"),
        ("[[1, 0, 0]]", "not a number"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_a_line_that_is_no_observation_changes_nothing(file, line, words):
    session, untouched = ControlSession(file), ControlSession(file)
    with pytest.raises(DataError, match=words):
        session.feed(line)
    assert session.snapshot() == untouched.snapshot()


def test_hidden_values_may_be_given_and_are_ignored(swing):
    session = ControlSession(swing)
    seen = session.feed("0.5,0.5")[0]
    session.reset()
    assert session.feed("0.5,0.5,7")[0] == seen
    with pytest.raises(DataError, match="expected 2 .*or all 3 with the hidden ones"):
        session.feed("1,2,3,4")


def test_a_session_is_saved_forked_and_restored(file):
    session = ControlSession(file)
    session.feed("1,0,0")
    saved, fork = session.snapshot(), session.fork()
    expected = session.feed("0,1,0")
    assert fork.feed("0,1,0") == expected
    other = ControlSession(file)
    other.restore(saved)
    assert other.feed("0,1,0") == expected
    before = other.snapshot()
    for wrong in (b"", saved[:-3], Stream(file.model).snapshot()):
        with pytest.raises(StateError):
            other.restore(wrong)
    assert other.snapshot() == before


def test_the_quick_way_gives_the_same_actions(file):
    session, quick = ControlSession(file), ControlSession(file)
    for row in np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]:
        assert quick.act(row).tolist() == [session.feed(row.tolist().__repr__())[0]["action"]]


def test_an_episode_is_recorded(file, swing):
    record = predict(file, None, PredictOptions(episode=3))
    assert record["steps"] == 6
    assert record["return"] == 1.0
    assert record["ended"] == "terminated"
    assert set(record["gates"]) >= {"i", "f", "o", "c"}
    assert len(record["gates"]["f"]) == 6
    assert json.loads(json.dumps(record)) == record
    assert "return 1.0 in 6 steps" in render(record)
    columns = action_columns(file, record)
    assert list(columns) == ["step", "reward", "value[0]", "value[1]", "value[2]", "action"]
    assert sum(columns["reward"]) == 1.0
    swung = predict(swing, None, PredictOptions())
    assert swung["steps"] == 200
    assert swung["ended"] == "cut off"
    assert all(-2 <= step["action"] <= 2 for step in swung["trace"])
    # the recorded session is what the policy does live
    session = ControlSession(swing)
    for step in swung["trace"][:20]:
        line = json.dumps({"observation": step["observation"]})
        assert session.feed(line)[0]["action"] == pytest.approx(step["action"], abs=1e-3)


def test_a_gif_shows_the_episode(file, swing):
    from PIL import Image

    for own, frames in ((file, 6), (swing, 120)):
        gif = episode_gif(own, predict(own, None, PredictOptions()))
        image = Image.open(io.BytesIO(gif))
        assert image.n_frames == frames
        assert image.size[0] == 400


@pytest.mark.parametrize("which", ["maze", "pendulum"])
def test_exports_give_the_same_actions(request, which, tmp_path):
    fixture = request.getfixturevalue(which)
    path = fixture[0] if which == "maze" else fixture
    model, policy = memorycell.load(path), modelfile.load(path).model
    ort = pytest.importorskip("onnxruntime")
    model.export("onnx", tmp_path)
    model.export("c", tmp_path)
    (onnx,) = tmp_path.glob("*.onnx")
    run = ort.InferenceSession(onnx)
    stream = Stream(policy)
    state = {n: v.numpy() for n, v in policy.initial_state().asdict().items()}
    for x in np.random.default_rng(0).normal(size=(9, stream.stepper.input_size)):
        y, *after = run.run(None, {"x": x.astype(np.float32)[None, None], **state})
        state = dict(zip(state, after, strict=True))
        np.testing.assert_allclose(y[0, 0], stream.step(x.astype(np.float32)), atol=1e-5)
    (test,) = tmp_path.glob("*_test.c")
    source = test.with_name(test.name.replace("_test", ""))
    header = source.with_suffix(".h").read_text()
    assert "value[0]" in header
    assert "the action" in header
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O2"]
    program = tmp_path / "test"
    subprocess.run(["cc", *flags, test, source, "-o", program, "-lm"], check=True)
    subprocess.run([program], check=True, capture_output=True)


def test_the_policy_is_proved(maze):
    proof = memorycell.load(maze[0]).prove()
    assert proof.ok


def test_inspection_shows_an_episode(maze):
    found = memorycell.load(maze[0]).inspect()
    assert "6 steps" in found.notes[-1]


def test_python(maze, tmp_path):
    model = memorycell.load(maze[0])
    assert model.evaluate()["metrics"]["return"] == 1.0
    session = model.session()
    assert session.feed("1,0,0")[0]["step"] == 1


def test_other_environments_must_fit(maze, tmp_path):
    model = memorycell.load(maze[0])
    with pytest.raises(DataError, match="not those of t-maze"):
        model.evaluate("CartPole-v1")
    with pytest.raises(DataError, match="no such file"):
        model.evaluate("gone.csv")


def test_a_model_file_imports_nothing(maze, application, monkeypatch):
    file = modelfile.load(maze[0])
    file.codec = dataclasses.replace(file.codec, environment="antigravity:Maze-v0")
    file.info = file.info | {"data": "antigravity:Maze-v0"}
    for use in (
        lambda: application.reopen(None, file),
        lambda: predict(file, None, PredictOptions()),
    ):
        with pytest.raises(UserError, match="does not import antigravity"):
            use()
    assert "antigravity" not in sys.modules
    assert predict(file, None, PredictOptions(environment="t-maze"))["steps"] == 6
    with pytest.raises(UserError, match="not those of the model"):
        predict(file, None, PredictOptions(environment="CartPole-v1"))


def test_codecs_are_checked():
    codec = ControlCodec("", ("a", "b"), (0, 3), (0,), ("act",), (2,))
    data = codec.to_json()
    assert ControlCodec.from_json(json.loads(json.dumps(data))) == codec
    assert codec.input_names == ["b=0", "b=1", "b=2"]
    assert codec.read([5, 1], "x").tolist() == [0, 1, 0]
    for value, words in ((3, "expected 0 to 2"), (0.5, "expected 0 to 2"), (-1, "expected 0")):
        with pytest.raises(DataError, match=words):
            codec.read([value], "x")
    for wrong in (
        {"counts": [0]},
        {"hidden": [2]},
        {"hidden": [0, 1]},
        {"actions": []},
        {"words": [["a"]]},
        {"choices": []},
        {"environment": "</script>"},
    ):
        with pytest.raises(ValueError):
            ControlCodec.from_json(data | wrong)


@pytest.mark.slow
def test_a_live_step_is_quick():
    config = PolicyConfig(hidden_size=64, input_size=2, low=(-2.0,), high=(2.0,))
    stream = Stream(RecurrentPolicy(config).eval(), history=0)
    x, best = np.zeros(2, np.float32), np.inf
    for _ in range(30):
        began = time.process_time()
        for _ in range(1000):
            stream.step(x)
        best = min(best, (time.process_time() - began) / 1000)
    assert best < 30e-6  # 8 us where the machine is not busy
