"""Layers, inputs and expected values for the tests of transforms, tracing and compilation.

Expected values come from the equations in float64, which every transform supports; for the other
cells, from the reference loop in float64. torch.nn's own layers support few of the transforms.
"""

import torch
import torch._dynamo
import torch._dynamo.testing
from torch import nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

import memorycell

PLAIN = ["LSTM", "GRU", "RNN", "relu"]
VARIANTS = ["peephole", "coupled", "layernorm"]
INPUTS, HIDDEN, STEPS, BATCH = 3, 4, 5, 2


def build(name: str, family=memorycell, **options) -> nn.Module:
    """A layer with this cell."""
    torch.manual_seed(0)
    if name in VARIANTS:
        return family.LSTM(INPUTS, HIDDEN, cell=name, **options)
    if name == "relu":
        return family.RNN(INPUTS, HIDDEN, nonlinearity="relu", **options)
    return getattr(family, name)(INPUTS, HIDDEN, **options)


def sequence(steps: int = STEPS, batch: int = BATCH, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, batch, INPUTS, generator=generator)


def equations(name: str, params: dict, x: torch.Tensor) -> torch.Tensor:
    """Output [T, B, H], or [T, H] of an unbatched x: the equations of torch.nn, step by step."""
    h = c = x.new_zeros((*x.shape[1:-1], HIDDEN))
    w, u = params["weight_ih_l0"], params["weight_hh_l0"]
    outputs = []
    for x_t in x.unbind(0):
        a, b = x_t @ w.T + params["bias_ih_l0"], h @ u.T + params["bias_hh_l0"]
        if name == "LSTM":
            i, f, g, o = (a + b).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        elif name == "GRU":
            (a_r, a_z, a_n), (b_r, b_z, b_n) = a.chunk(3, -1), b.chunk(3, -1)
            z = (a_z + b_z).sigmoid()
            h = (1 - z) * (a_n + (a_r + b_r).sigmoid() * b_n).tanh() + z * h
        else:
            h = (a + b).tanh() if name == "RNN" else (a + b).relu()
        outputs.append(h)
    return torch.stack(outputs)


def ours(name: str, **keywords):
    """(parameters, x) -> output of our layer."""
    layer = build(name)
    return lambda params, x: functional_call(layer, params, (x,), keywords)[0]


def expected_output(name: str, **keywords):
    """The same in float64: the equations for torch's cells, else the reference loop."""
    if name in VARIANTS or keywords:
        layer = build(name).double()
        keywords = {"backend": "reference"} | keywords
        return lambda params, x: functional_call(layer, params, (x,), keywords)[0]
    return lambda params, x: equations(name, params, x)


def weights(name: str, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone().to(dtype) for n, p in build(name).named_parameters()}


def tensors_in(tree) -> list[torch.Tensor]:
    return [v for v in tree_leaves(tree) if isinstance(v, torch.Tensor)]


def precision(name: str) -> float:
    """The tolerance in float32. The normalisation of the zero state has a slope of 300."""
    return 1e-3 if name == "layernorm" else 1e-4


def assert_close(found, expected, tolerance: float = 1e-5) -> None:
    """Equal within the tolerance, relative to the largest value if it exceeds one."""
    found, expected = tensors_in(found), tensors_in(expected)
    assert len(found) == len(expected) > 0
    for mine, other in zip(found, expected, strict=True):
        assert mine.shape == other.shape
        mine, other = mine.detach().double(), other.detach().double()
        scale = max(1.0, float(other.abs().max()))
        torch.testing.assert_close(mine, other, rtol=0, atol=tolerance * scale)


def loss(f):
    return lambda params, x: f(params, x).square().sum()
