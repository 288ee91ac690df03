"""The C++ engine as a backend: every cell, float32 state, products in float32 or bfloat16, with a
projection in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from memorycell.cells import CELLS, Tensors
from memorycell.ops import binding, scan
from memorycell.ops.arguments import Arguments, cell_parts
from memorycell.ops.binding import CELL_NUMBERS, CELL_VECTORS, SCANNED_CELLS, VECTORS
from memorycell.ops.call import Call, Inputs
from memorycell.ops.operator import is_traced, recurrence
from memorycell.ops.passes import forward
from memorycell.ops.reference import borders, valid_steps, zero_padding


def unsupported_reason(
    call: Call, *, device: str, dtype: torch.dtype, projected: bool
) -> str | None:
    """Why the engine cannot run this, or None."""
    cell = call.cell
    if binding.engine is None:
        return binding.missing
    if cell not in CELL_NUMBERS:
        return f"the native engine has no {cell} cell"
    if device != "cpu":
        return f"the native engine runs on the CPU, not on {device}"
    if dtype != torch.float32:
        return f"the native engine computes in float32, not in {str(dtype).removeprefix('torch.')}"
    if projected and cell == "layernorm":
        return "the native engine has no projection (proj_size) with layer normalisation"
    if cell in SCANNED_CELLS and any(call.zoneout):
        return f"the native engine has no zoneout for the {cell} cell"
    if cell in SCANNED_CELLS and is_traced():
        return f"the native engine has no operator for tracing the {cell} cell"
    return None


def run(call: Call, inputs: Inputs) -> tuple[Tensor, Tensors, dict[str, Tensor] | None]:
    """(output, final state, trace). Under autocast to bfloat16 products are in bfloat16, everything
    else in float32.
    """
    if call.cell in SCANNED_CELLS:
        return scan.run(call, inputs)
    if torch.is_autocast_enabled("cpu"):
        half = torch.get_autocast_dtype("cpu") == torch.bfloat16
        with torch.autocast("cpu", enabled=False):
            return _run(call, inputs, "bfloat16" if half else "float32")
    return _run(call, inputs, "float32")


def _run(
    call: Call, inputs: Inputs, precision: str
) -> tuple[Tensor, Tensors, dict[str, Tensor] | None]:
    x, params, state, lengths, reset, masks = inputs
    cell = CELLS[call.cell]
    for name, tensor in (*params.items(), *zip(cell.state, state, strict=True)):
        if tensor.device != x.device:  # PyTorch's own products accept one on "meta"
            raise RuntimeError(
                f"{name} is on {tensor.device}, the input on {x.device}: move the layer or the"
                " input"
            )
    x = zero_padding(x.float(), valid_steps(lengths, x.shape[call.time], x.device), call)
    weight_ih: Tensor | None = params["weight_ih"]
    weight_hh, h_0, bias = params["weight_hh"], state[0].float(), params["bias_ih"]
    c_0 = None
    if len(state) > 1:
        c_0 = (state[1] if len(state) == 2 else torch.cat(state[1:], -1)).float()
    border = borders(reset, call.reverse)
    added = None if bias.ndim == 0 else bias if call.cell == "gru" else bias + params["bias_hh"]
    keep = call.trace or (
        torch.is_grad_enabled() and any(v.requires_grad for v in (x, *params.values(), *state))
    )
    gain_ih = None
    if call.cell == "layernorm" and (keep or is_traced(x, *params.values())):
        # Its input is normalised before the recurrence, by PyTorch, which has the derivatives.
        x = cell.input_transform(_multiply(x, params["weight_ih"], precision), params)
        weight_ih = added = None
    elif call.cell == "layernorm":
        gain_ih, added = params["gain_ih"].contiguous(), bias if bias.ndim else None
    elif "weight_hr" in params:
        precision = "float32"
    vectors = {name: params[name] for name in CELL_VECTORS.get(call.cell, ())}
    vectors = {  # an absent bias is a scalar 0
        name: v if v.ndim else v.expand(len(weight_hh)) for name, v in vectors.items()
    }
    tensors = {
        "x": x,
        "weight_ih": weight_ih,
        "bias": added,
        "h_0": h_0,
        "c_0": c_0,
        "weight_hh": weight_hh,
        **{name: vectors.get(name) for name in VECTORS},
        "weight_hr": params.get("weight_hr"),
    }
    # The engine reads contiguous memory that is not a lazy negation. Visible to autograd: a second
    # derivative passes through here.
    contiguous: dict[str, Any]
    if torch.compiler.is_compiling():
        contiguous = {name: None if v is None else v.contiguous() for name, v in tensors.items()}
    else:
        contiguous = {
            name: v
            if v is None or (v.is_contiguous() and not v.is_neg())
            else v.contiguous().resolve_neg()
            for name, v in tensors.items()
        }
    mask_h, mask_c = (*masks, None, None)[:2]
    zone_h, zone_c = call.expected_zoneout
    arguments = Arguments(
        **contiguous,
        lengths=None if lengths is None else lengths.contiguous(),
        border=None if border is None else border.contiguous(),
        mask_h=mask_h,
        mask_c=mask_c,
        cell=call.cell,
        reverse=call.reverse,
        time_first=call.time_first,
        precision=precision,
        zone_h=zone_h,
        zone_c=zone_c,
        keep=keep,
    )
    results = recurrence(arguments) if gain_ih is None else forward(arguments, gain_ih)
    output, h_n = results.output, results.h_n
    trace = None
    if call.trace:
        assert results.gates is not None
        trace = {name: results.gates[:, :, k] for k, name in enumerate(cell.gates)} | {"h": output}
        if results.cells is not None:
            parts = cell_parts(results.cells, call.cell)
            trace |= dict(zip(cell.state[1:], parts, strict=True))
    return output, (h_n, *cell_parts(results.c_n, call.cell)), trace


def _multiply(x: Tensor, weight: Tensor, precision: str) -> Tensor:
    """The product x W^T, in float32 or bfloat16."""
    if precision == "float32":
        return F.linear(x, weight)
    return F.linear(x.bfloat16(), weight.bfloat16()).float()
