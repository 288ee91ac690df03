"""Inside a model: gates over time, what saturates, how far back it remembers. Numbers, figures and
a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from memorycell.cells import CELLS
from memorycell.inspection.flow import flow_figure
from memorycell.inspection.horizon import Horizon, by_gradient, by_occlusion, gate_half_lives
from memorycell.inspection.page import BLUE, GREEN, GREY, ORANGE, PURPLE, Section, figure, page
from memorycell.inspection.record import Recorded, recording
from memorycell.nn.layers import Recurrent, of_cell

if TYPE_CHECKING:
    import plotly.graph_objects as go

LONGEST = 5000
"""Steps that are looked at; of longer inputs the last."""
SHOWN_STEPS, SHOWN_UNITS = 140, 40
LOW, HIGH = 0.1, 0.9
NAMES = {
    "i": "input gate i",
    "f": "forget gate f",
    "g": "candidate g",
    "o": "output gate o",
    "c": "cell state c",
    "h": "hidden state h",
    "r": "reset gate r",
    "z": "update gate z",
    "n": "candidate n",
}
GATES = "ifozr"
"""What lies between 0 and 1."""


@dataclass
class LayerReport:
    """One layer in one direction: what it did, in numbers.

    saturation   gate -> share of its values below 0.1 and above 0.9 (of g and n, beyond ±0.9)
    dead         units whose h never leaves 0 by more than 0.001; constant: whose h never changes by
                 more
    half_lives   [H] steps a unit keeps half of its cell, by its forget gate; empty for cells
                 without one
    horizon      of this layer alone, its h against its own input, by gradient; None where the input
                 is too short
    occlusion    the same by replacing one input; None too where the layer is the whole stack
    """

    recorded: Recorded
    saturation: dict[str, tuple[float, float]]
    dead: int
    constant: int
    half_lives: np.ndarray
    horizon: Horizon | None
    occlusion: Horizon | None = None


@dataclass
class Inspection:
    """What `inspect` found; `page()` draws it, `to_json()` tells it."""

    title: str
    layers: list[LayerReport]
    gradient: Horizon | None
    """Of the first stack as a whole: its last h against its first input."""
    occlusion: Horizon | None
    labels: list[str]
    notes: list[str] = field(default_factory=list)
    trained_on: int | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    """Of its training, an entry an epoch; what is named "gradient of …" is drawn."""

    @property
    def sentence(self) -> str:
        """The horizon in plain words."""
        if self.gradient is None:
            return "The input is too short to see how far back this model remembers."
        more = "more than " if self.gradient.cut else ""
        text = f"This model uses about the last {more}{self.gradient.uses:,} steps"
        return (
            f"{text}; it was trained on pieces of {self.trained_on:,}."
            if self.trained_on
            else f"{text}."
        )

    @property
    def advice(self) -> list[str]:
        """What the numbers suggest trying."""
        found = []
        for layer in self.layers:
            name, units = layer.recorded.name, layer.recorded.gates["h"].shape[2]
            low, high = layer.saturation.get("f", (0.0, 0.0))
            if low > 0.5:
                found.append(
                    f"{name}: the forget gate is shut {low:.0%} of the time: nothing is kept; a"
                    " larger forget_bias"
                )
            if high > 0.95:
                found.append(
                    f"{name}: the forget gate is open {high:.0%} of the time: nothing is forgotten;"
                    " longer training, or resets"
                )
            if layer.dead:
                found.append(
                    f"{name}: {layer.dead} of {units} units never speak: a smaller hidden_size"
                    " may do"
                )
            if layer.saturation.get("o", (0.0, 0.0))[0] > 0.8:
                found.append(
                    f"{name}: the output gate is shut most of the time: the layer is hardly used"
                )
        if (
            self.gradient is not None
            and self.trained_on
            and self.gradient.uses > 0.9 * self.trained_on
        ):
            found.append(
                "the memory reaches as far as the pieces it was trained on: longer pieces (bptt)"
                " may help"
            )
        return found

    def coloured(self, unit: int, gate: str = "h", layer: int = 0) -> list[tuple[str, float]]:
        """The sequence through one unit's gate or state: (label, value) of every step, for
        `Section.words`.
        """
        values = self.layers[layer].recorded.gates[gate][0, :, unit]
        return list(zip(self.labels, values.tolist(), strict=True))

    def to_json(self) -> dict[str, Any]:
        """The JSON object of `memorycell inspect`."""
        return {
            "sentence": self.sentence,
            "horizon": {"gradient": _horizon(self.gradient), "occlusion": _horizon(self.occlusion)},
            "trained_on": self.trained_on,
            "layers": [_layer_json(layer) for layer in self.layers],
            "advice": self.advice,
            "notes": self.notes,
        }

    def page(self) -> str:
        """The report, one self-contained HTML file."""
        sections = []
        if self.gradient is not None:
            sections.append(
                Section(
                    self.sentence,
                    "How strongly the last hidden state depends on an input so many steps before"
                    " it: by gradient, and by replacing that one input by the mean.",
                    horizon_figure(self),
                )
            )
        if any(len(layer.half_lives) for layer in self.layers):
            sections.append(_forgetting(self))
        sections.append(
            Section(
                "What saturates",
                "Share of all values near the ends of their range. A gate near 0 or 1 most of the"
                " time decides; one that never moves does nothing." + (" " if self.advice else ""),
                saturation_figure(self),
            )
        )
        if self.advice:
            sections.append(
                Section("What to try", table=[["finding"], *([line] for line in self.advice)])
            )
        flow = sorted(
            {name for entry in self.history for name in entry if name.startswith("gradient of ")}
        )
        if flow:
            epochs = list(range(1, len(self.history) + 1))
            lines = {
                n.removeprefix("gradient of "): (epochs, [e.get(n, 0.0) for e in self.history])
                for n in flow
            }
            sections.append(
                Section(
                    "How gradients flowed while it was trained",
                    "The median norm of every layer's gradient in each epoch, before clipping.",
                    flow_figure(lines, "epoch"),
                )
            )
        for layer in self.layers:
            steps = layer.recorded.gates["h"].shape[1]  # a decoder's are not those of the input
            sections += _gate_sections(
                layer, self.labels if steps == len(self.labels) else [str(k) for k in range(steps)]
            )
        count = len(self.layers)
        steps = self.layers[0].recorded.gates["h"].shape[1]
        lead = f"{count} recurrent layer{'s' if count > 1 else ''}; {steps:,} steps were looked at."
        return page(self.title, lead, sections, self.notes)


def inspect(
    model: nn.Module,
    *inputs: Any,
    labels: Sequence[str] = (),
    title: str = "Inside the gates",
    trained_on: int | None = None,
) -> Inspection:
    """Run a model and look inside its recurrent layers.

    model        any module with recurrent layers, ours or torch's, in training or evaluation mode
    inputs       what `model(*inputs)` is called with. Of more than 5,000 steps a layer or a `Model`
                 gets the last 5,000
    labels       [T] names of the steps: words, times; numbers where not given
    trained_on   steps it was trained on at a time, to compare its memory with

    Raises ValueError for a model without recurrent layers and for inputs with NaN.
    """
    notes = []
    for value in inputs:
        if isinstance(value, Tensor) and value.is_floating_point() and bool(value.isnan().any()):
            where = int(value.isnan().nonzero()[0, -2]) if value.ndim > 1 else 0
            raise ValueError(f"input: NaN at step {where}; fill or drop it first")
    time_first = isinstance(model, (nn.LSTM, nn.GRU, nn.RNN, Recurrent)) and not model.batch_first
    if inputs and isinstance(inputs[0], Tensor) and inputs[0].ndim == 3:
        axis = 0 if time_first else 1
        steps = inputs[0].shape[axis]
        if steps > LONGEST:
            inputs = (inputs[0].narrow(axis, steps - LONGEST, LONGEST), *inputs[1:])
            labels = labels[-LONGEST:]
            notes.append(f"the last {LONGEST:,} of {steps:,} steps were looked at")
    with torch.no_grad(), recording(model) as recorded:
        model(*inputs)
    if not recorded:
        raise ValueError("inspect: the model ran none of its recurrent layers")
    if all(bool((layer.gates["h"] == 0).all()) for layer in recorded):
        notes.append("every hidden state is zero: is the model trained, and is the input right?")
    steps = recorded[0].gates["h"].shape[1]
    names = (
        [str(label) for label in labels] if len(labels) == steps else [str(k) for k in range(steps)]
    )
    first = recorded[0]
    stack = first.layer
    enough = first.inputs.shape[1] > 2
    gradient = by_gradient(stack, first.inputs) if enough else None
    occlusion = by_occlusion(stack, first.inputs) if enough else None
    if stack.bidirectional:
        notes.append(
            "a bidirectional stack looks both ways: distances in both directions are taken together"
        )
    return Inspection(
        title,
        [_report(r, recorded) for r in recorded],
        gradient,
        occlusion,
        names,
        notes,
        trained_on,
    )


# ---- numbers -------------------------------------------------------------------------------------


def _report(recorded: Recorded, everything: Sequence[Recorded]) -> LayerReport:
    saturation = {}
    for name, value in recorded.gates.items():
        if name in GATES:
            saturation[name] = (
                float((value < LOW).float().mean()),
                float((value > HIGH).float().mean()),
            )
        elif name in "gn":
            saturation[name] = (
                float((value < -HIGH).float().mean()),
                float((value > HIGH).float().mean()),
            )
    h = recorded.gates["h"].flatten(0, 1)
    forget = recorded.gates.get("f")
    below = [r for r in everything if r.layer is recorded.layer and r.place == recorded.place - 1]
    x = torch.cat([r.gates["h"] for r in below], -1) if below else recorded.inputs
    alone, long_enough = _alone(recorded), x.shape[1] > 2 and not recorded.reverse
    return LayerReport(
        recorded,
        saturation,
        int((h.abs().amax(0) < 1e-3).sum()),
        int((h.amax(0) - h.amin(0) < 1e-3).sum()),
        np.zeros(0) if forget is None else gate_half_lives(forget),
        by_gradient(alone, x) if long_enough else None,
        (
            by_occlusion(alone, x, samples=2, lags=8)
            if long_enough and recorded.layer.num_layers > 1
            else None
        ),
    )


def _alone(recorded: Recorded) -> Recurrent:
    """The recorded layer as a stack of one, in one direction, sharing its parameters."""
    layer = recorded.layer
    params = layer.layer_parameters(recorded.place, "_reverse" if recorded.reverse else "")
    options: dict[str, Any] = {"proj_size": layer.proj_size} if layer.proj_size else {}
    made = of_cell(
        layer.cell,
        params["weight_ih"].shape[1],
        layer.hidden_size,
        bias=layer.bias,
        batch_first=True,
        zoneout=layer.zoneout,
        device="meta",
        **options,
    )
    for name, value in params.items():
        if value.ndim:
            setattr(made, f"{name}_l0", nn.Parameter(value.detach(), requires_grad=False))
    return made


def _horizon(value: Horizon | None) -> dict[str, Any] | None:
    if value is None:
        return None
    half = value.half_life
    return {
        "half_life": None if half is None else round(half, 3),
        "uses": value.uses,
        "cut": value.cut,
    }


def _layer_json(layer: LayerReport) -> dict[str, Any]:
    finite = layer.half_lives[np.isfinite(layer.half_lives)]
    forget = (
        {"median": float(np.median(finite)), "longest": float(finite.max())}
        if len(finite)
        else None
    )
    return {
        "name": layer.recorded.name,
        "cell": layer.recorded.layer.cell,
        "units": layer.recorded.gates["h"].shape[2],
        "saturation": {
            n: {"low": low, "high": high} for n, (low, high) in layer.saturation.items()
        },
        "dead": layer.dead,
        "constant": layer.constant,
        "forget_half_life": forget,
        "horizon": {"gradient": _horizon(layer.horizon), "occlusion": _horizon(layer.occlusion)},
    }


def similar_states(
    states: Tensor, step: int, count: int = 5, apart: int = 5
) -> list[tuple[int, float]]:
    """The steps whose state [T, H] is most like that of `step`, by cosine: (step, similarity), each
    `apart` from others.
    """
    values = torch.nn.functional.normalize(states - states.mean(0), dim=-1)
    closeness = values @ values[step]
    found: list[tuple[int, float]] = []
    for k in closeness.argsort(descending=True).tolist():
        if all(abs(k - other) >= apart for other in (step, *(f[0] for f in found))):
            found.append((k, float(closeness[k])))
        if len(found) == count:
            break
    return found


def unit_order(values: np.ndarray) -> np.ndarray:
    """Units of [T, H] ordered so that those that move together stand together: by angle in the two
    main directions.
    """
    centred = values - values.mean(0)
    scale = centred.std(0)
    _, _, directions = np.linalg.svd(
        centred / np.where(scale > 1e-9, scale, 1.0), full_matrices=False
    )
    first, second = (
        directions[0],
        directions[1] if len(directions) > 1 else np.zeros_like(directions[0]),
    )
    return np.argsort(np.arctan2(second, first), kind="stable")


# ---- figures -------------------------------------------------------------------------------------


def horizon_figure(found: Inspection) -> go.Figure:
    """Sensitivity against distance, each curve over its largest value."""
    fig = figure(400)
    curves = [
        ("whole stack, by gradient", found.gradient, BLUE, "solid"),
        ("whole stack, by occlusion", found.occlusion, ORANGE, "dot"),
    ]
    if len(found.layers) > 1:
        curves += [
            (f"{layer.recorded.name} alone", layer.horizon, colour, "dash")
            for layer, colour in zip(found.layers, (GREEN, PURPLE, GREY), strict=False)
        ]
    for name, value, colour, dash in curves:
        if value is not None and value.curve.max() > 0:
            keep = value.curve > 0
            fig.add_scatter(
                x=value.lags[keep],
                y=(value.curve / value.curve.max())[keep],
                name=name,
                mode="lines",
                line={"color": colour, "dash": dash},
            )
    if found.gradient is not None:
        fig.add_vline(
            x=found.gradient.uses,
            line={"color": GREY, "dash": "dash"},
            annotation_text=f"95% within {found.gradient.uses}",
        )
        if found.trained_on:
            fig.add_vline(
                x=found.trained_on,
                line={"color": GREY},
                annotation_text=f"trained on {found.trained_on}",
                annotation_position="top left",
            )
    last = max(
        (
            int(c.lags[c.curve > 1e-4 * c.curve.max()][-1])
            for _, c, *_ in curves
            if c is not None and c.curve.max() > 0
        ),
        default=1,
    )
    last = max(
        last, found.trained_on or 0, found.gradient.uses if found.gradient is not None else 1
    )
    fig.update_xaxes(title="steps back", range=[-0.02 * last, 1.05 * last])
    fig.update_yaxes(
        title="sensitivity, share of the largest",
        type="log",
        range=[-4, 0.1],
        exponentformat="power",
        dtick=1,
    )
    return fig


def forgetting_figure(found: Inspection) -> go.Figure:
    """Half-life of every unit by its forget gate, sorted."""
    fig = figure(360)
    for layer, colour in zip(found.layers, (BLUE, ORANGE, GREEN, PURPLE) * 4, strict=False):
        if len(layer.half_lives):
            values = np.sort(np.clip(layer.half_lives, 1e-2, 1e6))
            share = (np.arange(len(values)) + 1) / len(values)
            fig.add_scatter(
                x=values,
                y=share,
                name=layer.recorded.name,
                mode="lines",
                line={"color": colour, "shape": "hv"},
            )
    fig.update_xaxes(title="half-life in steps", type="log", exponentformat="none")
    fig.update_yaxes(title="share of the units below", tickformat=".0%", range=[0, 1.02])
    return fig


def saturation_figure(found: Inspection) -> go.Figure:
    """Share of every gate's values near the ends of its range."""
    fig = figure(120 + 30 * sum(len(layer.saturation) for layer in found.layers))
    names, lows, highs = [], [], []
    for layer in found.layers:
        for gate, (low, high) in layer.saturation.items():
            names.append(
                f"{layer.recorded.name}: {NAMES[gate]}" if len(found.layers) > 1 else NAMES[gate]
            )
            lows.append(low)
            highs.append(high)
    middle = [1 - low - high for low, high in zip(lows, highs, strict=True)]
    for label, values, colour in (
        ("near its lower end", lows, ORANGE),
        ("in between", middle, "rgba(138, 143, 152, 0.35)"),
        ("near its upper end", highs, BLUE),
    ):
        fig.add_bar(y=names[::-1], x=values[::-1], name=label, orientation="h", marker_color=colour)
    fig.update_layout(barmode="stack", hovermode="y unified")
    fig.update_xaxes(tickformat=".0%", range=[0, 1])
    return fig


def gates_figure(layer: LayerReport | Recorded, labels: Sequence[str], begin: int = 0) -> go.Figure:
    """Heat maps of every gate over time, one above another, the most active units ordered by
    similarity.
    """
    from plotly.subplots import make_subplots

    recorded = layer.recorded if isinstance(layer, LayerReport) else layer
    end = min(begin + SHOWN_STEPS, recorded.gates["h"].shape[1])
    order = _shown_units(recorded, begin, end)
    names = [n for n in (*CELLS[recorded.layer.cell].gates, "c", "h") if n in recorded.gates]
    style = figure().layout
    fig = make_subplots(
        rows=len(names),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.035,
        subplot_titles=[NAMES[n] for n in names],
    )
    fig.update_layout(
        template="none",
        height=60 + 130 * len(names),
        paper_bgcolor=style.paper_bgcolor,
        plot_bgcolor=style.plot_bgcolor,
        margin={"l": 60, "r": 20, "t": 30, "b": 60},
    )
    # Names of steps may repeat; with their numbers they do not.
    steps = [
        labels[k] if labels[k] == str(k) else f"{k}: {labels[k][:24]}" for k in range(begin, end)
    ]
    for row, name in enumerate(names):
        values = recorded.gates[name][0, begin:end].detach().float().cpu().numpy()[:, order].T
        gate = name in GATES
        top = 1.0 if gate or name != "c" else max(1.0, float(np.abs(values).max()))
        fig.add_heatmap(
            z=np.round(values, 3).tolist(),
            x=steps,
            y=[f"unit {u}" for u in order],
            row=row + 1,
            col=1,
            colorscale="Cividis" if gate else "RdBu",
            zmin=0.0 if gate else -top,
            zmax=top,
            reversescale=False,
            hovertemplate="%{y}, step %{x}: %{z}<extra></extra>",
            colorbar={"len": 0.9 / len(names), "y": 1 - (row + 0.5) / len(names), "thickness": 10},
        )
    fig.update_yaxes(showticklabels=False)
    every = max(1, len(steps) // 40)
    fig.update_xaxes(type="category")
    ticks = {
        "tickvals": steps[::every],
        "ticktext": [labels[k][:16] for k in range(begin, end, every)],
    }
    fig.update_xaxes(**ticks, row=len(names), col=1)
    return fig


def _shown_units(recorded: Recorded, begin: int, end: int) -> np.ndarray:
    h = recorded.gates["h"][0, begin:end].detach().float().cpu().numpy()
    busiest = np.sort(np.argsort(-h.std(0), kind="stable")[:SHOWN_UNITS])
    return np.asarray(busiest[unit_order(h[:, busiest])]) if len(h) > 1 else busiest


def _forgetting(found: Inspection) -> Section:
    values = np.concatenate([layer.half_lives for layer in found.layers])
    finite = values[np.isfinite(values)]
    half = float(np.median(finite)) if len(finite) else float("inf")
    longest = float(finite.max()) if len(finite) else float("inf")
    return Section(
        f"By their forget gates, half of the units lose half of what they hold in {half:.3g} steps,"
        f" the slowest in {longest:.3g}",
        "-ln 2 / mean ln f of every unit. What is kept in the cell need not be used: the curve"
        " above shows what reaches the output.",
        forgetting_figure(found),
    )


def _gate_sections(layer: LayerReport, labels: Sequence[str]) -> list[Section]:
    recorded = layer.recorded
    steps = recorded.gates["h"].shape[1]
    begin = max(0, steps - SHOWN_STEPS)
    shown = f"The last {SHOWN_STEPS} of {steps:,} steps; " if begin else ""
    units = recorded.gates["h"].shape[2]
    count = (
        f"the {SHOWN_UNITS} of {units} units that move most"
        if units > SHOWN_UNITS
        else f"all {units} units"
    )
    sections = [
        Section(
            f"What the gates did: {recorded.name}",
            f"{shown}{count}, ordered so that those that move together stand together. Blue and"
            " yellow: a gate shut (dark) and open (bright); red and blue: states below and"
            " above 0.",
            gates_figure(layer, labels, begin),
        )
    ]
    h = recorded.gates["h"][0].detach().float()
    if steps > 1:
        change = (h[1:] - h[:-1]).abs()
        unit = int(change.amax(0).argmax())
        if not all(label == str(k) for k, label in enumerate(labels)):
            words = [(labels[k], float(h[k, unit])) for k in range(begin, steps)]
            strongest = change.sum(0).argsort(descending=True)[:5].tolist()
            sections.append(
                Section(
                    f"The sequence through unit {unit}, the one that reacts most ({recorded.name})",
                    "In the colour of its h. Those that react most:"
                    f" {', '.join(map(str, strongest))}.",
                    words=words,
                )
            )
        turn = int(change.sum(1).argmax()) + 1
        places = similar_states(h, turn)
        if places:
            rows = [[labels[k], str(k), f"{closeness:.2f}"] for k, closeness in places]
            sections.append(
                Section(
                    f"Where the state was most like that at step {turn} ({labels[turn]}), where it"
                    " turned most",
                    "By the cosine between hidden states, less their mean.",
                    table=[["step", "number", "likeness"], *rows],
                )
            )
    return sections
