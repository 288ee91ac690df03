"""AdamW against PyTorch's, and what it imports."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from memorycell.training.adamw import AdamW


def _trained(
    kind: type[torch.optim.AdamW], interrupted: bool
) -> tuple[list[torch.Tensor], torch.optim.Optimizer]:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))

    def make() -> torch.optim.AdamW:
        weights = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim == 1]
        groups = [{"params": weights, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        return kind(groups, lr=0.02)

    optimizer = make()
    for step in range(7):
        if interrupted and step == 4:
            saved = optimizer.state_dict()
            optimizer = make()
            optimizer.load_state_dict(saved)
        optimizer.zero_grad(set_to_none=True)
        model(torch.randn(6, 3)).square().mean().backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()], optimizer


@pytest.mark.parametrize("interrupted", [False, True])
def test_weights_and_state_are_those_of_torch(interrupted: bool) -> None:
    ours, optimizer = _trained(AdamW, interrupted)
    theirs, reference = _trained(torch.optim.AdamW, False)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    one, other = optimizer.state_dict(), reference.state_dict()
    assert one["param_groups"] == other["param_groups"]
    for index, values in other["state"].items():
        for name, value in values.items():
            torch.testing.assert_close(one["state"][index][name], value, rtol=0, atol=0)


def test_needs_no_gradients_of_its_own() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = AdamW([weight], lr=0.1)
    weight.grad = torch.ones(2)
    optimizer.step()
    assert weight.grad_fn is None
    assert torch.is_grad_enabled()


def test_a_training_does_not_import_dynamo() -> None:
    program = (
        "import sys, numpy, memorycell\n"
        "memorycell.train('forecast', numpy.sin(numpy.arange(90) / 6), horizon=2, hidden=4,"
        " epochs=1, progress=False)\n"
        "print('torch.optim' in sys.modules, 'torch._dynamo' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False"], done.stderr
