"""The cells since 2020 against their papers' equations, written here without stabilisers; parallel
forms against recurrent ones; the package xlstm where it is installed.
"""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import memorycell
from memorycell.lab.trial import RECENT_CELLS
from memorycell.nn.layers import of_cell
from memorycell.ops import binding
from memorycell.ops.parallel import CHUNK, FORMS, scan_log

PARALLEL_CELLS = tuple(FORMS)
VARIANTS = [*((cell, 1) for cell in RECENT_CELLS), ("slstm", 3), ("mlstm", 3)]


def build(cell: str, inputs: int = 4, hidden: int = 6, **options):
    """A layer with this cell, batch first, in float64."""
    torch.manual_seed(0)
    return of_cell(cell, inputs, hidden, batch_first=True, dtype=torch.float64, **options)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x)))


def array(layer, name: str) -> np.ndarray:
    return getattr(layer, f"{name}_l0").detach().numpy()


# ---- the papers' equations, one sequence, without stabilisers ------------------------------------


def slstm_of_the_paper(layer, x: np.ndarray) -> list[np.ndarray]:
    """Beck et al. (2024), equations 8-14, with f = σ."""
    H = layer.hidden_size
    W, b = array(layer, "weight_ih"), array(layer, "bias_ih") + array(layer, "bias_hh")
    R = layer.layer_parameters(0, "")["weight_hh"].detach().numpy()
    h = c = n = np.zeros(H)
    outputs = []
    for step in x:
        pre = W @ step + R @ h + b
        i, f, z, o = np.exp(pre[:H]), sigmoid(pre[H : 2 * H]), np.tanh(pre[2 * H : 3 * H]), pre[-H:]
        c, n = f * c + i * z, f * n + i
        h = sigmoid(o) * c / n
        outputs.append(h)
    return outputs


def mlstm_of_the_paper(layer, x: np.ndarray) -> list[np.ndarray]:
    """Beck et al. (2024), equations 19-27, with f = σ, head by head."""
    H, heads = layer.hidden_size, layer.heads
    d = H // heads
    W, b = array(layer, "weight_ih"), array(layer, "bias_ih")
    C, n = np.zeros((heads, d, d)), np.zeros((heads, d))
    outputs = []
    for step in x:
        pre, h = W @ step + b, np.zeros(H)
        for a in range(heads):
            q, k, v, o = (pre[part * H + a * d : part * H + (a + 1) * d] for part in range(4))
            i, f = np.exp(pre[4 * H + a]), sigmoid(pre[4 * H + heads + a])
            k = k / math.sqrt(d)
            C[a] = f * C[a] + i * np.outer(v, k)
            n[a] = f * n[a] + i * k
            h[a * d : (a + 1) * d] = sigmoid(o) * (C[a] @ q) / max(abs(n[a] @ q), 1.0)
        outputs.append(h)
    return outputs


def positive(a: np.ndarray) -> np.ndarray:
    return np.array([v + 0.5 if v >= 0 else sigmoid(v) for v in a])


def minlstm_of_the_paper(layer, x: np.ndarray) -> list[np.ndarray]:
    """Feng et al. (2024), section 3.2.3 with g of appendix B."""
    H = layer.hidden_size
    W, b = array(layer, "weight_ih"), array(layer, "bias_ih")
    h, outputs = np.zeros(H), []
    for step in x:
        pre = W @ step + b
        i, f, new = sigmoid(pre[:H]), sigmoid(pre[H : 2 * H]), positive(pre[2 * H :])
        h = f / (f + i) * h + i / (f + i) * new
        outputs.append(h)
    return outputs


def mingru_of_the_paper(layer, x: np.ndarray) -> list[np.ndarray]:
    """Feng et al. (2024), section 3.1.3 with g of appendix B."""
    H = layer.hidden_size
    W, b = array(layer, "weight_ih"), array(layer, "bias_ih")
    h, outputs = np.zeros(H), []
    for step in x:
        pre = W @ step + b
        z = sigmoid(pre[:H])
        h = (1 - z) * h + z * positive(pre[H:])
        outputs.append(h)
    return outputs


def mogrifier_of_the_paper(layer, x: np.ndarray) -> list[np.ndarray]:
    """Melis et al. (2020), equations 1-2: x^1, h^2, x^3, h^4, x^5, then torch's own LSTM cell."""
    cell = torch.nn.LSTMCell(layer.input_size, layer.hidden_size, dtype=torch.float64)
    cell.load_state_dict(
        {name: getattr(layer, f"{name}_l0").detach() for name in cell.state_dict()}
    )
    Q, R = array(layer, "weight_xh"), array(layer, "weight_hx")
    h = c = np.zeros(layer.hidden_size)
    outputs = []
    for step in x:
        x_1 = 2 * sigmoid(Q[0] @ h) * step
        h_2 = 2 * sigmoid(R[0] @ x_1) * h
        x_3 = 2 * sigmoid(Q[1] @ h_2) * x_1
        h_4 = 2 * sigmoid(R[1] @ x_3) * h_2
        x_5 = 2 * sigmoid(Q[2] @ h_4) * x_3
        with torch.no_grad():
            state = cell(*(torch.from_numpy(x_5)[None], tuple(map(_row, (h_4, c)))))
        h, c = (s[0].numpy() for s in state)
        outputs.append(h)
    return outputs


def _row(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values)[None]


PAPERS = {
    "slstm": slstm_of_the_paper,
    "mlstm": mlstm_of_the_paper,
    "minlstm": minlstm_of_the_paper,
    "mingru": mingru_of_the_paper,
    "mogrifier": mogrifier_of_the_paper,
}


@pytest.mark.parametrize(("cell", "heads"), VARIANTS)
def test_cells_equal_their_papers(cell, heads):
    layer = build(cell, heads=heads)
    x = torch.randn(1, 15, 4).double()
    expected = np.stack(PAPERS[cell](layer, x[0].numpy()))
    for backend in ("reference", None):
        ours = layer(x, backend=backend)[0][0].detach().numpy()
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-13)


# ---- all steps at once = one after another -------------------------------------------------------


def everything(layer, x, state, **options) -> list[torch.Tensor]:
    """Output, final state and every gradient for a loss that weights every element."""
    x = x.clone().requires_grad_()
    state = [s.detach().clone().requires_grad_() for s in state]
    output, final = layer(x, tuple(state) if len(state) > 1 else state[0], **options)
    values = [output, *([final] if isinstance(final, torch.Tensor) else final)]
    loss = sum((v * torch.sin(torch.arange(v.numel()).view(v.shape) + 1)).sum() for v in values)
    wanted = [x, *state, *layer.parameters()]  # the mlstm does not read h
    return [*values, *torch.autograd.grad(loss, wanted, materialize_grads=True)]


@pytest.mark.parametrize(("cell", "heads"), [(c, h) for c, h in VARIANTS if c in PARALLEL_CELLS])
@given(
    batch=st.integers(1, 4),
    steps=st.one_of(st.integers(1, 9), st.integers(CHUNK - 1, 2 * CHUNK + 3)),
    option=st.sampled_from(["", "lengths", "reset", "both"]),
    bidirectional=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=12, deadline=None)
def test_the_parallel_form_equals_the_recurrent_one(
    cell, heads, batch, steps, option, bidirectional, seed
):
    layer = build(cell, heads=heads, bidirectional=bidirectional)
    torch.manual_seed(seed)
    x = torch.randn(batch, steps, 4).double()
    with torch.no_grad():
        state = layer(torch.randn(batch, 3, 4).double(), layer.initial_state(batch))[1]
    state = (state,) if isinstance(state, torch.Tensor) else state
    call = {}
    if option in ("lengths", "both"):
        call["lengths"] = torch.randint(1, steps + 1, (batch,))
    if option in ("reset", "both"):
        call["reset"] = torch.rand(batch, steps) < 0.1
    parallel = everything(layer, x, state, backend="torch", **call)
    recurrent = everything(layer, x, state, backend="reference", **call)
    for mine, other in zip(parallel, recurrent, strict=True):
        scale = max(1.0, float(other.detach().abs().max()))
        assert float((mine - other).detach().abs().max()) < 1e-12 * scale


@pytest.mark.parametrize("cell", PARALLEL_CELLS)
def test_gradcheck_of_the_parallel_form(cell):
    layer = build(cell, 2, 3)
    x = torch.randn(2, 4, 2).double().requires_grad_()
    reset = torch.tensor([[False, False, True, False], [False] * 4])
    names = [name for name, _ in layer.named_parameters()]

    def run(x, *values):
        params = dict(zip(names, values, strict=True))
        options = {"reset": reset, "backend": "torch"}
        output, final = torch.func.functional_call(layer, params, (x,), options)
        return (output, *((final,) if isinstance(final, torch.Tensor) else final))

    values = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(run, (x, *values))


def test_the_scan_keeps_its_precision_over_a_long_sequence():
    """In float32: 5,000 small gates, where a difference of cumulative sums would lose 3 digits."""
    torch.manual_seed(0)
    log_keep, log_new = -5 * torch.rand(1, 5000, 3), torch.randn(1, 5000, 3)
    exact, h = [], torch.ones(3, dtype=torch.float64)
    for keep, new in zip(log_keep[0].double().exp(), log_new[0].double().exp(), strict=True):
        h = keep * h + new
        exact.append(h)
    ours = scan_log(log_keep, log_new, torch.ones(1, 3), None)
    assert float((ours[0] / torch.stack(exact) - 1).abs().max()) < 2e-6


# ---- extremes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "heads"), VARIANTS)
def test_huge_gates_are_finite(cell, heads):
    """In float32, exp(pre_i) would overflow from 88 on; the first step has no memory."""
    layer = build(cell, heads=heads).float()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(100)
    x = 10 * torch.randn(3, 20, 4)
    for backend in (None, "reference"):
        own = x.clone().requires_grad_()
        output, _ = layer(own, backend=backend)
        gradients = torch.autograd.grad(output.sum(), [own, *layer.parameters()])
        assert all(bool(v.isfinite().all()) for v in (output, *gradients))


def test_the_slstm_is_bounded_and_needs_no_particular_start():
    """|h| < 1, n ≥ 1; the first step is that of the paper, however small its input gate."""
    layer = build("slstm")
    with torch.no_grad():
        layer.bias_ih_l0[:6] = -300.0
    output, _, (trace,) = layer(torch.randn(2, 30, 4).double(), trace=True)
    assert float(output.detach().abs().max()) < 1
    assert float(trace["n"].detach().min()) >= 1
    first = trace["o"][:, 0] * trace["g"][:, 0]
    torch.testing.assert_close(output[:, 0], first, rtol=0, atol=1e-14)


# ---- heads ---------------------------------------------------------------------------------------


def test_heads_are_separate_groups_of_units():
    """An sLSTM with heads is several small ones that read the same input."""
    layer = build("slstm", heads=3)
    assert layer.weight_hh_l0.shape == (24, 2)
    x = torch.randn(2, 9, 4).double()
    output, _ = layer(x)
    for head in range(3):
        small = build("slstm", hidden=2)
        units = torch.cat([torch.arange(2) + 6 * gate + 2 * head for gate in range(4)])
        small.load_state_dict({name: p[units] for name, p in layer.state_dict().items()})
        torch.testing.assert_close(
            output[..., 2 * head : 2 * head + 2], small(x)[0], rtol=0, atol=1e-14
        )


@pytest.mark.parametrize(
    ("cell", "options", "name"),
    [
        ("lstm", {"heads": 2}, "heads"),
        ("slstm", {"heads": 4}, "heads"),
        ("slstm", {"heads": 0}, "heads"),
        ("slstm", {"heads": 2, "proj_size": 2}, "heads"),
        ("slstm", {"zoneout": 0.1}, "zoneout"),
        ("mlstm", {"zoneout": (0.0, 0.1)}, "zoneout"),
        ("mlstm", {"proj_size": 2}, "proj_size"),
        ("mogrifier", {"proj_size": 2}, "proj_size"),
        ("minlstm", {"weight_drop": 0.1}, "weight_drop"),
        ("mingru", {"recurrent_init": "orthogonal"}, "recurrent_init"),
    ],
)
def test_options_that_a_cell_does_not_have(cell, options, name):
    with pytest.raises(ValueError, match=f"^{name}: "):
        build(cell, **options)


# ---- live ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "heads"), VARIANTS)
def test_live_steps_equal_the_full_sequence(cell, heads, tmp_path):
    """Stream, fork, save and load, Pool, a state from `forward`."""
    layer = build(cell, num_layers=2, heads=heads).float().eval()
    x = torch.randn(12, 4)
    with torch.no_grad():
        whole, final = layer(x[None], layer.initial_state())
    whole = whole[0].numpy()
    stream = memorycell.stream(layer)
    steps = [stream.step(row) for row in x[:5].numpy()]
    stream.save(tmp_path / "state")
    other = memorycell.stream(layer)
    other.load(tmp_path / "state")
    fork = other.fork()
    steps += [fork.step(row) for row in x[5:].numpy()]
    np.testing.assert_allclose(np.stack(steps), whole, rtol=0, atol=2e-6)
    for name, value in fork.state.asdict().items():
        torch.testing.assert_close(value, getattr(final, name), rtol=1e-5, atol=2e-6)
    pool = memorycell.Pool(layer, 3)
    slots = np.array([pool.open() for _ in range(3)])
    for row, expected in zip(x.numpy(), whole, strict=True):
        y = pool.step(slots, np.stack([row, -row, row]))
        assert np.array_equal(y[0], y[2])
        np.testing.assert_allclose(y[0], expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("cell", "heads"), VARIANTS)
def test_layers_are_copied_and_restored(cell, heads):
    layer = build(cell, num_layers=2, heads=heads)
    x = torch.randn(2, 5, 4).double()
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(layer(x)[0], other(x)[0])
    fresh = build(cell, num_layers=2, heads=heads)
    fresh.reset_parameters()
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x)[0], fresh(x)[0])
    assert f"cell={cell!r}" in repr(layer)
    assert ("heads=3" in repr(layer)) == (heads == 3)


@pytest.mark.parametrize("cell", [cell for cell in RECENT_CELLS if cell != "mlstm"])
def test_single_step_layers_equal_the_full_sequence(cell):
    kind = memorycell.GRUCell if cell == "mingru" else memorycell.LSTMCell
    torch.manual_seed(0)
    one = kind(4, 6, cell=cell, dtype=torch.float64)
    layer = build(cell)
    layer.load_state_dict({f"{name}_l0": p for name, p in one.state_dict().items()})
    x, state = torch.randn(2, 5, 4).double(), None
    whole = layer(x)[0]
    for t in range(5):
        state = one(x[:, t], state)
        h = state if isinstance(state, torch.Tensor) else state[0]
        torch.testing.assert_close(h, whole[:, t], rtol=0, atol=1e-14)


def test_forget_bias_of_a_head():
    layer = of_cell("mlstm", 3, 4, heads=2, forget_bias=5.0)
    assert (layer.bias_ih_l0[-2:] == 5).all()
    assert (layer.bias_ih_l0[:-2].abs() <= 0.5).all()


def test_the_engine_has_the_cells():
    if binding.engine is None:
        pytest.skip("no engine")
    for cell in ("slstm", "minlstm", "mingru"):
        assert memorycell.explain(of_cell(cell, 3, 4)).backend == "native"
    explanation = memorycell.explain(of_cell("mlstm", 3, 4))
    assert explanation.backend == "torch"
    assert "all steps at once" in explanation.reason


# ---- the package xlstm ---------------------------------------------------------------------------


def test_slstm_equals_the_package_xlstm():
    package = pytest.importorskip("xlstm.blocks.slstm.src.vanilla.slstm")
    layer = build("slstm")
    x, state = torch.randn(12, 3, 4).double(), torch.zeros(4, 3, 6).double()
    whole = layer(x.transpose(0, 1))[0]
    for t in range(12):
        W_x = x[t] @ layer.weight_ih_l0.T
        bias = layer.bias_ih_l0 + layer.bias_hh_l0
        state, _ = package.slstm_forward_pointwise(
            W_x, state[0] @ layer.weight_hh_l0.T, bias, state, {}
        )
        torch.testing.assert_close(whole[:, t], state[0], rtol=0, atol=1e-13)


def test_mlstm_equals_the_package_xlstm():
    package = pytest.importorskip("xlstm.blocks.mlstm.backends")
    layer = build("mlstm", heads=2)
    x = torch.randn(3, 12, 4).double()
    whole = layer(x)[0]
    pre = x @ layer.weight_ih_l0.T + layer.bias_ih_l0
    q, k, v, o, i, f = pre.split([6, 6, 6, 6, 2, 2], -1)
    q, k, v = (part.unflatten(-1, (2, 3)).transpose(1, 2) for part in (q, k, v))
    i, f = (part.transpose(1, 2)[..., None] for part in (i, f))
    theirs = package.parallel_stabilized_simple(q, k, v, i, f, eps=0.0)
    theirs = theirs.transpose(1, 2).flatten(-2) * torch.sigmoid(o)
    torch.testing.assert_close(whole, theirs, rtol=0, atol=1e-13)
