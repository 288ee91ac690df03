"""`State` in code that handles PyTorch's tuples, and streams and pools after the weights change."""

import io
import pickle

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

import memorycell
from memorycell.nn.layers import of_cell
from memorycell.state import State


def test_a_state_in_gives_a_state_out():
    lstm, x = memorycell.LSTM(3, 4, 2), torch.randn(5, 2, 3)
    output, state = lstm(x, lstm.initial_state(2))
    assert isinstance(state, State)
    plain_output, plain = lstm(x)
    assert type(plain) is tuple
    assert torch.equal(output, plain_output)
    assert torch.equal(state.c, plain[1])
    gru = memorycell.GRU(3, 4)
    assert isinstance(gru(x, gru.initial_state(2))[1], State)
    assert isinstance(gru(x)[1], torch.Tensor)
    double = memorycell.LSTM(3, 4).double()  # PyTorch's own forward
    assert isinstance(double(x.double(), double.initial_state(2))[1], State)


def test_a_state_stays_float32_under_autocast():
    lstm, x = memorycell.LSTM(3, 4), torch.randn(5, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        output, state = lstm(x, lstm.initial_state(2))
    assert output.dtype == torch.bfloat16
    assert state.c.dtype == torch.float32


def test_a_state_is_rebuilt_like_a_tuple():
    state = memorycell.LSTM(3, 4).initial_state(2)
    again = type(state)(v.detach() for v in state)
    assert list(again.asdict()) == ["h", "c"]
    leaves, spec = pytree.tree_flatten({"s": state})
    assert len(leaves) == 2
    assert isinstance(pytree.tree_unflatten([v + 1 for v in leaves], spec)["s"], State)
    assert len(pytree.tree_leaves(memorycell.LSTM(3, 4)(torch.randn(5, 2, 3)))) == 3


def test_a_state_is_pickled_and_loaded_as_weights_only():
    state = memorycell.GRU(3, 4).initial_state(2)
    for again in (pickle.loads(pickle.dumps(state)), save_and_load(state)):
        assert isinstance(again, State)
        assert list(again.asdict()) == ["h"]
        assert torch.equal(again.h, state.h)


def save_and_load(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_stream_accepts_the_state_of_a_call(kind):
    layer = getattr(memorycell, kind)(3, 4)
    x = torch.randn(6, 1, 3)
    whole, _ = layer(x)
    _, hidden = layer(x[:4])
    stream = memorycell.stream(layer)
    stream.state = hidden
    torch.testing.assert_close(stream.step(x[4:, 0]), whole[4:, 0].detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("constructor", [memorycell.LSTM, torch.nn.LSTM])
def test_a_stream_refuses_trained_weights_until_refreshed(constructor):
    torch.manual_seed(0)
    layer = constructor(3, 4)
    x = torch.randn(3)
    stream = memorycell.stream(layer)
    stream.step(x)
    state = stream.state
    layer.train()
    with pytest.raises(RuntimeError, match="refresh"):
        stream.step(x)
    with torch.no_grad():
        layer.weight_hh_l0.data.mul_(0.5)
    layer.eval()
    if constructor is memorycell.LSTM:  # torch's own layers do not count calls of train()
        with pytest.raises(RuntimeError, match="refresh"):
            stream.step(x)
    stream.refresh()
    expected = layer(x[None], tuple(s[:, 0] for s in state))[0][0].detach()
    torch.testing.assert_close(stream.step(x), expected, rtol=0, atol=1e-6)


def test_a_pool_refuses_trained_weights_until_refreshed():
    torch.manual_seed(0)
    layer = memorycell.GRU(3, 4)
    pool = memorycell.Pool(layer)
    slots = [pool.open(), pool.open()]
    x = np.ones((2, 3), np.float32)
    pool.step(slots, x)
    state = pool.state(slots)
    layer.train()
    with pytest.raises(RuntimeError, match="refresh"):
        pool.step(slots, x)
    layer.weight_ih_l0.data.mul_(0.5)
    layer.eval()
    pool.refresh()
    expected = layer(torch.from_numpy(x)[None], state.h)[0][0].detach()
    torch.testing.assert_close(torch.from_numpy(pool.step(slots, x)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "cell",
    ["peephole", "coupled", "layernorm", "gru_reset_before", "lstm", "gru", "rnn", "rnn_relu"],
)
def test_single_step_layers_equal_the_layer(cell):
    torch.manual_seed(0)
    layer = of_cell(cell, 3, 4)
    kinds = {
        "gru": memorycell.GRUCell,
        "gru_reset_before": memorycell.GRUCell,
        "rnn": memorycell.RNNCell,
    }
    kind = kinds.get(cell, memorycell.RNNCell if cell == "rnn_relu" else memorycell.LSTMCell)
    step = (
        kind(3, 4, nonlinearity="relu")
        if cell == "rnn_relu"
        else kind(3, 4)
        if cell == "rnn"
        else kind(3, 4, cell=cell)
    )
    step.load_state_dict(
        {name.removesuffix("_l0"): value for name, value in layer.state_dict().items()}
    )
    x, hx = torch.randn(6, 2, 3), None
    outputs = []
    for row in x:
        hx = step(row, hx)
        outputs.append(hx[0] if isinstance(hx, tuple) else hx)
    expected = layer(x)[0]
    torch.testing.assert_close(torch.stack(outputs), expected, rtol=0, atol=1e-6)
    single = step(x[0, 0])
    torch.testing.assert_close(
        single[0] if isinstance(single, tuple) else single, expected[0, 0], rtol=0, atol=1e-6
    )
    with pytest.raises(RuntimeError, match="input has inconsistent input_size: got 5 expected 3"):
        step(torch.randn(2, 5))
