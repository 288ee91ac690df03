"""ConvLSTM and ConvGRU: a naive reference, torch's layers on one cell, gradients, Keras, live."""

import copy
import os
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memorycell.errors import StateError, UserError
from memorycell.nn.conv import ConvGRU, ConvLSTM, ConvRecurrent, of_conv_cell
from memorycell.nn.layers import of_cell
from memorycell.state import State
from memorycell.streaming.pool import Pool
from memorycell.streaming.stream import Stream

CELLS = ("lstm", "peephole", "gru", "gru_reset_before")
KERNELS = (1, 2, 3, (4, 3), (2, 5))


def layer(cell: str, kernel=3, layers: int = 1, **options) -> ConvRecurrent:
    torch.manual_seed(0)
    return of_conv_cell(cell, 2, 3, kernel, layers, **options).double()


# ---- the naive reference -------------------------------------------------------------------------


def naive_conv(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """[I, height, width] * [O, I, kh, kw], zero outside, by loops over the places of the grid."""
    outputs, _, kh, kw = weight.shape
    _, height, width = x.shape
    top, left = (kh - 1) // 2, (kw - 1) // 2
    y = np.zeros((outputs, height, width))
    for r in range(height):
        for c in range(width):
            for a in range(kh):
                for b in range(kw):
                    row, column = r + a - top, c + b - left
                    if 0 <= row < height and 0 <= column < width:
                        y[:, r, c] += weight[:, :, a, b] @ x[:, row, column]
    return y


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def naive(module: ConvRecurrent, x: np.ndarray) -> np.ndarray:
    """One layer over [T, I, height, width], from zeros, by the papers' equations."""
    p = {name: value.detach().numpy() for name, value in module.named_parameters()}
    size, grid = module.hidden_size, x.shape[2:]
    b_ih = p.get("bias_ih_l0", np.zeros(len(p["weight_ih_l0"])))[:, None, None]
    b_hh = p.get("bias_hh_l0", np.zeros(len(p["weight_ih_l0"])))[:, None, None]
    h, c = np.zeros((size, *grid)), np.zeros((size, *grid))
    outputs = []
    for frame in x:
        wx = naive_conv(frame, p["weight_ih_l0"]) + b_ih
        wh = naive_conv(h, p["weight_hh_l0"]) + b_hh
        if module.cell in ("lstm", "peephole"):
            pre_i, pre_f, pre_g, pre_o = np.split(wx + wh, 4)
            w_ci, w_cf, w_co = np.split(p.get("weight_ch_l0", np.zeros((3 * size, 1, 1))), 3)
            i, f = sigmoid(pre_i + w_ci * c), sigmoid(pre_f + w_cf * c)
            c = f * c + i * np.tanh(pre_g)
            h = sigmoid(pre_o + w_co * c) * np.tanh(c)
        else:
            (x_r, x_z, x_n), (h_r, h_z, h_n) = np.split(wx, 3), np.split(wh, 3)
            r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
            if module.cell == "gru_reset_before":
                h_n = naive_conv(r * h, np.split(p["weight_hh_l0"], 3)[2]) + np.split(b_hh, 3)[2]
                n = np.tanh(x_n + h_n)
            else:
                n = np.tanh(x_n + r * h_n)
            h = (1 - z) * n + z * h
        outputs.append(h)
    return np.stack(outputs)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_a_layer_is_its_equations(cell, kernel):
    for options in ({}, {"bias": False}, {"size": (4, 5)}):
        module = layer(cell, kernel, **options)
        x = torch.randn(5, 1, 2, 4, 5).double()
        y = module(x)[0][:, 0].detach().numpy()
        assert np.abs(y - naive(module, x[:, 0].numpy())).max() < 1e-12


@pytest.mark.parametrize("cell", CELLS)
def test_on_one_cell_of_the_grid_it_is_the_plain_layer(cell):
    """With lengths, resets, an initial state, two layers, and the gradients of all parameters."""
    ours = layer(cell, 1, 2)
    plain = of_cell(cell, 2, 3, 2).double()
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            parameter.copy_(dict(ours.named_parameters())[name].reshape(parameter.shape))
    x = torch.randn(7, 4, 2).double()
    lengths, reset = torch.tensor([7, 3, 1, 5]), torch.rand(4, 7) < 0.3
    state = State(**{n: torch.randn_like(v) for n, v in plain.initial_state(4).asdict().items()})
    spatial = State(**{n: v[..., None, None] for n, v in state.asdict().items()})
    y, after = ours(x[..., None, None], spatial, lengths=lengths, reset=reset)
    expected, last = plain(x, state if len(state) > 1 else state[0], lengths=lengths, reset=reset)
    last = (last,) if isinstance(last, torch.Tensor) else last
    torch.testing.assert_close(y[..., 0, 0], expected, rtol=0, atol=1e-12)
    for mine, theirs in zip(after, last, strict=True):
        torch.testing.assert_close(mine[..., 0, 0], theirs, rtol=0, atol=1e-12)
    weights = torch.randn_like(expected)
    (y[..., 0, 0] * weights).sum().backward()
    (expected * weights).sum().backward()
    for name, parameter in plain.named_parameters():
        mine = dict(ours.named_parameters())[name].grad
        torch.testing.assert_close(
            mine.reshape(parameter.shape), parameter.grad, rtol=0, atol=1e-11
        )


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_those_of_finite_differences(cell):
    module = layer(cell, (2, 3), size=(3, 2) if cell == "peephole" else None)
    names = [name for name, _ in module.named_parameters()]
    x = torch.randn(3, 2, 2, 3, 2).double().requires_grad_()
    h_0 = [v.clone().normal_().requires_grad_() for v in module.initial_state(2, (3, 2))]
    reset = torch.tensor([[False, True, False], [False, False, True]])

    def run(x, *rest):
        state, values = rest[: len(h_0)], rest[len(h_0) :]
        given = dict(zip(names, values, strict=True))
        hx = state if len(state) > 1 else state[0]
        output, final = torch.func.functional_call(
            module, given, (x, hx), {"lengths": [3, 2], "reset": reset}
        )
        return (output, *((final,) if isinstance(final, torch.Tensor) else final))

    values = [p.detach().clone().requires_grad_() for p in module.parameters()]
    assert torch.autograd.gradcheck(run, (x, *h_0, *values), fast_mode=True)


# ---- shapes and arguments ------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    cell=st.sampled_from(CELLS),
    steps=st.integers(1, 5),
    batch=st.integers(1, 3),
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    layers=st.integers(1, 2),
    cut=st.integers(0, 4),
)
def test_parts_batches_and_orders_give_the_same(cell, steps, batch, grid, kernel, layers, cut):
    module = layer(cell, kernel, layers)
    x = torch.randn(steps, batch, 2, *grid).double()
    with torch.no_grad():
        y, final = module(x, module.initial_state(batch, grid).fork())
        at = min(cut, steps - 1)
        if at:
            first, state = module(x[:at], State(**module.initial_state(batch, grid).asdict()))
            second, _ = module(x[at:], state)
            torch.testing.assert_close(torch.cat([first, second]), y, rtol=0, atol=1e-12)
        single, _ = module(x[:, 0])  # unbatched
        torch.testing.assert_close(single, y[:, 0], rtol=0, atol=1e-12)
        module.batch_first = True
        turned, again = module(x.transpose(0, 1))
        torch.testing.assert_close(turned.transpose(0, 1), y, rtol=0, atol=0)
    assert isinstance(final, State)
    again = (again,) if isinstance(again, torch.Tensor) else again
    for mine, theirs in zip(again, final, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
        assert theirs.shape == (layers, batch, 3, *grid)


@pytest.mark.parametrize("cell", CELLS)
def test_the_trace_is_every_gate_and_state(cell):
    module = layer(cell, 3, 2)
    x = torch.randn(4, 2, 2, 3, 5).double()
    y, final, traces = module(x, trace=True)
    assert len(traces) == 2
    h = traces[1]["h"]
    assert h.shape == (2, 4, 3, 3, 5)
    torch.testing.assert_close(h.transpose(0, 1), y, rtol=0, atol=0)
    if "c" in traces[1]:
        t = traces[1]
        c = t["f"][:, 1:] * t["c"][:, :-1] + t["i"][:, 1:] * t["g"][:, 1:]
        torch.testing.assert_close(c, t["c"][:, 1:])
        torch.testing.assert_close(t["o"] * t["c"].tanh(), h)
        torch.testing.assert_close(final[1][1], t["c"][:, -1], rtol=0, atol=0)
    else:
        assert {"r", "z", "n", "h"} == set(traces[1])


def test_forget_bias_and_representation():
    module = ConvLSTM(2, 3, (3, 5), peephole=True, forget_bias=1.5, size=(4, 6))
    assert (module.bias_ih_l0[3:6] == 1.5).all()
    assert (module.bias_hh_l0[3:6] == 0).all()
    assert module.weight_ch_l0.shape == (9, 4, 6)
    assert "kernel_size=(3, 5)" in repr(module)
    assert "cell=peephole, size=(4, 6)" in repr(module)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ConvLSTM(2, 3, 0), "kernel_size: expected 1 or more"),
        (lambda: ConvLSTM(0, 3), "input_size: expected 1 or more"),
        (lambda: ConvLSTM(2, 3, size=(4,)), "expected .height, width."),
        (lambda: ConvGRU(2, 3, cell="lstm"), "ConvGRU has gru, gru_reset_before"),
        (lambda: ConvGRU(2, 3, forget_bias=1.0), "forget_bias: the cell 'gru'"),
        (lambda: of_conv_cell("rnn", 2, 3), "convolutional layers have lstm, peephole, gru"),
    ],
)
def test_wrong_constructions_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"input": torch.zeros(2, 3, 3, 4, 4)}, r"expected \[T, B, 2, height, width\]"),
        ({"input": torch.zeros(0, 3, 2, 4, 4)}, "T of 1 or more"),
        ({"input": torch.zeros(2, 4)}, "expected"),
        ({"hx": torch.zeros(1, 3, 3, 4, 4)}, "hx: expected h, c"),
        ({"hx": (torch.zeros(1, 3, 3, 4, 5),) * 2}, "hx: expected h, c"),
        ({"lengths": [1, 2]}, "lengths: expected 3 lengths of 1..2"),
        ({"lengths": [0, 1, 2]}, "lengths"),
        ({"reset": torch.zeros(2, 3, dtype=torch.bool)}, "reset: expected"),
        ({"reset": torch.zeros(3, 2)}, "reset: expected"),
    ],
)
def test_wrong_calls_are_refused(options, words):
    call = {"input": torch.zeros(2, 3, 2, 4, 4), **options}
    with pytest.raises(ValueError, match=words):
        ConvLSTM(2, 3)(call.pop("input"), call.pop("hx", None), **call)


def test_a_layer_of_a_size_refuses_others():
    with pytest.raises(ValueError, match=r"made for frames of \(3, 5\), got \(5, 3\)"):
        ConvLSTM(1, 2, size=(3, 5))(torch.zeros(1, 1, 1, 5, 3))
    with pytest.raises(ValueError, match="give .height, width."):
        ConvLSTM(1, 2).initial_state(1)


# ---- live ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_live_steps_are_the_full_sequence(cell, tmp_path):
    module = layer(cell, 3, 2, size=(4, 5)).float().eval()
    x = torch.randn(6, 2, 4, 5)
    with torch.no_grad():
        y = module(x)[0].numpy()
    rows = x.flatten(1).numpy()
    stream = Stream(module)
    assert np.abs(np.stack([stream.step(row) for row in rows]) - y).max() < 1e-6
    state = stream.state
    assert state.h.shape == (2, 1, 3, 4, 5)
    stream.reset()
    stream.step(rows[:3])
    stream.save(tmp_path / "state")
    other = Stream(module)
    other.load(tmp_path / "state")
    other.step(rows[3])
    other.rewind()
    assert np.array_equal(other.fork().step(rows[3:]), stream.step(rows[3:]))
    pool = Pool(module, 2)
    slots = np.array([pool.open(), pool.open()])
    for row in rows:
        both = pool.step(slots, np.stack([row, row * 0]))
    assert np.abs(both[0] - y[-1]).max() < 1e-6
    with pytest.raises(StateError, match="expected h=.2, .B., 3, 4, 5."):
        stream.state = State(h=torch.zeros(2, 1, 3, 5, 4))


@pytest.mark.parametrize("cell", CELLS)
def test_weights_are_packed_once(cell):
    module = layer(cell, 3, 2, size=(4, 5)).float().eval()
    x = torch.randn(40).numpy()
    stream, same = Stream(module), Stream(copy.deepcopy(module))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5)
    assert np.array_equal(stream.step(x), same.step(x))
    module.train().eval()
    with pytest.raises(RuntimeError, match="refresh"):
        stream.step(x)
    stream.refresh()
    stream.reset()
    with torch.no_grad():
        expected = module(torch.from_numpy(x).reshape(1, 2, 4, 5))[0][0].numpy()
    assert np.abs(stream.step(x) - expected).max() < 1e-6


def test_a_stream_needs_a_size_and_float32():
    with pytest.raises(ValueError, match=r"size=\(height, width\)"):
        Stream(ConvLSTM(1, 2))
    with pytest.raises(ValueError, match="precision='int8'"):
        Stream(ConvLSTM(1, 2, size=(2, 2)), "int8")


# ---- Keras ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras():
    os.environ["KERAS_BACKEND"] = "torch"
    return pytest.importorskip("keras")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_keras_convlstm2d_is_imported(keras, tmp_path):
    import memorycell

    kernels = {"odd": (3, 5), "even": (2, 4), "plain": (1, 1)}
    start = keras.Input((None, 5, 6, 2))
    made, x = [], start
    for name, kernel in kernels.items():
        x = keras.layers.ConvLSTM2D(
            3,
            kernel,
            padding="same",
            return_sequences=True,
            use_bias=name != "plain",
            name=name,
        )(x)
        made.append(x)
    net = keras.Model(start, made)
    rng = np.random.default_rng(0)
    net.set_weights(
        [rng.normal(scale=0.4, size=w.shape).astype(np.float32) for w in net.get_weights()]
    )
    net.save(tmp_path / "m.keras")
    imported = memorycell.from_keras(tmp_path / "m.keras")
    assert list(imported) == list(kernels)
    inputs = rng.normal(size=(2, 4, 5, 6, 2)).astype(np.float32)
    given = torch.from_numpy(inputs).permute(0, 1, 4, 2, 3)
    for name, theirs in zip(kernels, net(torch.from_numpy(inputs)), strict=True):
        expected = theirs.detach().permute(0, 1, 4, 2, 3)
        assert imported[name].kernel_size == kernels[name]
        assert (imported[name](given)[0] - expected).abs().max() < 2e-6, name
        given = expected


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"padding": "valid"}, "padding='valid'"),
        ({"padding": "same", "strides": 2}, "strides="),
        ({"padding": "same", "recurrent_activation": "hard_sigmoid"}, "recurrent_activation="),
        ({"padding": "same", "go_backwards": True}, "go_backwards=True"),
    ],
)
def test_other_options_of_keras_are_refused(keras, tmp_path, options, words):
    import memorycell

    start = keras.Input((None, 5, 6, 2))
    net = keras.Sequential([start, keras.layers.ConvLSTM2D(3, 3, name="conv", **options)])
    net.save(tmp_path / "m.keras")
    assert zipfile.is_zipfile(tmp_path / "m.keras")
    with pytest.raises(UserError, match=words):
        memorycell.from_keras(tmp_path / "m.keras")


@pytest.mark.parametrize("size", [(5, 6), (37, 41)])
@pytest.mark.parametrize("bias", [True, False])
def test_inference_gives_the_outputs_of_training_and_leaves_its_arguments(size, bias):
    """On a small and a large grid, which use different operations for tanh."""
    torch.manual_seed(0)
    module = ConvLSTM(2, 3, 3, 2, batch_first=True, bias=bias)
    x = torch.randn(3, 4, 2, *size)
    state = State(h=torch.randn(2, 3, 3, *size), c=torch.randn(2, 3, 3, *size))
    before = [value.clone() for value in (x, *state, *module.parameters())]
    options = {"lengths": [4, 2, 3], "reset": torch.rand(3, 4) < 0.4}
    expected, final = module(x, state, **options)
    with torch.no_grad():
        y, after = module(x, state, **options)
    for a, b in zip((y, *after), (expected, *final), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    for a, b in zip((x, *state, *module.parameters()), before, strict=True):
        assert torch.equal(a, b)
