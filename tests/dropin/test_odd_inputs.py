"""Unusual tensors and modules that PyTorch produces, and regression tests of wrong results and
crashes.
"""

import subprocess
import sys

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import memorycell
from memorycell.ops import dispatch, reference

KINDS = ["LSTM", "GRU", "RNN"]


def pair(kind, *sizes, **options):
    theirs = getattr(torch.nn, kind)(*sizes, **options)
    ours = getattr(memorycell, kind)(*sizes, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_that_are_views_of_a_negation(kind):
    """A tensor with the negative bit represents the negated values of its memory."""
    layer = getattr(memorycell, kind)(3, 4)
    x, g = torch.randn(5, 2, 3, requires_grad=True), torch.randn(5, 2, 4)
    output, final = layer(x)
    final = final if isinstance(final, tuple) else (final,)
    wanted = [x, *layer.parameters()]
    plain = torch.autograd.grad(
        [output, *final], wanted, [g, *map(torch.ones_like, final)], retain_graph=True
    )
    negated = [torch._neg_view(-g), *(torch._neg_view(-torch.ones_like(s)) for s in final)]
    for a, b in zip(plain, torch.autograd.grad([output, *final], wanted, negated), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_and_states_that_are_views_of_a_negation(kind):
    ours, theirs = pair(kind, 3, 4)
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(ours(torch._neg_view(x))[0], theirs(-x)[0], rtol=0, atol=1e-6)


INVALID_PACKED = """
import torch, memorycell
from torch.nn.utils.rnn import PackedSequence
for kind in ("LSTM", "GRU", "RNN"):
    cases = [([3, -2], 1), ([4, 3, 1, 4], 12), ([0, 1], 1), ([3, 1, 3], 7), ([2, 1], 9)]
    for sizes, count in cases:
        for trace in (False, True):
            layer = getattr(memorycell, kind)(3, 4)
            try:
                layer(PackedSequence(torch.randn(count, 3), torch.tensor(sizes)), trace=trace)
            except (RuntimeError, ValueError, IndexError) as error:
                print("refused", type(error).__name__, flush=True)
print("alive")
"""


def test_invalid_packed_sequences_do_not_crash():
    """In a separate process, which a crash would end."""
    done = subprocess.run(
        [sys.executable, "-c", INVALID_PACKED], capture_output=True, text=True, timeout=600
    )
    assert done.stdout.endswith("alive\n"), done.stderr[-500:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_outputs_under_autocast_have_torchs_types(kind, dtype):
    ours, theirs = pair(kind, 3, 4, 2)
    packed = pack_sequence([torch.randn(4, 3, dtype=dtype), torch.randn(2, 3, dtype=dtype)])
    with torch.autocast("cpu", torch.bfloat16):
        (a, h), (b, g) = ours(packed), theirs(packed)
    assert a.data.dtype == b.data.dtype
    assert (h[0] if kind == "LSTM" else h).dtype == (g[0] if kind == "LSTM" else g).dtype
    torch.testing.assert_close(a.data.float(), b.data.float(), rtol=0, atol=0.03)


def test_lengths_as_list_or_tensor():
    layer = memorycell.LSTM(3, 4)
    x, lengths = torch.randn(5, 3, 3), torch.tensor([4, 4, 2])
    expected = layer(x, lengths=lengths)[0]
    table = torch.tensor([[4, 0], [4, 0], [2, 0]])
    assert torch.equal(layer(x, lengths=table[:, 0])[0], expected)
    assert torch.equal(layer(x, lengths=[4, 4, 2])[0], expected)
    assert torch.equal(
        layer(x, lengths=torch.tensor(4).expand(3))[0], layer(x, lengths=[4, 4, 4])[0]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_per_sample_gradients_by_expanded_weights(kind):
    per_sample = pytest.importorskip("torch.nn.utils._per_sample_grad")
    layer = getattr(memorycell, kind)(3, 4, batch_first=True)
    x = torch.randn(2, 5, 3)
    with torch.backends.mkldnn.flags(enabled=False):
        per_sample.call_for_per_sample_grads(layer)(x)[0].sum().backward()
    for k in range(2):
        alone = torch.autograd.grad(layer(x[k : k + 1])[0].sum(), layer.weight_hh_l0)[0]
        torch.testing.assert_close(layer.weight_hh_l0.grad_sample[k], alone, rtol=0, atol=1e-5)


class Tagger(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn = getattr(memorycell, kind)(3, 4)
        self.tags = torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor):
        return self.tags(self.rnn(x)[0])


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("kind", [*KINDS, "LSTMCell", "GRUCell", "RNNCell"])
def test_scripted_inside_a_model(kind):
    """PyTorch scripts its own layer with our parameters, and only inside a model."""
    x = torch.randn(2, 3) if kind.endswith("Cell") else torch.randn(5, 2, 3)
    if kind.endswith("Cell"):
        layer = getattr(memorycell, kind)(3, 4)
        mine, scripted = layer(x), torch.jit.script(layer)(x)
        mine, scripted = (mine[0], scripted[0]) if kind == "LSTMCell" else (mine, scripted)
    else:
        model = Tagger(kind)
        mine, scripted = model(x), torch.jit.script(model)(x)
    torch.testing.assert_close(mine, scripted, rtol=0, atol=1e-6)


def test_the_requested_reference_runs_in_float64(monkeypatch):
    calls = []
    run = reference.run
    monkeypatch.setitem(dispatch._RUN, "reference", lambda *a: (calls.append(1), run(*a))[1])
    layer = memorycell.LSTM(3, 4).double()
    layer(torch.randn(5, 2, 3).double(), backend="reference")
    assert calls


def test_vmap_in_float64():
    layer = memorycell.LSTM(3, 4).double()
    x = torch.randn(6, 5, 2, 3).double()
    mapped = torch.func.vmap(lambda v: layer(v)[0])(x)
    torch.testing.assert_close(mapped, torch.stack([layer(v)[0] for v in x]), rtol=0, atol=1e-12)


def test_a_compiled_layer_without_the_engine_is_not_unrolled():
    """It breaks the graph like PyTorch's: 200 unrolled steps would take a minute to compile."""
    import torch._dynamo.testing

    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("eager")
    compiled = torch.compile(Tagger("GRU").double(), backend=counter)
    compiled(torch.randn(200, 2, 3).double())
    assert counter.op_count < 20
    torch._dynamo.reset()


def test_an_invalid_packed_sequence_with_trace_is_rejected():
    with pytest.raises(ValueError, match="batch sizes"):
        memorycell.LSTM(3, 4)(
            PackedSequence(torch.randn(7, 3), torch.tensor([3, 1, 3])), trace=True
        )
