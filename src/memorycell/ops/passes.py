"""The engine's two passes over a whole sequence: tensors in, tensors out, without autograd.

In float32 the engine goes through the sequence once, making the input's products on the way; else
they are one matrix product ahead. Weights are packed in each call. What the backward pass needs is
kept, and is also what `trace` hands out. Weight gradients are made block by block on the way, or by
products at the end. Sequences are [B, T, K] or, with `time_first`, [T, B, K], contiguous.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from memorycell.ops.binding import (
    CELL_NUMBERS,
    PRECISIONS,
    USED,
    address,
    engine,
    new,
    packed,
    threads_for,
    unpacked,
)

FEW_ROWS = 4
"""Up to as many rows of B·T, a product with the weights as they lie costs less than packing them.
"""


class Arguments(NamedTuple):
    """What a recurrence is computed from, in the order of the operator's schema; the first eleven
    have gradients.

    x_part = x weight_ih^T + bias, or x itself where there is no weight_ih. Extras: those the cell
    uses, else None.
    """

    x: Tensor
    weight_ih: Tensor | None
    bias: Tensor | None
    h_0: Tensor
    c_0: Tensor | None
    weight_hh: Tensor
    weight_ch: Tensor | None
    bias_hh: Tensor | None
    gain_hh: Tensor | None
    gain_c: Tensor | None
    bias_c: Tensor | None
    lengths: Tensor | None
    border: Tensor | None
    mask_h: Tensor | None
    mask_c: Tensor | None
    cell: str
    reverse: bool
    time_first: bool
    precision: str
    zone_h: float
    zone_c: float
    keep: bool

    @property
    def differentiable(self) -> tuple[Tensor | None, ...]:
        """Those with gradients."""
        return cast(tuple[Tensor | None, ...], self[:GRADIENTS])

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """B, T, H and the columns of x_part, G·H."""
        batch, steps = (self.x.shape[1], self.x.shape[0]) if self.time_first else self.x.shape[:2]
        return batch, steps, self.weight_hh.shape[1], self.weight_hh.shape[0]

    def along(self, *features: int) -> tuple[int, ...]:
        """The shape of a sequence with these features a step."""
        return (*self.x.shape[:2], *features)


GRADIENTS = Arguments._fields.index("lengths")
"""How many of the arguments have gradients."""


class Results(NamedTuple):
    """What the forward pass gives: output and states, and with `keep` what the backward pass reads."""

    output: Tensor
    h_n: Tensor
    c_n: Tensor | None
    gates: Tensor | None
    cells: Tensor | None
    normalised: Tensor | None
    rstd: Tensor | None


def kept_gates(cell: str) -> int:
    """How many values a unit keeps at every step; for the plain nets h itself."""
    return 1 if cell.startswith("rnn") else 4


def forward(a: Arguments) -> Results:
    """Run the recurrence. Raises RuntimeError for a tensor of the wrong shape, type or device."""
    batch, steps, hidden, _ = a.sizes
    kept = kept_gates(a.cell)
    output = new(a.x, *a.along(hidden))
    h_n = torch.empty_like(a.h_0)
    c_n = None if a.c_0 is None else torch.empty_like(a.c_0)
    gates = cells = normalised = rstd = None
    if a.keep:
        gates = new(a.x, *a.along(kept, hidden))
        cells = None if a.c_0 is None else new(a.x, *a.along(hidden))
        if a.cell == "layernorm":
            normalised, rstd = torch.empty_like(a.x), a.x.new_empty(a.along())
    weights, made = _weights(a)
    engine.forward(
        **_options(a),
        **weights,
        threads=threads_for(batch * steps * a.weight_hh.numel(), batch),
        output=output.data_ptr(),
        h_n=h_n.data_ptr(),
        c_n=0 if c_n is None else c_n.data_ptr(),
        gates=0 if gates is None else gates.data_ptr(),
        cells=0 if cells is None else cells.data_ptr(),
        normalised=0 if normalised is None else normalised.data_ptr(),
        rstd=0 if rstd is None else rstd.data_ptr(),
    )
    del made  # the engine has read it
    return Results(output, h_n, c_n, gates, cells, normalised, rstd)


def _weights(a: Arguments) -> tuple[dict[str, Any], Tensor | None]:
    """What the forward pass multiplies: the input and both matrices as they lie, for the engine to
    go through in one pass; or x_part, made ahead, and W_hh packed. And what must live until it is
    done.
    """
    batch, steps, hidden, columns = a.sizes
    few = batch * steps <= FEW_ROWS
    if a.weight_ih is not None and a.precision == "float32" and not few:
        features = a.x.shape[2]
        return {
            "packed_hh": None,
            "x_part": 0,
            "input": features,
            "x": address("x", a.x, *a.along(features)),
            "weight_ih": address("weight_ih", a.weight_ih, columns, features),
            "bias": address("bias", a.bias, columns),
            "weight_hh": address("weight_hh", a.weight_hh, columns, hidden),
        }, None
    few = few and a.precision == "float32"
    x_part = a.x if a.weight_ih is None else _times(a.x, a.weight_ih, a.precision, a.bias, few=few)
    packed_hh = _matrix("weight_hh", a.weight_hh, columns, hidden, a.precision, few=few)
    ahead = {"packed_hh": packed_hh, "x_part": address("x", x_part, *a.along(columns)), "input": 0}
    return {**ahead, **dict.fromkeys(("x", "weight_ih", "bias", "weight_hh"), 0)}, x_part


def backward(
    a: Arguments,
    r: Results,
    d_output: Tensor | None,
    d_h_n: Tensor | None,
    d_c_n: Tensor | None,
    need_x: bool,
) -> list[Tensor | None]:
    """The gradients of the first eleven arguments; None for those that are None, and of x where it
    is not needed.
    """
    batch, steps, hidden, columns = a.sizes
    assert r.gates is not None
    d_output = torch.zeros_like(r.output) if d_output is None else _real(d_output)
    d_h_n = torch.zeros_like(a.h_0) if d_h_n is None else _real(d_h_n)
    if a.c_0 is not None:
        d_c_n = torch.zeros_like(a.c_0) if d_c_n is None else _real(d_c_n)
    d_h_0, d_c_0 = torch.empty_like(a.h_0), None if a.c_0 is None else torch.empty_like(a.c_0)
    threads = threads_for(batch * steps * a.weight_hh.numel(), batch)
    given = {
        **_options(a),
        "threads": threads,
        "weight_hh_t": _matrix(
            "weight_hh", a.weight_hh, columns, hidden, a.precision, transposed=True
        ),
        "output": address("output", r.output, *a.along(hidden)),
        "gates": address("gates", r.gates, *a.along(kept_gates(a.cell), hidden)),
        "cells": address("cells", r.cells, *a.along(hidden)),
        "normalised": address("normalised", r.normalised, *a.along(columns)),
        "rstd": address("rstd", r.rstd, *a.along()),
        "d_output": address("gradient of output", d_output, *a.along(hidden)),
        "d_h_n": address("gradient of h_n", d_h_n, batch, hidden),
        "d_c_n": address("gradient of c_n", d_c_n, batch, hidden),
        "d_h_0": d_h_0.data_ptr(),
        "d_c_0": 0 if d_c_0 is None else d_c_0.data_ptr(),
    }
    on_the_way = a.weight_ih is not None and a.precision == "float32" and a.cell in MADE_ON_THE_WAY
    weights = (
        _weights_on_the_way(a, given, need_x)
        if on_the_way
        else _weights_at_the_end(a, r, given, need_x)
    )
    d_x, d_weight_ih, d_bias, d_weight_hh, extras = weights
    rest = [extras.get(name) for name in ("weight_ch", "bias_hh", "gain_hh", "gain_c", "bias_c")]
    return [d_x, d_weight_ih, None if a.bias is None else d_bias, d_h_0, d_c_0, d_weight_hh, *rest]


MADE_ON_THE_WAY = ("rnn", "rnn_relu", "lstm", "coupled", "gru")
"""Cells whose weight gradients the engine makes block by block, while the gradients of the steps
are in the cache.
"""
_SUMS = (
    "d_gain_c",
    "d_bias_c",
    "d_gain_hh",
    "d_bias_hh",
    "d_weight_ih",
    "d_weight_hh",
    "d_bias_ih",
)
Weights = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor, dict[str, Tensor]]


def _weights_on_the_way(a: Arguments, given: dict[str, Any], need_x: bool) -> Weights:
    """(d_x, d_weight_ih, d_bias, d_weight_hh, those of the extras): each thread its part, then
    their sum.
    """
    _, _, hidden, columns = a.sizes
    features, threads = a.x.shape[2], given["threads"]
    assert a.weight_ih is not None
    d_x = new(a.x, *a.along(features)) if need_x else None
    shapes = {
        "d_weight_ih": (columns, features),
        "d_weight_hh": (columns, hidden),
        "d_bias_ih": (columns,),
    }
    if a.cell == "gru":
        shapes["d_bias_hh"] = (columns,)
    parts = {name: a.x.new_empty(threads, *shape) for name, shape in shapes.items()}
    weight_ih = address("weight_ih", a.weight_ih, columns, features)
    engine.backward(
        **given,
        **{name: parts[name].data_ptr() if name in parts else 0 for name in _SUMS},
        d_x_part=0,
        d_h_part=0,
        input=features,
        x=address("x", a.x, *a.along(features)),
        weight_ih_t=(
            packed(a.weight_ih, a.precision, transposed=True) if weight_ih and need_x else None
        ),
        d_x=0 if d_x is None else d_x.data_ptr(),
    )
    whole = {name: part[0] if threads == 1 else part.sum(0) for name, part in parts.items()}
    extras = {"bias_hh": whole["d_bias_hh"]} if a.cell == "gru" else {}
    return d_x, whole["d_weight_ih"], whole["d_bias_ih"], whole["d_weight_hh"], extras


def _weights_at_the_end(a: Arguments, r: Results, given: dict[str, Any], need_x: bool) -> Weights:
    """The same by products over the whole sequence, after the gradients of x_part and of W_hh h
    were written for it.
    """
    _, _, hidden, columns = a.sizes
    d_part = new(r.output, *a.along(columns))  # of x_part
    d_h = (
        torch.empty_like(d_part) if a.cell in ("gru", "layernorm") else None
    )  # of W_hh h, where it differs
    sums: dict[str, Tensor] = {}  # a row for each thread
    if a.cell == "layernorm":
        widths = {"gain_c": hidden, "bias_c": hidden, "gain_hh": columns, "bias_hh": columns}
        sums = {name: r.output.new_zeros(given["threads"], width) for name, width in widths.items()}
    engine.backward(
        **given,
        **{name: sums[name[2:]].data_ptr() if name[2:] in sums else 0 for name in _SUMS},
        d_x_part=d_part.data_ptr(),
        d_h_part=0 if d_h is None else d_h.data_ptr(),
        input=0,
        x=0,
        weight_ih_t=None,
        d_x=0,
    )
    d_weight_hh, d_h_sum = _outer(
        d_part if d_h is None else d_h, _before(r.output, a.h_0, a), a.precision
    )
    extras: dict[str, Tensor] = {name: total.sum(0) for name, total in sums.items()}
    if a.cell == "gru":
        extras["bias_hh"] = d_h_sum
    elif a.cell == "peephole":
        assert r.cells is not None
        assert r.gates is not None
        assert a.c_0 is not None
        extras["weight_ch"] = _peephole_gradient(d_part, r.gates, _before(r.cells, a.c_0, a))
    if a.weight_ih is None:
        return d_part, None, None, d_weight_hh, extras
    d_weight_ih, d_bias = _outer(d_part, a.x, a.precision)
    d_x = _times(d_part, a.weight_ih, a.precision, transposed=True) if need_x else None
    return d_x, d_weight_ih, d_bias, d_weight_hh, extras


def _real(gradient: Tensor) -> Tensor:
    """As the engine reads it: its numbers in order, and not a view that stands for their negation."""
    return gradient.resolve_neg().contiguous()


def _options(a: Arguments) -> dict[str, Any]:
    """The engine's arguments that both passes have."""
    batch, steps, hidden, columns = a.sizes
    if a.cell in USED and any(getattr(a, name) is None for name in USED[a.cell]):
        raise RuntimeError(f"{a.cell}: expected {', '.join(USED[a.cell])}")
    return {
        "cell": CELL_NUMBERS[a.cell],
        "reverse": a.reverse,
        "time_first": a.time_first,
        "batch": batch,
        "steps": steps,
        "hidden": hidden,
        "weight_ch": address("weight_ch", a.weight_ch, 3 * hidden),
        "bias_hh": address("bias_hh", a.bias_hh, columns),
        "gain_hh": address("gain_hh", a.gain_hh, columns),
        "gain_c": address("gain_c", a.gain_c, hidden),
        "bias_c": address("bias_c", a.bias_c, hidden),
        "h_0": address("h_0", a.h_0, batch, hidden),
        "c_0": address("c_0", a.c_0, batch, hidden),
        "lengths": address("lengths", a.lengths, batch, dtype=torch.int64),
        "border": address("reset", a.border, batch, steps, dtype=torch.bool),
        "mask_h": address("zoneout mask", a.mask_h, batch, steps, hidden),
        "mask_c": address("zoneout mask", a.mask_c, batch, steps, hidden),
        "zone_h": a.zone_h,
        "zone_c": a.zone_c,
    }


def _matrix(
    name: str,
    weight: Tensor,
    rows: int,
    columns: int,
    precision: str,
    *,
    transposed: bool = False,
    few: bool = False,
) -> Any:
    address(name, weight, rows, columns)
    return unpacked(weight) if few else packed(weight, precision, transposed=transposed)


def _times(
    x: Tensor,
    weight: Tensor,
    precision: str,
    bias: Tensor | None = None,
    *,
    transposed: bool = False,
    few: bool = False,
) -> Tensor:
    """Rows of x times W^T, plus the bias; times W when transposed."""
    rows, inner = x.shape[0] * x.shape[1], x.shape[2]
    outer = weight.shape[1 if transposed else 0]
    shape = (inner, outer) if transposed else (outer, inner)
    out = new(x, *x.shape[:2], outer)
    engine.product(
        _matrix("weight_ih", weight, *shape, precision, transposed=transposed, few=few),
        address("x", x, *x.shape),
        rows,
        address("bias", bias, outer),
        out.data_ptr(),
        threads_for(rows * inner * outer, rows),
    )
    return out


def _outer(left: Tensor, right: Tensor, precision: str) -> tuple[Tensor, Tensor]:
    """Σ over batch and time of left^T right: [N, K] from N and K features; and Σ left, [N]."""
    right = right.contiguous()
    steps, rows, columns = left.shape[0] * left.shape[1], left.shape[2], right.shape[2]
    result, sums = left.new_empty(rows, columns), left.new_empty(rows)
    engine.outer(
        address("left", left, *left.shape),
        address("right", right, *left.shape[:2], columns),
        steps,
        rows,
        columns,
        PRECISIONS[precision],
        result.data_ptr(),
        sums.data_ptr(),
        threads_for(steps * rows * columns, rows),
    )
    return result, sums


def _before(states: Tensor, start: Tensor, a: Arguments) -> Tensor:
    """The state before every step, laid out as the states are."""
    time = 0 if a.time_first else 1
    count = states.shape[time]
    if a.reverse:
        before = torch.cat([states.narrow(time, 1, count - 1), start.unsqueeze(time)], time)
        if a.lengths is not None:
            last = (a.lengths - 1)[:, None, None].expand(-1, 1, states.shape[2])
            last = last.transpose(0, 1) if a.time_first else last
            before = before.scatter(time, last, start.unsqueeze(time))
    else:
        before = torch.cat([start.unsqueeze(time), states.narrow(time, 0, count - 1)], time)
    if a.border is None:
        return before
    return before.masked_fill((a.border.T if a.time_first else a.border)[..., None], 0.0)


def _peephole_gradient(d_x: Tensor, gates: Tensor, c_before: Tensor) -> Tensor:
    """[3·H]: the input and forget gates saw the cell before the step, the output gate the one after
    it.
    """
    d_i, d_f, _, d_o = d_x.chunk(4, -1)
    c_after = gates[:, :, 1] * c_before + gates[:, :, 0] * gates[:, :, 2]
    return torch.cat(
        [(d_i * c_before).sum((0, 1)), (d_f * c_before).sum((0, 1)), (d_o * c_after).sum((0, 1))]
    )
