"""DDP, FSDP2, data loaders, forked processes and threads."""

import sys
import threading

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from free_ports import free_port
from torch import nn
from torch.utils.data import DataLoader, Dataset
from wrapped_layers import FORKS, KINDS, Net, assert_same, nets, pair, results, sequence, train

import memorycell

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning"),
]


def in_ddp(net: nn.Module) -> nn.Module:
    return nn.parallel.DistributedDataParallel(net)


def in_fsdp2(net: nn.Module) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    for module in (*net.children(), net):
        fully_shard(module)
    return net


WRAPS = {"ddp": in_ddp, "fsdp2": in_fsdp2}


def distributed(rank: int, port: int, state: dict, path: str) -> None:
    """Train on half of the batch with each wrapper. Rank 0 writes the weights, or the reason why
    the wrapper is not available.
    """
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    x = sequence(4)[:, 2 * rank : 2 * rank + 2]
    found: dict = {}
    for name, wrap in WRAPS.items():
        try:  # a module that it certainly supports
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
    """The weights after training in two processes, by wrapper."""
    if not torch.distributed.is_available():
        pytest.skip("torch without torch.distributed")
    path = tmp_path_factory.mktemp("distributed") / "trained.pt"
    arguments = (free_port(), nets()[1].state_dict(), str(path))
    torch.multiprocessing.spawn(distributed, arguments, nprocs=2)
    return torch.load(path)


@pytest.mark.parametrize("wrap", sorted(WRAPS))
def test_two_processes_train_like_one(wrap, trained):
    if isinstance(trained[wrap], str):
        pytest.skip(trained[wrap])
    _, theirs = nets()
    train(theirs, sequence(4))
    expected = theirs.state_dict()
    assert list(trained[wrap]) == list(expected)
    assert_same(trained[wrap].values(), expected.values(), 1e-4)


class Encoded(Dataset):
    """Sequences run through a layer in the loading process."""

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
def test_a_layer_in_data_loader_workers(method):
    ours, theirs = pair("LSTM", 3, 64)
    x = sequence(8)
    expected = theirs(x)[0].detach()
    results(ours, x)  # fill any cache of this process
    options = {"num_workers": 2, "multiprocessing_context": method, "timeout": 600}
    loader = DataLoader(Encoded(ours, x), batch_size=4, **options)
    got = torch.cat(list(loader)).transpose(0, 1)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def train_and_send(net: nn.Module, x: torch.Tensor, connection) -> None:
    connection.send(train(net, x))


@FORKS
@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_forked_child_trains():
    """After the parent has run the engine on several threads, with and without gradients."""
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
    child = context.Process(target=train_and_send, args=(ours, sequence(), there))
    child.start()
    history = here.recv() if here.poll(600) else None
    if history is None:
        child.kill()
    child.join(600)
    assert child.exitcode == 0
    assert history == pytest.approx(train(theirs, sequence()), rel=1e-4)
    assert train(ours, sequence()) == pytest.approx(history, rel=1e-4)  # and the parent continues


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
        thread.join(600)
    for many, one in zip(found, expected, strict=True):
        assert len(many) == 10
        for each in many:
            assert_same(each, one, 1e-4)


def test_data_parallel_without_a_gpu():
    ours, theirs = nets()
    assert_same(nn.DataParallel(ours)(sequence()), theirs(sequence()))
