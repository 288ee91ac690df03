"""A forecaster that returns the parameters of its distributions, for comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from memorycell.applications.forecast.head import Told
from memorycell.applications.forecast.model import Forecaster, ForecasterStepper
from memorycell.models.model import SteppedModel
from memorycell.state import State
from memorycell.streaming.stepping import Stepper


class ForecasterParams(SteppedModel[Any]):
    """The same model and state with the output [..., horizon, targets, P]: the median, the unit of
    its window and the parameters of the spread.

    Counts are rounded, and the outer quantiles of a heavy tail multiply every difference; a
    tolerance for hidden states applies to the parameters.
    """

    kind = "forecaster"

    def __init__(self, model: Forecaster) -> None:
        super().__init__()
        self.model, self.config, self.recurrent = model, model.config, model.recurrent

    def initial_state(self, batch_size: int = 1) -> State:
        """See `Forecaster`."""
        return self.model.initial_state(batch_size)

    def forward(
        self, x: Tensor, state: State | None = None, *, backend: str | None = None
    ) -> tuple[Tensor, State]:
        """X [B, T, F] -> (parameters [B, T, horizon, targets, P], state)."""
        params, state = self.model.told(x, state, backend=backend)
        unit = torch.as_tensor(params.unit).expand_as(params.middle)
        parts = [params.middle[..., None], unit[..., None], params.spread[..., 1:]]
        return torch.cat(parts, -1), state

    def native_stepper(self, precision: str) -> Stepper:
        """See `SteppedModel`."""
        return ForecasterStepper(self.model, precision, output=_stacked)


def _stacked(params: Told) -> np.ndarray:
    unit = np.broadcast_to(np.float32(params.unit), params.middle.shape)
    parts = [params.middle[..., None], unit[..., None], params.spread[..., 1:]]
    return np.concatenate(parts, -1)
