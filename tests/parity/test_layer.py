"""Features of the layers that torch.nn does not have, against loops; derivatives, and errors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layer_gradients import KINDS, assert_same

import memorycell
from memorycell.cells import CELLS
from memorycell.nn.layers import of_cell
from memorycell.ops import binding

CELL_NAMES = sorted(CELLS)
WITHOUT_TORCH = ("peephole", "coupled", "layernorm", "gru_reset_before", "mogrifier", "slstm")


def build(cell: str, inputs: int, hidden: int, **options):
    """A layer with this cell, batch first, in float64."""
    return of_cell(cell, inputs, hidden, batch_first=True, dtype=torch.float64, **options)


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_lengths_equal_each_row_alone(cell, backend):
    if backend == "torch" and cell in WITHOUT_TORCH:
        pytest.skip("torch has no kernel for this cell")
    torch.manual_seed(0)
    layer = build(cell, 4, 5, num_layers=2, bidirectional=True)
    lengths = torch.tensor([3, 9, 1, 6])
    x = torch.randn(4, 9, 4).double()
    poisoned = x.masked_fill(torch.arange(9)[None, :, None] >= lengths[:, None, None], float("nan"))
    poisoned = poisoned.nan_to_num(1e30) if backend == "torch" else poisoned
    poisoned.requires_grad_()
    output, final = layer(poisoned, lengths=lengths, backend=backend)
    for row, length in enumerate(lengths.tolist()):
        alone, alone_final = layer(x[row : row + 1, :length], backend="reference")
        torch.testing.assert_close(output[row : row + 1, :length], alone, rtol=0, atol=1e-12)
        assert (output[row, length:] == 0).all()
        for a, b in zip(_states(final), _states(alone_final), strict=True):
            torch.testing.assert_close(a[:, row : row + 1], b, rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(output.sum(), poisoned)
    assert gradient.isfinite().all()
    assert (gradient[0, 3:] == 0).all()
    single = layer(poisoned[:1], lengths=lengths[:1], backend=backend)[0]  # a batch of one
    torch.testing.assert_close(single, output[:1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_reset_equals_separate_sequences(cell, backend):
    """Neither direction crosses a reset: every segment equals the segment alone."""
    if backend == "torch" and cell in WITHOUT_TORCH:
        pytest.skip("torch has no kernel for this cell")
    torch.manual_seed(0)
    layer = build(cell, 4, 5, num_layers=2, bidirectional=True)
    x = torch.randn(3, 11, 4).double()
    reset = torch.zeros(3, 11, dtype=torch.bool)
    borders = [[0, 4, 5], [7], []]
    for row, steps in enumerate(borders):
        reset[row, steps] = True
    output, final = layer(x, reset=reset, backend=backend)
    for row, steps in enumerate(borders):
        edges = sorted({0, *steps, 11})
        for begin, end in zip(edges[:-1], edges[1:], strict=True):
            alone, alone_final = layer(x[row : row + 1, begin:end], backend="reference")
            torch.testing.assert_close(output[row : row + 1, begin:end], alone, rtol=0, atol=1e-12)
        for a, b in zip(_states(final), _states(alone_final), strict=True):
            torch.testing.assert_close(
                a[::2, row : row + 1], b[::2], rtol=0, atol=1e-12
            )  # forward: the last segment


def test_reset_zeroes_the_initial_state_only_in_the_forward_direction():
    layer = build("lstm", 2, 3)
    x, hx = (
        torch.randn(1, 4, 2).double(),
        (torch.randn(1, 1, 3).double(), torch.randn(1, 1, 3).double()),
    )
    reset = torch.tensor([[True, False, False, False]])
    torch.testing.assert_close(layer(x, hx, reset=reset)[0], layer(x)[0])


@given(
    cell=st.sampled_from(CELL_NAMES),
    batch=st.integers(1, 4),
    steps=st.integers(1, 6),
    data=st.data(),
)
def test_lengths_and_resets_together(cell, batch, steps, data):
    """The reference with both equals each row cut to its length, with its resets."""
    torch.manual_seed(1)
    layer = build(cell, 2, 3)
    lengths = torch.tensor(
        data.draw(st.lists(st.integers(1, steps), min_size=batch, max_size=batch))
    )
    flat = data.draw(st.lists(st.booleans(), min_size=batch * steps, max_size=batch * steps))
    reset = torch.tensor(flat).view(batch, steps)
    x = torch.randn(batch, steps, 2).double()
    output, _ = layer(x, lengths=lengths, reset=reset)
    for row, length in enumerate(lengths.tolist()):
        alone, _ = layer(x[row : row + 1, :length], reset=reset[row : row + 1, :length])
        torch.testing.assert_close(output[row : row + 1, :length], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_gradcheck_of_the_reference(cell):
    """Every gradient against finite differences, with lengths, resets and zoneout's expectation;
    and double backward.
    """
    torch.manual_seed(0)
    options = {} if CELLS[cell].stabilised else {"zoneout": 0.2}
    layer = build(cell, 2, 3, **options, **({"proj_size": 2} if cell == "lstm" else {})).eval()
    if cell == "rnn_relu":  # avoid the kink
        torch.nn.init.constant_(layer.bias_ih_l0, 1.0)
    x = torch.randn(2, 3, 2).double().requires_grad_()
    lengths, reset = torch.tensor([3, 2]), torch.tensor([[False, True, False], [False] * 3])
    names = [name for name, _ in layer.named_parameters()]

    def run(x, *values):
        result = torch.func.functional_call(
            layer,
            dict(zip(names, values, strict=True)),
            (x,),
            {"lengths": lengths, "reset": reset, "backend": "reference"},
        )
        return (result[0], *_states(result[1]))

    values = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(run, (x, *values))
    assert torch.autograd.gradgradcheck(run, (x, *values))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_double_backward_of_the_selected_backend(kind):
    torch.manual_seed(0)
    layer = KINDS[kind](2, 3, batch_first=True)
    reference = {"backend": "reference"}
    x = torch.randn(2, 4, 2, requires_grad=True)

    def second(**options):
        (first,) = torch.autograd.grad(layer(x, **options)[0].pow(2).sum(), x, create_graph=True)
        return torch.autograd.grad(first.pow(2).sum(), [x, *layer.parameters()])

    assert_same(second(), second(**reference), 1e-5)


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_trace_equals_the_equations(cell):
    torch.manual_seed(0)
    layer = build(cell, 4, 5, num_layers=2, bidirectional=True)
    x = torch.randn(3, 6, 4).double()
    output, final, traces = layer(x, trace=True)
    torch.testing.assert_close(output, layer(x)[0], rtol=0, atol=1e-12)
    assert len(traces) == 4
    assert all(set(trace) == {*CELLS[cell].gates, *CELLS[cell].state} for trace in traces)
    torch.testing.assert_close(torch.cat([traces[2]["h"], traces[3]["h"]], -1), output)
    if "c" in CELLS[cell].state and cell != "mlstm":
        trace = traces[0]
        before = torch.cat([torch.zeros_like(trace["c"][:, :1]), trace["c"][:, :-1]], 1)
        torch.testing.assert_close(
            trace["f"] * before + trace["i"] * trace["g"], trace["c"], rtol=0, atol=1e-14
        )
        torch.testing.assert_close(trace["c"][:, -1], final[1][0])


def test_zoneout_probability_and_expectation():
    torch.manual_seed(0)
    layer = memorycell.LSTM(3, 2000, batch_first=True, zoneout=(0.3, 0.1))
    x = torch.randn(1, 2, 3)
    _, _, (trace,) = layer(x, trace=True)
    kept_h = (trace["h"][0, 1] == trace["h"][0, 0]).float().mean()
    kept_c = (trace["c"][0, 1] == trace["c"][0, 0]).float().mean()
    assert abs(kept_h - 0.3) < 0.05  # 5 standard deviations of 2,000 draws
    assert abs(kept_c - 0.1) < 0.035
    layer.eval()
    plain = memorycell.LSTM(3, 2000, batch_first=True).eval()
    plain.load_state_dict(layer.state_dict())
    _, (h, c) = layer(x[:, :1])
    plain_h, plain_c = plain(x[:, :1])[1]
    torch.testing.assert_close(h, 0.7 * plain_h)
    torch.testing.assert_close(c, 0.9 * plain_c)


def test_weight_drop_is_one_mask_per_sequence_and_only_in_training():
    torch.manual_seed(0)
    layer = memorycell.LSTM(3, 8, batch_first=True, weight_drop=0.5)
    plain = memorycell.LSTM(3, 8, batch_first=True)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, 6, 3)
    torch.manual_seed(5)
    output = layer(x)[0]
    torch.manual_seed(5)
    with torch.no_grad():
        plain.weight_hh_l0.copy_(torch.nn.functional.dropout(layer.weight_hh_l0, 0.5, True))
    torch.testing.assert_close(output, plain(x)[0])
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer.eval()(x)[0], plain(x)[0])


def test_variational_dropout_drops_a_feature_for_the_full_sequence():
    from memorycell.nn.regularise import variational_dropout

    torch.manual_seed(0)
    dropped = variational_dropout(torch.ones(200, 7, 50), 0.4, True)
    assert (dropped == dropped[:, :1]).all()
    assert abs(float((dropped == 0).float().mean()) - 0.4) < 0.03
    torch.testing.assert_close(dropped.max(), torch.tensor(1 / 0.6))
    layer = memorycell.LSTM(3, 8, batch_first=True, variational_dropout=0.5)
    x = torch.randn(2, 6, 3)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    assert torch.equal(layer.eval()(x)[0], layer(x)[0])


def test_initialisation():
    layer = memorycell.LSTM(3, 8, forget_bias=1.5, recurrent_init="orthogonal")
    for block in layer.weight_hh_l0.split(8):
        torch.testing.assert_close(block @ block.T, torch.eye(8), rtol=0, atol=1e-5)
    assert ((layer.bias_ih_l0 + layer.bias_hh_l0)[8:16] == 1.5).all()


def test_explain_reports_backend_and_reason():
    layer = memorycell.LSTM(3, 4, batch_first=True)
    words = "the native engine has the lstm cell" if binding.engine is not None else "install g++"
    assert words in str(memorycell.explain(layer, torch.zeros(32, 100, 3)))
    assert memorycell.explain(memorycell.LSTM(3, 4, dtype=torch.float64)).backend == "torch"
    explanation = memorycell.explain(memorycell.LSTM(3, 4, dtype=torch.float64), trace=True)
    assert explanation.backend == "reference"
    assert "gates" in explanation.reason
    assert ("float64" if binding.engine is not None else "install g++") in explanation.reason
    assert (
        "peephole"
        in memorycell.explain(memorycell.LSTM(3, 4, cell="peephole", dtype=torch.float64)).reason
    )


def test_autocast_is_respected():
    layer = memorycell.LSTM(8, 8, batch_first=True)
    x = torch.randn(2, 5, 8)
    exact = layer(x)[0].detach()
    try:
        with torch.autocast("cpu", torch.bfloat16):
            torch.nn.LSTM(8, 8)(x)
        backends = (None, "reference", "torch")
    except RuntimeError:  # torch's LSTM in bfloat16 is not available on every processor
        backends = ("reference",)
    for backend in backends:
        with torch.autocast("cpu", torch.bfloat16):
            output = layer(x, backend=backend)[0].detach()
        difference = float((output.float() - exact).abs().max())
        assert 1e-5 < difference < 0.02  # products in bfloat16: 8 bits of mantissa


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m(torch.zeros(2, 3, 9), trace=True), "input_size"),
        (lambda m: m(torch.zeros(2, 3, 4).double()), "float64"),
        (lambda m: m(torch.zeros(2, 0, 4), trace=True), "larger than 0"),
        (
            lambda m: m(
                torch.zeros(3, 4, 4), (torch.zeros(1, 2, 5), torch.zeros(1, 3, 5)), trace=True
            ),
            "hidden",
        ),
        (lambda m: m(torch.zeros(3, 4, 4), (torch.zeros(1, 3, 5),), trace=True), "hx"),
        (lambda m: m(torch.zeros(2, 3, 4), lengths=torch.tensor([0, 3])), "1..3"),
        (
            lambda m: m(torch.zeros(2, 3, 4), lengths=torch.tensor([3, 3, 3])),
            r"lengths: expected \[2\]",
        ),
        (lambda m: m(torch.zeros(2, 3, 4), lengths=torch.tensor([3.0, 3.0])), "int64"),
        (lambda m: m(torch.zeros(2, 3, 4), reset=torch.zeros(2, 3)), "bool"),
        (lambda m: m(torch.zeros(2, 3, 4), backend="magic"), "backend"),
        (lambda m: m(torch.zeros(2, 3, 4), backend="torch", trace=True), "gates"),
        (lambda m: memorycell.LSTM(4, 5, cell="gru"), "cell"),
        (lambda m: memorycell.LSTM(4, 5, proj_size=5), "proj_size"),
        (lambda m: memorycell.GRU(4, 5, forget_bias=1.0), "forget"),
        (lambda m: memorycell.LSTM(4, 5, dropout=1.5), "dropout"),
        (lambda m: memorycell.LSTM(0, 5), "input_size"),
        (lambda m: memorycell.LSTM(4, 5, zoneout=1.0)(torch.zeros(1, 1, 4)), "zoneout"),
    ],
)
def test_errors_name_the_argument(call, words):
    with pytest.raises((ValueError, RuntimeError), match=words):
        call(memorycell.LSTM(4, 5, batch_first=True))


def _states(final) -> tuple[torch.Tensor, ...]:
    return (final,) if isinstance(final, torch.Tensor) else tuple(final)
