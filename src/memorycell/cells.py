"""The equations: one pure function per cell, and the table of cells.

Every cell maps the two products of one time step and the previous state to the next state:

    cell(x_part, h_part, state, params) -> (state, gates)

    x_part   [B, G·H]   the part that does not depend on the state, computed for the full sequence
                        before the recurrence: the result of the cell's `input_transform` on
                        W_ih x_t, which adds the biases or applies layer normalisation
    h_part   [B, G·H]   W_hh h_{t-1}, without bias; h_{t-1} itself for cells without that product
    state    the tensors of the row's `state`: (h, c) or (h,), each [B, H] (h is [B, P] with
             projection), or others; see `Cell.state_sizes`
    params   "bias_hh" [G·H], and the extra parameters of the cell's row in `CELLS`
    gates    the cell's gates at this step, after activation, each [B, H], in the order of the row

The two products are separate because the GRU and the layer-normalised LSTM treat them differently;
for the other cells, pre = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh is their sum. The order of the
gates in the rows of W_ih, W_hh and the biases is torch's. ⊙ is the elementwise product, σ the
logistic function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from memorycell.cells_recent import MOGRIFIER_ROUNDS, mingru, minlstm, mlstm, mogrifier, slstm
from memorycell.cells_recent import Params as Params
from memorycell.cells_recent import Tensors as Tensors

GATES = ("i", "f", "g", "o")
"""Input gate, forget gate, candidate, output gate: the order of the LSTM's rows."""

Step = Callable[[Tensor, Tensor, Tensors, Params], tuple[Tensors, Tensors]]


def rnn(x_part: Tensor, h_part: Tensor, state: Tensors, params: Params) -> tuple[Tensors, Tensors]:
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh). Elman (1990), "Finding structure in
    time".
    """
    return (torch.tanh(x_part + h_part),), ()


def rnn_relu(
    x_part: Tensor, h_part: Tensor, state: Tensors, params: Params
) -> tuple[Tensors, Tensors]:
    """h_t = max(0, W_ih x_t + b_ih + W_hh h_{t-1} + b_hh). Le, Jaitly & Hinton (2015),
    arXiv:1504.00941.
    """
    return (torch.relu(x_part + h_part),), ()


def lstm(x_part: Tensor, h_part: Tensor, state: Tensors, params: Params) -> tuple[Tensors, Tensors]:
    """Hochreiter & Schmidhuber (1997), with the forget gate of Gers, Schmidhuber & Cummins (2000).

    i = σ(pre_i)   f = σ(pre_f)   g = tanh(pre_g)   o = σ(pre_o)
    c_t = f ⊙ c_{t-1} + i ⊙ g
    h_t = o ⊙ tanh(c_t)
    """
    pre_i, pre_f, pre_g, pre_o = (x_part + h_part).chunk(4, dim=-1)
    i, f, g, o = torch.sigmoid(pre_i), torch.sigmoid(pre_f), torch.tanh(pre_g), torch.sigmoid(pre_o)
    c = f * state[1] + i * g
    return (o * torch.tanh(c), c), (i, f, g, o)


def peephole(
    x_part: Tensor, h_part: Tensor, state: Tensors, params: Params
) -> tuple[Tensors, Tensors]:
    """The gates of a unit also read its cell state. Gers & Schmidhuber (2000), "Recurrent nets that
    time and count".

    i = σ(pre_i + w_ci ⊙ c_{t-1})   f = σ(pre_f + w_cf ⊙ c_{t-1})   g = tanh(pre_g)
    c_t = f ⊙ c_{t-1} + i ⊙ g
    o = σ(pre_o + w_co ⊙ c_t)
    h_t = o ⊙ tanh(c_t)

    `weight_ch` [3·H] holds w_ci, w_cf, w_co in this order.
    """
    pre_i, pre_f, pre_g, pre_o = (x_part + h_part).chunk(4, dim=-1)
    w_ci, w_cf, w_co = params["weight_ch"].chunk(3)
    i = torch.sigmoid(pre_i + w_ci * state[1])
    f = torch.sigmoid(pre_f + w_cf * state[1])
    g = torch.tanh(pre_g)
    c = f * state[1] + i * g
    o = torch.sigmoid(pre_o + w_co * c)
    return (o * torch.tanh(c), c), (i, f, g, o)


def coupled(
    x_part: Tensor, h_part: Tensor, state: Tensors, params: Params
) -> tuple[Tensors, Tensors]:
    """Coupled input and forget gates, i = 1 - f. Greff et al. (2015), arXiv:1503.04069, variant
    CIFG.

    f = σ(pre_f)   g = tanh(pre_g)   o = σ(pre_o)   i = 1 - f
    c_t = f ⊙ c_{t-1} + (1 - f) ⊙ g
    h_t = o ⊙ tanh(c_t)

    The weights have no rows for i: their blocks are f, g, o.
    """
    pre_f, pre_g, pre_o = (x_part + h_part).chunk(3, dim=-1)
    f, g, o = torch.sigmoid(pre_f), torch.tanh(pre_g), torch.sigmoid(pre_o)
    i = 1 - f
    c = f * state[1] + i * g
    return (o * torch.tanh(c), c), (i, f, g, o)


def layernorm(
    x_part: Tensor, h_part: Tensor, state: Tensors, params: Params
) -> tuple[Tensors, Tensors]:
    """Layer normalisation inside the LSTM. Ba, Kiros & Hinton (2016), arXiv:1607.06450, equations
    20-22.

    pre = LN(W_ih x_t; gain_ih, b_ih) + LN(W_hh h_{t-1}; gain_hh, b_hh)
    i = σ(pre_i)   f = σ(pre_f)   g = tanh(pre_g)   o = σ(pre_o)
    c_t = f ⊙ c_{t-1} + i ⊙ g
    h_t = o ⊙ tanh(LN(c_t; gain_c, bias_c))

    LN(a; gain, bias) = gain ⊙ (a - mean a) / sqrt(var a + 1e-5) + bias, for pre over all 4·H
    values. The stored cell state is not normalised.
    """
    pre_i, pre_f, pre_g, pre_o = (
        x_part + _normalise(h_part, params["gain_hh"], params["bias_hh"])
    ).chunk(4, dim=-1)
    i, f, g, o = torch.sigmoid(pre_i), torch.sigmoid(pre_f), torch.tanh(pre_g), torch.sigmoid(pre_o)
    c = f * state[1] + i * g
    return (o * torch.tanh(_normalise(c, params["gain_c"], params["bias_c"])), c), (i, f, g, o)


def gru(x_part: Tensor, h_part: Tensor, state: Tensors, params: Params) -> tuple[Tensors, Tensors]:
    """Cho et al. (2014), arXiv:1406.1078, with the reset gate after the product, as in torch and
    cuDNN.

    r = σ(x_r + h_r)   z = σ(x_z + h_z)   n = tanh(x_n + r ⊙ h_n)
    h_t = (1 - z) ⊙ n + z ⊙ h_{t-1}

    where x_• and h_• are the products with their biases; the blocks are r, z, n.
    """
    x_r, x_z, x_n = x_part.chunk(3, dim=-1)
    h_r, h_z, h_n = (h_part + params["bias_hh"]).chunk(3, dim=-1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    n = torch.tanh(x_n + r * h_n)
    return ((1 - z) * n + z * state[0],), (r, z, n)


def gru_reset_before(
    x_part: Tensor, h_part: Tensor, state: Tensors, params: Params
) -> tuple[Tensors, Tensors]:
    """The original GRU, with the reset gate before the product. Cho et al. (2014),
    arXiv:1406.1078, equations 5-8.

    r = σ(x_r + h_r)   z = σ(x_z + h_z)   n = tanh(x_n + W_hn (r ⊙ h_{t-1}) + b_hn)
    h_t = (1 - z) ⊙ n + z ⊙ h_{t-1}

    Keras: reset_after=False; ONNX: linear_before_reset=0. A step needs two consecutive products, so
    the cell runs only on the reference.
    """
    bias = params["bias_hh"]
    x_r, x_z, x_n = x_part.chunk(3, dim=-1)
    h_r, h_z, _ = (h_part + bias).chunk(3, dim=-1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    product = (r * state[0]) @ params["weight_hh"].chunk(3)[2].T
    n = torch.tanh(x_n + (product + (bias.chunk(3)[2] if bias.ndim else bias)))
    return ((1 - z) * n + z * state[0],), (r, z, n)


def _add_biases(product: Tensor, params: Params) -> Tensor:
    return product + (params["bias_ih"] + params["bias_hh"])


def _add_input_bias(product: Tensor, params: Params) -> Tensor:
    return product + params["bias_ih"]


def _normalise_input(product: Tensor, params: Params) -> Tensor:
    return _normalise(product, params["gain_ih"], params["bias_ih"])


@dataclass(frozen=True)
class Cell:
    """A row of the table: everything the rest of the library needs to know about a cell."""

    step: Step
    blocks: tuple[str, ...]
    """The blocks of H rows in W_ih, W_hh and the biases, in order."""
    gates: tuple[str, ...]
    """The names of the gates that `step` returns."""
    state: tuple[str, ...]
    """The state's names: ("h", "c"), or ("h",) without a cell state."""
    extra: Mapping[str, int] = field(default_factory=dict)
    """Parameters that torch does not have: name -> length in units of hidden_size."""
    input_transform: Callable[[Tensor, Params], Tensor] = _add_biases
    """Applied to W_ih x [..., G·H] before the recurrence."""
    matrices: Mapping[str, tuple[int, str, str]] = field(default_factory=dict)
    """More of them: name -> (count, rows, columns) of [count, rows, columns], with rows and columns
    "input" or "hidden".
    """
    recurrent: bool = True
    """Whether a step reads W_hh h_{t-1}; if not, there is no W_hh and no b_hh."""
    reads_input: bool = False
    """Whether `step` computes the products itself, from x_t and h_{t-1}."""
    per_head: tuple[str, ...] = ()
    """The blocks that have one row per head instead of H; c is then a matrix per head."""
    stabilised: bool = False
    """Whether c, n and m share a scale: such cells have heads and no zoneout."""
    elementwise: bool = True
    """Whether units depend on each other through W_hh alone."""

    def rows(self, hidden_size: int, heads: int = 1) -> dict[str, slice]:
        """The rows of each block."""
        result, start = {}, 0
        for name in self.blocks:
            stop = start + (heads if name in self.per_head else hidden_size)
            result[name] = slice(start, stop)
            start = stop
        return result

    def num_rows(self, hidden_size: int, heads: int = 1) -> int:
        """G·H: the rows of W_ih."""
        return self.rows(hidden_size, heads)[self.blocks[-1]].stop

    def state_sizes(self, hidden_size: int, output_size: int, heads: int = 1) -> dict[str, int]:
        """Values per sequence of each tensor of the state."""
        sizes = dict.fromkeys(self.state, hidden_size) | {"h": output_size}
        if self.per_head:
            sizes |= {"c": hidden_size * hidden_size // heads, "m": heads}
        return sizes

    def extra_shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """The shapes of the parameters that torch does not have."""
        sizes = {"input": input_size, "hidden": hidden_size}
        return {name: (times * hidden_size,) for name, times in self.extra.items()} | {
            name: (count, sizes[rows], sizes[columns])
            for name, (count, rows, columns) in self.matrices.items()
        }

    def input_part(self, x: Tensor, params: Params) -> Tensor:
        """x_part of all steps at once, from x [..., I]."""
        if self.reads_input:
            return x
        return self.input_transform(x @ params["weight_ih"].T, params)

    def advance(self, x_part: Tensor, state: Tensors, params: Params) -> tuple[Tensors, Tensors]:
        """`step` with the product of the state."""
        multiplies = self.recurrent and not self.reads_input
        h_part = state[0] @ params["weight_hh"].T if multiplies else state[0]
        return self.step(x_part, h_part, state, params)


CELLS: dict[str, Cell] = {
    "rnn": Cell(rnn, ("h",), (), ("h",)),
    "rnn_relu": Cell(rnn_relu, ("h",), (), ("h",)),
    "lstm": Cell(lstm, GATES, GATES, ("h", "c")),
    "peephole": Cell(peephole, GATES, GATES, ("h", "c"), {"weight_ch": 3}),
    "coupled": Cell(coupled, GATES[1:], GATES, ("h", "c")),
    "layernorm": Cell(
        layernorm,
        GATES,
        GATES,
        ("h", "c"),
        {"gain_ih": 4, "gain_hh": 4, "gain_c": 1, "bias_c": 1},
        _normalise_input,
        elementwise=False,
    ),
    "gru": Cell(gru, ("r", "z", "n"), ("r", "z", "n"), ("h",), input_transform=_add_input_bias),
    "gru_reset_before": Cell(
        gru_reset_before, ("r", "z", "n"), ("r", "z", "n"), ("h",), input_transform=_add_input_bias
    ),
    "mogrifier": Cell(
        mogrifier,
        GATES,
        GATES,
        ("h", "c"),
        matrices={
            "weight_xh": ((MOGRIFIER_ROUNDS + 1) // 2, "input", "hidden"),
            "weight_hx": (MOGRIFIER_ROUNDS // 2, "hidden", "input"),
        },
        reads_input=True,
        elementwise=False,
    ),
    "slstm": Cell(slstm, GATES, GATES, ("h", "c", "n", "m"), stabilised=True),
    "mlstm": Cell(
        mlstm,
        ("q", "k", "v", "o", "i", "f"),
        ("i", "f", "o"),
        ("h", "c", "n", "m"),
        input_transform=_add_input_bias,
        recurrent=False,
        per_head=("i", "f"),
        stabilised=True,
        elementwise=False,
    ),
    "minlstm": Cell(
        minlstm,
        GATES[:3],
        GATES[:3],
        ("h",),
        input_transform=_add_input_bias,
        recurrent=False,
    ),
    "mingru": Cell(
        mingru,
        ("z", "n"),
        ("z", "n"),
        ("h",),
        input_transform=_add_input_bias,
        recurrent=False,
    ),
}

STATE_NAMES = ("h", "c", "n", "m")
"""Every name of a cell's state."""


def _normalise(a: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    # An absent bias is a scalar zero.
    return F.layer_norm(a, a.shape[-1:], gain, bias if bias.ndim else None, eps=1e-5)
