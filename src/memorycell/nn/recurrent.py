"""LSTM, GRU and RNN: drop-in for torch.nn's, with lengths, resets, every cell of the table, and gates to look at."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from memorycell import ops
from memorycell.cells import CELLS
from memorycell.nn.regularise import variational_dropout, weight_drop
from memorycell.ops.call import Call
from memorycell.state import State

Trace = tuple[dict[str, Tensor], ...]


class Recurrent(nn.Module):
    """A stack of recurrent layers, in one direction or both. Use `LSTM`, `GRU` or `RNN`.

    The first nine arguments are torch's, with torch's parameter names and shapes, so a state_dict goes both ways.

    cell                  a row of `memorycell.cells.CELLS`
    forget_bias           start value of b_ih + b_hh of the forget gate (Gers et al. 2000; 1.0 is usual); None leaves
                          torch's start values
    recurrent_init        "uniform" (torch's) or "orthogonal": each block of W_hh orthogonal (Saxe et al. 2013)
    zoneout               probability, or a pair (h, c), that a unit keeps its value at a step
    weight_drop           probability that a recurrent weight is dropped for a whole sequence
    variational_dropout   probability that a feature of a layer's input is dropped for a whole sequence
    """

    cells: tuple[str, ...] = ()
    """The cells this class accepts."""
    mode: str = ""
    """torch's name of the kind, which other people's code reads."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        cell: str,
        forget_bias: float | None = None,
        recurrent_init: str = "uniform",
        zoneout: float | tuple[float, float] = 0.0,
        weight_drop: float = 0.0,
        variational_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if cell not in self.cells:
            raise ValueError(f"cell: {type(self).__name__} has {', '.join(self.cells)}, got {cell!r}")
        if min(input_size, hidden_size, num_layers) < 1:
            raise ValueError("input_size, hidden_size and num_layers: expected 1 or more")
        if proj_size and not ("c" in CELLS[cell].state and 0 < proj_size < hidden_size):
            raise ValueError(f"proj_size: expected 1..{hidden_size - 1} and a cell with a cell state, got {proj_size}")
        if recurrent_init not in ("uniform", "orthogonal"):
            raise ValueError(f"recurrent_init: expected 'uniform' or 'orthogonal', got {recurrent_init!r}")
        for name, p in {
            "dropout": dropout,
            "weight_drop": weight_drop,
            "variational_dropout": variational_dropout,
        }.items():
            if not 0 <= p <= 1:
                raise ValueError(f"{name}: expected a probability, got {p}")
        if forget_bias is not None and ("f" not in CELLS[cell].blocks or not bias):
            raise ValueError(f"forget_bias: the cell {cell!r} with bias={bias} has no forget gate bias")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size, self.cell = bidirectional, proj_size, cell
        self.forget_bias, self.recurrent_init = forget_bias, recurrent_init
        self.zoneout = (float(zoneout[0]), float(zoneout[1])) if isinstance(zoneout, tuple) else (float(zoneout),) * 2
        self.weight_drop, self.variational_dropout = weight_drop, variational_dropout
        self._add_parameters({"device": device, "dtype": dtype})
        self.reset_parameters()

    # ---- parameters -------------------------------------------------------------------------------------------------

    @property
    def output_size(self) -> int:
        """Features of h of one direction: proj_size where the layer projects, else hidden_size."""
        return self.proj_size or self.hidden_size

    @property
    def directions(self) -> tuple[str, ...]:
        """The endings of the parameter names, one a direction."""
        return ("", "_reverse") if self.bidirectional else ("",)

    def _add_parameters(self, factory: dict[str, Any]) -> None:
        cell, hidden = CELLS[self.cell], self.hidden_size
        rows = len(cell.blocks) * hidden
        for layer in range(self.num_layers):
            features = self.input_size if layer == 0 else self.output_size * len(self.directions)
            for direction in self.directions:
                shapes: dict[str, tuple[int, ...]] = {
                    "weight_ih": (rows, features),
                    "weight_hh": (rows, self.output_size),
                }
                if self.bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if self.proj_size:
                    shapes |= {"weight_hr": (self.proj_size, hidden)}
                shapes |= {name: (times * hidden,) for name, times in cell.extra.items()}
                for name, shape in shapes.items():
                    self.register_parameter(f"{name}_l{layer}{direction}", nn.Parameter(torch.empty(shape, **factory)))

    def reset_parameters(self) -> None:
        """Torch's start values (uniform in ±1/√H, drawn in torch's order), then what the arguments ask for."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        hidden = self.hidden_size
        for name, parameter in self.named_parameters():
            if name.startswith("gain_"):
                nn.init.ones_(parameter)
            elif name.startswith("bias_c_"):
                nn.init.zeros_(parameter)
            else:
                nn.init.uniform_(parameter, -bound, bound)
        blocks = CELLS[self.cell].blocks
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if self.recurrent_init == "orthogonal" and name.startswith("weight_hh"):
                    for block in parameter.split(hidden):
                        nn.init.orthogonal_(block)
                if self.forget_bias is not None and name.startswith(("bias_ih", "bias_hh")):
                    at = blocks.index("f") * hidden
                    parameter[at : at + hidden] = self.forget_bias if name.startswith("bias_ih") else 0.0

    def layer_parameters(self, layer: int, direction: str) -> dict[str, Tensor]:
        """One layer's parameters in one direction under their bare names; absent biases are a scalar zero."""
        names = ["weight_ih", "weight_hh", *(["weight_hr"] if self.proj_size else []), *CELLS[self.cell].extra]
        names += ["bias_ih", "bias_hh"] if self.bias else []
        params = {name: getattr(self, f"{name}_l{layer}{direction}") for name in names}
        if not self.bias:
            params["bias_ih"] = params["bias_hh"] = params["weight_ih"].new_zeros(())
        return params

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """As in torch: the parameters of each layer and direction."""
        return [
            [p for name, p in self.named_parameters() if name.endswith(f"_l{layer}{direction}")]
            for layer in range(self.num_layers)
            for direction in self.directions
        ]

    def flatten_parameters(self) -> None:
        """Nothing to do; torch's layers have it, so other people's code calls it."""

    def extra_repr(self) -> str:
        """The arguments that differ from the defaults."""
        text = f"{self.input_size}, {self.hidden_size}"
        plain: dict[str, Any] = {
            "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False, "proj_size": 0,
            "forget_bias": None, "zoneout": (0.0, 0.0), "weight_drop": 0.0, "variational_dropout": 0.0,
            "cell": self.cells[0],
        }  # fmt: skip
        return text + "".join(f", {k}={getattr(self, k)!r}" for k, v in plain.items() if getattr(self, k) != v)

    # ---- the call ---------------------------------------------------------------------------------------------------

    def initial_state(self, batch_size: int = 1, *, like: Tensor | None = None) -> State:
        """Zeros: h [L·directions, B, H or P] and, where the cell has one, c [L·directions, B, H]."""
        like = next(self.parameters()) if like is None else like
        rows = self.num_layers * len(self.directions)
        sizes = {"h": self.output_size, "c": self.hidden_size}
        return State(**{n: like.new_zeros(rows, batch_size, sizes[n]) for n in CELLS[self.cell].state})

    def forward(
        self,
        input: Tensor | PackedSequence,  # noqa: A002  torch's name, used as a keyword by other people's code
        hx: Any = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        trace: bool = False,
        backend: str | None = None,
    ) -> Any:
        """Run a whole sequence.

        input     [T, B, I], [B, T, I] with batch_first, [T, I] unbatched, or a PackedSequence
        hx        (h_0, c_0), or h_0 for cells without a cell state: [L·directions, B, H], [L·directions, H] unbatched
        lengths   [B] int64, 1..T, in any order: no packing, no sorting; outputs past the length are zero and the final
                  state is the one at the length
        reset     [B, T] bool (whatever batch_first): a new sequence begins at that step; neither direction carries its
                  state across
        trace     also return the gates and states of every step: one dict a layer and direction, in the order of h_n,
                  each value [B, T, H]
        backend   a name from `memorycell.ops.BACKENDS`; None picks, and `memorycell.explain` says which and why

        Returns (output, state) like torch, or (output, state, trace): output [T, B, directions·H] (or as the input is
        laid out), state a `State` (h, c), or the tensor h_n for cells without a cell state.
        """
        packed = input if isinstance(input, PackedSequence) else None
        if packed is not None:
            if lengths is not None:
                raise ValueError("lengths: a PackedSequence has its own; pass one or the other")
            x, lengths = pad_packed_sequence(packed, batch_first=True)
            lengths = lengths.to(x.device)
        else:
            assert isinstance(input, Tensor)
            x = input
        batched = x.ndim == 3
        if x.ndim not in (2, 3):
            raise ValueError(f"input: expected 2 or 3 axes, got {list(x.shape)}")
        if not batched:
            x = x[None]
            hx = None if hx is None else tuple(s[:, None] for s in ((hx,) if isinstance(hx, Tensor) else hx))
        elif not self.batch_first and packed is None:
            x = x.transpose(0, 1)

        state = self._checked_state(hx, x)
        x, state, traces = self._stack(x, state, lengths, reset, trace, backend)

        output: Tensor | PackedSequence = x
        if packed is not None:
            assert lengths is not None
            order = packed.sorted_indices
            x = x if order is None else x.index_select(0, order)
            sizes = (lengths if order is None else lengths.index_select(0, order)).cpu()
            output = packed._replace(data=pack_padded_sequence(x, sizes, batch_first=True).data)
        elif not batched:
            output = x[0]
        elif not self.batch_first:
            output = x.transpose(0, 1)
        final: Any = state if batched else tuple(s[:, 0] for s in state)
        if "c" not in CELLS[self.cell].state:
            final = final[0]
        return (output, final, traces) if trace else (output, final)

    def _stack(
        self, x: Tensor, state: State, lengths: Tensor | None, reset: Tensor | None, trace: bool, backend: str | None
    ) -> tuple[Tensor, State, Trace]:
        finals: list[tuple[Tensor, ...]] = []
        traces: list[dict[str, Tensor]] = []
        for layer in range(self.num_layers):
            if layer:
                x = F.dropout(x, self.dropout, self.training)
            x = variational_dropout(x, self.variational_dropout, self.training)
            outputs = []
            for d, direction in enumerate(self.directions):
                row = layer * len(self.directions) + d
                params = self.layer_parameters(layer, direction)
                params["weight_hh"] = weight_drop(params["weight_hh"], self.weight_drop, self.training)
                result = ops.recurrence(
                    self._call(reverse=bool(d), trace=trace), x, params, tuple(s[row] for s in state),
                    lengths=lengths, reset=reset, backend=backend,
                )  # fmt: skip
                outputs.append(result.output)
                finals.append(result.state)
                if result.trace is not None:
                    traces.append(result.trace)
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
        names = CELLS[self.cell].state
        final = State(
            **{name: torch.stack(parts) for name, parts in zip(names, zip(*finals, strict=True), strict=True)}
        )
        return x, final, tuple(traces)

    def _call(self, *, reverse: bool, trace: bool) -> Call:
        return Call(self.cell, reverse, self.zoneout, self.training, trace)

    def _checked_state(self, hx: Any, x: Tensor) -> State:
        zeros = self.initial_state(x.shape[0], like=x)
        if hx is None:
            return zeros
        given = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        if len(given) != len(zeros):
            raise ValueError(f"hx: expected {zeros!r}, got {len(given)} tensors")
        for name, expected, value in zip(zeros.asdict(), zeros, given, strict=True):
            if value.shape != expected.shape:
                raise ValueError(f"hx, {name}: expected {list(expected.shape)}, got {list(value.shape)}")
        return State(**dict(zip(zeros.asdict(), given, strict=True)))


class LSTM(Recurrent):
    """Long short-term memory: drop-in for torch.nn.LSTM. See `Recurrent`; cells: lstm, peephole, coupled, layernorm."""

    cells = ("lstm", "peephole", "coupled", "layernorm")
    mode = "LSTM"

    def __init__(self, *args: Any, cell: str = "lstm", **kwargs: Any) -> None:
        super().__init__(*args, cell=cell, **kwargs)


class GRU(Recurrent):
    """Gated recurrent unit: drop-in for torch.nn.GRU. See `Recurrent`; cells: gru, gru_reset_before."""

    cells = ("gru", "gru_reset_before")
    mode = "GRU"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"cell": "gru", **kwargs})


class RNN(Recurrent):
    """The plain recurrent net: drop-in for torch.nn.RNN, whose fourth argument is the nonlinearity. See `Recurrent`."""

    cells = ("rnn", "rnn_relu")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
        cell = "rnn" if nonlinearity == "tanh" else "rnn_relu"
        super().__init__(input_size, hidden_size, num_layers, bias, *args, **{"cell": cell, **kwargs})
        self.nonlinearity = nonlinearity
        self.mode = f"RNN_{nonlinearity.upper()}"


def of_cell(cell: str, input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> Recurrent:
    """The layer that has this cell: an LSTM, a GRU or an RNN. Raises ValueError for a cell none of them has."""
    if cell in RNN.cells:
        nonlinearity = "relu" if cell == "rnn_relu" else "tanh"
        return RNN(input_size, hidden_size, num_layers, nonlinearity=nonlinearity, **options)
    return (GRU if cell in GRU.cells else LSTM)(input_size, hidden_size, num_layers, cell=cell, **options)


class Explanation(NamedTuple):
    """What runs a layer, and why."""

    backend: str
    reason: str

    def __str__(self) -> str:
        return f"{self.backend}: {self.reason}"


def explain(
    layer: Recurrent, x: Tensor | None = None, *, lengths: bool = False, reset: bool = False, trace: bool = False
) -> Explanation:
    """Which backend runs `layer(x)` with these options, and why."""
    call = layer._call(reverse=False, trace=trace)
    facts: dict[str, Any] = {"dtype": layer.weight_hh_l0.dtype, "projected": layer.proj_size > 0}
    if x is not None:
        facts |= {"steps": x.shape[1 if layer.batch_first and x.ndim == 3 else 0], "device": x.device.type}
    return Explanation(*ops.choose(call, lengths=lengths, reset=reset, **facts))


def adopt(model: nn.Module) -> nn.Module:
    """Swap every torch.nn.LSTM, GRU and RNN inside `model` for ours, in place, sharing the very same parameters.

    Returns the model (a new layer where the model itself is one). Optimisers keep working: no parameter is copied.
    """
    swapped = _from_torch(model)
    if swapped is not None:
        return swapped
    # A layer that stands in several places stays one layer.
    adopted: dict[nn.Module, nn.Module] = {}
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if isinstance(child, (nn.LSTM, nn.GRU, nn.RNN)):
                ours = adopted.get(child) or _from_torch(child)
                assert ours is not None
                adopted[child] = parent._modules[name] = ours
    return model


def _from_torch(layer: nn.Module) -> Recurrent | None:
    if not isinstance(layer, (nn.LSTM, nn.GRU, nn.RNN)):
        return None
    kind = {"LSTM": LSTM, "GRU": GRU}.get(layer.mode, RNN)
    options: dict[str, Any] = {"proj_size": layer.proj_size} if layer.proj_size else {}
    if kind is RNN:
        options["nonlinearity"] = layer.mode.removeprefix("RNN_").lower()
    ours = kind(
        layer.input_size, layer.hidden_size, layer.num_layers, bias=layer.bias, batch_first=layer.batch_first,
        dropout=layer.dropout, bidirectional=layer.bidirectional, device="meta", **options,
    )  # fmt: skip
    for name, parameter in layer.named_parameters():
        setattr(ours, name, parameter)
    return ours.train(layer.training)
