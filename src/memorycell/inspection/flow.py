"""Gradient flow in training: the gradient norm of every layer over the steps, and where it vanishes
or explodes.

    flow = GradientFlow(model)
    for batch in batches:
        loss(model, batch).backward()
        flow.record()          # before clipping and before the optimiser step
        optimizer.step()
    flow.figure()
"""

from __future__ import annotations

import math
import re
from collections import deque
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from memorycell.inspection.page import BLUE, GREEN, GREY, ORANGE, PURPLE, figure

if TYPE_CHECKING:
    import plotly.graph_objects as go

MAX_VANISHED_NORM = 1e-7
"""A gradient with a smaller norm has vanished."""
MIN_EXPLODED_RATIO = 100.0
"""A gradient with a norm larger than this many medians has exploded."""


class GradientFlow:
    """Records the gradient norm of every layer at every `every`-th step; keeps the last
    `max_records` records.
    """

    def __init__(self, model: nn.Module, every: int = 10, max_records: int = 2000) -> None:
        self.every, self.steps = every, 0
        self._groups: dict[str, list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                self._groups.setdefault(layer_name(name), []).append(parameter)
        self.records: deque[tuple[int, list[float]]] = deque(maxlen=max_records)
        """(step, norm of each layer)"""

    @property
    def layers(self) -> list[str]:
        """Layer names in the order of the norms."""
        return list(self._groups)

    def record(self) -> None:
        """Record the current gradients."""
        if self.steps % self.every == 0:
            norms = []
            for parameters in self._groups.values():
                grads = [p.grad for p in parameters if p.grad is not None]
                norms.append(
                    torch.stack(torch._foreach_norm(grads)).norm()
                    if grads
                    else parameters[0].new_zeros(())
                )
            self.records.append((self.steps, torch.stack(norms).tolist()))
        self.steps += 1

    def summary(self, since: int = 0) -> dict[str, dict[str, float]]:
        """Layer -> median norm, and the shares of steps from `since` on at which the gradient
        vanished, exploded or was not finite.
        """
        rows = [norms for step, norms in self.records if step >= since]
        result = {}
        for k, name in enumerate(self.layers if rows else []):
            values = [row[k] for row in rows]
            finite = sorted(v for v in values if math.isfinite(v))
            median = finite[len(finite) // 2] if finite else math.nan
            max_norm = MIN_EXPLODED_RATIO * max(median, MAX_VANISHED_NORM)
            result[name] = {
                "median": median,
                "vanished": sum(v < MAX_VANISHED_NORM for v in finite) / len(values),
                "exploded": sum(v > max_norm for v in finite) / len(values),
                "not_finite": 1 - len(finite) / len(values),
            }
        return result

    def figure(self) -> go.Figure:
        """Gradient norm of every layer against the training step."""
        steps = [step for step, _ in self.records]
        return flow_figure(
            {
                name: (steps, [norms[k] for _, norms in self.records])
                for k, name in enumerate(self.layers)
            },
            "training step",
        )


def flow_figure(lines: dict[str, tuple[list[int], list[float]]], axis: str) -> go.Figure:
    """Layer -> (steps, norms), on a logarithmic scale."""
    fig = figure(360)
    for (name, (steps, norms)), colour in zip(
        lines.items(), (BLUE, ORANGE, GREEN, PURPLE, GREY) * 9, strict=False
    ):
        y: list[Any] = [v if math.isfinite(v) and v > 0 else None for v in norms]
        fig.add_scatter(x=steps, y=y, name=name, mode="lines", line={"color": colour})
    fig.update_xaxes(title=axis)
    fig.update_yaxes(title="gradient norm", type="log", exponentformat="power")
    return fig


def layer_name(parameter: str) -> str:
    """The layer of a parameter: "encoder.rnn.weight_hh_l1" -> "encoder.rnn layer 2"; "out.bias" ->
    "out".
    """
    match = re.fullmatch(r"(?:(.*)\.)?\w+_l(\d+)(_reverse)?", parameter)
    if match:
        module, index, reverse = match.groups()
        return f"{module or ''} layer {int(index) + 1}{' backwards' if reverse else ''}".strip()
    return parameter.rpartition(".")[0] or parameter
