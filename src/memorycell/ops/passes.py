"""The engine's forward and backward pass over a full sequence: tensors in, tensors out, without
autograd.

The engine makes one pass over the sequence and computes the products of the input on the way,
except for layer normalisation with gradients. Weights are packed in each call. The values
kept for the backward pass are also what `trace` returns. Weight gradients are computed block by
block during the pass, or by products after it. Sequences are [B, T, K] or, with `time_first`,
[T, B, K], contiguous.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memorycell.ops.arguments import Arguments, Results, cell_width, gates_kept
from memorycell.ops.binding import (
    CELL_NUMBERS,
    CELL_VECTORS,
    VECTORS,
    address,
    allocate,
    engine,
    pack,
    threads_for,
)
from memorycell.ops.products import matrix, multiply, sum_outer

Sizes = tuple[int, int, int, int]
"""B, T, H and the columns of x_part, G·H."""
MAX_UNPACKED_ROWS = 4
"""Up to this number of rows (B·T), a product with the unpacked weights costs less than packing."""


def forward(a: Arguments, gain_ih: Tensor | None = None) -> Results:
    """Run the recurrence. Raises RuntimeError for a tensor of the wrong shape, type or device.

    gain_ih   [4·H], for a layernorm cell whose weight_ih is not None: the engine normalises the
              products of the input. Only without `keep`
    """
    batch, steps, hidden, _ = sizes = a.sizes
    kept = gates_kept(a.cell)
    output = allocate(a.x, *a.sequence_shape(a.h_size))
    h_n = torch.empty_like(a.h_0)
    c_n = None if a.c_0 is None else torch.empty_like(a.c_0)
    gates = cells = normalised = rstd = None
    if a.keep:
        gates = allocate(a.x, *a.sequence_shape(kept, hidden))
        width = cell_width(a.cell) * hidden
        cells = None if a.c_0 is None else allocate(a.x, *a.sequence_shape(width))
        if a.cell == "layernorm":
            normalised, rstd = torch.empty_like(a.x), a.x.new_empty(a.sequence_shape())
    weights, x_part = _weights(a, sizes, gain_ih)
    engine.forward(
        **_options(a, sizes),
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
    del x_part  # the engine has read it
    return Results(output, h_n, c_n, gates, cells, normalised, rstd)


def _weights(
    a: Arguments, sizes: Sizes, gain_ih: Tensor | None
) -> tuple[dict[str, Any], Tensor | None]:
    """The operands of the forward pass: the input and both matrices; or x_part and W_hh, packed or
    in place. Also x_part if it was computed here: it must outlive the pass.
    """
    batch, steps, hidden, columns = sizes
    options: dict[str, Any] = {
        "packed_hh": None,
        "packed_ih": None,
        "weight_hr": None,
        **dict.fromkeys(("x_part", "input", "x", "weight_ih", "bias", "weight_hh", "gain_ih"), 0),
    }
    if a.weight_hr is not None:
        options["weight_hr"] = matrix("weight_hr", a.weight_hr, a.h_size, hidden, a.precision)
    in_place = (
        a.precision == "float32" and batch * steps <= MAX_UNPACKED_ROWS and a.weight_hr is None
    )
    if a.weight_ih is not None and (gain_ih is not None or not in_place):
        features = a.x.shape[2]
        options |= {
            "input": features,
            "x": address("x", a.x, *a.sequence_shape(features)),
            "bias": address("bias", a.bias, columns),
        }
        if a.precision == "float32" and gain_ih is None:
            return options | {
                "weight_ih": address("weight_ih", a.weight_ih, columns, features),
                "weight_hh": address("weight_hh", a.weight_hh, columns, a.h_size),
            }, None
        return options | {
            "packed_ih": matrix(
                "weight_ih", a.weight_ih, columns, features, a.precision, in_place=in_place
            ),
            "packed_hh": matrix(
                "weight_hh", a.weight_hh, columns, hidden, a.precision, in_place=in_place
            ),
            "gain_ih": address("gain_ih", gain_ih, columns),
        }, None
    x_part = a.x
    if a.weight_ih is not None:
        x_part = multiply(a.x, a.weight_ih, a.precision, a.bias, in_place=in_place)
    return options | {
        "packed_hh": matrix(
            "weight_hh", a.weight_hh, columns, hidden, a.precision, in_place=in_place
        ),
        "x_part": address("x", x_part, *a.sequence_shape(columns)),
    }, x_part


def backward(
    a: Arguments,
    r: Results,
    d_output: Tensor | None,
    d_h_n: Tensor | None,
    d_c_n: Tensor | None,
    need_x: bool,
) -> list[Tensor | None]:
    """The gradients of the first twelve arguments; None for those that are None, and for x if it is
    not needed.
    """
    batch, steps, hidden, columns = sizes = a.sizes
    assert r.gates is not None
    d_output = torch.zeros_like(r.output) if d_output is None else _readable(d_output)
    d_h_n = torch.zeros_like(a.h_0) if d_h_n is None else _readable(d_h_n)
    if a.c_0 is not None:
        d_c_n = torch.zeros_like(a.c_0) if d_c_n is None else _readable(d_c_n)
    d_h_0, d_c_0 = torch.empty_like(a.h_0), None if a.c_0 is None else torch.empty_like(a.c_0)
    threads = threads_for(batch * steps * a.weight_hh.numel(), batch)
    options = {
        **_options(a, sizes),
        "threads": threads,
        "weight_hh_t": matrix(
            "weight_hh", a.weight_hh, columns, a.h_size, a.precision, transposed=True
        ),
        "output": address("output", r.output, *a.sequence_shape(a.h_size)),
        "gates": address("gates", r.gates, *a.sequence_shape(gates_kept(a.cell), hidden)),
        "cells": address("cells", r.cells, *a.sequence_shape(cell_width(a.cell) * hidden)),
        "normalised": address("normalised", r.normalised, *a.sequence_shape(columns)),
        "rstd": address("rstd", r.rstd, *a.sequence_shape()),
        "d_output": address("gradient of output", d_output, *a.sequence_shape(a.h_size)),
        "d_h_n": address("gradient of h_n", d_h_n, batch, a.h_size),
        "d_c_n": address("gradient of c_n", d_c_n, batch, cell_width(a.cell) * hidden),
        "d_h_0": d_h_0.data_ptr(),
        "d_c_0": 0 if d_c_0 is None else d_c_0.data_ptr(),
    }
    fused = a.weight_ih is not None and a.precision == "float32" and a.cell in FUSED_CELLS
    gradients = (
        _fused_gradients(a, options, need_x)
        if fused
        else _separate_gradients(a, r, options, need_x)
    )
    d_x, d_weight_ih, d_bias, d_weight_hh, others = gradients
    d_others = [others.get(name) for name in (*VECTORS, "weight_hr")]
    d_bias = None if a.bias is None else d_bias
    return [d_x, d_weight_ih, d_bias, d_h_0, d_c_0, d_weight_hh, *d_others]


FUSED_CELLS = ("rnn", "rnn_relu", "lstm", "peephole", "coupled", "gru", "slstm")
"""Cells whose weight gradients the engine computes block by block, while the gradients of the steps
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
    "d_weight_hr",
    "d_weight_ch",
)
WeightGradients = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor, dict[str, Tensor]]


def _fused_gradients(a: Arguments, options: dict[str, Any], need_x: bool) -> WeightGradients:
    """(d_x, d_weight_ih, d_bias, d_weight_hh, gradients of other parameters by name), summed over
    the threads' parts.
    """
    _, _, hidden, columns = a.sizes
    features, threads = a.x.shape[2], options["threads"]
    assert a.weight_ih is not None
    d_x = allocate(a.x, *a.sequence_shape(features)) if need_x else None
    shapes = {
        "d_weight_ih": (columns, features),
        "d_weight_hh": (columns, a.h_size),
        "d_bias_ih": (columns,),
    }
    if a.cell == "gru":
        shapes["d_bias_hh"] = (columns,)
    if a.cell == "peephole":
        shapes["d_weight_ch"] = (3 * hidden,)
    projection = None
    if a.weight_hr is not None:
        shapes["d_weight_hr"] = (a.h_size, hidden)
        projection = matrix(
            "weight_hr", a.weight_hr, a.h_size, hidden, a.precision, transposed=True
        )
    parts = {name: a.x.new_empty(threads, *shape) for name, shape in shapes.items()}
    weight_ih = address("weight_ih", a.weight_ih, columns, features)
    engine.backward(
        **options,
        **{name: parts[name].data_ptr() if name in parts else 0 for name in _SUMS},
        d_x_part=0,
        d_h_part=0,
        input=features,
        x=address("x", a.x, *a.sequence_shape(features)),
        weight_ih_t=(
            pack(a.weight_ih, a.precision, transposed=True) if weight_ih and need_x else None
        ),
        weight_hr_t=projection,
        d_x=0 if d_x is None else d_x.data_ptr(),
    )
    sums = {name: part[0] if threads == 1 else part.sum(0) for name, part in parts.items()}
    others = {
        name: sums["d_" + name]
        for name in ("bias_hh", "weight_hr", "weight_ch")
        if "d_" + name in sums
    }
    return d_x, sums["d_weight_ih"], sums["d_bias_ih"], sums["d_weight_hh"], others


def _separate_gradients(
    a: Arguments, r: Results, options: dict[str, Any], need_x: bool
) -> WeightGradients:
    """The same by products over the full sequence, from the gradients of x_part and of W_hh h."""
    _, _, hidden, columns = a.sizes
    d_part = allocate(r.output, *a.sequence_shape(columns))  # of x_part
    # The gradient of W_hh h, if it differs.
    d_h = torch.empty_like(d_part) if a.cell in ("gru", "layernorm") else None
    sums: dict[str, Tensor] = {}  # one row per thread
    if a.cell == "layernorm":
        widths = {"gain_c": hidden, "bias_c": hidden, "gain_hh": columns, "bias_hh": columns}
        sums = {
            name: r.output.new_zeros(options["threads"], width) for name, width in widths.items()
        }
    engine.backward(
        **options,
        **{name: sums[name[2:]].data_ptr() if name[2:] in sums else 0 for name in _SUMS},
        d_x_part=d_part.data_ptr(),
        d_h_part=0 if d_h is None else d_h.data_ptr(),
        input=0,
        x=0,
        weight_ih_t=None,
        weight_hr_t=None,
        d_x=0,
    )
    d_weight_hh, d_h_sum = sum_outer(
        d_part if d_h is None else d_h, _previous(r.output, a.h_0, a), a.precision
    )
    vectors: dict[str, Tensor] = {name: total.sum(0) for name, total in sums.items()}
    if a.cell == "gru":
        vectors["bias_hh"] = d_h_sum
    elif a.cell == "peephole":
        assert r.cells is not None
        assert r.gates is not None
        assert a.c_0 is not None
        vectors["weight_ch"] = _peephole_gradient(d_part, r.gates, _previous(r.cells, a.c_0, a))
    if a.weight_ih is None:
        return d_part, None, None, d_weight_hh, vectors
    d_weight_ih, d_bias = sum_outer(d_part, a.x, a.precision)
    d_x = multiply(d_part, a.weight_ih, a.precision, transposed=True) if need_x else None
    return d_x, d_weight_ih, d_bias, d_weight_hh, vectors


def _readable(gradient: Tensor) -> Tensor:
    """A contiguous gradient that is not a lazy negation, as the engine reads it."""
    return gradient.resolve_neg().contiguous()


def _options(a: Arguments, sizes: Sizes) -> dict[str, Any]:
    """The engine's arguments common to both passes."""
    batch, steps, hidden, columns = sizes
    vectors = CELL_VECTORS.get(a.cell, ())
    if any(getattr(a, name) is None for name in vectors):
        raise RuntimeError(f"{a.cell}: expected {', '.join(vectors)}")
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
        "h_0": address("h_0", a.h_0, batch, a.h_size),
        "c_0": address("c_0", a.c_0, batch, cell_width(a.cell) * hidden),
        "lengths": address("lengths", a.lengths, batch, dtype=torch.int64),
        "border": address("reset", a.border, batch, steps, dtype=torch.bool),
        "mask_h": address("zoneout mask", a.mask_h, batch, steps, a.h_size),
        "mask_c": address("zoneout mask", a.mask_c, batch, steps, hidden),
        "zone_h": a.zone_h,
        "zone_c": a.zone_c,
    }


def _previous(states: Tensor, start: Tensor, a: Arguments) -> Tensor:
    """The state before every step, laid out like `states`."""
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
    """[3·H]: the input and forget gates read the cell state before the step, the output gate the
    one after it.
    """
    d_i, d_f, _, d_o = d_x.chunk(4, -1)
    c_after = gates[:, :, 1] * c_before + gates[:, :, 0] * gates[:, :, 2]
    return torch.cat(
        [(d_i * c_before).sum((0, 1)), (d_f * c_before).sum((0, 1)), (d_o * c_after).sum((0, 1))]
    )
