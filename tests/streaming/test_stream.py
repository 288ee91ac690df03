"""Stream: single steps, chunks, forks and restored states give the same outputs, in every
precision, with and without the engine.
"""

import numpy as np
import pytest
import torch

import memorycell
from memorycell.errors import StateError
from memorycell.ops import binding
from memorycell.ops.step import TOLERANCE
from memorycell.state import State
from memorycell.streaming.stream import Stream

PRECISIONS = ["float32", "bfloat16", "int8"] if binding.engine is not None else ["float32"]


@pytest.fixture(params=["engine", "without"])
def engine(request, monkeypatch):
    """With the native engine, and as if it was not built."""
    if request.param == "without":
        monkeypatch.setattr(binding, "engine", None)
        monkeypatch.setattr(binding, "missing", "the native engine is not available")
    elif binding.engine is None:
        pytest.skip(binding.missing)


def layer(**options) -> memorycell.LSTM:
    torch.manual_seed(0)
    return memorycell.LSTM(5, 7, **{"num_layers": 2, "batch_first": True, **options})


def rows(count: int = 30) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 5)).astype(np.float32)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_steps_chunks_and_forks_are_bitwise_equal(precision):
    x = rows()
    stream = memorycell.stream(layer(), precision)
    steps = np.stack([stream.step(row) for row in x])
    whole = layer()(torch.from_numpy(x)[None])[0][0].detach().numpy()
    assert np.abs(steps - whole).max() < TOLERANCE[precision] / 3
    stream.reset()
    chunks = [stream.step(x[:1]), stream.step(x[1:14])]
    other = stream.fork()
    assert np.array_equal(np.concatenate([*chunks, other.step(x[14:])]), steps)
    assert np.array_equal(stream.step(x[14:]), steps[14:])  # the fork does not change it


def test_rewind_undoes_steps_and_chunks(engine):
    x = rows()
    stream = memorycell.stream(layer(), history=4)
    plain = memorycell.stream(layer(), history=0)
    expected = np.stack([plain.step(row) for row in x])
    stream.step(x[:10])
    for n in (0, 1, 4):
        stream.step(x[10 : 10 + n]) if n else None
        stream.rewind(n)
        assert np.abs(stream.fork().step(x[10]) - expected[10]).max() < 1e-6
    stream.step(x[10:])  # longer than the history
    stream.rewind(3)
    assert np.abs(stream.step(x[27:]) - expected[27:]).max() < 1e-6
    stream.rewind(3)
    stream.rewind(1)
    with pytest.raises(
        ValueError, match=r"rewind: expected 0\.\.0 steps, got 1; keep more with history=1"
    ):
        stream.rewind()
    stream.step(x[26])
    stream.reset()
    with pytest.raises(ValueError, match=r"0\.\.0"):
        stream.rewind()
    with pytest.raises(ValueError, match=r"0\.\.0 steps"):
        plain.rewind()


def test_inputs_and_outputs_of_a_step(engine):
    stream = memorycell.stream(layer())
    x = rows(1)[0]
    expected = stream.step(x)
    for given in (
        torch.from_numpy(x),
        torch.from_numpy(x).double(),
        torch.from_numpy(x).requires_grad_(),
    ):
        stream.reset()
        y = stream.step(given)
        assert isinstance(y, torch.Tensor)
        torch.testing.assert_close(y, torch.from_numpy(expected), rtol=0, atol=1e-6)
    for other in (x.tolist(), x.astype(float), np.stack([x, x])[:, ::1][0], np.repeat(x, 2)[::2]):
        stream.reset()
        assert np.allclose(stream.step(other), expected, rtol=0, atol=1e-6)
    first, second = stream.step(x), stream.step(x)
    assert not np.array_equal(first, second)  # an output is not overwritten by the next
    for wrong in (np.zeros(4), np.zeros((3, 4)), np.zeros((1, 1, 5)), np.zeros((0, 5)), 3.0):
        with pytest.raises(ValueError, match=r"x: expected \[5\] or \[T, 5\], got"):
            stream.step(wrong)


def test_state_between_forward_and_stream(engine):
    x = torch.from_numpy(rows())
    module = layer()
    _, state = module(x[None, :12], module.initial_state())
    stream = memorycell.stream(module)
    stream.state = state
    torch.testing.assert_close(
        stream.step(x[12:]), module(x[None, 12:], state)[0][0].detach(), rtol=0, atol=1e-6
    )
    stream.state = tuple(state)  # what torch's layers return
    _, final = module(x[None, 12:], state)
    stream.step(x[12:])
    for mine, theirs in zip(stream.state, final, strict=True):
        torch.testing.assert_close(mine, theirs.detach(), rtol=0, atol=1e-6)
    with pytest.raises(StateError, match="expected one sequence, got 2"):
        stream.state = State.stack([state, state])
    with pytest.raises(StateError, match=r"expected h=\[2, 'B', 7\].*got h=\[1, 1, 7\]"):
        stream.state = layer(num_layers=1).initial_state()


@pytest.mark.skipif(binding.engine is None, reason="lower precisions need the engine")
def test_a_state_of_another_precision_is_refused(tmp_path):
    stream = memorycell.stream(layer(), "int8")
    stream.step(rows())
    stream.save(tmp_path / "s")
    before = memorycell.stream(layer())
    before.step(rows(3))
    before_load = before.state
    with pytest.raises(StateError, match="another precision .* in int8"):
        before.load(tmp_path / "s")
    assert all(torch.equal(a, b) for a, b in zip(before_load, before.state, strict=True))
    assert memorycell.stream(layer(), "int8").load(tmp_path / "s") == {}


def test_snapshot_and_file_have_the_same_bytes(engine, tmp_path):
    x = rows()
    stream = memorycell.stream(layer())
    stream.step(x[:12])
    data = stream.snapshot(clock=12)
    expected = stream.step(x[12:])
    other = memorycell.stream(layer())
    assert other.restore(data) == {"clock": 12}
    assert np.array_equal(other.step(x[12:]), expected)
    (tmp_path / "s").write_bytes(data)
    assert stream.load(tmp_path / "s") == {"clock": 12}
    stream.save(tmp_path / "again", clock=12)
    assert (tmp_path / "again").read_bytes() == stream.snapshot(clock=12)


def test_a_rejected_snapshot_changes_nothing(tmp_path):
    stream = memorycell.stream(layer())
    stream.step(rows(3))
    before = stream.state
    data = stream.snapshot()
    foreign = memorycell.stream(layer(num_layers=1)).snapshot()
    for wrong, words in ((data[:-9], "^damaged"), (b"", "^damaged"), (foreign, "^this state .* w")):
        with pytest.raises(StateError, match=words):
            stream.restore(wrong)
        (tmp_path / "s").write_bytes(wrong)
        with pytest.raises(StateError, match=f"{tmp_path / 's'}: {words[1:]}"):
            stream.load(tmp_path / "s")
    with pytest.raises(StateError, match="none: no such file"):
        stream.load(tmp_path / "none")
    with pytest.raises(StateError, match="cannot be read"):
        stream.load(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(before, stream.state, strict=True))


def test_streams_without_the_engine():
    for module, bound in ((layer(proj_size=3), 1e-6), (layer().double(), 1e-6)):
        x = rows()
        stream = Stream(module, history=3)
        steps = np.concatenate(
            [stream.step(x[:5]), [stream.step(row) for row in x[5:9]], stream.step(x[9:])]
        )
        whole = (
            module(torch.from_numpy(x)[None].to(module.weight_hh_l0.dtype))[0][0].detach().numpy()
        )
        assert np.abs(steps - whole).max() < bound
        with pytest.raises(ValueError, match="precision='int8' needs the native engine"):
            Stream(module, "int8")


@pytest.mark.skipif(binding.engine is None, reason="the engine packs the weights")
def test_later_changes_of_weights_have_no_effect():
    module = layer()
    stream = memorycell.stream(module)
    expected = memorycell.stream(layer()).step(rows())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert np.array_equal(stream.step(rows()), expected)
    with pytest.raises(ValueError, match="precision: expected one of"):
        memorycell.stream(layer(), "int4")
