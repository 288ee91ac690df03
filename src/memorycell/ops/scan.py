"""The engine's recurrence of cells whose gates do not read the state: elementwise, in float32, over
the products of the input, which are PyTorch's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from memorycell.cells import CELLS, Tensors
from memorycell.ops import reference
from memorycell.ops.binding import CELL_NUMBERS, address, allocate, engine
from memorycell.ops.call import Call, Inputs

MIN_VALUES_PER_THREAD = 100_000
"""Of x_part, that justify another thread."""


def run(call: Call, inputs: Inputs) -> tuple[Tensor, Tensors, dict[str, Tensor] | None]:
    """(output, final state, trace)."""
    x, params, (h_0,), lengths, reset, _ = inputs
    valid = reference.valid_steps(lengths, x.shape[call.time], x.device)
    bias = params["bias_ih"]
    x = reference.zero_padding(x, valid, call)
    x_part = F.linear(x, params["weight_ih"], bias if bias.ndim else None).float()
    border = reference.borders(reset, call.reverse)
    tensors = (
        x_part.contiguous().resolve_neg(),
        h_0.float().contiguous().resolve_neg(),
        None if lengths is None else lengths.contiguous(),
        None if border is None else border.contiguous(),
    )
    output, h_n, gates = _Scan.apply(*tensors, call)
    if not call.trace:
        return output, (h_n,), None
    names = CELLS[call.cell].gates
    return output, (h_n,), {n: gates[:, :, k] for k, n in enumerate(names)} | {"h": output}


class _Scan(torch.autograd.Function):
    """(output, h_n, gates) from (x_part, h_0, lengths, border, call); gates [.., .., G, H] for a
    trace, else empty.
    """

    @staticmethod
    def forward(ctx: Any, *values: Any) -> tuple[Tensor, Tensor, Tensor]:
        x_part, h_0, lengths, border, call = values
        hidden = h_0.shape[1]
        shape = x_part.shape[:2]
        output, h_n = allocate(x_part, *shape, hidden), torch.empty_like(h_0)
        kept = len(CELLS[call.cell].gates)
        gates = allocate(x_part, *(shape if call.trace else (0, 0)), kept, hidden)
        addresses = {
            "output": output.data_ptr(),
            "h_n": h_n.data_ptr(),
            "gates": gates.data_ptr() if call.trace else 0,
        }
        engine.scan(**_options(call, x_part, h_0, lengths, border), **(_ABSENT | addresses))
        # A clone, because user code may change the output in place.
        ctx.save_for_backward(x_part, h_0, lengths, border, output)
        ctx.call = call
        ctx.set_materialize_grads(False)
        return output.clone() if ctx.needs_input_grad[0] else output, h_n, gates

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        x_part, h_0, lengths, border, output = ctx.saved_tensors
        d_output, d_h_n, d_gates = grads
        if torch.is_grad_enabled() or d_gates is not None:
            return *_by_reference(ctx.call, ctx.saved_tensors[:4], grads), None, None, None
        d_output = torch.zeros_like(output) if d_output is None else d_output
        d_h_n = torch.zeros_like(h_0) if d_h_n is None else d_h_n
        d_output, d_h_n = (v.resolve_neg().contiguous() for v in (d_output, d_h_n))
        d_x_part, d_h_0 = torch.empty_like(x_part), torch.empty_like(h_0)
        addresses = {
            "output": output.data_ptr(),
            "d_output": address("gradient of output", d_output, *output.shape),
            "d_h_n": address("gradient of h_n", d_h_n, *h_0.shape),
            "d_x_part": d_x_part.data_ptr(),
            "d_h_0": d_h_0.data_ptr(),
        }
        engine.scan(**_options(ctx.call, x_part, h_0, lengths, border), **(_ABSENT | addresses))
        return d_x_part, d_h_0, None, None, None


_ABSENT = dict.fromkeys(("output", "h_n", "gates", "d_output", "d_h_n", "d_x_part", "d_h_0"), 0)


def _options(
    call: Call, x_part: Tensor, h_0: Tensor, lengths: Tensor | None, border: Tensor | None
) -> dict[str, Any]:
    """The engine's arguments common to both passes."""
    batch, steps = x_part.shape[1 - call.time], x_part.shape[call.time]
    hidden = h_0.shape[1]
    columns = CELLS[call.cell].num_rows(hidden)
    threads = min(torch.get_num_threads(), batch, x_part.numel() // MIN_VALUES_PER_THREAD)
    return {
        "cell": CELL_NUMBERS[call.cell],
        "reverse": call.reverse,
        "time_first": call.time_first,
        "batch": batch,
        "steps": steps,
        "hidden": hidden,
        "threads": max(1, threads),
        "x_part": address("x_part", x_part, *x_part.shape[:2], columns),
        "h_0": address("h_0", h_0, batch, hidden),
        "lengths": address("lengths", lengths, batch, dtype=torch.int64),
        "border": address("reset", border, batch, steps, dtype=torch.bool),
    }


def _by_reference(call: Call, saved: Any, grads: Any) -> tuple[Tensor | None, ...]:
    """The gradients of x_part and h_0 by the reference loop, for second derivatives and gradients
    of the gates.
    """
    x_part, h_0, lengths, border = saved
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        if not create_graph:
            x_part, h_0 = (v.detach().requires_grad_() for v in (x_part, h_0))
        inputs = x_part.view_as(x_part), h_0.view_as(h_0)
        valid = reference.valid_steps(lengths, x_part.shape[call.time], x_part.device)
        output, (h_n,), trace = reference.loop(call, inputs[0], {}, (inputs[1],), valid, border, ())
        values = [output, h_n]
        if trace is not None:
            values.append(torch.stack([trace[name] for name in CELLS[call.cell].gates], 2))
        pairs = [(v, g) for v, g in zip(values, grads, strict=False) if g is not None]
        required = [v for v in inputs if v.requires_grad]
        gradients = iter(
            torch.autograd.grad(
                [v for v, _ in pairs],
                required,
                [g for _, g in pairs],
                create_graph=create_graph,
                allow_unused=True,
            )
        )
        return tuple(next(gradients) if v.requires_grad else None for v in inputs)
