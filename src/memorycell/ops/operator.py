"""The recurrence as PyTorch knows it: an operator that can be traced, its shapes, and its
derivatives.

`recurrence(arguments)` runs the engine's forward pass (ops/passes.py) with autograd behind it.
Where nothing is traced it does so directly; under torch.compile, torch.export, FakeTensor or any
other dispatch mode it is the custom operator `torch.ops.memorycell.recurrence`, whose overhead a
single step would feel. Both have the same derivatives: the first by the engine's backward pass; the
second, those of the gates, and batched ones by the reference loop, with the same numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.cells import CELLS
from memorycell.ops import passes, reference
from memorycell.ops.binding import USED
from memorycell.ops.call import Call
from memorycell.ops.passes import GRADIENTS, Arguments, Results

TENSORS = Arguments._fields.index("cell")
"""How many of the arguments are tensors."""
PLAIN_TYPES = (Tensor, nn.Parameter)

_ARGUMENTS = (
    "Tensor x, Tensor? weight_ih, Tensor? bias, Tensor h_0, Tensor? c_0, Tensor weight_hh, Tensor?"
    " weight_ch, Tensor? bias_hh, Tensor? gain_hh, Tensor? gain_c, Tensor? bias_c, Tensor? lengths,"
    " Tensor? border, Tensor? mask_h, Tensor? mask_c, str cell, bool reverse, bool time_first, str"
    " precision, float zone_h, float zone_c, bool keep"
)
_RESULTS = (
    "Tensor output, Tensor h_n, Tensor c_n, Tensor gates, Tensor cells, Tensor normalised, Tensor"
    " rstd"
)
_library = torch.library.Library("memorycell", "DEF")
_tags = torch.Tag.pt2_compliant_tag
_library.define(f"recurrence({_ARGUMENTS}) -> ({_RESULTS})", tags=_tags)
_library.define(
    f"recurrence_backward({_ARGUMENTS}, {_RESULTS}, Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n,"
    f" bool need_x) -> ({', '.join(['Tensor'] * GRADIENTS)})",
    tags=_tags,
)


def recurrence(a: Arguments) -> Results:
    """The forward pass, differentiable. Raises RuntimeError for a tensor of the wrong shape, type
    or device.
    """
    if traced(*a[:TENSORS]):
        return _present(a, torch.ops.memorycell.recurrence(*a))
    if a.keep and torch.is_grad_enabled():
        return Results(*_Recurrence.apply(*a))
    return passes.forward(a)


def traced(*tensors: Any) -> bool:
    """Whether PyTorch is looking on: compiling, exporting, or under a mode or subclass that must
    see every operator.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or not all(v is None or type(v) in PLAIN_TYPES for v in tensors)
    )


def transformed() -> bool:
    """Whether a transform of torch.func, or forward-mode differentiation, is at work: the reference
    serves them.
    """
    if torch.compiler.is_compiling():
        return False
    return (
        bool(torch._C._are_functorch_transforms_active())
        or torch.autograd.forward_ad._current_level >= 0
    )


# ---- the operator --------------------------------------------------------------------------------
#
# An operator's results are tensors: those that are not there are empty ones.


def _filled(like: Tensor, values: Any) -> tuple[Tensor, ...]:
    return tuple(like.new_empty(0) if value is None else value for value in values)


def _present(a: Arguments, values: Any) -> Results:
    """The results of the operator, with None for those that are not there."""
    output, h_n, c_n, gates, cells, normalised, rstd = values
    celled, norm = a.c_0 is not None, a.keep and a.cell == "layernorm"
    return Results(
        output,
        h_n,
        c_n if celled else None,
        gates if a.keep else None,
        cells if a.keep and celled else None,
        normalised if norm else None,
        rstd if norm else None,
    )


@torch.library.impl("memorycell::recurrence", "cpu", lib=_library)
def _run(*values: Any) -> tuple[Tensor, ...]:
    a = Arguments(*values)
    return _filled(a.x, passes.forward(a))


@torch.library.register_fake("memorycell::recurrence", lib=_library)  # type: ignore[untyped-decorator]
def _shapes(*values: Any) -> tuple[Tensor, ...]:
    a = Arguments(*values)
    _, _, hidden, columns = a.sizes
    new = a.x.new_empty
    output, h_n = new(a.along(hidden)), torch.empty_like(a.h_0)
    found: list[Tensor | None] = [
        output,
        h_n,
        None if a.c_0 is None else torch.empty_like(a.c_0),
        None,
        None,
        None,
        None,
    ]
    if a.keep:
        found[3] = new(a.along(passes.kept_gates(a.cell), hidden))
        found[4] = None if a.c_0 is None else new(a.along(hidden))
        if a.cell == "layernorm":
            found[5:] = new(a.along(columns)), new(a.along())
    return _filled(a.x, found)


@torch.library.impl("memorycell::recurrence_backward", "cpu", lib=_library)
def _run_backward(*values: Any) -> tuple[Tensor, ...]:
    a, results, (d_output, d_h_n, d_c_n, need_x) = _parted(values)
    return _filled(a.x, passes.backward(a, results, d_output, d_h_n, d_c_n, need_x))


@torch.library.register_fake("memorycell::recurrence_backward", lib=_library)  # type: ignore[untyped-decorator]
def _backward_shapes(*values: Any) -> tuple[Tensor, ...]:
    a, _, (*_, need_x) = _parted(values)
    found = [None if v is None else torch.empty_like(v) for v in a.differentiable]
    return _filled(a.x, found if need_x or a.weight_ih is None else [None, *found[1:]])


def _parted(values: Any) -> tuple[Arguments, Results, Any]:
    count = len(Arguments._fields)
    a = Arguments(*values[:count])
    return (
        a,
        _present(a, values[count : count + len(Results._fields)]),
        values[count + len(Results._fields) :],
    )


# ---- derivatives ---------------------------------------------------------------------------------


class _Recurrence(torch.autograd.Function):
    """The direct path."""

    @staticmethod
    def forward(ctx: Any, *values: Any) -> Any:
        results = passes.forward(Arguments(*values))
        _save(ctx, values, results)
        if results.c_n is None:  # people change the output of torch's GRU and RNN in place
            return results.output.clone(), *results[1:]
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _gradients(ctx, *grads)


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    result, _, _, *rest = (
        output  # the final states are not read again: they may be changed in place
    )
    ctx.save_for_backward(*inputs[:TENSORS], result, None, None, *rest)
    ctx.options = inputs[TENSORS:]
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, *grads: Any) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    a = Arguments(*saved[:TENSORS], *ctx.options)
    results = saved[TENSORS:]
    d_output, d_h_n, d_c_n, d_gates, d_cells = grads[:5]
    d_c_n, d_cells = (d_c_n, d_cells) if a.c_0 is not None else (None, None)
    none = (None,) * (len(Arguments._fields) - GRADIENTS)
    second = torch.is_grad_enabled()
    batched = any(
        g is not None and torch._C._functorch.is_legacy_batchedtensor(g) for g in grads[:5]
    )
    if second or batched or d_gates is not None or d_cells is not None or transformed():
        return (
            *_by_reference(a, (d_output, d_h_n, d_c_n, d_gates, d_cells), create_graph=second),
            *none,
        )
    need_x = ctx.needs_input_grad[0]
    if traced(d_output, d_h_n, d_c_n, *saved):
        present = torch.ops.memorycell.recurrence_backward(
            *a, *_filled(a.x, results), d_output, d_h_n, d_c_n, need_x
        )
        found = [
            g if v is not None and (need_x or k) else None
            for k, (v, g) in enumerate(zip(a, present, strict=False))
        ]
    else:
        found = passes.backward(a, _present(a, results), d_output, d_h_n, d_c_n, need_x)
    return *found, *none


torch.library.register_autograd(
    "memorycell::recurrence",
    _gradients,
    setup_context=lambda ctx, inputs, output: _save(ctx, inputs, output),
    lib=_library,
)


def _by_reference(a: Arguments, grads: tuple[Any, ...], *, create_graph: bool) -> list[Any]:
    """The gradients of the first eleven arguments by the reference loop."""
    d_output, d_h_n, d_c_n, d_gates, d_cells = grads
    with torch.enable_grad():
        # A tensor of its own for each argument, even where two are the same tensor (tied weights).
        # Without a graph to extend, the saved tensors' own histories must stay out of it.
        inputs = tuple(v if v is None else v.view_as(v) for v in a.differentiable)
        if not create_graph:
            inputs = tuple(v if v is None else v.detach().requires_grad_() for v in inputs)
        a = Arguments(*inputs, *a[GRADIENTS:])  # type: ignore[arg-type]
        x_part = a.x if a.weight_ih is None else F.linear(a.x, a.weight_ih, a.bias)
        params = {
            "weight_hh": a.weight_hh,
            **{name: getattr(a, name) for name in USED.get(a.cell, ())},
        }
        inside = reference.inside_lengths(a.lengths, a.sizes[1], a.x.device)
        masks = tuple(m for m in (a.mask_h, a.mask_c) if m is not None)
        call = Call(a.cell, a.reverse, (a.zone_h, a.zone_c), False, True, a.time_first)
        state = (a.h_0,) if a.c_0 is None else (a.h_0, a.c_0)
        output, final, trace = reference.loop(call, x_part, params, state, inside, a.border, masks)
        assert trace is not None
        pairs = [(output, d_output), (final[0], d_h_n)]
        pairs += [(final[1], d_c_n), (trace["c"], d_cells)] if a.c_0 is not None else []
        if d_gates is not None:
            pairs += [(trace[name], d_gates[:, :, k]) for k, name in enumerate(CELLS[a.cell].gates)]
        pairs = [(value, grad) for value, grad in pairs if grad is not None]
        wanted = [v for v in inputs if v is not None and v.requires_grad]
        found = iter(
            torch.autograd.grad(
                [value for value, _ in pairs],
                wanted,
                [grad for _, grad in pairs],
                create_graph=create_graph,
                allow_unused=True,
            )
        )
        return [next(found) if v is not None and v.requires_grad else None for v in inputs]
