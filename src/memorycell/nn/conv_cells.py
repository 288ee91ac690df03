"""One time step of the convolutional cells; their equations are in `nn.conv`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from memorycell.cells import Tensors

Params = dict[str, Tensor]
Step = Callable[[Tensor, Tensors, Params], tuple[Tensors, Tensors]]
"""(x_t, or W_ih * x_t + b_ih of a GRU; state; parameters) -> (state, gates)"""

MIN_VALUES_FOR_SIGMOID = 4096
"""Of a sequence's state, from which tanh in four operations with σ takes less time than torch's."""


def _lstm(x: Tensor, state: Tensors, params: dict[str, Tensor]) -> tuple[Tensors, Tensors]:
    """See `nn.conv`."""
    h, c = state
    pre = _joint_conv(x, h, params)
    size = h.shape[1]
    i, f = pre[:, : 2 * size].sigmoid().chunk(2, 1)
    g, o = pre[:, 2 * size : 3 * size].tanh(), pre[:, 3 * size :].sigmoid()
    c = torch.addcmul(f * c, i, g)
    return (o * c.tanh(), c), (i, f, g, o)


def lstm_sequence(x: Tensor, state: Tensors, params: Params) -> tuple[Tensor, Tensors]:
    """Steps of `_lstm_without_gradient` over x [T, B, I, …]: (output, state), with the same values.

    Each h_t is written next to x_{t+1}, where the next convolution reads them.
    """
    h, c = state
    if len(x) == 1:
        (h, c), _ = _lstm_without_gradient(x[0], state, params)
        return h[None], (h, c)
    joint = x.new_empty(*x.shape[:2], x.shape[2] + h.shape[1], *x.shape[3:])
    joint[:, :, : x.shape[2]] = x
    before = joint[:, :, x.shape[2] :].unbind()
    before[0].copy_(h)
    outputs = [*before[1:], torch.empty_like(h)]
    for both, h_t in zip(joint.unbind(), outputs, strict=True):
        c = _lstm_from_joint(both, c, params, h_t)
    return torch.stack(outputs), (outputs[-1], c)


def _lstm_without_gradient(x: Tensor, state: Tensors, params: Params) -> tuple[Tensors, Tensors]:
    """As `_lstm` up to rounding, in place and with one activation for all gates: by tanh(a) =
    2 σ(2 a) - 1, with params as of `doubled_candidate`,

    c_t = f ⊙ c_{t-1} - i + 2 i ⊙ σ(2 pre_g)   h_t = o ⊙ (2 σ(2 c_t) - 1)

    The gates are not returned.
    """
    h, c = state
    h_t = torch.empty_like(h)
    c = _lstm_from_joint(torch.cat([x, h], 1), c, params, h_t)
    return (h_t, c), ()


def _lstm_from_joint(both: Tensor, c: Tensor, params: Params, h_t: Tensor) -> Tensor:
    """c_t from [x_t, h_{t-1}] and c_{t-1}; h_t is written to its place."""
    bias = params["bias"]
    pre = same_conv(both, params["weight"], bias if bias.ndim else None)
    i, f, g, o = pre.sigmoid_().chunk(4, 1)
    c = f.mul_(c).sub_(i).addcmul_(i, g, value=2)
    if c.numel() < MIN_VALUES_FOR_SIGMOID * len(c):
        torch.mul(o, c.tanh(), out=h_t)
    else:
        torch.mul(o, (2 * c).sigmoid_().mul_(2).sub_(1), out=h_t)
    return c


def doubled_candidate(params: Params) -> None:
    """Doubles what gives pre_g, which is exact, for `_lstm_without_gradient`."""
    size = params["weight"].shape[0] // 4
    for name in ("weight", "bias"):
        if params[name].ndim:
            params[name].narrow(0, 2 * size, size).mul_(2)


def _peephole(x: Tensor, state: Tensors, params: dict[str, Tensor]) -> tuple[Tensors, Tensors]:
    h, c = state
    pre_i, pre_f, pre_g, pre_o = _joint_conv(x, h, params).chunk(4, 1)
    w_ci, w_cf, w_co = params["weight_ch"].chunk(3)
    i, f = (pre_i + w_ci * c).sigmoid(), (pre_f + w_cf * c).sigmoid()
    g = pre_g.tanh()
    c = torch.addcmul(f * c, i, g)
    o = (pre_o + w_co * c).sigmoid()
    return (o * c.tanh(), c), (i, f, g, o)


def _joint_conv(x: Tensor, h: Tensor, params: dict[str, Tensor]) -> Tensor:
    """pre: W_ih * x + b_ih + W_hh * h + b_hh."""
    bias = params["bias"]
    return same_conv(torch.cat([x, h], 1), params["weight"], bias if bias.ndim else None)


def _gru(x_part: Tensor, state: Tensors, params: dict[str, Tensor]) -> tuple[Tensors, Tensors]:
    """With the reset gate after the product:

    r = σ(x_r + h_r)   z = σ(x_z + h_z)   n = tanh(x_n + r ⊙ h_n)
    h_t = (1 - z) ⊙ n + z ⊙ h_{t-1}

    where x_• and h_• are the convolutions with their biases.
    """
    (h,) = state
    bias = params["bias_hh"]
    product = same_conv(h, params["weight_hh"], bias if bias.ndim else None)
    size = h.shape[1]
    r, z = (x_part[:, : 2 * size] + product[:, : 2 * size]).sigmoid().chunk(2, 1)
    n = torch.addcmul(x_part[:, 2 * size :], r, product[:, 2 * size :]).tanh()
    return (torch.lerp(n, h, z),), (r, z, n)


def _gru_reset_before(
    x_part: Tensor, state: Tensors, params: dict[str, Tensor]
) -> tuple[Tensors, Tensors]:
    """As `_gru`, with n = tanh(x_n + W_hn * (r ⊙ h_{t-1}) + b_hn)."""
    (h,) = state
    size = h.shape[1]
    weight, bias = params["weight_hh"], params["bias_hh"]
    parts = (bias[: 2 * size], bias[2 * size :]) if bias.ndim else (None, None)
    product = same_conv(h, weight[: 2 * size], parts[0])
    r, z = (x_part[:, : 2 * size] + product).sigmoid().chunk(2, 1)
    n = (x_part[:, 2 * size :] + same_conv(r * h, weight[2 * size :], parts[1])).tanh()
    return (torch.lerp(n, h, z),), (r, z, n)


def same_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The convolution of x [N, I, height, width], padded with zeros to keep its size."""
    height, width = weight.shape[2:]
    if height % 2 and width % 2:
        return F.conv2d(x, weight, bias, padding=(height // 2, width // 2))
    # An even kernel needs more zeros on one side, which conv2d has not.
    sides = ((width - 1) // 2, width // 2, (height - 1) // 2, height // 2)
    return F.conv2d(F.pad(x, sides), weight, bias)


STEPS: dict[str, Step] = {
    "lstm": _lstm,
    "peephole": _peephole,
    "gru": _gru,
    "gru_reset_before": _gru_reset_before,
}
STEPS_WITHOUT_GRADIENT: dict[str, Step] = STEPS | {"lstm": _lstm_without_gradient}
"""For inference in float32, without the gates."""
