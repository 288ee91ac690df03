"""The C++ engine as a backend: every cell, float32 state, products in float32 or bfloat16.

With a projection h = W_hr m, the recurrence runs over m: W_hh h_{t-1} = (W_hh W_hr) m_{t-1}. Only
h_0 has no m.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from memorycell.cells import CELLS, Tensors
from memorycell.ops import binding
from memorycell.ops.arguments import Arguments
from memorycell.ops.binding import CELL_NUMBERS, CELL_VECTORS, VECTORS
from memorycell.ops.call import Call, Inputs
from memorycell.ops.operator import recurrence
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
    if projected and (cell == "layernorm" or any(call.zoneout)):
        return "the native engine has no projection (proj_size) with layer normalisation or zoneout"
    return None


def run(call: Call, inputs: Inputs) -> tuple[Tensor, Tensors, dict[str, Tensor] | None]:
    """(output, final state, trace). Under autocast to bfloat16 products are in bfloat16, everything
    else in float32.
    """
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
    c_0 = state[1].float() if len(state) > 1 else None
    border = borders(reset, call.reverse)
    added = None if bias.ndim == 0 else bias if call.cell == "gru" else bias + params["bias_hh"]
    if call.cell == "layernorm":  # its input is normalised before the recurrence
        x = cell.input_transform(_multiply(x, params["weight_ih"], precision), params)
        weight_ih = added = None
    elif "weight_hr" in params:
        x_part = _multiply(x, params["weight_ih"], precision)
        x_part = x_part if added is None else x_part + added
        x = _add_first_product(call, x_part, h_0 @ weight_hh.T, lengths, border)
        weight_ih = added = None
        weight_hh = weight_hh @ params["weight_hr"]
        h_0 = h_0.new_zeros(len(h_0), params["weight_hr"].shape[1])
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
    }
    grads = torch.is_grad_enabled() and any(
        v is not None and v.requires_grad for v in tensors.values()
    )
    contiguous: dict[str, Any]  # visible to autograd: a second derivative passes through here
    if torch.compiler.is_compiling():
        contiguous = {name: None if v is None else v.contiguous() for name, v in tensors.items()}
    else:
        contiguous = {
            name: v if v is None or _is_readable(v) else v.contiguous().resolve_neg()
            for name, v in tensors.items()
        }
    mask_h, mask_c = (*masks, None, None)[:2]
    zone_h, zone_c = call.expected_zoneout
    results = recurrence(
        Arguments(
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
            keep=grads or call.trace,
        )
    )
    output, h_n = results.output, results.h_n
    if "weight_hr" in params:
        output, h_n = F.linear(output, params["weight_hr"]), F.linear(h_n, params["weight_hr"])
    trace = None
    if call.trace:
        assert results.gates is not None
        trace = {name: results.gates[:, :, k] for k, name in enumerate(cell.gates)} | {"h": output}
        if results.cells is not None:
            trace["c"] = results.cells
    return output, (h_n,) if results.c_n is None else (h_n, results.c_n), trace


def _is_readable(tensor: Tensor) -> bool:
    """Whether the engine can read the tensor's memory: contiguous and not a lazy negation."""
    return tensor.is_contiguous() and not tensor.is_neg()


def _multiply(x: Tensor, weight: Tensor, precision: str) -> Tensor:
    """The product x W^T, in float32 or bfloat16."""
    if precision == "float32":
        return F.linear(x, weight)
    return F.linear(x.bfloat16(), weight.bfloat16()).float()


def _add_first_product(
    call: Call, x_part: Tensor, product: Tensor, lengths: Tensor | None, border: Tensor | None
) -> Tensor:
    """x_part with the product W_hh h_0 added at each row's first step, so that the recurrence
    starts from zero.
    """
    time = call.time
    batch, steps = x_part.shape[1 - time], x_part.shape[time]
    first = torch.zeros(batch, dtype=torch.int64)
    if call.reverse:
        first = first + steps - 1 if lengths is None else lengths - 1
    if border is not None:
        product = product.masked_fill(border.gather(1, first[:, None]), 0.0)
    index = first[:, None].expand(product.shape).unsqueeze(time)
    return x_part.scatter_add(time, index, product.unsqueeze(time))
