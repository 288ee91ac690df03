"""Gradient flow while training: how large the gradient of every layer is, step after step, and
where it vanishes or explodes.

flow = GradientFlow(model)
for batch in batches:
loss(model, batch).backward()
flow.see()                      # before clipping and before the optimiser's step
optimiser.step()
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

VANISHED, EXPLODED = 1e-7, 100.0
"""A norm below the first, or that many times the usual, counts as vanished or exploded."""


class GradientFlow:
    """Keeps the norm of every layer's gradient at every `every`-th step, the last `longest` of
    them.
    """

    def __init__(self, model: nn.Module, every: int = 10, longest: int = 2000) -> None:
        self.every, self.steps = every, 0
        self._groups: dict[str, list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                self._groups.setdefault(layer_of(name), []).append(parameter)
        self.seen: deque[tuple[int, list[float]]] = deque(maxlen=longest)
        """(step, norm of each layer)"""

    @property
    def layers(self) -> list[str]:
        """Their names, in order."""
        return list(self._groups)

    def see(self) -> None:
        """Note the gradients as they are now."""
        if self.steps % self.every == 0:
            norms = []
            for parameters in self._groups.values():
                grads = [p.grad for p in parameters if p.grad is not None]
                norms.append(
                    torch.stack(torch._foreach_norm(grads)).norm() if grads else torch.zeros(())
                )
            self.seen.append((self.steps, torch.stack(norms).tolist()))
        self.steps += 1

    def summary(self, since: int = 0) -> dict[str, dict[str, float]]:
        """Layer -> median norm, and the shares of steps at which it vanished, exploded or was not
        finite.
        """
        rows = [norms for step, norms in self.seen if step >= since]
        found = {}
        for k, name in enumerate(self.layers if rows else []):
            values = [row[k] for row in rows]
            finite = sorted(v for v in values if math.isfinite(v))
            usual = finite[len(finite) // 2] if finite else math.nan
            found[name] = {
                "median": usual,
                "vanished": sum(v < VANISHED for v in finite) / len(values),
                "exploded": sum(v > EXPLODED * max(usual, VANISHED) for v in finite) / len(values),
                "not_finite": 1 - len(finite) / len(values),
            }
        return found

    def figure(self) -> go.Figure:
        """Norm of every layer's gradient against the training step."""
        steps = [step for step, _ in self.seen]
        return flow_figure(
            {name: (steps, [n[k] for _, n in self.seen]) for k, name in enumerate(self.layers)},
            "training step",
        )


def flow_figure(lines: dict[str, tuple[list[int], list[float]]], axis: str) -> go.Figure:
    """Layer -> (steps, norms), on a logarithmic scale."""
    fig = figure(360)
    for (name, (steps, norms)), colour in zip(
        lines.items(), (BLUE, ORANGE, GREEN, PURPLE, GREY) * 9, strict=False
    ):
        shown: list[Any] = [v if math.isfinite(v) and v > 0 else None for v in norms]
        fig.add_scatter(x=steps, y=shown, name=name, mode="lines", line={"color": colour})
    fig.update_xaxes(title=axis)
    fig.update_yaxes(title="norm of the gradient", type="log", exponentformat="power")
    return fig


def layer_of(name: str) -> str:
    """A parameter's layer: "encoder.rnn.weight_hh_l1" -> "encoder.rnn layer 2"; other modules by
    their name.
    """
    found = re.fullmatch(r"(?:(.*)\.)?\w+_l(\d+)(_reverse)?", name)
    if found:
        stack, place, reverse = found.groups()
        return f"{stack or ''} layer {int(place) + 1}{' backwards' if reverse else ''}".strip()
    return name.rpartition(".")[0] or name
