"""torch.compile and torch.export: one graph, dynamic shapes, saved programs."""

import io

import pytest
import torch
import torch._dynamo
import torch._dynamo.testing
from torch import nn
from transform_cases import (
    BATCH,
    HIDDEN,
    INPUTS,
    PLAIN,
    STEPS,
    VARIANTS,
    assert_close,
    build,
    sequence,
)

from memorycell.nn.layers import of_cell

pytestmark = [
    pytest.mark.usefixtures("clean_compiler"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script.*` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node with no underlying"),
    pytest.mark.filterwarnings("ignore:.*_flat_weights.*assigned during export:UserWarning"),
]


# ---- torch.compile -------------------------------------------------------------------------------


class Net(nn.Module):
    """A recurrent layer inside other layers."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.before, self.rnn, self.after = nn.Linear(INPUTS, INPUTS), layer, nn.Linear(HIDDEN, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output, final = self.rnn(torch.tanh(self.before(x)))
        final = final[0] if isinstance(final, tuple) else final
        return self.after(output) + self.after(final)


def step(model: nn.Module, net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The output and the gradients of x and of the parameters."""
    x = x.clone().requires_grad_()
    output = model(x)
    return [output.detach(), *torch.autograd.grad(output.square().sum(), [x, *net.parameters()])]


@pytest.mark.parametrize("name", [*PLAIN[:3], "peephole"])
def test_compiled_in_one_graph_for_all_shapes(name):
    net = Net(build(name))
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(net, fullgraph=True, backend=counter)
    for steps, batch in ((7, 3), (5, 2), (9, 4), (4, 6), (12, 5)):
        x = sequence(steps, batch)
        assert_close(step(compiled, net, x), step(net, net, x), 1e-5)
    assert counter.frame_count <= 2
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.3)
        assert_close(compiled(x), net(x), 1e-5)


@pytest.mark.parametrize("cell", ["slstm", "mlstm", "minlstm", "mingru"])
def test_recent_cells_compiled_in_one_graph(cell):
    torch.manual_seed(0)
    net = Net(of_cell(cell, INPUTS, HIDDEN))
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    assert_close(step(compiled, net, sequence()), step(net, net, sequence()), 1e-5)


def test_compiled_with_keywords_and_trace():
    layer = build("LSTM")

    def f(x, lengths):
        output, _, traces = layer(x, lengths=lengths, trace=True)
        return output.sum() + traces[0]["f"].sum()

    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    for lengths in (torch.tensor([STEPS, 2]), torch.tensor([1, STEPS])):
        assert_close(compiled(sequence(), lengths), f(sequence(), lengths), 1e-5)


def test_compiled_with_allow_rnn():
    net = Net(build("LSTM"))
    with torch._dynamo.config.patch(allow_rnn=True):
        compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
        assert_close(step(compiled, net, sequence()), step(net, net, sequence()), 1e-5)


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor:UserWarning"
)  # raised by any graph break
@pytest.mark.parametrize("name", PLAIN[:3])
def test_compiled_together_with_a_torch_layer(name):
    """torch's layer runs in eager mode, as always; the results equal torch's."""
    net = nn.Sequential(Net(build(name)), nn.Linear(2, INPUTS), Net(build(name, torch.nn)))
    first, second = Net(build(name, torch.nn)), Net(build(name, torch.nn))
    theirs = nn.Sequential(first, nn.Linear(2, INPUTS), second)
    theirs.load_state_dict(net.state_dict())
    compiled = torch.compile(net, backend="aot_eager")
    for steps, batch in ((7, 3), (5, 2)):
        x = sequence(steps, batch)
        assert_close(step(compiled, net, x), step(theirs, theirs, x), 1e-5)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="RNN, GRU, or LSTM"):
        torch.compile(net, fullgraph=True, backend="aot_eager")(sequence())


def test_compiled_step_by_step():
    """Single steps with carried state: later steps do not recompile."""
    layer = build("LSTM")
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=True, backend=counter)
    x = sequence(6)
    state = expected = (torch.zeros(1, BATCH, HIDDEN), torch.zeros(1, BATCH, HIDDEN))
    with torch.no_grad():
        for x_t in x.split(1):
            y, state = compiled(x_t, state)
            other, expected = layer(x_t, expected)
            assert_close([y, *state], [other, *expected], 1e-6)
    assert counter.frame_count <= 2


def test_compiled_with_inductor():
    net = Net(build("LSTM"))
    compiled = torch.compile(net, fullgraph=True)
    assert_close(step(compiled, net, sequence()), step(net, net, sequence()), 1e-5)


# ---- torch.export --------------------------------------------------------------------------------


def save_and_load(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file)


@pytest.mark.parametrize("name", [*PLAIN, *VARIANTS])
def test_exported(name):
    layer = build(name).eval()
    x = sequence(7, 3)
    program = torch.export.export(layer, (x,))
    for each in (program, program.run_decompositions(), save_and_load(program)):
        assert_close(each.module()(2 * x), layer(2 * x), 1e-5)


@pytest.mark.parametrize("name", [*PLAIN[:3], "peephole"])
def test_exported_for_all_shapes(name):
    layer = build(name).eval()
    steps, batch = torch.export.Dim("steps", min=2), torch.export.Dim("batch", min=2)
    program = torch.export.export(layer, (sequence(7, 3),), dynamic_shapes=({0: steps, 1: batch},))
    for x in (sequence(7, 3), sequence(12, 2), sequence(3, 9)):
        assert_close(program.module()(x), layer(x), 1e-5)


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_exported_with_states(name):
    layer = build(name, num_layers=2, bidirectional=True).eval()
    h = torch.randn(4, 3, HIDDEN)
    hx = (h, h.flip(0)) if name == "LSTM" else h
    module = torch.export.export(layer, (sequence(7, 3), hx)).module()
    twice = (2 * h, h) if name == "LSTM" else 2 * h
    assert_close(module(sequence(7, 3), twice), layer(sequence(7, 3), twice), 1e-5)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "layernorm"])
def test_exported_with_lengths(name):
    layer = build(name).eval()
    x, lengths = sequence(7, 3), torch.tensor([7, 2, 5])
    module = torch.export.export(layer, (x,), {"lengths": lengths}).module()
    for other in (lengths, torch.tensor([1, 7, 7])):
        assert_close(module(x, lengths=other), layer(x, lengths=other), 1e-5)


def test_exported_inside_a_model_for_all_shapes():
    net = Net(build("LSTM")).eval()
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(net, (sequence(7, 3),), dynamic_shapes=({1: batch},))
    assert_close(program.module()(sequence(7, 8)), net(sequence(7, 8)), 1e-5)
