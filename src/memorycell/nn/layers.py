"""LSTM, GRU and RNN: subclasses of torch.nn's, with lengths, resets, every cell of the table, and
traces of the gates.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from memorycell.nn.recurrent import Recurrent

__all__ = ["GRU", "LSTM", "RNN", "Recurrent", "of_cell"]


class LSTM(Recurrent, nn.LSTM):
    """Long short-term memory: a torch.nn.LSTM. See `Recurrent`; cells: lstm, peephole, coupled,
    layernorm, mogrifier, slstm, mlstm, minlstm.
    """

    cells = (
        "lstm",
        "peephole",
        "coupled",
        "layernorm",
        "mogrifier",
        "slstm",
        "mlstm",
        "minlstm",
    )

    def __init__(self, *args: Any, cell: str = "lstm", **kwargs: Any) -> None:
        super().__init__(*args, cell=cell, **kwargs)


class GRU(Recurrent, nn.GRU):
    """Gated recurrent unit: a torch.nn.GRU. See `Recurrent`; cells: gru, gru_reset_before,
    mingru.
    """

    cells = ("gru", "gru_reset_before", "mingru")

    def __init__(self, *args: Any, cell: str = "gru", **kwargs: Any) -> None:
        super().__init__(*args, cell=cell, **kwargs)


class RNN(Recurrent, nn.RNN):
    """Elman's recurrent network: a torch.nn.RNN, whose fourth argument is the nonlinearity. See
    `Recurrent`.
    """

    cells = ("rnn", "rnn_relu")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        nonlinearity = args[3] if len(args) > 3 else kwargs.get("nonlinearity", "tanh")
        super().__init__(*args, cell="rnn_relu" if nonlinearity == "relu" else "rnn", **kwargs)


def of_cell(
    cell: str, input_size: int, hidden_size: int, num_layers: int = 1, **options: Any
) -> Recurrent:
    """The layer for this cell: an LSTM, a GRU or an RNN. Raises ValueError for an unknown cell."""
    if cell in RNN.cells:
        nonlinearity = "relu" if cell == "rnn_relu" else "tanh"
        return RNN(input_size, hidden_size, num_layers, nonlinearity=nonlinearity, **options)
    return (GRU if cell in GRU.cells else LSTM)(
        input_size, hidden_size, num_layers, cell=cell, **options
    )
