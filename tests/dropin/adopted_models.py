"""Models and comparisons for the tests of `adopt`."""

import torch
from torch import nn

import memorycell

KINDS = ("LSTM", "GRU", "RNN")


def layer(kind: str = "LSTM", *args, seed: int = 0, **options) -> nn.Module:
    torch.manual_seed(seed)
    return getattr(nn, kind)(*(args or (4, 6)), **options)


class Tagger(nn.Module):
    """A model around one layer."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.before, self.rnn, self.after = nn.Linear(3, 4), rnn, nn.Linear(6, 2)

    def forward(self, x):
        return self.after(self.rnn(self.before(x))[0])


def tagger(kind: str = "LSTM", **options) -> Tagger:
    torch.manual_seed(0)
    return Tagger(layer(kind, **options))


def inputs(features: int = 4) -> torch.Tensor:
    return torch.randn(5, 3, features, generator=torch.Generator().manual_seed(1))


def tensors_in(result) -> list[torch.Tensor]:
    """The tensors of nested tuples, in order."""
    if isinstance(result, torch.Tensor):
        return [result]
    return [tensor for part in result for tensor in tensors_in(part)]


def assert_same(ours, theirs, tolerance: float = 1e-5) -> None:
    for mine, other in zip(tensors_in(ours), tensors_in(theirs), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=tolerance)


def skip_reason_of(model: nn.Module, name: str) -> str:
    """Adopt, check that the layer was skipped and kept its class, and return the reason."""
    kind = type(model.get_submodule(name))
    report = memorycell.adopt(model)
    assert name in report.skipped
    assert name not in report.adopted
    assert type(model.get_submodule(name)) is kind
    reason = report.skipped[name]
    assert isinstance(reason, str)
    assert reason.strip()
    assert reason in str(report)
    return reason
