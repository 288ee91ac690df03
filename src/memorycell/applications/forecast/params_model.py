"""A forecaster that returns the parameters of its distributions, for comparisons."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from memorycell.applications.forecast.arrays import A, concatenate, expand_like
from memorycell.applications.forecast.head import ForecastParams
from memorycell.applications.forecast.model import Forecaster
from memorycell.applications.forecast.stepper import ForecasterStepper
from memorycell.models.model import SteppedModel
from memorycell.state import State
from memorycell.streaming.stepping import Stepper


class ForecasterParams(SteppedModel[Any]):
    """The same model and state with the output [..., horizon, targets, P]: the location, the scale
    parameters and the unit.

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
        params, state = self.model.params(x, state, backend=backend)
        return stack_params(params), state

    def native_stepper(self, precision: str) -> Stepper:
        """See `SteppedModel`."""
        return ForecasterStepper(self.model, precision, output=stack_params)


def stack_params(params: ForecastParams[A]) -> A:
    """[..., horizon, targets, P]; without the unit where windows are not normalised."""
    location, scale, unit = params
    parts = [location[..., None], scale[..., 1:]]
    if unit is not None:
        parts.append(expand_like(unit, location)[..., None])
    return concatenate(parts)
