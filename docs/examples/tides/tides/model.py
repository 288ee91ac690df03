"""The model: recurrent layers and a linear head that predicts the next change.

ŷ_{t+1} = x_t + w · h_t + b
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from memorycell.models.batches import LaneBatch
from memorycell.models.exporting import OnnxGraph
from memorycell.models.model import Model, ModelConfig
from memorycell.state import State
from memorycell.streaming.stepping import ForwardStepper, Stepper


@dataclass(frozen=True, kw_only=True)
class TideConfig(ModelConfig):
    """The sizes of the recurrent layers; see `ModelConfig`."""


class TideModel(Model[LaneBatch]):
    """Inputs [B, T, 1] -> the next input after every step, [B, T, 1]."""

    kind = "tide"
    config_class = TideConfig

    def __init__(self, config: TideConfig) -> None:
        super().__init__()
        self.config = config
        self.recurrent = config.stack(1)
        self.head = nn.Linear(config.hidden_size, 1)

    def initial_state(self, batch_size: int = 1) -> State:
        """Zeros."""
        return self.recurrent.initial_state(batch_size)

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        *,
        reset: Tensor | None = None,
        backend: str | None = None,
    ) -> tuple[Tensor, State]:
        """(predictions [B, T, 1], the state afterwards)"""
        state = self.initial_state(len(x)) if state is None else state
        hidden, state = self.recurrent(x, state, reset=reset, backend=backend)
        return x + self.head(hidden), state

    def loss(self, batch: LaneBatch, state: State | None) -> tuple[Tensor, State | None]:
        """Mean squared error over the known targets."""
        y, state = self(batch.x, state, reset=batch.reset)
        known = ~batch.target.isnan()
        return ((y - batch.target)[known] ** 2).mean(), state

    def stepper(self, precision: str = "float32") -> Stepper:
        """One step at a time, through `forward`."""
        if precision != "float32":
            raise ValueError(f"stream: {self.unsupported_reason()}")
        return ForwardStepper(self, 1)

    def onnx_head(self) -> TideOnnxHead:
        """See `Model`."""
        return TideOnnxHead(self)


class TideOnnxHead:
    """See `OnnxHead`."""

    tokens = False
    output_name = "level"
    output_shape = (1,)

    def __init__(self, model: TideModel) -> None:
        self.recurrent, self.head = model.recurrent, model.head

    def write_input(self, graph: OnnxGraph, x: str) -> str:
        """The input is read unchanged."""
        return x

    def write_output(
        self, graph: OnnxGraph, x: str, hidden: str, state: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        """x + w h + b; there is no state but that of the recurrent layers."""
        change = graph.op("MatMul", hidden, graph.constant(self.head.weight.T))
        change = graph.op("Add", change, graph.constant(self.head.bias))
        return graph.op("Add", x, change), {}


@torch.inference_mode()
def predictions(model: TideModel, x: Tensor) -> Any:
    """The next input after every step of x [T, 1], as an array [T, 1]."""
    return model.eval()(x[None])[0][0].numpy()
