"""Recurrent: the implementation of LSTM, GRU and RNN on top of torch.nn's classes.

A call that torch.nn has uses PyTorch's own forward unless the native engine can run it: another
device or type, an empty batch, invalid arguments. Results and errors are then PyTorch's.
"""

from __future__ import annotations

from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from memorycell import ops
from memorycell.cells import CELLS, Tensors
from memorycell.nn.compiled import allow_in_dynamo
from memorycell.nn.inputs import (
    check_inputs,
    has_resets,
    is_valid_for_torch,
    is_valid_packing,
)
from memorycell.nn.interop import as_torch_layer, autocast_dtype, fx_leaf
from memorycell.nn.parameters import (
    add_cell_parameters,
    check_cell_options,
    dense_recurrent_weight,
    initialise,
)
from memorycell.nn.stack import run_stack
from memorycell.ops.call import Call
from memorycell.state import State

TORCH_CELLS = ("lstm", "gru", "rnn", "rnn_relu")
"""The cells that torch.nn has."""


class Recurrent(nn.RNNBase):
    """A stack of recurrent layers, in one direction or both. Use `LSTM`, `GRU` or `RNN`.

    The positional arguments, `device` and `dtype` are torch's, with torch's parameter names, shapes
    and errors; a state_dict can be loaded in both directions.

    cell                  a row of `memorycell.cells.CELLS`
    forget_bias           initial value of b_ih + b_hh of the forget gate (Gers et al. 2000; 1.0 is
                          usual); None keeps torch's initial values
    recurrent_init        "uniform" (torch's) or "orthogonal": each block of W_hh orthogonal (Saxe
                          et al. 2013)
    zoneout               probability, or a pair (h, c), that a unit keeps its value at a step
    weight_drop           probability that a recurrent weight is dropped for a full sequence
    variational_dropout   probability that a feature of a layer's input is dropped for a full
                          sequence
    heads                 slstm: W_hh connects only the units within each of `heads` groups
                          of H / heads, and its parameter is [4·H, H / heads]; mlstm: the number of
                          matrix memories, each [H / heads, H / heads]
    """

    cells: tuple[str, ...] = ()
    """The cells this class accepts; the plain one, torch's, first."""
    # Class defaults for adopted layers, whose __init__ was torch's: see nn/adopt.py.
    forget_bias: float | None = None
    recurrent_init: str = "uniform"
    zoneout: tuple[float, float] = (0.0, 0.0)
    weight_drop: float = 0.0
    variational_dropout: float = 0.0
    heads: int = 1
    train_calls: int = 0
    """How often the layer was put into training mode."""
    _has_cell_parameters: bool = True
    """Whether the cell's parameters exist: not when torch's __init__ calls `reset_parameters`."""

    def __init__(
        self,
        *args: Any,
        cell: str,
        forget_bias: float | None = None,
        recurrent_init: str = "uniform",
        zoneout: float | tuple[float, float] = 0.0,
        weight_drop: float = 0.0,
        variational_dropout: float = 0.0,
        heads: int = 1,
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
        self.heads = heads
        self._has_cell_parameters = cell in TORCH_CELLS
        super().__init__(*args, **kwargs)
        if forget_bias is not None and ("f" not in CELLS[cell].blocks or not self.bias):
            raise ValueError(
                f"forget_bias: the cell {cell!r} with bias={self.bias} has no forget gate bias"
            )
        check_cell_options(self)
        if cell not in TORCH_CELLS:
            add_cell_parameters(self)
            self._has_cell_parameters = True
            self.reset_parameters()

    # ---- parameters ------------------------------------------------------------------------------

    @property
    def output_size(self) -> int:
        """Features of h per direction: proj_size with projection, else hidden_size."""
        return self.proj_size or self.hidden_size

    @property
    def directions(self) -> tuple[str, ...]:
        """The suffixes of the parameter names, one per direction."""
        return ("", "_reverse") if self.bidirectional else ("",)

    def reset_parameters(self) -> None:
        """Set the initial values: torch's, then `recurrent_init` and `forget_bias`."""
        if self._has_cell_parameters:
            initialise(self)

    def layer_parameters(self, layer: int, direction: str) -> dict[str, Tensor]:
        """One layer's parameters in one direction as the cell reads them, named without suffix: an
        absent bias is a scalar zero, and the recurrent weights of heads are one matrix.
        """
        params = self.stored_parameters(layer, direction)
        if not self.bias:
            params["bias_ih"] = params["bias_hh"] = params["weight_ih"].new_zeros(())
        if self.heads > 1 and "weight_hh" in params:
            blocks = len(CELLS[self.cell].blocks)
            weight = params["weight_hh"]
            params["weight_hh"] = dense_recurrent_weight(weight, blocks, self.heads)
        return params

    def stored_parameters(self, layer: int, direction: str) -> dict[str, Tensor]:
        """One layer's parameters in one direction, named without suffix."""
        cell = CELLS[self.cell]
        names = [
            "weight_ih",
            "weight_hh",
            *(["weight_hr"] if self.proj_size else []),
            *cell.extra,
            *cell.matrices,
        ]
        names += ["bias_ih", "bias_hh"] if self.bias else []
        if not cell.recurrent:
            names = [name for name in names if not name.endswith("_hh")]
        suffix, known = f"_l{layer}{direction}", self._parameters
        # Ordinary parameters without Module.__getattr__, whose time counts in small calls.
        return {
            name: getattr(self, name + suffix) if value is None else value
            for name, value in ((name, known.get(name + suffix)) for name in names)
        }

    def extra_repr(self) -> str:
        """The arguments that differ from the defaults: torch's, then ours."""
        defaults: dict[str, Any] = {
            "cell": self.cell if self.cell in TORCH_CELLS else None,
            "forget_bias": None,
            "recurrent_init": "uniform",
            "zoneout": (0.0, 0.0),
            "weight_drop": 0.0,
            "variational_dropout": 0.0,
            "heads": 1,
        }
        changed = [
            f", {k}={getattr(self, k)!r}" for k, v in defaults.items() if getattr(self, k) != v
        ]
        return super().extra_repr() + "".join(changed)

    def train(self, mode: bool = True) -> Self:
        """As in torch. Calls with mode=True are counted for the holders of packed weights
        (`Stream`, `Pool`).
        """
        if mode:
            self.train_calls += 1
        return super().train(mode)

    # ---- the call --------------------------------------------------------------------------------

    def initial_state(self, batch_size: int = 1, *, like: Tensor | None = None) -> State:
        """Zeros: h [L·directions, B, H or P] and, if the cell has one, c [L·directions, B, H]; for
        other cells see `state_shapes`.
        """
        like = next(self.parameters()) if like is None else like
        return State(
            **{n: like.new_zeros(shape) for n, shape in self.state_shapes(batch_size).items()}
        )

    def state_shapes(self, batch: int) -> dict[str, tuple[int, int, int]]:
        """The shapes of the state's tensors by name."""
        rows = self.num_layers * len(self.directions)
        sizes = CELLS[self.cell].state_sizes(self.hidden_size, self.output_size, self.heads)
        return {name: (rows, batch, size) for name, size in sizes.items()}

    def forward(
        self,
        input: Tensor | PackedSequence,  # noqa: A002  torch's name, a keyword in user code
        hx: Any = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        trace: bool = False,
        backend: str | None = None,
    ) -> Any:
        """Run a full sequence.

        input     [T, B, I], [B, T, I] with batch_first, [T, I] unbatched, or a PackedSequence
        hx        (h_0, c_0), or h_0 for cells without a cell state: [L·directions, B, H],
                  [L·directions, H] unbatched
        lengths   [B] int64, or a list, 1..T, in any order; outputs past the length are zero and the
                  final state is the one at the length
        reset     [B, T] bool (for any batch_first): a new sequence begins at that step; neither
                  direction carries its state across
        trace     also return the gates and states of every step: one dict per layer and direction,
                  in the order of h_n, each value [B, T, H]
        backend   a name from `memorycell.ops.BACKENDS`; None selects one (see
                  `memorycell.explain`)

        Returns (output, (h_n, c_n)) like torch, (output, h_n) for cells without a cell state, and
        with `trace` the trace as a third value. The output is contiguous, [T, B, directions·H] or
        laid out like the input. If hx is a `State`, so is the final state.

        Raises what torch's layers raise for the same error, and ValueError for an invalid argument
        that torch does not have.
        """
        if not isinstance(input, (Tensor, PackedSequence)):
            return (
                fx_leaf(self, input, hx) if hasattr(input, "tracer") else super().forward(input, hx)
            )
        packed = input if isinstance(input, PackedSequence) else None
        if packed is not None and lengths is not None:
            raise ValueError("lengths: a PackedSequence has its own; pass only one of them")
        if reset is not None and not has_resets(reset):
            reset = None
        extended = not (lengths is None and reset is None and not trace and self.is_plain())
        x = input.data if isinstance(input, PackedSequence) else input
        if x.ndim not in (2, 3):
            return super().forward(input, hx)  # raises
        weight = cast(Tensor, getattr(self, "weight_ih_l0"))  # noqa: B009  the parameters have no declared names
        if not extended and hasattr(type(weight), "handled_functions"):
            # The expanded weights of torch.nn.utils' per-sample gradients.
            return super().forward(input, hx)
        if packed is not None:
            if not is_valid_packing(packed):
                if extended:
                    raise ValueError("input: the PackedSequence's batch sizes do not fit its data")
                return super().forward(input, hx)
            steps, batch = len(packed.batch_sizes), int(packed.batch_sizes[0])
        elif x.ndim == 2:
            steps, batch = x.shape[0], 1
        else:
            steps, batch = (x.shape[1], x.shape[0]) if self.batch_first else x.shape[:2]
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
        torch_hx = hx[0] if isinstance(hx, State) and len(hx) == 1 else hx
        if not extended and (
            choice.backend == "torch"
            or steps == 0
            or not is_valid_for_torch(self, x, hx, batch, packed is not None)
        ):
            return self._with_state_type(super().forward(input, torch_hx), hx)
        if extended and packed is None:
            check_inputs(self, x, torch_hx)
        return self._run(call, x, packed, hx, lengths, reset, choice.backend)

    def runs_as_one_operator(self) -> bool:
        """Whether torch.compile sees this layer as one operator, or as a few for all steps, not as
        an unrolled loop over the steps.
        """
        weight = cast(Tensor, getattr(self, "weight_ih_l0"))  # noqa: B009
        call = Call(self.cell, zoneout=self.zoneout)
        choice = ops.choose(call, device=weight.device.type, dtype=weight.dtype)
        return choice.backend == "native" or ops.runs_all_steps_at_once(call)

    def __prepare_scriptable__(self) -> nn.Module:
        """The layer that torch.jit.script compiles: torch's own, with the same parameters."""
        return as_torch_layer(self)

    def is_plain(self) -> bool:
        """Whether torch.nn has an equivalent layer."""
        return (
            self.cell in TORCH_CELLS
            and self.zoneout == (0.0, 0.0)
            and not (self.weight_drop or self.variational_dropout)
        )

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
        """Run the call on a backend of `memorycell.ops`."""
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
            shapes = tuple(self.state_shapes(batch).values())
            zeros = x.new_zeros(shapes[0])  # only read: one for all states of this shape
            state: Tensors = tuple(
                zeros if shape == shapes[0] else x.new_zeros(shape) for shape in shapes
            )
        else:
            state = (hx,) if isinstance(hx, Tensor) else tuple(hx)
            state = state if batched or packed is not None else tuple(s[:, None] for s in state)
        output, state, traces = run_stack(self, call, x, state, lengths, reset, backend)
        half = autocast_dtype(x.device.type)
        if half is not None and (
            self.mode == "GRU" or (self.mode == "LSTM" and packed is not None)
        ):
            half = x.dtype  # torch's autocast does not cover these
        if half is not None:
            output = output.to(half)
            if not isinstance(hx, State) and len(state) < 3:  # others stay in float32
                state = tuple(s.to(half) for s in state)
        result: Any = output
        if packed is not None:
            assert lengths is not None
            order = packed.sorted_indices
            output = output if order is None else output.index_select(1, order)
            sizes = lengths if order is None else lengths.index_select(0, order)
            result = packed._replace(data=pack_padded_sequence(output, sizes.cpu()).data)
        elif not batched:
            result, state = output[0], tuple(s[:, 0] for s in state)
        final: Any = state if len(state) > 1 else state[0]
        if isinstance(hx, State):
            final = self._as_state(state)
        return (result, final, traces) if call.trace else (result, final)

    def _as_state(self, state: Tensors) -> State:
        return State(**dict(zip(CELLS[self.cell].state, state, strict=True)))

    def _with_state_type(self, result: Any, hx: Any) -> Any:
        """Torch's result, with the final state as a `State` if hx is one."""
        if not isinstance(hx, State):
            return result
        output, final = result
        states = (final,) if isinstance(final, Tensor) else final
        return output, self._as_state(tuple(s.to(hx[0].dtype) for s in states))


allow_in_dynamo(Recurrent)
