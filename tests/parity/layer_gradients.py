"""Outputs and every gradient of a layer, and their comparison."""

import copy

import torch

import memorycell

KINDS = {"LSTM": memorycell.LSTM, "GRU": memorycell.GRU, "RNN": memorycell.RNN}


def gradients(layer: torch.nn.Module, x: torch.Tensor, hx, *args, **kwargs) -> list[torch.Tensor]:
    """[output, final states…, gradients of x, the states and every parameter] for a loss that
    weights every element.
    """
    x = x.detach().clone().requires_grad_()
    hx = tuple(h.detach().clone().requires_grad_() for h in hx)
    single = not isinstance(layer, (torch.nn.LSTM, memorycell.LSTM))
    output, final = layer(x, hx[0] if single else hx, *args, **kwargs)[:2]
    final = (final,) if single else tuple(final)
    generator = torch.Generator().manual_seed(7)
    loss = sum(
        (v * torch.randn(v.shape, generator=generator, dtype=v.dtype)).sum()
        for v in (output, *final)
    )
    wanted = [x, *hx, *layer.parameters()]
    return [output, *final, *torch.autograd.grad(loss, wanted)]


def adopt_copy(model: torch.nn.Module) -> torch.nn.Module:
    """A copy with memorycell's layers."""
    copied = copy.deepcopy(model)
    memorycell.adopt(copied)
    return copied


def assert_same(ours, theirs, tolerance):
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        scale = max(1.0, float(other.detach().abs().max()))
        assert mine.shape == other.shape
        assert float((mine - other).detach().abs().max()) <= tolerance * scale
