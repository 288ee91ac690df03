"""What steps a live sequence: a layer or a model made ready, with the state of a session as a row
of floats.

`stepper(module, precision)` gives one of three: layers on the native engine, anything else through
the module's own forward, or what a module makes itself (`Model.stepper`).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from memorycell.cells import Params
from memorycell.nn.adopt import view
from memorycell.nn.layers import Recurrent
from memorycell.ops.step import StackStep, unsupported_reason
from memorycell.state import Layout, State


class Stepper(Protocol):
    """Steps sessions whose states are rows [width] of float32; see `Layout`. It keeps nothing
    between two calls.
    """

    layout: Layout
    precision: str
    input_size: int

    def walk(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """One session: x [I] -> y [...], or several steps, x [T, I] -> y [T, ...]; and the row of
        its state afterwards.

        ring [R, width], row: where the state is. Each step leaves the row before it as it was and
        writes the next one of the ring, unless there is but one.
        """

    def many(self, block: np.ndarray, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The sessions in `rows` [n] int64 of block [capacity, width], each at most once: x [n, I]
        -> y [n, ...].

        Raises ValueError for a row out of range or named twice, and has then changed nothing.
        """


def stepper(module: nn.Module, precision: str = "float32") -> Stepper:
    """Make a layer (ours or torch's) or a `Model` ready to step, in evaluation mode; later changes
    of its weights are not seen.

    Raises ValueError for a bidirectional layer, whose backward half needs the future, and where
    only the native engine has the precision and cannot run the module; TypeError for anything else.
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
        made: Stepper = module.stepper(precision)  # type: ignore[operator]
        return made
    reason = unsupported_reason(module.cell, layers(module))
    if reason is None:
        return LayerStepper(module, precision)
    if precision != "float32":
        raise ValueError(f"stream: precision={precision!r} needs the native engine; {reason}")
    return ForwardStepper(module, module.input_size)


class WeightGuard:
    """Refuses to step with weights that may have changed since they were packed.

    No counter of PyTorch's tells (`Tensor._version` misses fused optimisers, `.data`, numpy and
    other processes), but weights are trained in training mode: a module that was put into it since
    is asked to be packed again.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._layer = next((m for m in module.modules() if isinstance(m, Recurrent)), None)
        self._trainings = 0 if self._layer is None else self._layer.trainings

    def check(self) -> None:
        """Raises RuntimeError where the module is, or was, in training mode."""
        if self._module.training or (
            self._layer is not None and self._layer.trainings != self._trainings
        ):
            raise RuntimeError(
                "the module was put into training mode after its weights were packed, so that they"
                " may be others now; call module.eval(), then refresh()"
            )


def layers(module: Recurrent) -> list[Params]:
    """The parameters of every layer, forward direction."""
    return [module.layer_parameters(k, "") for k in range(module.num_layers)]


class LayerStepper:
    """Recurrent layers on the native engine: a step costs what reading the weights costs."""

    def __init__(self, module: Recurrent, precision: str, further: int = 0) -> None:
        self.stack = StackStep(
            module.cell,
            layers(module),
            precision=precision,
            zoneout=module.zoneout,
            further=further,
        )
        self.layout, self.precision = self.stack.layout, precision
        self.input_size, self.output_size = self.stack.input_size, self.stack.hidden_size
        self.many = self.stack.many
        self._walk = self.stack.walk

    def walk(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """See `Stepper`."""
        y = np.empty((*x.shape[:-1], self.output_size), np.float32)
        return y, self._walk(ring, row, x, y)


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

    def walk(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """See `Stepper`."""
        steps = x.reshape(-1, self.input_size)
        ahead = (
            0 if len(ring) == 1 else max(0, len(steps) - len(ring) + 1)
        )  # those that no row would remember
        pieces = [steps[:ahead]] if ahead else []
        pieces += (
            [steps] if len(ring) == 1 else [steps[k : k + 1] for k in range(ahead, len(steps))]
        )
        y = []
        for piece in pieces:
            out, after = self._run(ring[row : row + 1], piece[None])
            row = (row + 1) % len(ring)
            ring[row] = after[0]
            y.append(out[0])
        result = np.concatenate(y)
        return (result if x.ndim == 2 else result[0]), row

    def many(self, block: np.ndarray, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See `Stepper`."""
        if len(rows) and (
            rows.min() < 0 or rows.max() >= len(block) or len(np.unique(rows)) < len(rows)
        ):
            raise ValueError(f"rows: expected different ones in 0..{len(block) - 1}")
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
