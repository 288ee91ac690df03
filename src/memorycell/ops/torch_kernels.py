"""PyTorch's own kernels, called without a module: oneDNN on the CPU, cuDNN on CUDA; and the cells
that its operators compute for all steps at once (ops/parallel.py).

Plain calls use torch.nn's own forward (see nn/recurrent.py); this module adds what it lacks. The
kernels support neither `reset` nor, in the reverse direction, `lengths`. Both are built from
full-sequence calls: a sequence with resets is split at every step where any row resets, and a
padded row is reversed within its length.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from memorycell.cells import Params, Tensors
from memorycell.ops import parallel
from memorycell.ops.call import Call, Inputs
from memorycell.ops.reference import valid_steps, zero_padding

KERNELS: dict[str, Any] = {
    "lstm": torch._VF.lstm,
    "gru": torch._VF.gru,
    "rnn": torch._VF.rnn_tanh,
    "rnn_relu": torch._VF.rnn_relu,
}


def unsupported_reason(call: Call, *, lengths: bool, reset: bool) -> str | None:
    """Why PyTorch's kernels cannot run this call, or None."""
    if call.cell in parallel.FORMS:
        return parallel.unsupported_reason(call)
    if call.cell not in KERNELS:
        return f"PyTorch has no kernel for the {call.cell} cell"
    if call.trace:
        return "PyTorch's kernels do not return the gates (trace=True)"
    if any(call.zoneout):
        return "PyTorch's kernels have no zoneout"
    if lengths and reset:
        return "PyTorch's kernels cannot combine lengths and reset"
    return None


def run(call: Call, inputs: Inputs) -> tuple[Tensor, Tensors, dict[str, Tensor] | None]:
    """(output, final state, trace, of the cells that run for all steps at once)."""
    x, params, state, lengths, reset, _ = inputs
    x = x.transpose(0, 1) if call.time_first else x
    trace = None
    order = None
    if call.reverse:
        order = _reversal(x.shape[1], lengths, x.device)
        x = _reorder(x, order)
        if reset is not None:
            border = torch.cat([reset[:, 1:], torch.zeros_like(reset[:, :1])], 1)
            reset = _reorder(border[..., None], order)[..., 0]
    if call.cell in parallel.FORMS:
        valid = valid_steps(lengths, x.shape[1], x.device)
        x = zero_padding(x, valid, replace(call, time_first=False))
        output, state, trace = parallel.run(call, x, params, state, valid, reset)
    elif reset is not None:
        output, state = _run_segments(call, x, params, state, reset)
    else:
        output, state = _run_plain(call, x, params, state, lengths)

    def laid_out(sequence: Tensor) -> Tensor:
        sequence = sequence if order is None else _reorder(sequence, order)
        return sequence.transpose(0, 1) if call.time_first else sequence

    named = None if trace is None else {name: laid_out(value) for name, value in trace.items()}
    return laid_out(output), state, named


def _run_plain(
    call: Call, x: Tensor, params: Params, state: Tensors, lengths: Tensor | None
) -> tuple[Tensor, Tensors]:
    names = ["weight_ih", "weight_hh"]
    has_bias = params["bias_ih"].ndim > 0
    names += ["bias_ih", "bias_hh"] if has_bias else []
    names += ["weight_hr"] if "weight_hr" in params else []
    weights = [params[name] for name in names]
    hidden = tuple(s[None] for s in state)
    hx = hidden if call.cell == "lstm" else hidden[0]
    kernel = KERNELS[call.cell]
    # num_layers, dropout, training, bidirectional: one layer, one direction. `training` makes
    # cuDNN store what its backward pass needs.
    rest = (1, 0.0, torch.is_grad_enabled(), False)
    if lengths is None:
        output, *final = kernel(x, hx, weights, has_bias, *rest, True)
    else:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        by_length, original = packed.sorted_indices, packed.unsorted_indices
        assert by_length is not None
        assert original is not None
        sorted_hx = tuple(s.index_select(1, by_length) for s in hidden)
        data, *final = kernel(
            packed.data,
            packed.batch_sizes,
            sorted_hx if call.cell == "lstm" else sorted_hx[0],
            weights,
            has_bias,
            *rest,
        )
        output, _ = pad_packed_sequence(
            packed._replace(data=data), batch_first=True, total_length=x.shape[1]
        )
        final = [s.index_select(1, original) for s in final]
    return output, tuple(s[0] for s in final)


def _run_segments(
    call: Call, x: Tensor, params: Params, state: Tensors, reset: Tensor
) -> tuple[Tensor, Tensors]:
    """Split the sequence where any row resets; every segment is one call."""
    starts = sorted({0, *reset.any(0).nonzero()[:, 0].tolist()})
    outputs = []
    for start, stop in zip(starts, [*starts[1:], x.shape[1]], strict=True):
        state = tuple(s.masked_fill(reset[:, start, None], 0.0) for s in state)
        output, state = _run_plain(call, x[:, start:stop], params, state, None)
        outputs.append(output)
    return torch.cat(outputs, 1), state


def _reversal(steps: int, lengths: Tensor | None, device: torch.device) -> Tensor:
    """[B or 1, T] int64: the index that reverses each row within its length and does not move
    padding.
    """
    forward = torch.arange(steps, device=device)[None]
    if lengths is None:
        return forward.flip(1)
    last = lengths[:, None] - 1
    return torch.where(forward <= last, last - forward, forward)


def _reorder(x: Tensor, index: Tensor) -> Tensor:
    if index.shape[0] < x.shape[0]:  # the same for every row: without lengths
        return x.flip(1)
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))
