"""Models without weights, which a model file fills."""

import subprocess
import sys

import torch
from torch import nn

from memorycell.models.blank import blank


def test_parameters_have_shapes_only():
    model = blank(lambda size: nn.Sequential(nn.Embedding(7, size), nn.Linear(size, 2)), 3)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert shapes == {"0.weight": (7, 3), "1.weight": (2, 3), "1.bias": (2,)}
    assert all(p.is_meta for p in model.parameters())
    assert not torch.empty(1).is_meta


def test_the_compiler_of_pytorch_is_not_imported():
    code = (
        "import sys; from torch import nn; from memorycell.models.blank import blank;"
        "blank(lambda size: nn.Embedding(7, size), 3); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
