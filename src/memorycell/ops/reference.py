"""The plain loop over cells.py. Slow, short and right: every cell, every option."""

from __future__ import annotations

import torch
from torch import Tensor

from memorycell.cells import CELLS, Params, Tensors
from memorycell.ops.call import Call


def run(
    call: Call, x: Tensor, params: Params, state: Tensors, lengths: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensors, dict[str, Tensor] | None]:
    """See `memorycell.ops.recurrence` for shapes."""
    cell = CELLS[call.cell]
    steps = x.shape[1]
    inside = None if lengths is None else torch.arange(steps, device=x.device) < lengths[:, None]
    if inside is not None:
        # Padding may hold anything, NaN too; the masks below stop its values but 0 · NaN would still reach the gradients.
        x = x.masked_fill(~inside[..., None], 0.0)
    border = _borders(reset, call.reverse)
    x_parts = (x @ params["weight_ih"].T).unbind(1)
    outputs: list[Tensor] = [x_parts[0]] * steps
    traces: list[Tensors] = [()] * steps
    for t in reversed(range(steps)) if call.reverse else range(steps):
        if border is not None:
            state = tuple(s.masked_fill(border[:, t, None], 0.0) for s in state)
        new, gates = cell.step(x_parts[t], state[0] @ params["weight_hh"].T, state, params)
        if "weight_hr" in params:
            new = (new[0] @ params["weight_hr"].T, *new[1:])
        if any(call.zoneout):
            new = tuple(_zoneout(s, n, p, call.training) for s, n, p in zip(state, new, call.zoneout, strict=False))
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


def _borders(reset: Tensor | None, reverse: bool) -> Tensor | None:
    """[B, T] bool: where the loop zeroes the state before a step. Going backwards the border before t lies after t - 1."""
    if reset is None or not reverse:
        return reset
    return torch.cat([reset[:, 1:], torch.zeros_like(reset[:, :1])], 1)


def _zoneout(old: Tensor, new: Tensor, probability: float, training: bool) -> Tensor:
    """Keep a unit's old value with the given probability; while evaluating, the expectation of that."""
    if not training:
        return probability * old + (1 - probability) * new
    keep = torch.rand_like(new) < probability
    return torch.where(keep, old, new)
