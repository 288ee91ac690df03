"""Our layers inside what PyTorch wraps round modules, as with torch.nn.

Parametrisations, pruning, processes, threads, copies on disk, checkpointing, quantisation,
construction without memory.
"""

import copy
import io
import pickle
import socket
import sys
import threading

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

import memorycell

KINDS = ["LSTM", "GRU", "RNN"]
VARIANTS = ["peephole", "coupled", "layernorm"]
# From Python 3.12 on, a fork beside threads warns; here the threads are idle ones of the test run.
FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning"),
]


def pair(kind: str = "LSTM", *sizes, **options) -> tuple[nn.Module, nn.Module]:
    """The same layer twice: ours and torch's."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(*(sizes or (3, 4)), **options)
    ours = getattr(memorycell, kind)(*(sizes or (3, 4)), **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def sequence(batch: int = 3, features: int = 3) -> torch.Tensor:
    return torch.randn(6, batch, features, generator=torch.Generator().manual_seed(1))


def results(layer: nn.Module, x: torch.Tensor, call=None) -> list[torch.Tensor]:
    """Output, final states, and the gradients of x and of every parameter."""
    x = x.detach().clone().requires_grad_()
    output, final = (call or layer)(x)
    values = [output, *(final if isinstance(final, tuple) else (final,))]
    loss = sum((v * torch.linspace(-1, 1, v.numel()).view(v.shape)).sum() for v in values)
    gradients = torch.autograd.grad(loss, [x, *layer.parameters()], retain_graph=True)
    return [v.detach() for v in (*values, *gradients)]


def assert_same(ours, theirs, tolerance: float = 1e-5) -> None:
    """To the tolerance, relative to the largest value where that is over one."""
    ours, theirs = list(ours), list(theirs)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        scale = max(1.0, float(other.detach().abs().max()))
        torch.testing.assert_close(mine, other, rtol=0, atol=tolerance * scale)


# ---- parametrisations and pruning ----------------------------------------------------------------

PARAMETRISED = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
}


def by_call(kind: str, layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The results of torch's layer, called with the weights `layer` has at this moment."""
    plain = getattr(torch.nn, kind)(3, 4)
    weights = {name: getattr(layer, name) for name, _ in plain.named_parameters()}
    return results(layer, x, lambda x: functional_call(plain, weights, (x,)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", sorted(PARAMETRISED))
@pytest.mark.parametrize("kind", KINDS)
def test_a_parametrised_weight(kind, name, training):
    layer, _ = pair(kind)
    plain = results(layer, sequence())
    names = [n for n, _ in layer.named_parameters()]
    returned = PARAMETRISED[name](layer, "weight_hh_l0")
    assert returned is layer
    assert parametrize.is_parametrized(layer, "weight_hh_l0")
    assert isinstance(layer, getattr(torch.nn, kind))
    layer.train(training)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.5)
    for _ in range(3):
        with parametrize.cached():  # in training, every look at a spectral norm changes it
            ours = results(layer, sequence())
            assert_same(ours, by_call(kind, layer, sequence()))
        layer(sequence())[0].square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()
    if name == "weight_norm":
        assert float((ours[0] - plain[0]).abs().max()) > 1e-3  # the parametrised weight trains
    layer.eval()
    before = results(layer, sequence())[0]
    parametrize.remove_parametrizations(layer, "weight_hh_l0", leave_parametrized=True)
    assert type(layer) is getattr(memorycell, kind)
    assert sorted(n for n, _ in layer.named_parameters()) == sorted(names)
    theirs = getattr(torch.nn, kind)(3, 4)
    theirs.load_state_dict(layer.state_dict())
    assert_same(layer(sequence())[0], before)
    assert_same(layer(sequence())[0], theirs(sequence())[0])
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2.0)
        theirs.weight_hh_l0.mul_(2.0)
    assert_same(layer(sequence())[0], theirs(sequence())[0])


def test_a_parametrisation_removed_without_a_trace():
    layer, theirs = pair()

    class Doubled(nn.Module):
        """Twice the weight."""

        def forward(self, weight):
            return 2 * weight

    for name in ("weight_hh_l0", "weight_ih_l0", "bias_hh_l0"):
        parametrize.register_parametrization(layer, name, Doubled())
    assert_same(results(layer, sequence()), by_call("LSTM", layer, sequence()))
    for name in ("weight_hh_l0", "weight_ih_l0", "bias_hh_l0"):
        parametrize.remove_parametrizations(layer, name, leave_parametrized=False)
    assert_same(layer(sequence())[0], theirs(sequence())[0])


@pytest.mark.parametrize("cell", VARIANTS)
def test_a_parametrised_weight_of_a_variant(cell):
    torch.manual_seed(0)
    layer = memorycell.LSTM(3, 4, cell=cell)
    parametrizations.weight_norm(layer, "weight_hh_l0")
    with torch.no_grad():
        layer.parametrizations.weight_hh_l0.original0.mul_(1.5)
    expected = results(layer, sequence(), lambda x: layer(x, backend="reference"))
    assert_same(results(layer, sequence()), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm"])
def test_the_old_norms(name, kind):
    """They put the weight into the layer before every call, as a plain attribute."""
    both = pair(kind)
    for layer in both:
        torch.manual_seed(1)
        getattr(nn.utils, name)(layer, "weight_hh_l0")
        optimiser = torch.optim.SGD(layer.parameters(), lr=0.5)
        for _ in range(3):
            layer(sequence())[0].square().sum().backward()
            optimiser.step()
            optimiser.zero_grad()
    assert_same(results(both[0], sequence()), results(both[1], sequence()), 1e-4)
    for layer in both:
        getattr(nn.utils, f"remove_{name}")(layer, "weight_hh_l0")
    assert [n for n, _ in both[0].named_parameters()] == [n for n, _ in both[1].named_parameters()]
    assert_same(results(both[0], sequence()), results(both[1], sequence()), 1e-4)


PRUNED = {
    "unstructured": lambda m: prune.l1_unstructured(m, "weight_hh_l0", 0.5),
    "structured": lambda m: prune.ln_structured(m, "weight_ih_l0", 0.3, n=2, dim=0),
    "random": lambda m: prune.random_unstructured(m, "bias_hh_l0", 0.5),
    "global": lambda m: prune.global_unstructured(
        [(m, "weight_hh_l0"), (m, "weight_ih_l0")], prune.L1Unstructured, amount=0.6
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", sorted(PRUNED))
def test_pruned(how, kind):
    both = pair(kind)
    found = []
    for layer in both:
        results(layer, sequence())
        torch.manual_seed(1)
        PRUNED[how](layer)
        found.append(results(layer, sequence()))
        optimiser = torch.optim.SGD(layer.parameters(), lr=0.5)
        layer(sequence())[0].square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()
        found[-1] += results(layer, sequence())
        for name in {
            "global": ["weight_hh_l0", "weight_ih_l0"],
            "structured": ["weight_ih_l0"],
            "random": ["bias_hh_l0"],
        }.get(how, ["weight_hh_l0"]):
            prune.remove(layer, name)
            assert float((getattr(layer, name) == 0).float().mean()) > 0.2
        found[-1] += results(layer, sequence())
    assert_same(*found)


# ---- processes and threads -----------------------------------------------------------------------


class Net(nn.Module):
    """Two recurrent layers and a linear one."""

    def __init__(self, family) -> None:
        super().__init__()
        self.lstm = family.LSTM(3, 8, 2)
        self.gru = family.GRU(8, 5, bidirectional=True)
        self.out = nn.Linear(10, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.gru(self.lstm(x)[0])[0])


def nets() -> tuple[Net, Net]:
    """On our layers and on torch's, from the same weights."""
    torch.manual_seed(0)
    ours, theirs = Net(memorycell), Net(torch.nn)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def train(net: nn.Module, x: torch.Tensor, steps: int = 4) -> list[float]:
    """The loss at every step."""
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    history = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = (net(x) - x.flip(0)[..., :2]).square().mean()
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    return history


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def in_ddp(net: nn.Module) -> nn.Module:
    return nn.parallel.DistributedDataParallel(net)


def in_fsdp2(net: nn.Module) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    for module in (*net.children(), net):
        fully_shard(module)
    return net


WRAPS = {"ddp": in_ddp, "fsdp2": in_fsdp2}


def distributed(rank: int, port: int, state: dict, path: str) -> None:
    """Train on half of the batch, in each wrapping.

    Rank 0 writes down the weights, or why it cannot be done here.
    """
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    x = sequence(4)[:, 2 * rank : 2 * rank + 2]
    found: dict = {}
    for name, wrap in WRAPS.items():
        try:  # what it surely knows
            train(wrap(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2), nn.Tanh())), x, 2)
        except Exception as error:
            found[name] = f"{name} does not run torch.nn.Linear here: {error}"
            continue
        net = Net(memorycell)
        net.load_state_dict(state)
        net = wrap(net)
        train(net, x)
        found[name] = {
            key.removeprefix("module."): v.full_tensor() if hasattr(v, "full_tensor") else v
            for key, v in net.state_dict().items()
        }
    if rank == 0:
        torch.save(found, path)
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict:
    """What two processes made of one net."""
    if not torch.distributed.is_available():
        pytest.skip("torch without torch.distributed")
    path = tmp_path_factory.mktemp("distributed") / "trained.pt"
    arguments = (free_port(), nets()[1].state_dict(), str(path))
    torch.multiprocessing.spawn(distributed, arguments, nprocs=2)
    return torch.load(path)


@pytest.mark.parametrize("wrap", sorted(WRAPS))
def test_two_processes_train_as_one(wrap, trained):
    if isinstance(trained[wrap], str):
        pytest.skip(trained[wrap])
    _, theirs = nets()
    train(theirs, sequence(4))
    expected = theirs.state_dict()
    assert list(trained[wrap]) == list(expected)
    assert_same(trained[wrap].values(), expected.values(), 1e-4)


class Encoded(Dataset):
    """Sequences run through a layer by whoever loads them."""

    def __init__(self, layer: nn.Module, x: torch.Tensor) -> None:
        self.layer, self.x = layer, x

    def __len__(self) -> int:
        return self.x.shape[1]

    def __getitem__(self, k: int) -> torch.Tensor:
        with torch.no_grad():
            return self.layer(self.x[:, k : k + 1])[0][:, 0]


@FORKS
@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_layer_inside_the_workers_of_a_loader(method):
    ours, theirs = pair("LSTM", 3, 64)
    x = sequence(8)
    expected = theirs(x)[0].detach()
    results(ours, x)  # whatever is kept in this process is kept now
    options = {"num_workers": 2, "multiprocessing_context": method, "timeout": 100}
    loader = DataLoader(Encoded(ours, x), batch_size=4, **options)
    got = torch.cat(list(loader)).transpose(0, 1)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def train_and_put(net: nn.Module, x: torch.Tensor, connection) -> None:
    connection.send(train(net, x))


@FORKS
@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_forked_child_trains():
    """After this process has run the engine on several threads, with and without gradients."""
    ours, theirs = nets()
    big, wide = memorycell.LSTM(128, 128), torch.randn(16, 16, 128)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.no_grad():
            big(wide)
    finally:
        torch.set_num_threads(before)
    ours(sequence()).sum().backward()
    ours.zero_grad()
    context = torch.multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=train_and_put, args=(ours, sequence(), there))
    child.start()
    history = here.recv() if here.poll(60) else None
    if history is None:
        child.kill()
    child.join(60)
    assert child.exitcode == 0
    assert history == pytest.approx(train(theirs, sequence()), rel=1e-4)
    assert train(ours, sequence()) == pytest.approx(history, rel=1e-4)  # and the parent goes on


@pytest.mark.parametrize("kind", KINDS)
def test_many_threads_share_a_layer(kind):
    layer, theirs = pair(kind, 16, 32, 2, bidirectional=True)
    inputs = [torch.randn(4 + k, 1 + k, 16) for k in range(4)]
    expected = [results(theirs, x) for x in inputs]
    found: list[list] = [[] for _ in inputs]
    gate = threading.Barrier(len(inputs))

    def run(k: int) -> None:
        gate.wait()
        for _ in range(10):
            found[k].append(results(layer, inputs[k]))

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    for many, one in zip(found, expected, strict=True):
        assert len(many) == 10
        for each in many:
            assert_same(each, one, 1e-4)


def test_data_parallel_without_a_gpu_calls_the_module():
    ours, theirs = nets()
    assert_same(nn.DataParallel(ours)(sequence()), theirs(sequence()))


# ---- copies --------------------------------------------------------------------------------------


def through_file(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "copy of a copy": lambda m: copy.deepcopy(copy.deepcopy(m)),
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "torch.save": through_file,
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
    assert_same(results(layer, sequence()), expected, 0)  # nothing is shared
    changed = results(other, sequence())
    assert float((changed[0] - expected[0]).abs().max()) > 0.01
    layer.load_state_dict(other.state_dict())
    assert_same(results(layer, sequence()), changed, 0)


def load_train_save(path: str) -> None:
    """What another process does with a whole model in a file."""
    torch.set_num_threads(1)
    net = torch.load(path, weights_only=False)
    train(net, sequence())
    torch.save(net, path)


def test_a_whole_model_goes_to_another_process_and_back(tmp_path):
    ours, theirs = nets()
    path = tmp_path / "net.pt"
    train(ours, sequence())
    torch.save(ours, path)
    context = torch.multiprocessing.get_context("spawn")
    child = context.Process(target=load_train_save, args=(str(path),))
    child.start()
    child.join(100)
    assert child.exitcode == 0
    back = torch.load(path, weights_only=False)
    assert isinstance(back.lstm, memorycell.LSTM)
    train(theirs, sequence())
    train(theirs, sequence())
    assert_same(back.state_dict().values(), theirs.state_dict().values(), 1e-4)
    assert_same(back(sequence()), theirs(sequence()), 1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_state_dicts_go_both_ways_in_files_that_hold_weights_only(kind, tmp_path):
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

    def flat(x):  # the older way of checkpointing follows no gradients into a tuple in a tuple
        output, final = layer(x)
        return (output, *final) if kind == "LSTM" else (output, final)

    found = []
    for call in (lambda x: checkpoint(flat, x, use_reentrant=use_reentrant), flat):
        torch.manual_seed(3)  # for what dropout draws
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
    assert_same(*found, 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_tensors_on_the_cpu(kind):
    ours, theirs = pair(kind, 3, 4, 2)
    with torch.autograd.graph.save_on_cpu():
        found = results(ours, sequence())
    assert_same(found, results(theirs, sequence()))


@pytest.mark.parametrize("kind", [*KINDS, *VARIANTS])
def test_saved_tensors_pass_through_hooks(kind):
    """What is kept for the backward pass goes through them, to be kept elsewhere: as bytes."""
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


# ---- quantisation, and construction without memory -----------------------------------------------


@pytest.mark.parametrize("backend", ["fbgemm", "onednn", "qnnpack"])
def test_dynamically_quantised(backend):
    """torch.ao swaps torch's own recurrent layers, by their exact type.

    Ours stay, the linear layers are swapped, and the model goes on working.
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
    assert_same(ours(sequence()), theirs(sequence()))  # the original is as it was


def test_skip_init():
    """It refuses torch's class, whose signature shows no `device`; ours may be refused or made."""
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
def test_made_on_meta_then_loaded(kind, fill, by):
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
def test_variants_made_on_meta_then_loaded(cell):
    source = memorycell.LSTM(3, 4, cell=cell)
    with torch.device("meta"):
        layer = memorycell.LSTM(3, 4, cell=cell)
    layer.to_empty(device="cpu")
    layer.load_state_dict(source.state_dict())
    assert_same(results(layer, sequence()), results(source, sequence()), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_filled_by_reset_parameters(kind):
    """After to_empty, as FSDP and others do it: the start values of the seed."""
    with torch.device("meta"):
        layer = getattr(memorycell, kind)(3, 4)
    layer.to_empty(device="cpu")
    torch.manual_seed(4)
    layer.reset_parameters()
    torch.manual_seed(4)
    theirs = getattr(torch.nn, kind)(3, 4)
    assert_same(layer.state_dict().values(), theirs.state_dict().values(), 0)
    assert_same(results(layer, sequence()), results(theirs, sequence()))
