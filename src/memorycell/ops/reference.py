"""The plain loop over cells.py. Slow, short and right: every cell, every option."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memorycell.cells import CELLS, Params, Tensors
from memorycell.ops.call import Call, Inputs


def run(call: Call, given: Inputs) -> tuple[Tensor, Tensors, dict[str, Tensor] | None]:
    """(output, final state, trace)."""
    x, params, state, lengths, reset, masks = given
    cell = CELLS[call.cell]
    steps = x.shape[1]
    inside = None if lengths is None else torch.arange(steps, device=x.device) < lengths[:, None]
    if inside is not None:
        # Padding may hold anything, NaN too; the masks below stop its values but 0 · NaN would still reach the gradients.
        x = x.masked_fill(~inside[..., None], 0.0)
    x_part = cell.ahead(x @ params["weight_ih"].T, params)
    return loop(call, x_part, params, state, inside, reset, masks)


def loop(
    call: Call,
    x_part: Tensor,
    params: Params,
    state: Tensors,
    inside: Tensor | None,
    reset: Tensor | None,
    masks: Tensors,
) -> tuple[Tensor, Tensors, dict[str, Tensor] | None]:
    """The recurrence alone: x_part [B, T, G·H] as the cell's `ahead` leaves it, inside [B, T] bool (None: all of it)."""
    cell, steps = CELLS[call.cell], x_part.shape[1]
    border = borders(reset, call.reverse)
    x_parts = x_part.unbind(1)
    outputs: list[Tensor] = [x_parts[0]] * steps
    traces: list[Tensors] = [()] * steps
    for t in reversed(range(steps)) if call.reverse else range(steps):
        if border is not None:
            state = tuple(s.masked_fill(border[:, t, None], 0.0) for s in state)
        new, gates = cell.step(x_parts[t], state[0] @ params["weight_hh"].T, state, params)
        if "weight_hr" in params:
            new = (new[0] @ params["weight_hr"].T, *new[1:])
        if any(call.zoneout):
            keep: tuple[Any, ...] = tuple(mask[:, t] for mask in masks) if call.training else call.zoneout
            new = tuple(k * s + (1 - k) * n for k, s, n in zip(keep, state, new, strict=False))
        if inside is not None:
            now = inside[:, t, None]
            new = tuple(torch.where(now, n, s) for n, s in zip(new, state, strict=True))
            outputs[t] = new[0].masked_fill(~now, 0.0)
            traces[t] = tuple(value.masked_fill(~now, 0.0) for value in (*gates, *new)) if call.trace else ()
        else:
            outputs[t] = new[0]
            traces[t] = (*gates, *new)
        state = new
    trace = None
    if call.trace:
        names = (*cell.gates, *cell.state)
        trace = {name: torch.stack(values, 1) for name, values in zip(names, zip(*traces, strict=True), strict=True)}
    return torch.stack(outputs, 1), state, trace


def borders(reset: Tensor | None, reverse: bool) -> Tensor | None:
    """[B, T] bool: where the loop zeroes the state before a step. Going backwards the border before t lies after t - 1."""
    if reset is None or not reverse:
        return reset
    return torch.cat([reset[:, 1:], torch.zeros_like(reset[:, :1])], 1)
