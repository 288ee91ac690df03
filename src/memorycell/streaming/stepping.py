"""Steppers: layers and models prepared for single steps, with a session's state as a row of floats.

`stepper(module, precision)` returns one of three kinds: layers on the native engine, the module's
own forward, or the stepper that a model builds itself (`Model.stepper`).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy import empty
from torch import Tensor, nn

from memorycell.cells import Params
from memorycell.nn.adopt import view
from memorycell.nn.conv import ConvRecurrent
from memorycell.nn.layers import Recurrent
from memorycell.ops.step import StackStep, unsupported_reason
from memorycell.state import Layout, State
from memorycell.streaming.arguments import FLOAT32

BOUNDED_CELLS = {"rnn", "lstm", "peephole", "coupled", "layernorm", "gru"}
"""Cells whose state grows by at most 1 per step, whatever the input."""
MAX_BOUNDED_WEIGHT = 1e6


class Stepper(Protocol):
    """Steps sessions whose states are rows [width] of float32; see `Layout`. It has no state of its
    own between calls.
    """

    layout: Layout
    precision: str
    input_size: int

    def step_one(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """Step one session: x [I] -> y [...], or several steps, x [T, I] -> y [T, ...]; also
        returns the row of the new state.

        The state is in `row` of ring [R, width]. Each step writes the next row of the ring and does
        not change the previous one, unless there is only one.
        """

    def step_many(self, block: np.ndarray, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Step the sessions in `rows` [n] int64 of block [capacity, width], each at most once: x
        [n, I] -> y [n, ...].

        Raises ValueError for a row out of range or repeated; the block is then unchanged.
        """


def stepper(module: nn.Module, precision: str = "float32") -> Stepper:
    """The stepper of a layer (memorycell's or torch's) or a `Model`, which is put into evaluation
    mode; later changes of its weights have no effect.

    Raises ValueError for a bidirectional layer, whose backward half needs the future, and for a
    lower precision if the native engine cannot run the module; TypeError for another type.
    """
    if isinstance(module, nn.RNNBase):
        module = view(module.eval())
    if not isinstance(module, Recurrent) and not hasattr(module, "stepper"):
        raise TypeError(
            "stream: expected a recurrent layer, a model or a model file, got"
            f" {type(module).__name__}"
        )
    for layer in module.modules():
        if isinstance(layer, Recurrent) and layer.bidirectional:
            raise ValueError(
                "stream: a bidirectional layer needs the future and cannot run live; train one"
                " direction"
            )
    module.eval()
    if not isinstance(module, Recurrent):
        model_stepper: Stepper = module.stepper(precision)  # type: ignore[operator]
        return model_stepper
    reason = unsupported_reason(module.cell, layer_params(module))
    if reason is None:
        return LayerStepper(module, precision)
    if precision != "float32":
        raise ValueError(f"stream: precision={precision!r} needs the native engine; {reason}")
    return ForwardStepper(module, module.input_size)


class WeightGuard:
    """Refuses to step with weights that may have changed since they were packed.

    PyTorch has no reliable counter (`Tensor._version` misses fused optimisers, `.data`, numpy and
    other processes), but weights are trained in training mode. A module that was in training mode
    after packing must be packed again.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        counting = (m for m in module.modules() if isinstance(m, (Recurrent, ConvRecurrent)))
        self._layer = next(counting, None)
        self._train_calls = 0 if self._layer is None else self._layer.train_calls

    def check(self) -> None:
        """Raises RuntimeError if the module is, or was, in training mode."""
        if self._module.training or (
            self._layer is not None and self._layer.train_calls != self._train_calls
        ):
            raise RuntimeError(
                "the module was put into training mode after its weights were packed, so they may"
                " have changed; call module.eval(), then refresh()"
            )


def layer_params(module: Recurrent) -> list[Params]:
    """The parameters of every layer, forward direction."""
    return [module.layer_parameters(k, "") for k in range(module.num_layers)]


@runtime_checkable
class Bounded(Protocol):
    """A stepper of which no step overflows unless an input or a state is huge, if `bounded`; see
    `finite.safe_limit`.
    """

    bounded: bool


class LayerStepper:
    """Recurrent layers on the native engine: a step costs about as much as reading the weights. See
    `Bounded`.
    """

    def __init__(self, module: Recurrent, precision: str, extra_width: int = 0) -> None:
        self.stack = StackStep(
            module.cell,
            layer_params(module),
            precision=precision,
            zoneout=module.zoneout,
            extra_width=extra_width,
        )
        self.layout, self.precision = self.stack.layout, precision
        self.input_size, self.output_size = self.stack.input_size, self.stack.hidden_size
        self._output_shape = (self.output_size,)
        self.bounded = module.cell in BOUNDED_CELLS and all(
            bool(p.detach().abs().max() <= MAX_BOUNDED_WEIGHT)
            for params in layer_params(module)
            for p in params.values()
        )
        self.step_many = self.stack.step_many
        self._step_one, self._step_finite = self.stack.step_one, self.stack.step_finite

    def step_one(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """See `Stepper`."""
        size = self.output_size
        y = np.empty(size if x.ndim == 1 else (len(x), size), FLOAT32)
        return y, self._step_one(ring, row, x, y)

    def step_finite(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """See `finite.finite_step`: the engine checks the values while they are in its registers or
        the first cache.
        """
        y = empty(self._output_shape if x.ndim == 1 else (len(x), self.output_size), FLOAT32)
        return y, self._step_finite(ring, row, x, y)


class ForwardStepper:
    """Any module with `initial_state()` and `forward(x [B, T, I], state) -> (y [B, T, ...],
    state)`.
    """

    precision = "float32"

    def __init__(self, module: nn.Module, input_size: int) -> None:
        self.module, self.input_size = module, input_size
        state = module.initial_state()  # type: ignore[operator]
        self.layout = Layout({name: (t.shape[0], t.shape[2]) for name, t in state.asdict().items()})
        self._like: Tensor = state[0]
        self._batch_first = bool(getattr(module, "batch_first", True))

    def step_one(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """See `Stepper`."""
        steps = x.reshape(-1, self.input_size)
        if len(ring) == 1:
            chunks = [steps]
        else:  # the steps whose states the ring is too short to store run as one chunk
            start = max(0, len(steps) - len(ring) + 1)
            chunks = [steps[:start]] if start else []
            chunks += [steps[k : k + 1] for k in range(start, len(steps))]
        y = []
        for chunk in chunks:
            out, after = self._run(ring[row : row + 1], chunk[None])
            row = (row + 1) % len(ring)
            ring[row] = after[0]
            y.append(out[0])
        result = np.concatenate(y)
        return (result if x.ndim == 2 else result[0]), row

    def step_many(self, block: np.ndarray, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See `Stepper`."""
        if len(rows) and (
            rows.min() < 0 or rows.max() >= len(block) or len(np.unique(rows)) < len(rows)
        ):
            raise ValueError(f"rows: expected distinct rows in 0..{len(block) - 1}")
        y, after = self._run(block[rows], x[:, None])
        block[rows] = after
        return y[:, 0]

    @torch.inference_mode()
    def _run(self, rows: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        state = State(
            **{
                name: tensor.to(self._like)
                for name, tensor in self.layout.state(rows).asdict().items()
            }
        )
        inputs = torch.from_numpy(x).to(self._like)
        y, after = self.module(
            inputs if self._batch_first else inputs.transpose(0, 1),
            state if len(state) > 1 else state[0],
        )
        y = y if self._batch_first else y.transpose(0, 1)
        return y.float().cpu().numpy(), self.layout.rows(
            (after,) if isinstance(after, Tensor) else after
        )
