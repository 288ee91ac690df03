"""The plain loop over cells.py: every cell, every option, no optimisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memorycell.cells import CELLS, Params, Tensors
from memorycell.ops.call import Call, Inputs


def run(call: Call, inputs: Inputs) -> tuple[Tensor, Tensors, dict[str, Tensor] | None]:
    """(output, final state, trace)."""
    x, params, state, lengths, reset, masks = inputs
    cell = CELLS[call.cell]
    valid = valid_steps(lengths, x.shape[call.time], x.device)
    x = zero_padding(x, valid, call)
    x_part = cell.input_part(x, params)
    return loop(call, x_part, params, state, valid, borders(reset, call.reverse), masks)


def loop(
    call: Call,
    x_part: Tensor,
    params: Params,
    state: Tensors,
    valid: Tensor | None,
    border: Tensor | None,
    masks: Tensors,
) -> tuple[Tensor, Tensors, dict[str, Tensor] | None]:
    """The recurrence alone.

    x_part     the cell's `input_part`, laid out as `call` says
    valid      [B, T] bool: within the row's length; None if every step is
    border   [B, T] bool: the state is zeroed before that step (see `borders`)
    masks      zoneout's masks, or () for its expectation
    """
    cell, time = CELLS[call.cell], call.time
    x_parts = x_part.unbind(time)
    steps = len(x_parts)
    outputs: list[Tensor] = [x_parts[0]] * steps
    traces: list[Tensors] = [()] * steps
    for t in reversed(range(steps)) if call.reverse else range(steps):
        if border is not None:
            state = tuple(s.masked_fill(border[:, t, None], 0.0) for s in state)
        new, gates = cell.advance(x_parts[t], state, params)
        if "weight_hr" in params:
            new = (new[0] @ params["weight_hr"].T, *new[1:])
        if masks or any(call.expected_zoneout):
            keep: tuple[Any, ...] = (
                tuple(mask[:, t] for mask in masks) if masks else call.expected_zoneout
            )
            new = tuple(k * s + (1 - k) * n for k, s, n in zip(keep, state, new, strict=False))
        if valid is not None:
            now = valid[:, t, None]
            new = tuple(torch.where(now, n, s) for n, s in zip(new, state, strict=True))
            outputs[t] = new[0].masked_fill(~now, 0.0)
            traces[t] = (
                tuple(value.masked_fill(~now, 0.0) for value in (*gates, *new))
                if call.trace
                else ()
            )
        else:
            outputs[t] = new[0]
            traces[t] = (*gates, *new)
        state = new
    trace = None
    if call.trace:
        names = (*cell.gates, *cell.state)
        trace = {
            name: torch.stack(values, time)
            for name, values in zip(names, zip(*traces, strict=True), strict=True)
        }
    # Copies: callers may change the final state in place, and the output of some cells is computed
    # from it.
    return torch.stack(outputs, time), tuple(s.clone() for s in state), trace


def valid_steps(lengths: Tensor | None, steps: int, device: torch.device) -> Tensor | None:
    """[B, T] bool: the steps within their row's length."""
    return None if lengths is None else torch.arange(steps, device=device) < lengths[:, None]


def zero_padding(x: Tensor, valid: Tensor | None, call: Call) -> Tensor:
    """Set x to zero in the padding, which may hold anything: 0 · NaN would reach the gradients."""
    if valid is None:
        return x
    return x.masked_fill(~(valid.T if call.time_first else valid)[..., None], 0.0)


def borders(reset: Tensor | None, reverse: bool) -> Tensor | None:
    """[B, T] bool: the steps before which the loop zeroes the state. In the reverse direction, a
    reset at t zeroes the state before step t - 1.
    """
    if reset is None or not reverse:
        return reset
    return torch.cat([reset[:, 1:], torch.zeros_like(reset[:, :1])], 1)
