"""Copies, files, checkpointing, saved-tensor hooks, quantisation and deferred initialisation."""

import copy
import io
import pickle

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import nn
from torch.utils.checkpoint import checkpoint
from wrapped_layers import KINDS, VARIANTS, assert_same, nets, pair, results, sequence, train

import memorycell

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning"),
]


# ---- copies --------------------------------------------------------------------------------------


def save_and_load(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "copy of a copy": lambda m: copy.deepcopy(copy.deepcopy(m)),
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "torch.save": save_and_load,
}


@pytest.mark.parametrize("how", sorted(COPIES))
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN", *VARIANTS])
def test_copies(cell, how):
    torch.manual_seed(0)
    options = {"cell": cell, "zoneout": 0.1} if cell in VARIANTS else {"num_layers": 2}
    kind = "LSTM" if cell in VARIANTS else cell
    layer = getattr(memorycell, kind)(3, 4, **options)
    layer.eval()
    expected = results(layer, sequence())
    other = COPIES[how](layer)
    assert type(other) is type(layer)
    assert repr(other) == repr(layer)
    assert not other.training
    assert list(other.state_dict()) == list(layer.state_dict())
    assert_same(results(other, sequence()), expected, 0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.5)
    assert_same(results(layer, sequence()), expected, 0)  # no shared weights
    changed = results(other, sequence())
    assert float((changed[0] - expected[0]).abs().max()) > 0.01
    layer.load_state_dict(other.state_dict())
    assert_same(results(layer, sequence()), changed, 0)


def load_train_save(path: str) -> None:
    """Load a model from a file, train it and save it, in another process."""
    torch.set_num_threads(1)
    net = torch.load(path, weights_only=False)
    train(net, sequence())
    torch.save(net, path)


def test_a_model_passed_to_another_process_and_back(tmp_path):
    ours, theirs = nets()
    path = tmp_path / "net.pt"
    train(ours, sequence())
    torch.save(ours, path)
    context = torch.multiprocessing.get_context("spawn")
    child = context.Process(target=load_train_save, args=(str(path),))
    child.start()
    child.join(600)
    assert child.exitcode == 0
    back = torch.load(path, weights_only=False)
    assert isinstance(back.lstm, memorycell.LSTM)
    train(theirs, sequence())
    train(theirs, sequence())
    assert_same(back.state_dict().values(), theirs.state_dict().values(), 1e-4)
    assert_same(back(sequence()), theirs(sequence()), 1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_only_files_load_in_both_directions(kind, tmp_path):
    ours, theirs = pair(kind, 3, 4, 2, bidirectional=True)
    for source, target in ((ours, theirs), (theirs, ours)):
        with torch.no_grad():
            for parameter in source.parameters():
                parameter.mul_(1.1)
        torch.save(source.state_dict(), tmp_path / "state.pt")
        loaded = torch.load(tmp_path / "state.pt", weights_only=True)
        assert str(target.load_state_dict(loaded)) == "<All keys matched successfully>"
        assert_same(results(ours, sequence()), results(theirs, sequence()))


# ---- checkpointing and saved tensors -------------------------------------------------------------


@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("options", [{}, {"dropout": 0.5}], ids=["plain", "dropout"])
@pytest.mark.parametrize("kind", KINDS)
def test_checkpointed(kind, options, use_reentrant):
    layer, theirs = pair(kind, 3, 4, 2, bidirectional=True, **options)

    def flat(x):  # reentrant checkpointing does not follow gradients into nested tuples
        output, final = layer(x)
        return (output, *final) if kind == "LSTM" else (output, final)

    found = []
    for call in (lambda x: checkpoint(flat, x, use_reentrant=use_reentrant), flat):
        torch.manual_seed(3)  # for dropout
        x = sequence().requires_grad_()
        values = call(x)
        sum(v.square().sum() for v in values).backward()
        found.append([values[0].detach(), x.grad, *(p.grad.clone() for p in layer.parameters())])
        layer.zero_grad()
    assert_same(*found, 1e-6)
    if not options:
        assert_same(found[0][:1], [theirs(sequence())[0].detach()])


@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("cell", VARIANTS)
def test_checkpointed_variants_with_zoneout(cell, use_reentrant):
    torch.manual_seed(0)
    layer = memorycell.LSTM(3, 4, 2, cell=cell, zoneout=0.3, dropout=0.2)
    found = []
    for call in (lambda x: checkpoint(layer, x, use_reentrant=use_reentrant), layer):
        torch.manual_seed(3)
        x = sequence().requires_grad_()
        call(x)[0].square().sum().backward()
        found.append([x.grad, *(p.grad.clone() for p in layer.parameters())])
        layer.zero_grad()
    # Without gradients the engine itself normalises the input: other rounding errors, amplified.
    assert_same(*found, 3e-5 if cell == "layernorm" else 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_tensors_on_the_cpu(kind):
    ours, theirs = pair(kind, 3, 4, 2)
    with torch.autograd.graph.save_on_cpu():
        found = results(ours, sequence())
    assert_same(found, results(theirs, sequence()))


@pytest.mark.parametrize("kind", [*KINDS, *VARIANTS])
def test_saved_tensors_pass_through_hooks(kind):
    """Tensors saved for the backward pass go through the hooks, here to bytes."""
    torch.manual_seed(0)
    variant = kind in VARIANTS
    layer = memorycell.LSTM(3, 4, cell=kind) if variant else getattr(memorycell, kind)(3, 4)
    expected = results(layer, sequence())
    packed = []

    def pack(value: torch.Tensor) -> bytes:
        packed.append(value.numel())
        file = io.BytesIO()
        torch.save(value.detach().clone(), file)
        return file.getvalue()

    def unpack(value: bytes) -> torch.Tensor:
        return torch.load(io.BytesIO(value))

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        found = results(layer, sequence())
    assert_same(found, expected, 1e-6)
    assert sum(packed) >= expected[0].numel()


# ---- quantisation and deferred initialisation ----------------------------------------------------


@pytest.mark.parametrize("backend", ["fbgemm", "onednn", "qnnpack"])
def test_dynamically_quantised(backend):
    """torch.ao replaces torch's own recurrent layers by their exact type. Ours are kept, the linear
    layers are replaced, and the model works.
    """
    if backend not in torch.backends.quantized.supported_engines:
        pytest.skip(f"torch was built without {backend}")
    ours, theirs = nets()
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = backend
    try:
        quantised = torch.ao.quantization.quantize_dynamic(ours.eval())
        output = quantised(sequence())
    finally:
        torch.backends.quantized.engine = before
    assert isinstance(quantised.out, torch.ao.nn.quantized.dynamic.Linear)
    torch.testing.assert_close(output, theirs(sequence()), rtol=0.05, atol=0.05)
    assert_same(ours(sequence()), theirs(sequence()))  # the original is unchanged


def test_skip_init():
    """It rejects torch's class, whose signature has no `device`; ours may be rejected or not."""
    try:
        layer = nn.utils.skip_init(memorycell.LSTM, 3, 4, num_layers=2)
    except RuntimeError as error:
        with pytest.raises(RuntimeError, match="must support a 'device' arg"):
            nn.utils.skip_init(torch.nn.LSTM, 3, 4, num_layers=2)
        assert "must support a 'device' arg" in str(error)
        return
    theirs = torch.nn.LSTM(3, 4, 2)
    layer.load_state_dict(theirs.state_dict())
    assert_same(results(layer, sequence()), results(theirs, sequence()))


@pytest.mark.parametrize("by", ["context", "argument"])
@pytest.mark.parametrize("fill", ["copy", "assign"])
@pytest.mark.parametrize("kind", KINDS)
def test_created_on_meta_then_loaded(kind, fill, by):
    theirs = getattr(torch.nn, kind)(3, 4, 2, bidirectional=True)
    arguments = {"num_layers": 2, "bidirectional": True}
    if by == "context":
        with torch.device("meta"):
            layer = getattr(memorycell, kind)(3, 4, **arguments)
    else:
        layer = getattr(memorycell, kind)(3, 4, **arguments, device="meta")
    assert all(p.is_meta for p in layer.parameters())
    if fill == "copy":
        assert layer.to_empty(device="cpu") is layer
        layer.load_state_dict(theirs.state_dict())
    else:
        layer.load_state_dict(copy.deepcopy(theirs.state_dict()), assign=True)
    assert not any(p.is_meta for p in layer.parameters())
    assert_same(results(layer, sequence()), results(theirs, sequence()))


@pytest.mark.parametrize("cell", VARIANTS)
def test_variants_created_on_meta_then_loaded(cell):
    source = memorycell.LSTM(3, 4, cell=cell)
    with torch.device("meta"):
        layer = memorycell.LSTM(3, 4, cell=cell)
    layer.to_empty(device="cpu")
    layer.load_state_dict(source.state_dict())
    assert_same(results(layer, sequence()), results(source, sequence()), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_initialised_by_reset_parameters(kind):
    """After to_empty, as in FSDP: the initial values of the seed."""
    with torch.device("meta"):
        layer = getattr(memorycell, kind)(3, 4)
    layer.to_empty(device="cpu")
    torch.manual_seed(4)
    layer.reset_parameters()
    torch.manual_seed(4)
    theirs = getattr(torch.nn, kind)(3, 4)
    assert_same(layer.state_dict().values(), theirs.state_dict().values(), 0)
    assert_same(results(layer, sequence()), results(theirs, sequence()))
