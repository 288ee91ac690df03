"""Every cell against an independent implementation: torch's own cells, or the paper's equations for
single units.
"""

import math

import numpy as np
import pytest
import torch

import memorycell
from memorycell.cells import CELLS, GATES, lstm
from memorycell.nn.layers import RNN


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def parameters(cell: str, inputs: int, hidden: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    rows = len(CELLS[cell].blocks) * hidden
    shapes = {
        "weight_ih": (rows, inputs),
        "weight_hh": (rows, hidden),
        "bias_ih": (rows,),
        "bias_hh": (rows,),
    }
    shapes |= {name: (times * hidden,) for name, times in CELLS[cell].extra.items()}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def step(cell: str, p: dict[str, np.ndarray], x: np.ndarray, h: np.ndarray, c: np.ndarray):
    """A step of the cell for one sequence."""
    params = {name: torch.from_numpy(value) for name, value in p.items()}
    x_part, h_part = (
        torch.from_numpy(p["weight_ih"] @ x)[None],
        torch.from_numpy(p["weight_hh"] @ h)[None],
    )
    x_part = CELLS[cell].input_transform(x_part, params)
    state = (torch.from_numpy(h)[None], torch.from_numpy(c)[None])[: len(CELLS[cell].state)]
    new, gates = CELLS[cell].step(x_part, h_part, state, params)
    return [s[0].numpy() for s in new], dict(
        zip(CELLS[cell].gates, (g[0].numpy() for g in gates), strict=True)
    )


@pytest.fixture
def point():
    rng = np.random.default_rng(2)
    return rng.normal(size=3), rng.normal(size=5), rng.normal(size=5)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "rnn_relu"])
def test_cells_equal_torchs(cell, point):
    x, h, c = point
    p = parameters(cell, 3, 5)
    kind = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}.get(cell, torch.nn.RNNCell)
    options = {"nonlinearity": "relu"} if cell == "rnn_relu" else {}
    theirs = kind(3, 5, dtype=torch.float64, **options)
    theirs.load_state_dict({name: torch.from_numpy(value) for name, value in p.items()})
    state = (torch.from_numpy(h)[None], torch.from_numpy(c)[None])
    expected = theirs(torch.from_numpy(x)[None], state if cell == "lstm" else state[0])
    ours, _ = step(cell, p, x, h, c)
    for mine, other in zip(ours, expected if cell == "lstm" else [expected], strict=True):
        np.testing.assert_allclose(mine, other[0].detach().numpy(), atol=1e-14)


def test_peephole_unit_by_unit(point):
    """Gers & Schmidhuber (2000): the input and forget gates read c_{t-1}, the output gate c_t."""
    x, h, c = point
    p = parameters("peephole", 3, 5)
    (ours_h, ours_c), gates = step("peephole", p, x, h, c)
    pre = p["weight_ih"] @ x + p["weight_hh"] @ h + p["bias_ih"] + p["bias_hh"]
    for k in range(5):
        w_i, w_f, w_o = p["weight_ch"][k], p["weight_ch"][5 + k], p["weight_ch"][10 + k]
        i, f = sigmoid(pre[k] + w_i * c[k]), sigmoid(pre[5 + k] + w_f * c[k])
        new = f * c[k] + i * math.tanh(pre[10 + k])
        o = sigmoid(pre[15 + k] + w_o * new)
        assert ours_c[k] == pytest.approx(new, abs=1e-14)
        assert ours_h[k] == pytest.approx(o * math.tanh(new), abs=1e-14)
        assert [gates[g][k] for g in "ifo"] == pytest.approx([i, f, o], abs=1e-14)


def test_coupled_unit_by_unit(point):
    """Greff et al. (2015), CIFG: the input and forget gates add up to one."""
    x, h, c = point
    p = parameters("coupled", 3, 5)
    (ours_h, ours_c), gates = step("coupled", p, x, h, c)
    pre = p["weight_ih"] @ x + p["weight_hh"] @ h + p["bias_ih"] + p["bias_hh"]
    for k in range(5):
        f = sigmoid(pre[k])
        new = f * c[k] + (1 - f) * math.tanh(pre[5 + k])
        assert ours_c[k] == pytest.approx(new, abs=1e-14)
        assert ours_h[k] == pytest.approx(sigmoid(pre[10 + k]) * math.tanh(new), abs=1e-14)
        assert gates["i"][k] + gates["f"][k] == pytest.approx(1, abs=1e-14)


def test_layernorm_unit_by_unit(point):
    """Ba et al. (2016), equations 20-22: both products are normalised over all gates together, and
    the cell state before the output.
    """
    x, h, c = point
    p = parameters("layernorm", 3, 5)
    (ours_h, ours_c), _ = step("layernorm", p, x, h, c)

    def norm(a, gain, bias):
        mean = sum(a) / len(a)
        var = sum((v - mean) ** 2 for v in a) / len(a)
        return [
            g * (v - mean) / math.sqrt(var + 1e-5) + b
            for v, g, b in zip(a, gain, bias, strict=True)
        ]

    left = norm(p["weight_ih"] @ x, p["gain_ih"], p["bias_ih"])
    right = norm(p["weight_hh"] @ h, p["gain_hh"], p["bias_hh"])
    pre = [a + b for a, b in zip(left, right, strict=True)]
    new = [sigmoid(pre[5 + k]) * c[k] + sigmoid(pre[k]) * math.tanh(pre[10 + k]) for k in range(5)]
    shown = norm(new, p["gain_c"], p["bias_c"])
    np.testing.assert_allclose(ours_c, new, atol=1e-13)
    np.testing.assert_allclose(
        ours_h, [sigmoid(pre[15 + k]) * math.tanh(shown[k]) for k in range(5)], atol=1e-13
    )


def test_the_articles_equations_with_concatenated_inputs():
    """f, i, o = σ(W·[h, x] + b): W_hh and W_ih are the two halves of one W."""
    torch.manual_seed(0)
    layer = memorycell.LSTM(4, 6, dtype=torch.float64)
    x, h, c = torch.randn(1, 4).double(), torch.randn(1, 6).double(), torch.randn(1, 6).double()
    joint = torch.cat([layer.weight_hh_l0, layer.weight_ih_l0], 1)  # W over [h, x]
    pre = torch.cat([h, x], 1) @ joint.T + layer.bias_ih_l0 + layer.bias_hh_l0
    i, f, g, o = pre.chunk(4, 1)
    c_t = c * torch.sigmoid(f) + torch.sigmoid(i) * torch.tanh(g)
    h_t = torch.sigmoid(o) * torch.tanh(c_t)
    output, (_, c_n) = layer(x[None], (h[None], c[None]))
    torch.testing.assert_close(output[0], h_t, rtol=0, atol=1e-14)
    torch.testing.assert_close(c_n[0], c_t, rtol=0, atol=1e-14)


def test_the_articles_equations_taken_literally():
    """σ(W(h_{t-1} + x_t) + b) is the layer with weight_ih == weight_hh == W, for inputs as wide as
    h.
    """
    torch.manual_seed(0)
    layer = memorycell.LSTM(6, 6, dtype=torch.float64)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(layer.weight_hh_l0)
    W, b = layer.weight_hh_l0, layer.bias_ih_l0 + layer.bias_hh_l0
    x = torch.randn(9, 1, 6).double()
    h = c = torch.zeros(1, 6).double()
    output, _ = layer(x)
    for t in range(9):
        i, f, g, o = ((h + x[t]) @ W.T + b).chunk(4, 1)
        c = c * torch.sigmoid(f) + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        torch.testing.assert_close(output[t], h, rtol=0, atol=1e-13)


def test_the_constant_error_carousel():
    """f = 1, i = 0: the cell state is carried unchanged (Hochreiter & Schmidhuber 1997)."""
    big = 1e4
    hidden = 3
    bias = torch.tensor([-big] * hidden + [big] * hidden + [0.0] * 2 * hidden)
    c = start = torch.tensor([[0.3, -2.0, 17.0]])
    zero = torch.zeros(1, 4 * hidden)
    for _ in range(100_000):
        (_, c), _ = lstm(zero + bias, zero, (c, c), {})
    assert torch.equal(c, start)


def test_gates_are_in_torchs_order():
    """A large bias of one gate in torch's layer opens the same gate in ours."""
    for k, gate in enumerate(GATES):
        theirs = torch.nn.LSTM(2, 4)
        with torch.no_grad():
            theirs.bias_ih_l0[4 * k : 4 * k + 4] = 50.0
        ours = memorycell.LSTM(2, 4)
        ours.load_state_dict(theirs.state_dict())
        _, _, (trace,) = ours(torch.zeros(1, 1, 2), trace=True)
        assert (trace[gate] > 0.999).all()
        assert all((trace[other] < 0.9).all() for other in GATES if other != gate)


def test_rnn_accepts_torchs_positional_nonlinearity():
    assert RNN(2, 3, 1, "relu").cell == "rnn_relu"
