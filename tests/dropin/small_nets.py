"""Networks with our layer and torch's, with the same weights, and how they are trained."""

import torch
from torch import nn

import memorycell

KINDS = ["LSTM", "GRU", "RNN"]
VARIANTS = ["peephole", "coupled", "layernorm"]
STEPS = 30
TOLERANCE = 1e-4


class Net(nn.Module):
    """A recurrent layer and a linear layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.rnn = layer
        self.out = nn.Linear(layer.hidden_size, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.rnn(x)[0])


def pair(kind: str = "LSTM", **options) -> tuple[Net, Net]:
    """(the network with our layer, with torch's), with the same weights."""
    torch.manual_seed(0)
    theirs = Net(getattr(torch.nn, kind)(4, 8, **options))
    ours = Net(getattr(memorycell, kind)(4, 8, **options))
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def data(batch: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences [9, batch, 4] and targets: two running means."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(9, batch, 4, generator=generator)
    return x, torch.tanh(x[..., :2].cumsum(0) - x[..., 2:])


def train(net: Net, optimiser: torch.optim.Optimizer, steps: int = STEPS) -> list[float]:
    """The loss at each step."""
    x, target = data()

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = nn.functional.mse_loss(net(x), target)
        loss.backward()
        return loss

    return [optimiser.step(closure).item() for _ in range(steps)]


def assert_same(ours, theirs, tolerance: float = TOLERANCE) -> None:
    """Equal within the tolerance, relative to the largest value if it exceeds one."""
    ours, theirs = list(ours), list(theirs)
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        scale = max(1.0, float(other.detach().abs().max()))
        torch.testing.assert_close(mine, other, rtol=0, atol=tolerance * scale)
