"""The page of an inspection."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memorycell.errors import counted
from memorycell.inspection.figures import (
    MAX_SHOWN_STEPS,
    MAX_SHOWN_UNITS,
    gates_figure,
    half_life_figure,
    horizon_figure,
    saturation_figure,
    similar_states,
)
from memorycell.inspection.flow import flow_figure
from memorycell.inspection.inspect import Inspection
from memorycell.inspection.page import Page, Section, page
from memorycell.inspection.trace import LayerTrace

FIGURE_NAMES = ("gates", "saturation", "memory horizon", "half-lives", "gradient flow")
"""Of the figures on a page; those of further layers are numbered: "gates 2"."""
FLOW_PREFIX = "gradient of "
"""Of the keys in the training history that hold a layer's gradient norm."""


def inspection_page(inspection: Inspection) -> Page:
    """The HTML of the report."""
    sections = list(inspection.sections)
    if inspection.gradient is not None:
        sections.append(
            Section(
                inspection.summary,
                "How strongly the hidden state depends on the input k steps earlier: by gradient,"
                " and by occlusion (that input replaced by the mean).",
                horizon_figure(inspection),
                name="memory horizon",
            )
        )
    if any(len(layer.half_lives) for layer in inspection.layers):
        sections.append(_half_life_section(inspection))
    sections.append(
        Section(
            "Gate saturation",
            "Share of values near the ends of the range. A gate near 0 or 1 most of the time acts"
            " as a switch; a gate that never changes has no effect.",
            saturation_figure(inspection),
            name="saturation",
        )
    )
    if inspection.advice:
        rows = [[line] for line in inspection.advice]
        sections.append(Section("Suggestions", table=[["finding"], *rows]))
    sections += _flow_sections(inspection.history)
    for layer in inspection.layers:
        labels = inspection.labels
        if layer.trace.steps != len(labels):  # e.g. a decoder, whose steps are not the input's
            labels = [str(k) for k in range(layer.trace.steps)]
        sections += _trace_sections(layer.trace, labels)
    count, steps = len(inspection.layers), inspection.layers[0].trace.steps
    lead = f"{counted(count, 'recurrent layers')}, {counted(steps, 'steps')}."
    return page(inspection.title, lead, sections, inspection.notes)


def _half_life_section(inspection: Inspection) -> Section:
    half_lives = np.concatenate([layer.half_lives for layer in inspection.layers])
    finite = half_lives[np.isfinite(half_lives)]
    median, longest = float("inf"), float("inf")
    if len(finite):
        median, longest = float(np.median(finite)), float(finite.max())
    return Section(
        f"Half-life of the cell state by the forget gates: median {median:.3g} steps, longest"
        f" {longest:.3g}",
        "-ln 2 / mean ln f of every unit. A state that is kept is not necessarily used: the curve"
        " above shows what reaches the output.",
        half_life_figure(inspection),
        name="half-lives",
    )


def _flow_sections(history: Sequence[dict[str, float]]) -> list[Section]:
    keys = sorted({key for entry in history for key in entry if key.startswith(FLOW_PREFIX)})
    if not keys:
        return []
    epochs = list(range(1, len(history) + 1))
    lines = {
        key.removeprefix(FLOW_PREFIX): (epochs, [entry.get(key, 0.0) for entry in history])
        for key in keys
    }
    return [
        Section(
            "Gradient flow during training",
            "Median gradient norm of every layer per epoch, before clipping.",
            flow_figure(lines, "epoch"),
            name="gradient flow",
        )
    ]


def _trace_sections(trace: LayerTrace, labels: Sequence[str]) -> list[Section]:
    sections = [_gates_section(trace, labels)]
    if trace.steps > 1:
        if any(label != str(k) for k, label in enumerate(labels)):
            sections.append(_unit_section(trace, labels))
        sections += _similarity_sections(trace, labels)
    return sections


def _gates_section(trace: LayerTrace, labels: Sequence[str]) -> Section:
    begin = _first_shown_step(trace)
    shown = f"The last {MAX_SHOWN_STEPS} of {trace.steps:,} steps, " if begin else ""
    units = f"all {trace.units} units"
    if trace.units > MAX_SHOWN_UNITS:
        units = f"the {MAX_SHOWN_UNITS} most active of {trace.units} units"
    text = f"{shown}{units}; units with similar activity are next to each other."
    return Section(
        f"Gates over time: {trace.name}",
        f"{text[0].upper()}{text[1:]} Gates: dark is closed, bright is open. Candidates and states:"
        " red is negative, blue is positive.",
        gates_figure(trace, labels, begin),
        name="gates",
    )


def _unit_section(trace: LayerTrace, labels: Sequence[str]) -> Section:
    h = trace.gates["h"][0].detach().float()
    change = (h[1:] - h[:-1]).abs()
    unit = int(change.amax(0).argmax())
    strongest = change.sum(0).argsort(descending=True)[:5].tolist()
    return Section(
        f"The sequence coloured by unit {unit}, which has the largest single change ({trace.name})",
        "Blue: h above 0. Orange: h below 0. Units with the largest total change:"
        f" {', '.join(map(str, strongest))}.",
        words=[
            (labels[k], float(h[k, unit])) for k in range(_first_shown_step(trace), trace.steps)
        ],
    )


def _similarity_sections(trace: LayerTrace, labels: Sequence[str]) -> list[Section]:
    h = trace.gates["h"][0].detach().float()
    step = int((h[1:] - h[:-1]).abs().sum(1).argmax()) + 1
    rows = [[labels[k], str(k), f"{value:.2f}"] for k, value in similar_states(h, step)]
    if not rows:
        return []
    name = f"step {step}" if labels[step] == str(step) else f"step {step} ({labels[step]})"
    return [
        Section(
            f"The states most similar to {name}, where the state changes most",
            "Cosine similarity of the centred hidden states.",
            table=[["label", "step", "similarity"], *rows],
        )
    ]


def _first_shown_step(trace: LayerTrace) -> int:
    return max(0, trace.steps - MAX_SHOWN_STEPS)
