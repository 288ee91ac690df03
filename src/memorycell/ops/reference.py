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
    inside = inside_lengths(lengths, x.shape[call.time], x.device)
    x = without_padding(x, inside, call)
    x_part = cell.ahead(x @ params["weight_ih"].T, params)
    return loop(call, x_part, params, state, inside, borders(reset, call.reverse), masks)


def loop(
    call: Call,
    x_part: Tensor,
    params: Params,
    state: Tensors,
    inside: Tensor | None,
    border: Tensor | None,
    masks: Tensors,
) -> tuple[Tensor, Tensors, dict[str, Tensor] | None]:
    """The recurrence alone.

    x_part   as the cell's `ahead` leaves it, laid out as `call` says
    inside   [B, T] bool: within the row's length, or None for all of it
    border   [B, T] bool: the state is zeroed before that step (see `borders`)
    masks    zoneout's masks, or () for its expectation
    """
    cell, time = CELLS[call.cell], call.time
    x_parts = x_part.unbind(time)
    steps = len(x_parts)
    outputs: list[Tensor] = [x_parts[0]] * steps
    traces: list[Tensors] = [()] * steps
    for t in reversed(range(steps)) if call.reverse else range(steps):
        if border is not None:
            state = tuple(s.masked_fill(border[:, t, None], 0.0) for s in state)
        new, gates = cell.step(x_parts[t], state[0] @ params["weight_hh"].T, state, params)
        if "weight_hr" in params:
            new = (new[0] @ params["weight_hr"].T, *new[1:])
        if masks or any(call.shares):
            keep: tuple[Any, ...] = tuple(mask[:, t] for mask in masks) if masks else call.shares
            new = tuple(k * s + (1 - k) * n for k, s, n in zip(keep, state, new, strict=False))
        if inside is not None:
            now = inside[:, t, None]
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
    return torch.stack(outputs, time), state, trace


def inside_lengths(lengths: Tensor | None, steps: int, device: torch.device) -> Tensor | None:
    """[B, T] bool: which steps lie within their row's length."""
    return None if lengths is None else torch.arange(steps, device=device) < lengths[:, None]


def without_padding(x: Tensor, inside: Tensor | None, call: Call) -> Tensor:
    """Put zeros past the lengths of x: padding may hold anything, and 0 · NaN would still reach the
    gradients.
    """
    if inside is None:
        return x
    return x.masked_fill(~(inside.T if call.time_first else inside)[..., None], 0.0)


def borders(reset: Tensor | None, reverse: bool) -> Tensor | None:
    """[B, T] bool: where the loop zeroes the state before a step. Going backwards the border before
    t lies after t - 1.
    """
    if reset is None or not reverse:
        return reset
    return torch.cat([reset[:, 1:], torch.zeros_like(reset[:, :1])], 1)
