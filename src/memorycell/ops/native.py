"""Autograd around the C++ engine in csrc/: every cell, float32 state, products in float32 or bfloat16.

The input's products of all steps are one matrix product; then the engine walks the recurrence with packed weights and
keeps what the backward pass needs, which is also what `trace` hands out. Weight gradients are one product at the end.
"""

from __future__ import annotations

import weakref
from dataclasses import replace
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from memorycell.cells import CELLS, Tensors
from memorycell.ops import reference
from memorycell.ops.call import Call, Inputs

engine: Any = None
missing = ""
try:
    engine = import_module("memorycell._native")
except ImportError as error:  # no compiler when it was installed, or MEMORYCELL_ISA names what this processor lacks
    missing = f"the native engine is not here ({error}); install g++ or clang++ and install memorycell again"

CELL_NUMBERS = {
    name: k for k, name in enumerate(("rnn", "rnn_relu", "lstm", "peephole", "coupled", "layernorm", "gru"))
}
PRECISIONS = {"float32": 0, "bfloat16": 1, "int8": 2}
EXTRAS = ("weight_ch", "bias_hh", "gain_hh", "gain_c", "bias_c")
"""The parameters beside the matrices, in the engine's order."""
USED = {"peephole": ("weight_ch",), "gru": ("bias_hh",), "layernorm": ("bias_hh", "gain_hh", "gain_c", "bias_c")}
"""Those a cell's recurrence reads; the rest of the biases were added ahead."""


class Walk(NamedTuple):
    """How one recurrence is walked: everything the engine needs beside the tensors with gradients."""

    call: Call
    precision: str
    lengths: Tensor | None
    reset: Tensor | None
    masks: Tensors


def obstacle(call: Call, *, device: str, dtype: torch.dtype, projected: bool) -> str | None:
    """Why the engine cannot run this, or None."""
    cell = call.cell
    if engine is None:
        return missing
    if cell not in CELL_NUMBERS:
        return f"the native engine has no {cell} cell"
    if device != "cpu":
        return f"the native engine runs on the CPU, not on {device}"
    if dtype != torch.float32:
        return f"the native engine computes in float32, not in {str(dtype).removeprefix('torch.')}"
    if projected and (cell == "layernorm" or any(call.zoneout)):
        return "the native engine has no projection (proj_size) with layer normalisation or zoneout"
    return None


def run(call: Call, given: Inputs) -> tuple[Tensor, Tensors, dict[str, Tensor] | None]:
    """(output, final state, trace). Under autocast to bfloat16 products are in bfloat16, all else in float32."""
    x, params, state, lengths, reset, masks = given
    cell = CELLS[call.cell]
    half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    precision = "bfloat16" if half else "float32"
    with torch.autocast("cpu", enabled=False):
        if lengths is not None:
            inside = torch.arange(x.shape[1]) < lengths[:, None]
            x = x.masked_fill(~inside[..., None], 0.0)
        weight_ih, bias = params["weight_ih"], params["bias_ih"]
        weight_hh, h_0 = params["weight_hh"], state[0].float()
        product: tuple[Tensor, Tensor | None, Tensor | None]
        if call.cell == "layernorm":  # its input is normalised ahead, with autograd of its own
            product = (cell.ahead(_Product.apply(precision, x.float(), weight_ih), params), None, None)
        else:
            ahead = None if bias.ndim == 0 else bias if call.cell == "gru" else bias + params["bias_hh"]
            product = (x.float(), weight_ih, ahead)
        if "weight_hr" in params:
            x_part = _Product.apply(precision, x.float(), weight_ih)
            x_part = x_part if product[2] is None else x_part + product[2]
            product = (_with_first_product(call, x_part, h_0 @ weight_hh.T, lengths, reset), None, None)
            weight_hh, h_0 = weight_hh @ params["weight_hr"], h_0.new_zeros(len(h_0), params["weight_hr"].shape[1])
        walk = Walk(call, precision, lengths, reset, masks)
        used = [params[name] for name in USED.get(call.cell, ())]
        used = [v if v.ndim else v.expand(len(weight_ih)) for v in used]  # an absent bias is a scalar zero
        c_0 = state[1] if len(state) > 1 else None
        output, h_n, c_n, gates, cells = _Recurrence.apply(walk, *product, h_0, c_0, weight_hh, *used)
        if "weight_hr" in params:
            output, h_n = F.linear(output, params["weight_hr"]), F.linear(h_n, params["weight_hr"])
    trace = None
    if call.trace:
        trace = {name: gates[:, :, k] for k, name in enumerate(cell.gates)} | {"h": output}
        if c_0 is not None:
            trace["c"] = cells
    return output, (h_n,) if c_0 is None else (h_n, c_n), trace


def _with_first_product(
    call: Call, x_part: Tensor, first: Tensor, lengths: Tensor | None, reset: Tensor | None
) -> Tensor:
    """x_part with W_hh h_0 added where each row begins, so that the walk can begin at zero.

    With a projection h = W_hr m the walk goes over m: W_hh h_{t-1} = (W_hh W_hr) m_{t-1}, and only h_0 has no m.
    """
    batch, steps, columns = x_part.shape
    begin = torch.zeros(batch, dtype=torch.int64)
    if call.reverse:
        begin = begin + steps - 1 if lengths is None else lengths - 1
    border = reference.borders(reset, call.reverse)
    if border is not None:
        first = first.masked_fill(border.gather(1, begin[:, None]), 0.0)
    return x_part.scatter_add(1, begin[:, None, None].expand(batch, 1, columns), first[:, None])


class _Product(torch.autograd.Function):
    """(precision, x [B, T, I], W [N, I]) -> x W^T [B, T, N]."""

    @staticmethod
    def forward(ctx: Any, precision: str, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.precision = precision
        return _times(x, _packed(weight, precision, transposed=False))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative
            return None, grad @ weight, grad.flatten(0, 1).T @ x.flatten(0, 1)
        d_x = _times(grad, _packed(weight, ctx.precision, transposed=True)) if ctx.needs_input_grad[1] else None
        return None, d_x, _outer(grad, x, ctx.precision)[0]


class _Recurrence(torch.autograd.Function):
    """(x, weight_ih, bias, h_0, c_0, weight_hh, extras…) -> (output, h_n, c_n, gates, cells).

    x_part = x W_ih^T + bias is one product ahead of the walk; without weight_ih, x is x_part already.
    """

    @staticmethod
    def forward(
        ctx: Any, walk: Walk, x: Tensor, weight_ih: Tensor | None, bias: Tensor | None, h_0: Tensor, c_0: Tensor | None,
        weight_hh: Tensor, *used: Tensor,
    ) -> Any:  # fmt: skip
        call = walk.call
        x, h_0 = x.contiguous(), h_0.contiguous()
        c_0 = None if c_0 is None else c_0.float().contiguous()
        x_part = x if weight_ih is None else _times(x, _packed(weight_ih, walk.precision, transposed=False), bias)
        batch, steps, columns = x_part.shape
        hidden = weight_hh.shape[1]
        keep = any(ctx.needs_input_grad) or call.trace
        output = _new(x_part, batch, steps, hidden)
        h_n = torch.empty_like(h_0)
        c_n = None if c_0 is None else torch.empty_like(c_0)
        kept = 1 if call.cell.startswith("rnn") else 4
        gates = None
        if keep:  # where the gates have the shape of x_part they take its place: each is written after it was read
            in_place = x_part is not x and columns == kept * hidden
            gates = x_part.view(batch, steps, kept, hidden) if in_place else _new(x_part, batch, steps, kept, hidden)
        cells = _new(x_part, batch, steps, hidden) if keep and c_0 is not None else None
        norm = keep and call.cell == "layernorm"
        normalised = torch.empty_like(x_part) if norm else None
        rstd = x_part.new_empty(batch, steps) if norm else None
        extras = dict(zip(USED.get(call.cell, ()), (value.detach().contiguous() for value in used), strict=True))
        border = reference.borders(walk.reset, call.reverse)
        arrays = (
            x_part,
            h_0,
            c_0,
            walk.lengths,
            border,
            *_masks(walk),
            output,
            h_n,
            c_n,
            gates,
            cells,
            normalised,
            rstd,
        )
        engine.forward(
            CELL_NUMBERS[call.cell], call.reverse, batch, steps, hidden, _threads(batch, steps, weight_hh),
            _packed(weight_hh, walk.precision, transposed=False), addresses(extras.get(n) for n in EXTRAS),
            addresses(arrays), *_shares(call),
        )  # fmt: skip
        ctx.walk, ctx.border = walk, border
        ctx.save_for_backward(x, weight_ih, bias, h_0, c_0, weight_hh, output, gates, cells, normalised, rstd, *used)
        ctx.set_materialize_grads(False)
        return output, h_n, c_n, gates, cells

    @staticmethod
    def backward(ctx: Any, d_output: Any, d_h_n: Any, d_c_n: Any, d_gates: Any, d_cells: Any) -> Any:
        x, weight_ih, bias, h_0, c_0, weight_hh, output, gates, cells, normalised, rstd, *used = ctx.saved_tensors
        walk: Walk = ctx.walk
        if torch.is_grad_enabled() or d_gates is not None or d_cells is not None:
            # A second derivative, or one of the trace: the reference has them, with the same numbers.
            inputs = (x, weight_ih, bias, h_0, c_0, weight_hh, *used)
            grads = (d_output, d_h_n, d_c_n, d_gates, d_cells)
            return None, *_by_reference(walk, inputs, grads, create_graph=torch.is_grad_enabled())
        call = walk.call
        batch, steps, hidden = output.shape
        zeros = torch.zeros_like
        d_output = zeros(output) if d_output is None else d_output.contiguous()
        d_h_n = zeros(h_0) if d_h_n is None else d_h_n.contiguous()
        d_c_n = None if c_0 is None else zeros(c_0) if d_c_n is None else d_c_n.contiguous()
        d_part = _new(output, batch, steps, len(weight_hh))  # of x_part
        d_h = torch.empty_like(d_part) if call.cell in ("gru", "layernorm") else None
        d_h_0, d_c_0 = torch.empty_like(h_0), None if c_0 is None else torch.empty_like(c_0)
        threads = _threads(batch, steps, weight_hh)
        widths = (hidden, hidden, 4 * hidden, 4 * hidden)  # of gain_c, bias_c, gain_hh, bias_hh
        sums = [output.new_zeros(threads, width) if call.cell == "layernorm" else None for width in widths]
        extras = dict(zip(USED.get(call.cell, ()), (value.detach().contiguous() for value in used), strict=True))
        arrays = (h_0, c_0, output, gates, cells, normalised, rstd, walk.lengths, ctx.border, *_masks(walk),
                  d_output, d_h_n, d_c_n, d_part, d_h, d_h_0, d_c_0, *sums)  # fmt: skip
        engine.backward(
            CELL_NUMBERS[call.cell], call.reverse, batch, steps, hidden, threads,
            _packed(weight_hh, walk.precision, transposed=True), addresses(extras.get(n) for n in EXTRAS),
            addresses(arrays), *_shares(call),
        )  # fmt: skip
        d_weight, d_h_sum = _outer(
            d_part if d_h is None else d_h, _before(output, h_0, ctx.border, walk), walk.precision
        )
        d_used: list[Tensor] = []
        if call.cell == "gru":
            d_used = [d_h_sum]
        elif call.cell == "peephole":
            d_used = [_peephole_gradient(d_part, gates, _before(cells, c_0, ctx.border, walk))]
        elif call.cell == "layernorm":
            gain_c, bias_c, gain_hh, bias_hh = (s.sum(0) for s in sums if s is not None)
            d_used = [bias_hh, gain_hh, gain_c, bias_c]
        d_x, d_weight_ih, d_bias = d_part, None, None
        if weight_ih is not None:
            d_weight_ih, d_bias = _outer(d_part, x, walk.precision)
            d_bias = None if bias is None else d_bias
            if ctx.needs_input_grad[1]:
                d_x = _times(d_part, _packed(weight_ih, walk.precision, transposed=True))
        return None, d_x, d_weight_ih, d_bias, d_h_0, d_c_0, d_weight, *d_used


def _by_reference(walk: Walk, inputs: tuple[Any, ...], grads: tuple[Any, ...], *, create_graph: bool) -> list[Any]:
    """The gradients of every input by the reference loop."""
    with torch.enable_grad():
        # Without a graph to extend, the saved tensors' own histories must stay out of it.
        fresh: tuple[Any, ...] = (
            inputs if create_graph else tuple(v if v is None else v.detach().requires_grad_() for v in inputs)
        )
        x, weight_ih, bias, h_0, c_0, weight_hh, *used = fresh
        x_part = x if weight_ih is None else F.linear(x, weight_ih, bias)
        call = walk.call
        params = {"weight_hh": weight_hh, **dict(zip(USED.get(call.cell, ()), used, strict=True))}
        inside = None if walk.lengths is None else torch.arange(x_part.shape[1]) < walk.lengths[:, None]
        state = (h_0,) if c_0 is None else (h_0, c_0)
        traced = replace(call, trace=True)
        output, final, trace = reference.loop(traced, x_part, params, state, inside, walk.reset, walk.masks)
        assert trace is not None
        gates = [trace[name] for name in CELLS[call.cell].gates]
        pairs = [(output, grads[0]), (final[0], grads[1])]
        pairs += [(final[1], grads[2]), (trace["c"], grads[4])] if c_0 is not None else []
        pairs += [(gate, grads[3][:, :, k]) for k, gate in enumerate(gates)] if grads[3] is not None else []
        pairs = [(value, grad) for value, grad in pairs if grad is not None]
        wanted = [v for v in fresh if v is not None and v.requires_grad]
        found = iter(torch.autograd.grad(
            [value for value, _ in pairs], wanted, [grad for _, grad in pairs], create_graph=create_graph, allow_unused=True
        ))  # fmt: skip
        return [next(found) if v is not None and v.requires_grad else None for v in fresh]


def _before(states: Tensor, start: Tensor, border: Tensor | None, walk: Walk) -> Tensor:
    """[B, T, H]: the state before every step."""
    if walk.call.reverse:
        before = torch.cat([states[:, 1:], start[:, None]], 1)
        if walk.lengths is not None:
            last = (walk.lengths - 1)[:, None, None].expand(-1, 1, states.shape[2])
            before = before.scatter(1, last, start[:, None])
    else:
        before = torch.cat([start[:, None], states[:, :-1]], 1)
    return before if border is None else before.masked_fill(border[..., None], 0.0)


def _peephole_gradient(d_x: Tensor, gates: Tensor, c_before: Tensor) -> Tensor:
    """[3·H]: the input and forget gates saw the cell before the step, the output gate the one after it."""
    d_i, d_f, _, d_o = d_x.chunk(4, -1)
    c_after = gates[:, :, 1] * c_before + gates[:, :, 0] * gates[:, :, 2]
    return torch.cat([(d_i * c_before).sum((0, 1)), (d_f * c_before).sum((0, 1)), (d_o * c_after).sum((0, 1))])


def _times(x: Tensor, weight: Any, bias: Tensor | None = None) -> Tensor:
    """Rows [B, T, K] by a packed matrix [N, K], plus the bias [N]: [B, T, N]."""
    x = x.contiguous()
    out = _new(x, *x.shape[:-1], weight.rows)
    rows = x.shape[:-1].numel()
    bias = None if bias is None else bias.detach().contiguous()
    threads = _at_most(rows * weight.rows * weight.columns, rows)
    engine.product(weight, x.data_ptr(), rows, 0 if bias is None else bias.data_ptr(), out.data_ptr(), threads)
    return out


def _outer(left: Tensor, right: Tensor, precision: str) -> tuple[Tensor, Tensor]:
    """Σ over batch and time of left^T right, [B, T, N] and [B, T, K] -> [N, K]; and Σ left, [N]."""
    left, right = left.flatten(0, 1).contiguous(), right.flatten(0, 1).contiguous()
    (steps, rows), columns = left.shape, right.shape[1]
    result, sums = left.new_empty(rows, columns), left.new_empty(rows)
    threads = _at_most(steps * rows * columns, rows)
    engine.outer(
        left.data_ptr(),
        right.data_ptr(),
        steps,
        rows,
        columns,
        PRECISIONS[precision],
        result.data_ptr(),
        sums.data_ptr(),
        threads,
    )
    return result, sums


_cache: dict[tuple[int, str, bool, str], tuple[Any, tuple[int, int], Any]] = {}


def _packed(weight: Tensor, precision: str, *, transposed: bool) -> Any:
    """The matrix packed for the engine. Kept while the weight is not changed: a step at a time must not pack each time."""
    key = (id(weight), precision, transposed, engine.instruction_set())
    version = -1 if weight.is_inference() else weight._version
    found = _cache.get(key)
    if found is not None and found[0]() is weight and found[1] == (version, weight.data_ptr()):
        return found[2]
    value = packed(weight, precision, transposed=transposed)
    if isinstance(weight, torch.nn.Parameter):
        _cache[key] = (weakref.ref(weight, lambda _: _cache.pop(key, None)), (version, weight.data_ptr()), value)
    return value


def packed(weight: Tensor, precision: str, *, transposed: bool = False) -> Any:
    """A matrix [N, K], or its transpose, packed for the engine: a copy."""
    value = weight.detach().contiguous()
    rows, columns = value.shape
    sizes = (columns, rows, 1, columns) if transposed else (rows, columns, columns, 1)
    return engine.Weight(value.data_ptr(), *sizes, PRECISIONS[precision])


def _threads(batch: int, steps: int, weight_hh: Tensor) -> int:
    """As many as torch uses, where each has 4 million multiplications or more to do."""
    return _at_most(batch * steps * weight_hh.numel(), batch)


def _at_most(work: int, rows: int) -> int:
    return max(1, min(torch.get_num_threads(), rows, work // 4_000_000))


def _shares(call: Call) -> tuple[float, float]:
    """Zoneout's expectation; in training the masks say it."""
    return (0.0, 0.0) if call.training else call.zoneout


def _masks(walk: Walk) -> tuple[Tensor | None, ...]:
    return (*walk.masks, None, None)[:2]


def _new(like: Tensor, *shape: int) -> Tensor:
    """An empty tensor about to be filled."""
    tensor = like.new_empty(*shape)
    if tensor.numel() >= 1 << 20:
        engine.expect_much(tensor.data_ptr(), tensor.numel() * tensor.element_size())
    return tensor


def addresses(tensors: Any) -> list[int]:
    """Where they lie; 0 for None."""
    return [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
