"""A recurrent policy on the native engine, one step at a time."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy import empty, maximum, minimum
from torch import Tensor, nn

from memorycell.applications.control.actions import mean_outputs
from memorycell.models.members import Average
from memorycell.nn.layers import Recurrent
from memorycell.ops.step import LinearStep
from memorycell.streaming.arguments import FLOAT32
from memorycell.streaming.stepping import LayerStepper

if TYPE_CHECKING:
    from memorycell.applications.control.model import Member, RecurrentPolicy
    from memorycell.applications.control.scaling import Scaling


FOLDED_CELLS = ("lstm", "peephole", "coupled", "gru", "gru_reset_before", "rnn", "rnn_relu")
"""Cells that read W x + b of their inputs as it is: not layernorm, which normalises it."""


class PolicyStepper:
    """See `Stepper`; y is an output of `Policy.forward` for one network, the most likely action or
    the scores.

    network   of `policy.networks`

    In float32 the scaling of observations is part of the weights of the first layer. In lower
    precisions, whose inputs have one scale per step, observations are scaled first, so that small
    ones are not lost among large ones.
    """

    def __init__(
        self, policy: RecurrentPolicy, precision: str, network: RecurrentPolicy | Member
    ) -> None:
        config = policy.config
        self.precision, self.input_size = precision, config.input_size
        self._folded = precision == "float32" and config.cell in FOLDED_CELLS
        recurrent = network.recurrent
        layers = _folded(recurrent, policy.scaling) if self._folded else recurrent
        self._layers = LayerStepper(layers, precision)
        self.layout, self.bounded = self._layers.layout, self._layers.bounded
        self._walk = self._layers.stack.step_one
        self._hidden_shape = (1, config.hidden_size)
        self._mean = policy.scaling.mean.numpy().copy()
        self._std = policy.scaling.std.numpy().copy()
        self._head = LinearStep(*_scaled_head(policy, network))
        self._bounds = None if config.choices else _bounds(policy)
        self._merged, self._size = policy.merged, config.outputs
        self._average = average_of(policy)

    def step_one(self, ring: np.ndarray, row: int, x: np.ndarray) -> tuple[np.ndarray, int]:
        """See `Stepper`."""
        if x.ndim == 1:
            hidden = empty(self._hidden_shape, FLOAT32)
            row = self._walk(ring, row, self._inputs(x[None]), hidden)
            return self._output(hidden)[0], row
        hidden, row = self._layers.step_one(ring, row, self._inputs(x))
        return self._output(hidden), row

    def step_many(self, block: np.ndarray, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See `Stepper`."""
        return self._output(self._layers.step_many(block, rows, self._inputs(x)))

    def _inputs(self, x: np.ndarray) -> np.ndarray:
        return x if self._folded else (x - self._mean) / self._std

    def _output(self, hidden: np.ndarray) -> np.ndarray:
        if self._merged == 1:
            return self._bounded(self._head(hidden))
        parts = self._head(hidden).reshape(len(hidden), self._merged, self._size)
        return np.asarray(self._average([self._bounded(part) for part in np.moveaxis(parts, 1, 0)]))

    def _bounded(self, y: np.ndarray) -> np.ndarray:
        if self._bounds is not None:
            maximum(y, self._bounds[0], out=y)
            minimum(y, self._bounds[1], out=y)
        return y


def average_of(policy: RecurrentPolicy) -> Average:
    """Averages the outputs of `PolicyStepper` of all networks, as `Policy.forward` does."""
    choices = policy.config.choices
    if choices:
        return lambda y: mean_outputs([torch.from_numpy(one) for one in y], choices).numpy()
    low, high = _bounds(policy)
    return lambda y: np.asarray(np.mean(y, 0).clip(low, high))


def _bounds(policy: RecurrentPolicy) -> tuple[np.ndarray, np.ndarray]:
    return np.array(policy.config.low, np.float32), np.array(policy.config.high, np.float32)


def _folded(recurrent: Recurrent, scaling: Scaling) -> Recurrent:
    """The layers for observations that are not scaled: W' = W / std, b' = b - W mean / std."""
    params = {name: p.detach().clone() for name, p in recurrent.named_parameters()}
    weight = params["weight_ih_l0"].double() / scaling.std.double()
    bias = params["bias_ih_l0"].double() - weight @ scaling.mean.double()
    params["weight_ih_l0"], params["bias_ih_l0"] = weight.float(), bias.float()
    return _with_parameters(recurrent, params)


def _with_parameters(recurrent: Recurrent, params: dict[str, Tensor]) -> Recurrent:
    other = copy.copy(recurrent)
    other._parameters = {name: nn.Parameter(value) for name, value in params.items()}
    return other


def _scaled_head(
    policy: RecurrentPolicy, network: RecurrentPolicy | Member
) -> tuple[Tensor, Tensor]:
    """Weight and bias of the actor, of numbers in units of the environment."""
    weight, bias = network.actor.weight.detach(), network.actor.bias.detach()
    if policy.config.choices:
        return weight, bias
    middle, half = (weight.new_tensor(bound).repeat(policy.merged) for bound in policy.bounds())
    return half[:, None] * weight, half * bias + middle
