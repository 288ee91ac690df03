"""LSTM, GRU and RNN: subclasses of torch.nn's, with lengths, resets, every cell of the table, and
gates to look at.

A call that torch.nn has is PyTorch's own forward wherever the native engine does not take it:
another device or type, an empty batch, a mistake. So what comes out, results and errors alike, is
PyTorch's.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from memorycell import ops
from memorycell.cells import CELLS, Tensors
from memorycell.nn.compiled import let_in
from memorycell.nn.interop import as_leaf, autocast_dtype, is_sound, torchs
from memorycell.nn.regularise import variational_dropout, weight_drop
from memorycell.ops.call import Call
from memorycell.state import State

Trace = tuple[dict[str, Tensor], ...]


class Recurrent(nn.RNNBase):
    """A stack of recurrent layers, in one direction or both. Use `LSTM`, `GRU` or `RNN`.

    The positional arguments, and `device` and `dtype`, are torch's, with torch's parameter names,
    shapes and errors, so a state_dict goes both ways.

    cell                  a row of `memorycell.cells.CELLS`
    forget_bias           start value of b_ih + b_hh of the forget gate (Gers et al. 2000; 1.0 is
                          usual); None leaves torch's start values
    recurrent_init        "uniform" (torch's) or "orthogonal": each block of W_hh orthogonal (Saxe
                          et al. 2013)
    zoneout               probability, or a pair (h, c), that a unit keeps its value at a step
    weight_drop           probability that a recurrent weight is dropped for a whole sequence
    variational_dropout   probability that a feature of a layer's input is dropped for a whole
                          sequence
    """

    cells: tuple[str, ...] = ()
    """The cells this class accepts; the plain one, torch's, first."""
    # Of a layer that was torch's: see nn/adopt.py.
    forget_bias: float | None = None
    recurrent_init: str = "uniform"
    zoneout: tuple[float, float] = (0.0, 0.0)
    weight_drop: float = 0.0
    variational_dropout: float = 0.0
    trainings: int = 0
    """How often the layer was put into training mode."""
    _complete: bool = True
    """Whether the cell's parameters are there: torch's __init__ ends in `reset_parameters` before
    they are.
    """

    def __init__(
        self,
        *args: Any,
        cell: str,
        forget_bias: float | None = None,
        recurrent_init: str = "uniform",
        zoneout: float | tuple[float, float] = 0.0,
        weight_drop: float = 0.0,
        variational_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if cell not in self.cells:
            raise ValueError(
                f"cell: {type(self).__name__} has {', '.join(self.cells)}, got {cell!r}"
            )
        if recurrent_init not in ("uniform", "orthogonal"):
            raise ValueError(
                f"recurrent_init: expected 'uniform' or 'orthogonal', got {recurrent_init!r}"
            )
        for name, p in {
            "weight_drop": weight_drop,
            "variational_dropout": variational_dropout,
        }.items():
            if not 0 <= p <= 1:
                raise ValueError(f"{name}: expected a probability, got {p}")
        self.cell, self.recurrent_init, self.forget_bias = cell, recurrent_init, forget_bias
        self.zoneout = (
            (float(zoneout[0]), float(zoneout[1]))
            if isinstance(zoneout, tuple)
            else (float(zoneout),) * 2
        )
        self.weight_drop, self.variational_dropout = weight_drop, variational_dropout
        self._complete = cell in PLAIN
        super().__init__(*args, **kwargs)
        if forget_bias is not None and ("f" not in CELLS[cell].blocks or not self.bias):
            raise ValueError(
                f"forget_bias: the cell {cell!r} with bias={self.bias} has no forget gate bias"
            )
        if cell not in PLAIN:
            self._add_own_parameters()
            self._complete = True
            self.reset_parameters()

    # ---- parameters ------------------------------------------------------------------------------

    @property
    def output_size(self) -> int:
        """Features of h of one direction: proj_size where the layer projects, else hidden_size."""
        return self.proj_size or self.hidden_size

    @property
    def directions(self) -> tuple[str, ...]:
        """The endings of the parameter names, one a direction."""
        return ("", "_reverse") if self.bidirectional else ("",)

    def _add_own_parameters(self) -> None:
        """Make torch's parameters those of the cell: as many blocks of rows as it has, and its
        extra ones.
        """
        cell, hidden = CELLS[self.cell], self.hidden_size
        rows = len(cell.blocks) * hidden
        for names in self._all_weights:
            ending = names[0].removeprefix("weight_ih")
            for name in names:
                value = cast(Tensor, self._parameters.pop(name)).detach()
                value = (
                    value
                    if name.startswith("weight_hr")
                    else value.new_empty(rows, *value.shape[1:])
                )
                self.register_parameter(name, nn.Parameter(value))
            for name, times in cell.extra.items():
                self.register_parameter(
                    name + ending, nn.Parameter(value.new_empty(times * hidden))
                )
        self._init_flat_weights()

    def reset_parameters(self) -> None:
        """Torch's start values (uniform in ±1/√H, drawn in torch's order), then what the arguments
        ask for.
        """
        blocks, hidden = CELLS[self.cell].blocks, self.hidden_size
        bound = 1.0 / math.sqrt(hidden)
        if not self._complete:
            return
        for name, parameter in self.named_parameters():
            if name.startswith("gain_"):
                nn.init.ones_(parameter)
            elif name.startswith("bias_c_"):
                nn.init.zeros_(parameter)
            else:
                nn.init.uniform_(parameter, -bound, bound)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if self.recurrent_init == "orthogonal" and name.startswith("weight_hh"):
                    for block in parameter.split(hidden):
                        nn.init.orthogonal_(block)
                elif (
                    self.forget_bias is not None
                    and "f" in blocks
                    and name.startswith(("bias_ih", "bias_hh"))
                ):
                    at = blocks.index("f") * hidden
                    parameter[at : at + hidden] = (
                        self.forget_bias if name.startswith("bias_ih") else 0.0
                    )

    def layer_parameters(self, layer: int, direction: str) -> dict[str, Tensor]:
        """One layer's parameters in one direction under their bare names; absent biases are a
        scalar zero.
        """
        names = [
            "weight_ih",
            "weight_hh",
            *(["weight_hr"] if self.proj_size else []),
            *CELLS[self.cell].extra,
        ]
        names += ["bias_ih", "bias_hh"] if self.bias else []
        params = {name: getattr(self, f"{name}_l{layer}{direction}") for name in names}
        if not self.bias:
            params["bias_ih"] = params["bias_hh"] = params["weight_ih"].new_zeros(())
        return params

    def extra_repr(self) -> str:
        """The arguments that differ from the defaults: torch's, then ours."""
        plain: dict[str, Any] = {
            "cell": self.cell if self.cell in PLAIN else None,
            "forget_bias": None,
            "recurrent_init": "uniform",
            "zoneout": (0.0, 0.0),
            "weight_drop": 0.0,
            "variational_dropout": 0.0,
        }
        own = [f", {k}={getattr(self, k)!r}" for k, v in plain.items() if getattr(self, k) != v]
        return super().extra_repr() + "".join(own)

    def train(self, mode: bool = True) -> Self:
        """As in torch; and counted, because what holds packed weights (`Stream`, `Pool`) must know
        of it.
        """
        if mode:
            self.trainings += 1
        return super().train(mode)

    # ---- the call --------------------------------------------------------------------------------

    def initial_state(self, batch_size: int = 1, *, like: Tensor | None = None) -> State:
        """Zeros: h [L·directions, B, H or P] and, where the cell has one, c [L·directions, B, H]."""
        like = next(self.parameters()) if like is None else like
        return State(
            **{n: like.new_zeros(shape) for n, shape in self._state_shapes(batch_size).items()}
        )

    def _state_shapes(self, batch: int) -> dict[str, tuple[int, int, int]]:
        rows = self.num_layers * len(self.directions)
        sizes = {"h": self.output_size, "c": self.hidden_size}
        return {name: (rows, batch, sizes[name]) for name in CELLS[self.cell].state}

    def forward(
        self,
        input: (Tensor | PackedSequence),  # noqa: A002  torch's name, used as a keyword by other people's code
        hx: Any = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        trace: bool = False,
        backend: str | None = None,
    ) -> Any:
        """Run a whole sequence.

        input     [T, B, I], [B, T, I] with batch_first, [T, I] unbatched, or a PackedSequence
        hx        (h_0, c_0), or h_0 for cells without a cell state: [L·directions, B, H],
                  [L·directions, H] unbatched
        lengths   [B] int64, or a list, 1..T, in any order: no packing, no sorting; outputs past the
                  length are zero and the final state is the one at the length
        reset     [B, T] bool (whatever batch_first): a new sequence begins at that step; neither
                  direction carries its state across
        trace     also return the gates and states of every step: one dict a layer and direction, in
                  the order of h_n, each value [B, T, H]
        backend   a name from `memorycell.ops.BACKENDS`; None picks, and `memorycell.explain` says
                  which and why

        Returns (output, (h_n, c_n)) like torch, (output, h_n) for cells without a cell state, and
        the trace as a third where it is asked for: output contiguous, [T, B, directions·H] or laid
        out as the input is. Where hx is a `State`, so is the second.

        Raises what torch's layers raise for the same mistake, and ValueError that names an argument
        of ours.
        """
        if not isinstance(input, (Tensor, PackedSequence)):
            return (
                as_leaf(self, input, hx) if hasattr(input, "tracer") else super().forward(input, hx)
            )
        packed = input if isinstance(input, PackedSequence) else None
        if packed is not None and lengths is not None:
            raise ValueError("lengths: a PackedSequence has its own; pass one or the other")
        own = not (lengths is None and reset is None and not trace and self.is_plain())
        x = input.data if isinstance(input, PackedSequence) else input
        if x.ndim not in (2, 3):
            return super().forward(input, hx)  # raises
        weight = cast(Tensor, getattr(self, "weight_ih_l0"))  # noqa: B009  the parameters have no declared names
        if not own and hasattr(type(weight), "handled_functions"):
            return super().forward(
                input, hx
            )  # the expanded weights of torch.nn.utils' per-sample gradients
        if packed is not None:
            if not is_sound(packed):
                if own:
                    raise ValueError("input: the PackedSequence's batch sizes do not fit its data")
                return super().forward(input, hx)  # raises, or what it does
            steps, batch = len(packed.batch_sizes), int(packed.batch_sizes[0])
        else:
            steps, batch = (
                (x.shape[0], 1)
                if x.ndim == 2
                else (x.shape[1], x.shape[0])
                if self.batch_first
                else x.shape[:2]
            )
        time_first = packed is not None or (x.ndim == 3 and not self.batch_first)
        call = Call(self.cell, False, self.zoneout, self.training, trace, time_first)
        choice = ops.choose(
            call,
            steps=steps,
            batch=batch,
            hidden=self.hidden_size,
            device=x.device.type,
            dtype=weight.dtype,
            projected=self.proj_size > 0,
            lengths=lengths is not None or packed is not None,
            reset=reset is not None,
            backend=backend,
        )
        given = hx[0] if isinstance(hx, State) and len(hx) == 1 else hx
        if not own and (
            choice.backend == "torch" or not self._takes(x, hx, steps, batch, packed is not None)
        ):
            return self._as_given(super().forward(input, given), hx)
        if own and packed is None:
            self._check(x, given)
        return self._run(call, x, packed, hx, lengths, reset, choice.backend)

    def runs_as_one_operator(self) -> bool:
        """Whether torch.compile sees one operator of this layer, and not a loop over the steps
        unrolled.
        """
        weight = cast(Tensor, getattr(self, "weight_hh_l0"))  # noqa: B009
        call = Call(self.cell, zoneout=self.zoneout)
        return ops.choose(call, device=weight.device.type, dtype=weight.dtype).backend == "native"

    def __prepare_scriptable__(self) -> nn.Module:
        """What torch.jit.script compiles in this layer's place: torch's own, over the same
        parameters.
        """
        return torchs(self)

    def is_plain(self) -> bool:
        """Whether torch.nn has this layer."""
        return (
            self.cell in PLAIN
            and self.zoneout == (0.0, 0.0)
            and not (self.weight_drop or self.variational_dropout)
        )

    def _takes(self, x: Tensor, hx: Any, steps: int, batch: int, packed: bool) -> bool:
        """Whether shapes and types are those torch's layer runs. Where not, its forward says what
        is wrong.
        """
        batched = x.ndim == 3 or packed
        half = (torch.bfloat16,) if torch.is_autocast_enabled("cpu") else ()
        types = (cast(Tensor, getattr(self, "weight_ih_l0")).dtype, *half)  # noqa: B009
        fits = x.ndim == (2 if packed or not batched else 3) and x.shape[-1] == self.input_size
        if not (fits and steps > 0 and x.dtype in types):
            return False
        if hx is None:
            return True
        shapes = tuple(self._state_shapes(batch).values())
        given = (hx,) if len(shapes) == 1 and not isinstance(hx, State) else hx
        if not isinstance(given, (tuple, list)) or len(given) != len(shapes):
            return False
        return all(
            isinstance(s, Tensor)
            and s.shape == (shape if batched else (shape[0], shape[2]))
            and s.dtype in types
            and s.device == x.device
            for s, shape in zip(given, shapes, strict=True)
        )

    def _check(self, x: Tensor, hx: Any) -> None:
        """Torch's checks of input and states, for what torch's layers do not have."""
        self._update_flat_weights()
        x = x if x.ndim == 3 else x.unsqueeze(0 if self.batch_first else 1)
        if x.shape[1 if self.batch_first else 0] == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        if hx is None:
            self.check_input(x, None)
            return
        count = len(CELLS[self.cell].state)
        given = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        if len(given) != count:
            raise ValueError(
                f"hx: expected {', '.join(CELLS[self.cell].state)}, got {len(given)} tensors"
            )
        given = tuple(s if s.ndim == 3 else s[:, None] for s in given)
        self.check_forward_args(x, given if count > 1 else given[0], None)  # type: ignore[arg-type]

    def _run(
        self,
        call: Call,
        x: Tensor,
        packed: PackedSequence | None,
        hx: Any,
        lengths: Tensor | None,
        reset: Tensor | None,
        backend: str,
    ) -> Any:
        """The call by the backends of `memorycell.ops`, whose layout the input already has."""
        batched = x.ndim == 3
        if packed is not None:
            x, lengths = pad_packed_sequence(packed)
            lengths = lengths.to(x.device)
        elif not batched:
            x = x[None]
        if lengths is not None and not isinstance(lengths, Tensor):
            lengths = torch.as_tensor(lengths)
        batch, steps = (x.shape[1], x.shape[0]) if call.time_first else x.shape[:2]
        ops.check_options(call, batch, steps, lengths if packed is None else None, reset)
        if hx is None:
            state: Tensors = tuple(
                x.new_zeros(shape) for shape in self._state_shapes(batch).values()
            )
        else:
            state = (hx,) if isinstance(hx, Tensor) else tuple(hx)
            state = state if batched or packed is not None else tuple(s[:, None] for s in state)
        output, state, traces = self._stack(call, x, state, lengths, reset, backend)
        half = autocast_dtype(x.device.type)
        if half is not None and (
            self.mode == "GRU" or (self.mode == "LSTM" and packed is not None)
        ):
            half = x.dtype  # these are not on autocast's list in torch
        if half is not None:
            output = output.to(half)
            state = (
                state if isinstance(hx, State) else tuple(s.to(half) for s in state)
            )  # what we keep stays exact

        result: Any = output
        if packed is not None:
            assert lengths is not None
            order = packed.sorted_indices
            output = output if order is None else output.index_select(1, order)
            sizes = lengths if order is None else lengths.index_select(0, order)
            result = packed._replace(data=pack_padded_sequence(output, sizes.cpu()).data)
        elif not batched:
            result, state = output[0], tuple(s[:, 0] for s in state)
        final: Any = (
            self._as_state(state)
            if isinstance(hx, State)
            else state
            if len(state) > 1
            else state[0]
        )
        return (result, final, traces) if call.trace else (result, final)

    def _stack(
        self,
        call: Call,
        x: Tensor,
        state: Tensors,
        lengths: Tensor | None,
        reset: Tensor | None,
        backend: str,
    ) -> tuple[Tensor, Tensors, Trace]:
        finals: list[Tensors] = []
        traces: list[dict[str, Tensor]] = []
        calls = (call, replace(call, reverse=True)) if self.bidirectional else (call,)
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = F.dropout(x, self.dropout, self.training)
            x = variational_dropout(x, self.variational_dropout, self.training, call.time)
            outputs = []
            for direction, directed in zip(self.directions, calls, strict=True):
                params = self.layer_parameters(layer, direction)
                if self.weight_drop:
                    params["weight_hh"] = weight_drop(
                        params["weight_hh"], self.weight_drop, self.training
                    )
                row = tuple(s[len(finals)] for s in state)
                result = ops.recurrence(directed, x, params, row, lengths, reset, backend)
                outputs.append(result.output)
                finals.append(result.state)
                if result.trace is not None:
                    traces.append(_batch_first(result.trace) if call.time_first else result.trace)
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
        final = (
            finals[0]
            if len(finals) == 1
            else tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
        )
        final = tuple(s[None] for s in final) if len(finals) == 1 else final
        return x, final, tuple(traces)

    def _as_state(self, state: Tensors) -> State:
        return State(**dict(zip(CELLS[self.cell].state, state, strict=True)))

    def _as_given(self, result: Any, hx: Any) -> Any:
        """Torch's result, with a `State` where one was given."""
        if not isinstance(hx, State):
            return result
        output, final = result
        return output, self._as_state((final,) if isinstance(final, Tensor) else final)


def _batch_first(trace: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.transpose(0, 1) for name, value in trace.items()}


class LSTM(Recurrent, nn.LSTM):
    """Long short-term memory: a torch.nn.LSTM. See `Recurrent`; cells: lstm, peephole, coupled,
    layernorm.
    """

    cells = ("lstm", "peephole", "coupled", "layernorm")

    def __init__(self, *args: Any, cell: str = "lstm", **kwargs: Any) -> None:
        super().__init__(*args, cell=cell, **kwargs)


class GRU(Recurrent, nn.GRU):
    """Gated recurrent unit: a torch.nn.GRU. See `Recurrent`; cells: gru, gru_reset_before."""

    cells = ("gru", "gru_reset_before")

    def __init__(self, *args: Any, cell: str = "gru", **kwargs: Any) -> None:
        super().__init__(*args, cell=cell, **kwargs)


class RNN(Recurrent, nn.RNN):
    """The plain recurrent net: a torch.nn.RNN, whose fourth argument is the nonlinearity. See
    `Recurrent`.
    """

    cells = ("rnn", "rnn_relu")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        nonlinearity = args[3] if len(args) > 3 else kwargs.get("nonlinearity", "tanh")
        super().__init__(*args, cell="rnn_relu" if nonlinearity == "relu" else "rnn", **kwargs)


let_in(Recurrent)

PLAIN = ("lstm", "gru", "rnn", "rnn_relu")
"""The cells of torch.nn."""


def of_cell(
    cell: str, input_size: int, hidden_size: int, num_layers: int = 1, **options: Any
) -> Recurrent:
    """The layer that has this cell: an LSTM, a GRU or an RNN. Raises ValueError for a cell none of
    them has.
    """
    if cell in RNN.cells:
        nonlinearity = "relu" if cell == "rnn_relu" else "tanh"
        return RNN(input_size, hidden_size, num_layers, nonlinearity=nonlinearity, **options)
    return (GRU if cell in GRU.cells else LSTM)(
        input_size, hidden_size, num_layers, cell=cell, **options
    )
