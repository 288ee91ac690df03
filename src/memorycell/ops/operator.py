"""The recurrence as a PyTorch operator that can be traced, with its shapes and its derivatives.

`recurrence(arguments)` runs the engine's forward pass (ops/passes.py) with autograd. Outside
tracing it does so directly. Under torch.compile, torch.export, FakeTensor or any other dispatch
mode it is the custom operator `torch.ops.memorycell.recurrence`, whose overhead is noticeable for a
single step. Both have the same derivatives: first derivatives by the engine's backward pass; second
derivatives, those of the gates, and batched ones by the reference loop, with the same numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memorycell.cells import CELLS
from memorycell.ops import passes, reference
from memorycell.ops.arguments import (
    GRADIENTS,
    Arguments,
    Results,
    cell_parts,
    cell_width,
    gates_kept,
)
from memorycell.ops.binding import CELL_VECTORS
from memorycell.ops.call import Call

TENSORS = Arguments._fields.index("cell")
"""The number of arguments that are tensors."""
PLAIN_TYPES = (Tensor, nn.Parameter)

_ARGUMENTS = (
    "Tensor x, Tensor? weight_ih, Tensor? bias, Tensor h_0, Tensor? c_0, Tensor weight_hh, Tensor?"
    " weight_ch, Tensor? bias_hh, Tensor? gain_hh, Tensor? gain_c, Tensor? bias_c, Tensor?"
    " weight_hr, Tensor? lengths, Tensor? border, Tensor? mask_h, Tensor? mask_c, str cell, bool"
    " reverse, bool time_first, str precision, float zone_h, float zone_c, bool keep"
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
    if is_traced(*a[:TENSORS]):
        return _empty_to_none(a, torch.ops.memorycell.recurrence(*a))
    if a.keep and torch.is_grad_enabled():
        return Results(*_Recurrence.apply(*a))
    return passes.forward(a)


def is_traced(*tensors: Any) -> bool:
    """Whether PyTorch must see every operator: compiling, exporting, or under a dispatch mode or a
    tensor subclass.
    """
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0:
        return True
    for v in tensors:  # noqa: SIM110  a generator would take twice the time
        if v is not None and type(v) not in PLAIN_TYPES:
            return True
    return False


def is_transformed() -> bool:
    """Whether a transform of torch.func or forward-mode differentiation is active; these run on the
    reference.
    """
    if torch.compiler.is_compiling():
        return False
    return (
        bool(torch._C._are_functorch_transforms_active())
        or torch.autograd.forward_ad._current_level >= 0
    )


# ---- the operator --------------------------------------------------------------------------------
#
# An operator returns tensors only: an empty tensor stands for None.


def _none_to_empty(like: Tensor, values: Any) -> tuple[Tensor, ...]:
    return tuple(like.new_empty(0) if value is None else value for value in values)


def _empty_to_none(a: Arguments, values: Any) -> Results:
    """The results of the operator, with None for the absent ones."""
    output, h_n, c_n, gates, cells, normalised, rstd = values
    has_cell, has_norm = a.c_0 is not None, a.keep and a.cell == "layernorm"
    return Results(
        output,
        h_n,
        c_n if has_cell else None,
        gates if a.keep else None,
        cells if a.keep and has_cell else None,
        normalised if has_norm else None,
        rstd if has_norm else None,
    )


@torch.library.impl("memorycell::recurrence", "cpu", lib=_library)
def _run(*values: Any) -> tuple[Tensor, ...]:
    a = Arguments(*values)
    return _none_to_empty(a.x, passes.forward(a))


@torch.library.register_fake("memorycell::recurrence", lib=_library)  # type: ignore[untyped-decorator]
def _shapes(*values: Any) -> tuple[Tensor, ...]:
    a = Arguments(*values)
    _, _, hidden, columns = a.sizes
    new = a.x.new_empty
    output, h_n = new(a.sequence_shape(a.h_size)), torch.empty_like(a.h_0)
    results: list[Tensor | None] = [
        output,
        h_n,
        None if a.c_0 is None else torch.empty_like(a.c_0),
        None,
        None,
        None,
        None,
    ]
    if a.keep:
        results[3] = new(a.sequence_shape(gates_kept(a.cell), hidden))
        width = cell_width(a.cell) * hidden
        results[4] = None if a.c_0 is None else new(a.sequence_shape(width))
        if a.cell == "layernorm":
            results[5:] = new(a.sequence_shape(columns)), new(a.sequence_shape())
    return _none_to_empty(a.x, results)


@torch.library.impl("memorycell::recurrence_backward", "cpu", lib=_library)
def _run_backward(*values: Any) -> tuple[Tensor, ...]:
    a, results, (d_output, d_h_n, d_c_n, need_x) = _split_values(values)
    return _none_to_empty(a.x, passes.backward(a, results, d_output, d_h_n, d_c_n, need_x))


@torch.library.register_fake("memorycell::recurrence_backward", lib=_library)  # type: ignore[untyped-decorator]
def _backward_shapes(*values: Any) -> tuple[Tensor, ...]:
    a, _, (*_, need_x) = _split_values(values)
    grads = [None if v is None else torch.empty_like(v) for v in a.differentiable]
    return _none_to_empty(a.x, grads if need_x or a.weight_ih is None else [None, *grads[1:]])


def _split_values(values: Any) -> tuple[Arguments, Results, Any]:
    count = len(Arguments._fields)
    a = Arguments(*values[:count])
    return (
        a,
        _empty_to_none(a, values[count : count + len(Results._fields)]),
        values[count + len(Results._fields) :],
    )


# ---- derivatives ---------------------------------------------------------------------------------


class _Recurrence(torch.autograd.Function):
    """The recurrence outside tracing."""

    @staticmethod
    def forward(ctx: Any, *values: Any) -> Any:
        results = passes.forward(Arguments(*values))
        _save(ctx, values, results)
        if results.c_n is None:  # user code modifies the output of torch's GRU and RNN in place
            return results.output.clone(), *results[1:]
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _gradients(ctx, *grads)


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    # The final states are not saved: user code may change them in place.
    result, _, _, *rest = output
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
    if second or batched or d_gates is not None or d_cells is not None or is_transformed():
        return (
            *_by_reference(a, (d_output, d_h_n, d_c_n, d_gates, d_cells), create_graph=second),
            *none,
        )
    need_x = ctx.needs_input_grad[0]
    if is_traced(d_output, d_h_n, d_c_n, *saved):
        empty_or_grads = torch.ops.memorycell.recurrence_backward(
            *a, *_none_to_empty(a.x, results), d_output, d_h_n, d_c_n, need_x
        )
        gradients = [
            g if v is not None and (need_x or k) else None
            for k, (v, g) in enumerate(zip(a, empty_or_grads, strict=False))
        ]
    else:
        gradients = passes.backward(a, _empty_to_none(a, results), d_output, d_h_n, d_c_n, need_x)
    return *gradients, *none


torch.library.register_autograd(
    "memorycell::recurrence",
    _gradients,
    setup_context=lambda ctx, inputs, output: _save(ctx, inputs, output),
    lib=_library,
)


def _by_reference(a: Arguments, grads: tuple[Any, ...], *, create_graph: bool) -> list[Any]:
    """The gradients of the first twelve arguments by the reference loop."""
    d_output, d_h_n, d_c_n, d_gates, d_cells = grads
    with torch.enable_grad():
        # A separate tensor for each argument, even if two are the same tensor (tied weights).
        # Unless the graph is extended, the histories of the saved tensors must not take part.
        inputs = tuple(v if v is None else v.view_as(v) for v in a.differentiable)
        if not create_graph:
            inputs = tuple(v if v is None else v.detach().requires_grad_() for v in inputs)
        a = Arguments(*inputs, *a[GRADIENTS:])  # type: ignore[arg-type]
        x_part = a.x if a.weight_ih is None else F.linear(a.x, a.weight_ih, a.bias)
        params = {
            "weight_hh": a.weight_hh,
            **{name: getattr(a, name) for name in CELL_VECTORS.get(a.cell, ())},
            **({} if a.weight_hr is None else {"weight_hr": a.weight_hr}),
        }
        valid = reference.valid_steps(a.lengths, a.sizes[1], a.x.device)
        masks = tuple(m for m in (a.mask_h, a.mask_c) if m is not None)
        call = Call(a.cell, a.reverse, (a.zone_h, a.zone_c), False, True, a.time_first)
        names = CELLS[a.cell].state
        state = (a.h_0, *cell_parts(a.c_0, a.cell))
        output, final, trace = reference.loop(call, x_part, params, state, valid, a.border, masks)
        assert trace is not None
        pairs = [(output, d_output), (final[0], d_h_n)]
        if a.c_0 is not None:
            cells = torch.cat([trace[name] for name in names[1:]], -1)
            pairs += [(torch.cat(final[1:], -1), d_c_n), (cells, d_cells)]
        if d_gates is not None:
            pairs += [(trace[name], d_gates[:, :, k]) for k, name in enumerate(CELLS[a.cell].gates)]
        pairs = [(value, grad) for value, grad in pairs if grad is not None]
        required = [v for v in inputs if v is not None and v.requires_grad]
        gradients = iter(
            torch.autograd.grad(
                [value for value, _ in pairs],
                required,
                [grad for _, grad in pairs],
                create_graph=create_graph,
                allow_unused=True,
            )
        )
        return [next(gradients) if v is not None and v.requires_grad else None for v in inputs]
