"""The equations of cells published since 2020, as functions for the table in `memorycell.cells`.

σ is the logistic function, ⊙ the elementwise product, exp the gate of Beck et al. (2024). The
arguments are those of every cell; see `memorycell.cells`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

Tensors = tuple[Tensor, ...]
Params = Mapping[str, Tensor]

MOGRIFIER_ROUNDS = 5
NO_MEMORY = -1e30
"""The logarithm of the forget gate of an sLSTM unit that has no memory yet."""
MAX_STABILISER = 80.0
"""Of exp(-m) in the mLSTM: beyond, float32 overflows."""


def slstm(
    x_part: Tensor, h_part: Tensor, state: Tensors, params: Params
) -> tuple[Tensors, Tensors]:
    """sLSTM: exponential input gate, normaliser n and stabiliser m. Beck et al. (2024),
    arXiv:2405.04517, equations 8-17, with the forget gate σ. Without the causal convolution and
    the group normalisation of their block.

    m_t = max(ln σ(pre_f) + m_{t-1}, pre_i)
    i = exp(pre_i - m_t)   f = exp(ln σ(pre_f) + m_{t-1} - m_t)
    g = tanh(pre_g)   o = σ(pre_o)
    c_t = f ⊙ c_{t-1} + i ⊙ g
    n_t = f ⊙ n_{t-1} + i
    h_t = o ⊙ c_t / n_t

    g is the paper's z. i and f are the stabilised gates: h_t does not depend on m. A unit with
    n_{t-1} = 0 has no memory: f = 0 and m_t = pre_i, so that zeros are the initial state. From
    there on n_t ≥ 1 and |h_t| < 1.
    """
    pre_i, pre_f, pre_g, pre_o = (x_part + h_part).chunk(4, dim=-1)
    _, c, n, m = state
    kept = torch.where(n == 0, torch.full_like(m, NO_MEMORY), F.logsigmoid(pre_f) + m)
    m = torch.maximum(kept, pre_i)
    i, f = torch.exp(pre_i - m), torch.exp(kept - m)
    g, o = torch.tanh(pre_g), torch.sigmoid(pre_o)
    c = f * c + i * g
    n = f * n + i
    return (o * (c / n), c, n, m), (i, f, g, o)


def mlstm(
    x_part: Tensor, h_part: Tensor, state: Tensors, params: Params
) -> tuple[Tensors, Tensors]:
    """mLSTM: a matrix memory C of keys and values per head. Beck et al. (2024), arXiv:2405.04517,
    equations 19-27, with the forget gate σ. The gates read x_t alone: no W_hh.

    q, v = pre_q, pre_v   k = pre_k / √d            [heads, d], d = H / heads
    m_t = max(ln σ(pre_f) + m_{t-1}, pre_i)         [heads]
    i = exp(pre_i - m_t)   f = exp(ln σ(pre_f) + m_{t-1} - m_t)
    C_t = f C_{t-1} + i v kᵀ                        [heads, d, d]
    n_t = f n_{t-1} + i k                           [heads, d]
    h_t = σ(pre_o) ⊙ C_t q / max(|n_tᵀ q|, exp(-m_t))

    The blocks i and f have one row per head. The state c is C in rows of d: [H · d]; h is not read
    by the next step. The trace gives each unit the gates of its head.
    """
    _, c, n, m = state
    heads, hidden = m.shape[-1], n.shape[-1]
    size = hidden // heads
    q, k, v, pre_o, pre_i, pre_f = x_part.split([hidden] * 4 + [heads] * 2, dim=-1)
    q, k, v = (part.unflatten(-1, (heads, size)) for part in (q, k, v))
    k = k * (1 / math.sqrt(size))
    kept = F.logsigmoid(pre_f) + m
    m = torch.maximum(kept, pre_i)
    i, f = torch.exp(pre_i - m).unsqueeze(-1), torch.exp(kept - m).unsqueeze(-1)
    memory = c.unflatten(-1, (heads, size, size)) * f.unsqueeze(-1)
    memory = memory + (i * v).unsqueeze(-1) * k.unsqueeze(-2)
    keys = f * n.unflatten(-1, (heads, size)) + i * k
    read = (memory * q.unsqueeze(-2)).sum(-1)
    norm = torch.maximum((keys * q).sum(-1).abs(), exp_of_minus(m)).unsqueeze(-1)
    o = torch.sigmoid(pre_o)
    h = o * (read / norm).flatten(-2)
    same = torch.ones_like(q)
    return (
        (h, memory.flatten(-3), keys.flatten(-2), m),
        ((i * same).flatten(-2), (f * same).flatten(-2), o),
    )


def exp_of_minus(m: Tensor) -> Tensor:
    """The mLSTM's exp(-m), within float32."""
    return torch.exp(torch.clamp(m, -MAX_STABILISER, MAX_STABILISER) * -1.0)


def minlstm(
    x_part: Tensor, h_part: Tensor, state: Tensors, params: Params
) -> tuple[Tensors, Tensors]:
    """minLSTM: an LSTM whose gates read x_t alone, so that all steps can be computed at once. Feng
    et al. (2024), arXiv:2410.01201, appendix B, the version in log-space.

    f = σ(pre_f) / (σ(pre_f) + σ(pre_i))   i = 1 - f   g = s(pre_g)
    h_t = f ⊙ h_{t-1} + i ⊙ g

    s(a) = a + 1/2 for a ≥ 0, else σ(a): positive. No W_hh, and no cell state besides h. h_0 is
    zero, the paper's is s(0).
    """
    pre_i, pre_f, pre_g = x_part.chunk(3, dim=-1)
    ratio = F.softplus(-pre_i) - F.softplus(-pre_f)  # ln σ(pre_f) - ln σ(pre_i)
    i, f, g = torch.sigmoid(-ratio), torch.sigmoid(ratio), positive(pre_g)
    return (f * state[0] + i * g,), (i, f, g)


def mingru(
    x_part: Tensor, h_part: Tensor, state: Tensors, params: Params
) -> tuple[Tensors, Tensors]:
    """minGRU: a GRU whose gate reads x_t alone. Feng et al. (2024), arXiv:2410.01201, appendix B,
    the version in log-space.

    z = σ(pre_z)   n = s(pre_n), s as in `minlstm`
    h_t = (1 - z) ⊙ h_{t-1} + z ⊙ n

    z has the paper's meaning: the share of the new value, where torch's GRU has that of the old.
    """
    pre_z, pre_n = x_part.chunk(2, dim=-1)
    z, n = torch.sigmoid(pre_z), positive(pre_n)
    return (torch.sigmoid(-pre_z) * state[0] + z * n,), (z, n)


def positive(a: Tensor) -> Tensor:
    """s(a) = a + 1/2 for a ≥ 0, else σ(a)."""
    return torch.relu(a) + torch.sigmoid(-torch.relu(-a))


def mogrifier(
    x_part: Tensor, h_part: Tensor, state: Tensors, params: Params
) -> tuple[Tensors, Tensors]:
    """An LSTM whose input and state gate each other before the step. Melis, Kočiský & Blunsom
    (2020), arXiv:1909.01792, with five rounds and full matrices.

    x ← 2σ(Q_1 h) ⊙ x   h ← 2σ(R_1 x) ⊙ h   x ← 2σ(Q_2 h) ⊙ x   h ← 2σ(R_2 x) ⊙ h
    x ← 2σ(Q_3 h) ⊙ x   then the LSTM's step from x, h and c_{t-1}

    Q in `weight_xh` [3, I, H], R in `weight_hx` [2, H, I]. Here x_part is x_t and h_part h_{t-1}:
    no product can be computed before the step.
    """
    x, h = x_part, h_part
    of_h, of_x = params["weight_xh"].unbind(), params["weight_hx"].unbind()
    for k in range(MOGRIFIER_ROUNDS):
        if k % 2 == 0:
            x = 2.0 * torch.sigmoid(h @ of_h[k // 2].T) * x
        else:
            h = 2.0 * torch.sigmoid(x @ of_x[k // 2].T) * h
    pre = x @ params["weight_ih"].T + h @ params["weight_hh"].T
    pre_i, pre_f, pre_g, pre_o = (pre + (params["bias_ih"] + params["bias_hh"])).chunk(4, dim=-1)
    i, f, g, o = torch.sigmoid(pre_i), torch.sigmoid(pre_f), torch.tanh(pre_g), torch.sigmoid(pre_o)
    c = f * state[1] + i * g
    return (o * torch.tanh(c), c), (i, f, g, o)
