"""Layers and comparisons for the tests of parametrisations, processes and copies."""

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import nn

import memorycell

KINDS = ["LSTM", "GRU", "RNN"]
VARIANTS = ["peephole", "coupled", "layernorm"]
# From Python 3.12 on, a fork with threads warns; here they are idle threads of the test run.
FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def pair(kind: str = "LSTM", *sizes, **options) -> tuple[nn.Module, nn.Module]:
    """(our layer, torch's) with the same weights."""
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
    """Equal within the tolerance, relative to the largest value if it exceeds one."""
    ours, theirs = list(ours), list(theirs)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        scale = max(1.0, float(other.detach().abs().max()))
        torch.testing.assert_close(mine, other, rtol=0, atol=tolerance * scale)


class Net(nn.Module):
    """Two recurrent layers and a linear layer."""

    def __init__(self, family) -> None:
        super().__init__()
        self.lstm = family.LSTM(3, 8, 2)
        self.gru = family.GRU(8, 5, bidirectional=True)
        self.out = nn.Linear(10, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.gru(self.lstm(x)[0])[0])


def nets() -> tuple[Net, Net]:
    """(with our layers, with torch's), with the same weights."""
    torch.manual_seed(0)
    ours, theirs = Net(memorycell), Net(torch.nn)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def train(net: nn.Module, x: torch.Tensor, steps: int = 4) -> list[float]:
    """The loss at each step."""
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    history = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = (net(x) - x.flip(0)[..., :2]).square().mean()
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    return history
