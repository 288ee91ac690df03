"""Steps of modules whose state has spatial axes, for `Stream` and `Pool`."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from memorycell.errors import StateError
from memorycell.state import Layout, State


class SpatialLayout(Layout):
    """The layout of one session's state as a row of floats; its tensors are [R, B, …].

    shapes   name -> (R, …), the shape without the batch
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__({n: (shape[0], math.prod(shape[1:])) for n, shape in shapes.items()})
        self.shapes = dict(shapes)

    def state(self, rows: np.ndarray) -> State:
        """See `Layout`."""
        flat = super().state(rows).asdict()
        return State(**{n: v.reshape(*v.shape[:2], *self.shapes[n][1:]) for n, v in flat.items()})

    def rows(self, state: Tensor | Sequence[Tensor]) -> np.ndarray:
        """See `Layout`."""
        state = (state,) if isinstance(state, Tensor) else state
        named = (
            state.asdict()
            if isinstance(state, State)
            else dict(zip(self.shapes, state, strict=False))
        )
        found = {name: (tensor.shape[0], *tensor.shape[2:]) for name, tensor in named.items()}
        if found != self.shapes:
            raise StateError(
                f"state: expected {_text(self.shapes)}, got {_text(found)}; start a new state"
            )
        return super().rows(State(**{n: v.flatten(2) for n, v in named.items()}))


@runtime_checkable
class Packable(Protocol):
    """A part of a module that prepares its weights for single steps once, if asked."""

    def pack(self) -> None:
        """Prepare them; later changes of the parameters have no effect."""


class ConvStepper:
    """Steps a copy of a module with `initial_state()` and `forward(x [B, T, …], state) -> (y [B, T,
    …], state)` through its forward; see `streaming.stepping.Stepper`.

    shape   of an input, whose numbers a row holds in order

    Raises ValueError for another precision than float32.
    """

    def __init__(self, module: nn.Module, shape: tuple[int, ...], precision: str) -> None:
        if precision != "float32":
            raise ValueError(
                f"stream: precision={precision!r} needs the native engine; convolutions run in"
                " float32 through PyTorch"
            )
        self.module, self.shape, self.precision = _packed(module), shape, precision
        self.input_size = math.prod(shape)
        state: State = module.initial_state()  # type: ignore[operator]
        self.layout: Layout = SpatialLayout(
            {name: (t.shape[0], *t.shape[2:]) for name, t in state.asdict().items()}
        )
        self._batch_first = bool(getattr(module, "batch_first", True))

    def step_one(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """See `Stepper`. Steps whose states the ring is too short to store run one by one, too: a
        convolution may round differently for another number of frames.
        """
        outputs = []
        for step in x.reshape(-1, self.input_size):
            y, after = self._run(ring[row : row + 1], step[None])
            row = (row + 1) % len(ring)
            ring[row] = after[0]
            outputs.append(y[0])
        return (np.stack(outputs) if x.ndim == 2 else outputs[0]), row

    def step_many(self, block: np.ndarray, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See `Stepper`."""
        if len(rows) and (
            rows.min() < 0 or rows.max() >= len(block) or len(np.unique(rows)) < len(rows)
        ):
            raise ValueError(f"rows: expected distinct rows in 0..{len(block) - 1}")
        y, after = self._run(block[rows], x)
        block[rows] = after
        return y

    @torch.inference_mode()
    def _run(self, rows: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One step of rows [n, width] with inputs [n, I]."""
        like = next(self.module.parameters())
        tensors = self.layout.state(rows).asdict()
        state = State(**{name: tensor.to(like) for name, tensor in tensors.items()})
        frames = torch.from_numpy(x).to(like).reshape(len(x), *self.shape)
        axis = 1 if self._batch_first else 0
        y, after = self.module(frames.unsqueeze(axis), state)
        return y.select(axis, 0).float().cpu().numpy(), self.layout.rows(after)


def _packed(module: nn.Module) -> nn.Module:
    """A copy of a module with the weights of its parts prepared for single steps."""
    own = copy.deepcopy(module).eval().requires_grad_(False)
    for part in own.modules():
        if isinstance(part, Packable):
            part.pack()
    return own


def _text(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{n}={[shape[0], 'B', *shape[1:]]}" for n, shape in shapes.items())
