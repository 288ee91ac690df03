"""Layers, inputs and results for comparing the native engine with the reference."""

import torch

from memorycell.nn.layers import of_cell
from memorycell.ops import binding

engine = binding.engine
SETS = engine.instruction_sets() if engine else []
CELL_NAMES = sorted(binding.CELL_NUMBERS)
OPTIONS = [
    "plain",
    "lengths",
    "reset",
    "lengths and reset",
    "zoneout",
    "zoneout training",
    "no bias",
    "projected",
    "projected zoneout training",
]
PROJECTED_CELLS = ("lstm", "peephole", "coupled", "slstm")
WITHOUT_ZONEOUT = ("slstm", "minlstm", "mingru")


def build(cell: str, inputs: int, hidden: int, **options):
    """A layer with this cell, batch first, float32."""
    return of_cell(cell, inputs, hidden, batch_first=True, **options)


def results(layer, x, hx, **options) -> list[torch.Tensor]:
    """Output, final states and every gradient, for a loss that weights every element, with a fixed
    seed.
    """
    x = x.detach().clone().requires_grad_()
    hx = [h.detach().clone().requires_grad_() for h in hx]
    torch.manual_seed(11)
    output, final = layer(x, hx[0] if len(hx) == 1 else tuple(hx), **options)[:2]
    values = [output, *([final] if isinstance(final, torch.Tensor) else final)]
    generator = torch.Generator().manual_seed(7)
    weights = [
        torch.randn(v.shape, generator=generator, dtype=torch.float32).to(v.dtype) for v in values
    ]
    loss = sum((v * w).sum() for v, w in zip(values, weights, strict=True))
    return [v.detach() for v in values] + list(
        torch.autograd.grad(loss, [x, *hx, *layer.parameters()])
    )


def difference(ours, theirs) -> float:
    """The largest difference, relative to values above one; NaN counts as infinite."""
    pairs = list(zip(ours, theirs, strict=True))
    assert all(a.shape == b.shape for a, b in pairs)
    worst = max(
        float((a.double() - b.double()).abs().max() / max(1.0, float(b.abs().max())))
        for a, b in pairs
    )
    return worst if worst == worst else float("inf")


def random_case(cell, option, batch, steps, hidden):
    """(layer, x, states, options of the call)"""
    torch.manual_seed(batch * 100 + steps * 10 + hidden)
    settings = {"bias": False} if option == "no bias" else {}
    zoned = "zoneout" in option and cell not in WITHOUT_ZONEOUT
    settings |= {"zoneout": (0.3, 0.2)} if zoned else {}
    projected = "projected" in option and cell in PROJECTED_CELLS and hidden > 1
    settings |= {"proj_size": (hidden + 1) // 2} if projected else {}
    layer = build(cell, 5, hidden, bidirectional=True, **settings)
    layer.train("training" in option)
    call = {}
    if "lengths" in option or projected:
        call["lengths"] = torch.randint(1, steps + 1, (batch,))
    if "reset" in option or projected:
        call["reset"] = torch.rand(batch, steps) < 0.3
    return layer, torch.randn(batch, steps, 5), random_state(layer, batch), call


def random_state(layer, batch: int) -> list[torch.Tensor]:
    """Normal numbers; a normaliser is 1 or more."""
    zeros = layer.initial_state(batch).asdict()
    return [
        torch.randn_like(v).abs() + 1 if name == "n" else torch.randn_like(v)
        for name, v in zeros.items()
    ]
