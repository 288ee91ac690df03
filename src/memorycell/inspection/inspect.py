"""Inspect a model: run it once and measure its gates, their saturation, and how far back it
remembers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from memorycell.cells import CELLS
from memorycell.inspection.horizon import (
    Horizon,
    forget_half_lives,
    gradient_horizon,
    occlusion_horizon,
)
from memorycell.inspection.page import Page, Section, named_figure
from memorycell.inspection.trace import LayerTrace, trace_layers
from memorycell.nn.layers import Recurrent, of_cell

if TYPE_CHECKING:
    import plotly.graph_objects as go

MAX_STEPS = 5000
"""Of longer inputs only the last steps are inspected."""
SIGMOID_GATES = "ifozr"
"""Range 0 … 1."""
CANDIDATES = "gn"
"""Range -1 … 1."""
MAX_CLOSED = 0.1
MIN_OPEN = 0.9
MAX_DEAD_ACTIVATION = 1e-3


@dataclass
class LayerReport:
    """Measurements of one layer in one direction.

    saturation   gate -> share of values below 0.1 and share above 0.9 (candidates g and n: below
                 -0.9 and above 0.9)
    dead         number of units with |h| < 0.001 at every step
    constant     number of units whose h varies by less than 0.001
    half_lives   [H] half-life of each unit's cell state in steps, from its forget gate; empty for
                 cells without one
    gradient     horizon of this layer alone, its h against its own input; None if the input is too
                 short
    occlusion    the same by occlusion; None also if the stack has only this layer
    """

    trace: LayerTrace
    saturation: dict[str, tuple[float, float]]
    dead: int
    constant: int
    half_lives: np.ndarray
    gradient: Horizon | None
    occlusion: Horizon | None = None

    @property
    def name(self) -> str:
        """Path of the layer in the model."""
        return self.trace.name

    def to_json(self) -> dict[str, Any]:
        """One entry of `Inspection.to_json()["layers"]`."""
        finite = self.half_lives[np.isfinite(self.half_lives)]
        half_life = None
        if len(finite):
            half_life = {"median": float(np.median(finite)), "longest": float(finite.max())}
        return {
            "name": self.name,
            "cell": self.trace.module.cell,
            "units": self.trace.units,
            "saturation": {
                gate: {"low": low, "high": high} for gate, (low, high) in self.saturation.items()
            },
            "dead": self.dead,
            "constant": self.constant,
            "forget_half_life": half_life,
            "horizon": {
                "gradient": _horizon_json(self.gradient),
                "occlusion": _horizon_json(self.occlusion),
            },
        }


@dataclass
class Inspection:
    """Result of `inspect`: `page()` is the HTML report, `to_json()` the numbers.

    layers                 one entry per layer and direction
    gradient, occlusion    horizon of the first stack, its last h against its first input; None if
                           the input is too short
    labels                 [T] names of the steps
    trained_on             training window in steps, if known
    history                training history, one entry per epoch; keys "gradient of LAYER" are drawn
    sections               of the application, at the beginning of the page
    """

    title: str
    layers: list[LayerReport]
    gradient: Horizon | None
    occlusion: Horizon | None
    labels: list[str]
    notes: list[str] = field(default_factory=list)
    trained_on: int | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """The memory horizon in one sentence."""
        if self.gradient is None:
            return "The input is too short to measure how far back this model remembers."
        amount = "more than" if self.gradient.truncated else "about"
        text = f"This model uses {amount} the last {self.gradient.span:,} steps"
        if self.trained_on:
            text += f"; it was trained on windows of {self.trained_on:,} steps"
        return f"{text}."

    @property
    def advice(self) -> list[str]:
        """Changes that the numbers suggest."""
        lines = [line for layer in self.layers for line in _layer_advice(layer)]
        window = self.trained_on
        if self.gradient is not None and window and self.gradient.span > 0.9 * window:
            lines.append(
                "the memory is as long as the training window; a longer window (bptt) may help"
            )
        return lines

    def unit_values(self, unit: int, gate: str = "h", layer: int = 0) -> list[tuple[str, float]]:
        """One unit's gate or state over the sequence: (label, value) of every step, for
        `Section.words`.
        """
        values = self.layers[layer].trace.gates[gate][0, :, unit]
        return list(zip(self.labels, values.tolist(), strict=True))

    def to_json(self) -> dict[str, Any]:
        """The JSON object of `memorycell inspect`."""
        return {
            "sentence": self.summary,
            "horizon": {
                "gradient": _horizon_json(self.gradient),
                "occlusion": _horizon_json(self.occlusion),
            },
            "trained_on": self.trained_on,
            "layers": [layer.to_json() for layer in self.layers],
            "advice": self.advice,
            "notes": self.notes,
        }

    def page(self) -> Page:
        """The report as one self-contained HTML page. Raises `UserError` without plotly."""
        from memorycell.inspection.report import inspection_page

        return inspection_page(self)

    def figures(self) -> dict[str, go.Figure]:
        """Name -> figure of the report: "memory horizon", "half-lives", "saturation", "gradient
        flow", and "gates", with "gates 2", … for further layers. Raises `UserError` without plotly.
        """
        return self.page().figures()

    def figure(self, name: str = "gates") -> go.Figure:
        """One of `figures`. Raises `UserError` for an unknown name, and without plotly."""
        return named_figure(self.figures(), name)


def inspect(
    model: nn.Module,
    *inputs: Any,
    labels: Sequence[str] = (),
    title: str = "Inside the gates",
    trained_on: int | None = None,
) -> Inspection:
    """Run a model once and inspect its recurrent layers.

    model        any module with recurrent layers, ours or torch's, in training or evaluation mode
    inputs       arguments of `model(*inputs)`. If the first is a tensor with three dimensions, only
                 its last 5,000 steps are used
    labels       [T] names of the steps, e.g. words or times; numbers by default
    trained_on   training window in steps, to compare the memory horizon with

    Raises ValueError for a model without recurrent layers and for inputs with NaN.
    """
    _check_finite(inputs)
    inputs, notes = _last_steps(model, inputs)
    if notes:
        labels = labels[-MAX_STEPS:]
    with torch.no_grad(), trace_layers(model) as traces:
        model(*inputs)
    if not traces:
        raise ValueError("inspect: the model called none of its recurrent layers")
    if all(bool((trace.gates["h"] == 0).all()) for trace in traces):
        notes.append("every hidden state is zero: check the input and that the model is trained")
    first = traces[0]
    if len(labels) != first.steps:
        labels = [str(k) for k in range(first.steps)]
    long_enough = first.inputs.shape[1] > 2
    if first.module.bidirectional:
        notes.append("the stack is bidirectional: distances in both directions are combined")
    return Inspection(
        title,
        [_layer_report(trace, traces) for trace in traces],
        gradient_horizon(first.module, first.inputs) if long_enough else None,
        occlusion_horizon(first.module, first.inputs) if long_enough else None,
        [str(label) for label in labels],
        notes,
        trained_on,
    )


def _check_finite(inputs: Sequence[Any]) -> None:
    for value in inputs:
        if isinstance(value, Tensor) and value.is_floating_point() and bool(value.isnan().any()):
            step = int(value.isnan().nonzero()[0, -2]) if value.ndim > 1 else 0
            raise ValueError(f"input: NaN at step {step}; fill or drop it first")


def _last_steps(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[str]]:
    """The inputs with at most `MAX_STEPS` steps, and a note if they were shortened."""
    if not inputs or not isinstance(inputs[0], Tensor) or inputs[0].ndim != 3:
        return inputs, []
    time_first = isinstance(model, (nn.LSTM, nn.GRU, nn.RNN, Recurrent)) and not model.batch_first
    axis = 0 if time_first else 1
    steps = inputs[0].shape[axis]
    if steps <= MAX_STEPS:
        return inputs, []
    last = inputs[0].narrow(axis, steps - MAX_STEPS, MAX_STEPS)
    return (last, *inputs[1:]), [f"only the last {MAX_STEPS:,} of {steps:,} steps were inspected"]


def _layer_report(trace: LayerTrace, traces: Sequence[LayerTrace]) -> LayerReport:
    saturation = {}
    cell = CELLS[trace.module.cell]
    for gate in cell.gates:
        value = trace.gates[gate]
        if gate in SIGMOID_GATES:
            saturation[gate] = (_share(value < MAX_CLOSED), _share(value > MIN_OPEN))
        elif gate in CANDIDATES and cell.recurrent:  # others are not bounded
            saturation[gate] = (_share(value < -MIN_OPEN), _share(value > MIN_OPEN))
    h = trace.gates["h"].flatten(0, 1)
    forget = trace.gates.get("f")
    below = [t for t in traces if t.module is trace.module and t.index == trace.index - 1]
    x = torch.cat([t.gates["h"] for t in below], -1) if below else trace.inputs
    layer = _single_layer(trace)
    measured = x.shape[1] > 2 and not trace.reverse
    return LayerReport(
        trace,
        saturation,
        int((h.abs().amax(0) < MAX_DEAD_ACTIVATION).sum()),
        int((h.amax(0) - h.amin(0) < MAX_DEAD_ACTIVATION).sum()),
        np.zeros(0) if forget is None else forget_half_lives(forget),
        gradient_horizon(layer, x) if measured else None,
        (
            occlusion_horizon(layer, x, samples=2, num_lags=8)
            if measured and trace.module.num_layers > 1
            else None
        ),
    )


def _share(mask: Tensor) -> float:
    return float(mask.float().mean())


def _single_layer(trace: LayerTrace) -> Recurrent:
    """The traced layer as a stack of one layer in one direction, sharing its parameters."""
    module = trace.module
    params = module.stored_parameters(trace.index, "_reverse" if trace.reverse else "")
    options: dict[str, Any] = {"proj_size": module.proj_size} if module.proj_size else {}
    layer = of_cell(
        module.cell,
        params["weight_ih"].shape[1],
        module.hidden_size,
        bias=module.bias,
        batch_first=True,
        zoneout=module.zoneout,
        heads=module.heads,
        device="meta",
        **options,
    )
    for name, value in params.items():
        setattr(layer, f"{name}_l0", nn.Parameter(value.detach(), requires_grad=False))
    return layer


def _layer_advice(layer: LayerReport) -> list[str]:
    lines = []
    closed, opened = layer.saturation.get("f", (0.0, 0.0))
    if closed > 0.5:
        lines.append(
            f"the forget gate is closed {closed:.0%} of the time, so little is kept; a larger"
            " forget_bias may help"
        )
    if opened > 0.95:
        lines.append(
            f"the forget gate is open {opened:.0%} of the time, so little is forgotten; longer"
            " training or resets may help"
        )
    if layer.dead:
        lines.append(
            f"{layer.dead} of {layer.trace.units} units never activate; a smaller hidden_size may"
            " suffice"
        )
    if layer.saturation.get("o", (0.0, 0.0))[0] > 0.8:
        lines.append("the output gate is closed most of the time; the layer contributes little")
    return [f"{layer.name}: {line}" for line in lines]


def _horizon_json(horizon: Horizon | None) -> dict[str, Any] | None:
    if horizon is None:
        return None
    half_life = horizon.half_life
    return {
        "half_life": None if half_life is None else round(half_life, 3),
        "uses": horizon.span,
        "cut": horizon.truncated,
    }
