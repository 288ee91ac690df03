"""LSTMCell, GRUCell and RNNCell: torch.nn's single-step layers, for every cell of the table.

The plain cells run PyTorch's own code. For a live sequence `memorycell.stream` is many times
faster: it packs the weights once, which a layer that may be trained between calls cannot.
"""

from __future__ import annotations

import copy
import math
from typing import Any

from torch import Tensor, nn

from memorycell.cells import CELLS, Tensors
from memorycell.nn.layers import GRU, LSTM, RNN
from memorycell.nn.recurrent import TORCH_CELLS


class OneStep(nn.RNNCellBase):
    """One step of a recurrent layer. Use `LSTMCell`, `GRUCell` or `RNNCell`.

    The arguments are torch's plus `cell`, a row of `memorycell.cells.CELLS`. Parameters: weight_ih
    [G·H, I], weight_hh [G·H, H], bias_ih and bias_hh [G·H], and the cell's extra ones; without
    weight_hh and bias_hh for cells without that product.
    """

    cells: tuple[str, ...] = ()
    """The cells this class accepts."""

    def __init__(self, *args: Any, cell: str, **kwargs: Any) -> None:
        if cell not in self.cells:
            raise ValueError(
                f"cell: {type(self).__name__} has {', '.join(self.cells)}, got {cell!r}"
            )
        super().__init__(*args, **kwargs)
        self.cell = cell
        if cell not in TORCH_CELLS:
            self._add_cell_parameters()

    def _add_cell_parameters(self) -> None:
        table, hidden = CELLS[self.cell], self.hidden_size
        rows = len(table.blocks) * hidden
        for name, value in list(self._parameters.items()):
            if name.endswith("_hh") and not table.recurrent:
                self.register_parameter(name, None)
            elif value is not None and len(value) != rows:
                setattr(self, name, nn.Parameter(value.detach()[:rows].clone()))
        bound = 1 / math.sqrt(hidden)
        for name, shape in table.extra_shapes(self.input_size, hidden).items():
            parameter = nn.Parameter(self.weight_ih.detach().new_empty(shape))
            self.register_parameter(name, parameter)
            if name.startswith("gain_"):
                nn.init.ones_(parameter)
            else:
                nn.init.uniform_(parameter, -bound, bound)
        if "bias_c" in table.extra:
            nn.init.zeros_(self.get_parameter("bias_c"))

    def extra_repr(self) -> str:
        """Torch's, and the cell if torch does not have it."""
        return super().extra_repr() + ("" if self.cell in TORCH_CELLS else f", cell={self.cell!r}")

    def __prepare_scriptable__(self) -> nn.Module:
        """The layer that torch.jit.script compiles: torch's own, with the same parameters."""
        if self.cell not in TORCH_CELLS:
            raise ValueError(f"torch.nn has no layer like {self}")
        torch_layer = copy.copy(self)
        torch_layer.__class__ = next(
            kind for kind in type(self).__mro__ if kind.__module__.startswith("torch.nn")
        )
        return torch_layer

    def forward(self, input: Tensor, hx: Any = None) -> Any:  # noqa: A002  torch's name
        """Run one step: input [B, I] or [I]; hx (h, c) or h, each [B, H] or [H], zeros by default.
        Returns the next hx.

        Raises what torch's cells raise for the same error.
        """
        if self.cell in TORCH_CELLS:
            return super().forward(input, hx)
        table, single = CELLS[self.cell], input.ndim == 1
        x = input[None] if single else input
        if hx is None:
            state: Tensors = tuple(x.new_zeros(len(x), self.hidden_size) for _ in table.state)
        else:
            state = (hx,) if isinstance(hx, Tensor) else tuple(hx)
            state = tuple(s[None] for s in state) if single else state
        self._check(x, state)
        params = {name: x.new_zeros(()) for name in ("bias_ih", "bias_hh")}
        params |= {
            name: getattr(self, name) for name, p in self._parameters.items() if p is not None
        }
        after, _ = table.advance(table.input_part(x, params), state, params)
        after = tuple(s[0] for s in after) if single else after
        return after if len(after) > 1 else after[0]

    def _check(self, x: Tensor, state: Tensors) -> None:
        if x.ndim != 2:
            raise ValueError(
                f"{type(self).__name__}: Expected input to be 1D or 2D, got {x.ndim}D instead"
            )
        if x.shape[1] != self.input_size:
            raise RuntimeError(
                f"input has inconsistent input_size: got {x.shape[1]} expected {self.input_size}"
            )
        if len(state) != len(CELLS[self.cell].state):
            raise ValueError(
                f"hx: expected {', '.join(CELLS[self.cell].state)}, got {len(state)} tensors"
            )
        for k, s in enumerate(state):
            if s.shape != (len(x), self.hidden_size):
                raise RuntimeError(
                    f"hidden{k}: expected {[len(x), self.hidden_size]}, got {list(s.shape)}"
                )


class LSTMCell(OneStep, nn.LSTMCell):
    """A torch.nn.LSTMCell. See `OneStep`; cells: those of `LSTM`, except mlstm."""

    cells = tuple(cell for cell in LSTM.cells if not CELLS[cell].per_head)

    def __init__(self, *args: Any, cell: str = "lstm", **kwargs: Any) -> None:
        super().__init__(*args, cell=cell, **kwargs)


class GRUCell(OneStep, nn.GRUCell):
    """A torch.nn.GRUCell. See `OneStep`; cells: gru, gru_reset_before, mingru."""

    cells = GRU.cells

    def __init__(self, *args: Any, cell: str = "gru", **kwargs: Any) -> None:
        super().__init__(*args, cell=cell, **kwargs)


class RNNCell(OneStep, nn.RNNCell):
    """A torch.nn.RNNCell, whose fourth argument is the nonlinearity. See `OneStep`."""

    cells = RNN.cells

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        nonlinearity = args[3] if len(args) > 3 else kwargs.get("nonlinearity", "tanh")
        super().__init__(*args, cell="rnn_relu" if nonlinearity == "relu" else "rnn", **kwargs)
