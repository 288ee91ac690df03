"""Recurrences computed for all steps at once: cells whose gates do not read the state.

    minlstm, mingru   h_t = keep_t ⊙ h_{t-1} + new_t: a scan in log-space (Feng et al. 2024,
                      arXiv:2410.01201, appendix B.2) in ⌈log2 T⌉ rounds (Hillis & Steele 1986,
                      "Data parallel algorithms"), where nothing is subtracted: a product of many
                      small gates loses no precision and a reset is ln keep = -∞
    mlstm             the parallel form of Beck et al. (2024), arXiv:2405.04517, appendix A.3, in
                      chunks of `CHUNK` steps, with the recurrent form between chunks

The same numbers as the loop over the cell's equation, up to rounding; in PyTorch's own operators,
for every device and type.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from memorycell.cells import CELLS, Params, Tensors
from memorycell.cells_recent import exp_of_minus, positive
from memorycell.ops.call import Call

CHUNK = 64
"""Steps of the mLSTM that are computed together: the work of a step grows with it, the number of
operators falls.
"""
Gates = dict[str, Tensor]


def unsupported_reason(call: Call) -> str | None:
    """Why the call cannot be computed for all steps at once, or None."""
    if call.cell not in FORMS:
        return f"the steps of the {call.cell} cell depend on each other"
    if any(call.zoneout):
        return "with zoneout the steps depend on each other"
    if call.trace and call.cell == "mlstm":
        return "the parallel form of the mlstm cell has no state at every step (trace=True)"
    return None


def run(
    call: Call,
    x: Tensor,
    params: Params,
    state: Tensors,
    valid: Tensor | None,
    reset: Tensor | None,
) -> tuple[Tensor, Tensors, Gates | None]:
    """(output, final state, trace) in the forward direction; sequences are batch first. The final
    state is a copy: callers may change it in place.

    valid   [B, T] bool: within the row's length, in whose padding x is zero; None if every step is
    reset   [B, T] bool: the state is zeroed before that step
    """
    x_part = CELLS[call.cell].input_part(x, params)
    output, final, gates = FORMS[call.cell](x_part, state, valid, reset)
    final = tuple(s.clone() for s in final)
    if valid is None:
        return output, final, {**gates, "h": output} if call.trace else None
    output = output.masked_fill(~valid[..., None], 0.0)
    if len(final) == 1:
        last = valid.sum(1)[:, None, None] - 1
        final = (output.gather(1, last.expand(-1, 1, output.shape[2]))[:, 0],)
    trace = {name: gate.masked_fill(~valid[..., None], 0.0) for name, gate in gates.items()}
    return output, final, {**trace, "h": output} if call.trace else None


def _minlstm(
    x_part: Tensor, state: Tensors, valid: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensors, Gates]:
    pre_i, pre_f, pre_g = x_part.chunk(3, dim=-1)
    ratio = F.softplus(-pre_i) - F.softplus(-pre_f)
    log_i, log_f = -F.softplus(ratio), -F.softplus(-ratio)
    h = scan_log(log_f, log_i + log_positive(pre_g), state[0], reset)
    return h, (h[:, -1],), {"i": log_i.exp(), "f": log_f.exp(), "g": positive(pre_g)}


def _mingru(
    x_part: Tensor, state: Tensors, valid: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensors, Gates]:
    pre_z, pre_n = x_part.chunk(2, dim=-1)
    log_z = -F.softplus(-pre_z)
    h = scan_log(-F.softplus(pre_z), log_z + log_positive(pre_n), state[0], reset)
    return h, (h[:, -1],), {"z": log_z.exp(), "n": positive(pre_n)}


def log_positive(a: Tensor) -> Tensor:
    """The logarithm of s(a), with s(a) = a + 1/2 for a ≥ 0, else σ(a)."""
    return torch.where(a >= 0, torch.log(torch.relu(a) + 0.5), -F.softplus(-a))


def scan_log(log_keep: Tensor, log_new: Tensor, h_0: Tensor, reset: Tensor | None) -> Tensor:
    """h_t = keep_t ⊙ h_{t-1} + new_t for all t: [B, T, H] from logarithms [B, T, H].

    In each round an element absorbs the one `distance` before it, which has absorbed as many.
    """
    if reset is not None:
        log_keep = log_keep.masked_fill(reset[..., None], -math.inf)
    steps, distance = log_keep.shape[1], 1
    while distance < steps:
        absorbed = log_keep[:, distance:] + log_new[:, :-distance]
        later = torch.logaddexp(absorbed, log_new[:, distance:])
        kept = log_keep[:, distance:] + log_keep[:, :-distance]
        log_new = torch.cat([log_new[:, :distance], later], 1)
        log_keep = torch.cat([log_keep[:, :distance], kept], 1)
        distance *= 2
    return log_new.exp() + log_keep.exp() * h_0[:, None]


def _mlstm(
    x_part: Tensor, state: Tensors, valid: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensors, Gates]:
    _, c, n, m = state
    heads, hidden = m.shape[-1], n.shape[-1]
    size = hidden // heads
    q, k, v, pre_o, log_i, pre_f = x_part.split([hidden] * 4 + [heads] * 2, dim=-1)
    q, k, v = (part.unflatten(-1, (heads, size)).transpose(1, 2) for part in (q, k, v))
    k = k / math.sqrt(size)
    log_f = F.logsigmoid(pre_f)
    if valid is not None:  # the state does not change
        log_i = log_i.masked_fill(~valid[..., None], -math.inf)
        log_f = log_f.masked_fill(~valid[..., None], 0.0)
    log_i, log_f = log_i.transpose(1, 2), log_f.transpose(1, 2)  # [B, heads, T]
    segment = None if reset is None else reset.cumsum(1)[:, None]
    memory: Tensors = c.unflatten(-1, (heads, size, size)), n.unflatten(-1, (heads, size)), m
    outputs = []
    for t in range(0, x_part.shape[1], CHUNK):
        now = slice(t, t + CHUNK)
        here = None
        if segment is not None:
            before = segment[..., t - 1 : t] if t else torch.zeros_like(segment[..., :1])
            here = segment[..., now] - before
        q_t, k_t, v_t = q[:, :, now], k[:, :, now], v[:, :, now]
        read, memory = _mlstm_chunk(q_t, k_t, v_t, log_i[..., now], log_f[..., now], memory, here)
        outputs.append(read)
    h = torch.cat(outputs, 2).transpose(1, 2).flatten(-2) * torch.sigmoid(pre_o)
    if valid is None:
        last = h[:, -1]
    else:
        at = (valid.sum(1) - 1)[:, None, None].expand(-1, 1, hidden)
        last = h.gather(1, at)[:, 0]
    c, n, m = memory
    return h, (last, c.flatten(-3), n.flatten(-2), m), {}


def _mlstm_chunk(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_i: Tensor,
    log_f: Tensor,
    memory: Tensors,
    segment: Tensor | None,
) -> tuple[Tensor, Tensors]:
    """(C_t q_t / max(|n_tᵀ q_t|, exp(-m_t)) of every step, memory after the last).

    q, k, v     [B, heads, T, d]; log_i, log_f [B, heads, T]
    memory      C [B, heads, d, d], n [B, heads, d], m [B, heads] before the chunk
    segment     [B, 1, T]: the number of resets in the chunk up to each step; steps of different
                segments do not see each other, and those from 1 on do not see the memory
    """
    C, n, m = memory
    steps = q.shape[2]
    total = log_f.cumsum(-1)
    # Row t, column s: the logarithm of what is left of step s at step t.
    decay = total[..., :, None] - total[..., None, :] + log_i[..., None, :]
    hidden = torch.ones(steps, steps, dtype=torch.bool, device=q.device).triu(1)
    of_memory = total + m[..., None]
    if segment is not None:
        hidden = hidden | (segment[..., :, None] != segment[..., None, :])
        of_memory = torch.where(segment > 0, _since_reset(log_f, total, segment), of_memory)
    decay = decay.masked_fill(hidden, -math.inf)
    m_t = torch.maximum(of_memory, decay.amax(-1))
    weights = torch.exp(decay - m_t[..., None])
    from_memory = torch.exp(of_memory - m_t)
    if segment is not None:
        from_memory = from_memory.masked_fill(segment > 0, 0.0)
    scores = weights * (q @ k.transpose(-1, -2))
    read = scores @ v + from_memory[..., None] * (q @ C.transpose(-1, -2))
    keys = scores.sum(-1) + from_memory * (q @ n[..., None])[..., 0]
    read = read / torch.maximum(keys.abs(), exp_of_minus(m_t))[..., None]
    last = weights[..., -1, :]
    C = from_memory[..., -1, None, None] * C + (last[..., None] * v).transpose(-1, -2) @ k
    n = from_memory[..., -1, None] * n + (last[..., None, :] @ k)[..., 0, :]
    return read, (C, n, m_t[..., -1])


def _since_reset(log_f: Tensor, total: Tensor, segment: Tensor) -> Tensor:
    """The logarithm of what is left of the zero state of the last reset: the sum of log_f since,
    [B, heads, T]; `total` is its cumulative sum.
    """
    steps = torch.arange(segment.shape[-1], device=segment.device)
    begins = segment != F.pad(segment, (1, 0))[..., :-1]
    last = torch.where(begins, steps, 0).cummax(-1).values
    return total - (total - log_f).gather(-1, last.expand_as(total))


FORMS: dict[str, Callable[..., tuple[Tensor, Tensors, Gates]]] = {
    "minlstm": _minlstm,
    "mingru": _mingru,
    "mlstm": _mlstm,
}
