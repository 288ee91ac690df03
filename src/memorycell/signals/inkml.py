"""Read InkML (W3C Recommendation, 2011): traces of a pen and the annotation with their label."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isnan, nan
from typing import TYPE_CHECKING, NamedTuple

from memorycell.errors import DataError, quote
from memorycell.language.markup import attribute, local_name
from memorycell.signals.drawings import LABEL_KEYS, FoundDrawings, first_label, shown_name

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_VALUE = re.compile(
    r"\s*([!'\"]?)\s*"
    r"(?:([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|([+-]?)#([0-9A-Fa-f]+)|([TF*?]))"
)
"""A value: its qualifier, and a decimal or hexadecimal number, a boolean, or no new value."""
MAX_REFERENCES = 50
"""References from context to context that are followed."""


class _Format(NamedTuple):
    """The channels of the points of a trace, in order. `x_sign` and `y_sign`: -1 where the channel
    grows to the left, or upwards.
    """

    channels: tuple[str, ...] = ("X", "Y")
    x_sign: float = 1.0
    y_sign: float = 1.0


def read_inkml(root: Element, name: str, found: FoundDrawings) -> None:
    """All traces of a file are one drawing.

    Points have the channels that the trace's format names (by default X, Y); differences to the
    previous point are summed. Traces above the paper, and points where the channel S says so, are
    left out. The label is the annotation directly under `<ink>`, else the only one of the
    outermost groups that have one.
    """
    where = shown_name(name)
    try:
        strokes = _strokes(root, where)
    except DataError as error:
        found.damaged.append(str(error))
        return
    fields: dict[str, str] = {}
    for element in root.iter():  # the outer ones first
        for key, value in _annotations(element).items():
            if key not in LABEL_KEYS:
                fields.setdefault(key, value)
    found.add(strokes, first_label(_annotations(root)) or _group_label(root), name, fields)


def _annotations(element: Element) -> dict[str, str]:
    """Type -> text of the annotations directly under an element; the first of a type."""
    result: dict[str, str] = {}
    for child in element:
        if local_name(child) == "annotation":
            result.setdefault(attribute(child, "type").lower(), (child.text or "").strip())
    return result


def _group_label(root: Element) -> str:
    """The label of the outermost groups, where it is the only one at its depth."""
    level = [root]
    while level:
        level = [c for e in level for c in e if local_name(c) in ("traceGroup", "traceView")]
        labels = {label for label in (first_label(_annotations(e)) for e in level) if label}
        if labels:
            return labels.pop() if len(labels) == 1 else ""
    return ""


def _strokes(root: Element, where: str) -> list[list[tuple[float, float]]]:
    strokes: list[list[tuple[float, float]]] = []
    last_of: dict[str, list[tuple[float, float]]] = {}
    for number, (trace, form) in enumerate(_traces(root), 1):
        if attribute(trace, "type").lower() == "penup":
            continue
        parts = _trace_strokes(trace.text or "", form, f"{where}: trace {number}")
        prior = last_of.get(attribute(trace, "priorRef").lstrip("#"))
        if prior is None and strokes:
            prior = strokes[-1]
        if attribute(trace, "continuation") in ("middle", "end") and prior is not None and parts:
            prior += parts.pop(0)
        strokes += parts
        if strokes:
            last_of[attribute(trace, "id")] = strokes[-1] if parts or prior is None else prior
    return strokes


# ---- formats -------------------------------------------------------------------------------------


def _traces(root: Element) -> Iterator[tuple[Element, _Format]]:
    """Every trace in document order, with its format: that of the context which the trace or its
    group refers to, else of the context before it, else the first of the file.
    """
    definitions = {f"#{attribute(e, 'id')}": e for e in root.iter() if attribute(e, "id")}
    formats = [e for e in root.iter() if local_name(e) == "traceFormat"]
    current = _format(formats[0]) if formats else _Format()
    references: dict[Element, str] = {}
    within = {e for d in root.iter() if local_name(d) == "definitions" for e in d.iter()}
    for element in root.iter():
        kind = local_name(element)
        reference = attribute(element, "contextRef") or references.get(element, "")
        if kind == "traceGroup":
            references |= dict.fromkeys(element, reference)
        elif kind in ("context", "traceFormat") and element not in within:
            current = _context_format(element, definitions) or current
        elif kind == "trace":
            context = definitions.get(reference)
            own = None if context is None else _context_format(context, definitions)
            yield element, own or current


def _context_format(element: Element, definitions: dict[str, Element]) -> _Format | None:
    """The format of a context, directly or by reference."""
    for _ in range(MAX_REFERENCES):
        inside = next((e for e in element.iter() if local_name(e) == "traceFormat"), None)
        if inside is not None:
            return _format(inside)
        keys = ("traceFormatRef", "inkSourceRef", "contextRef")
        found = [definitions.get(attribute(element, key)) for key in keys]
        following = next((e for e in found if e is not None), None)
        if following is None:
            return None
        element = following
    return None


def _format(element: Element) -> _Format:
    regular = [e for e in element if local_name(e) == "channel"]
    intermittent = [
        e
        for group in element
        if local_name(group) == "intermittentChannels"
        for e in group
        if local_name(e) == "channel"
    ]
    channels = {attribute(e, "name").upper(): e for e in (*regular, *intermittent)}
    if not channels:
        return _Format()
    signs = (
        -1.0 if name in channels and attribute(channels[name], "orientation") == "-ve" else 1.0
        for name in "XY"
    )
    return _Format(tuple(attribute(e, "name").upper() for e in (*regular, *intermittent)), *signs)


# ---- points --------------------------------------------------------------------------------------


class _Channel:
    """The values of one channel: numbers, or first (') or second (") differences."""

    def __init__(self) -> None:
        self.mode, self.value, self.velocity = "!", 0.0, 0.0

    def read(self, qualifier: str, number: float | None) -> float:
        """The next value; None repeats the previous one. A qualifier holds until the next."""
        self.mode = qualifier or self.mode
        if number is None:
            return self.value
        if self.mode == "!":
            self.velocity, self.value = number - self.value, number
            return self.value
        self.velocity = number if self.mode == "'" else self.velocity + number
        self.value += self.velocity
        return self.value


def _trace_strokes(text: str, form: _Format, where: str) -> list[list[tuple[float, float]]]:
    """The strokes of a trace: one, or several where the pen is lifted in it."""
    if "X" not in form.channels or "Y" not in form.channels:
        names = ", ".join(form.channels)
        raise DataError(f"{where}: its format has the channels {quote(names)}; X and Y are needed")
    x, y = form.channels.index("X"), form.channels.index("Y")
    tip = form.channels.index("S") if "S" in form.channels else None
    channels = [_Channel() for _ in form.channels]
    strokes: list[list[tuple[float, float]]] = [[]]
    points = [point for point in text.split(",") if point.strip()]
    for number, point in enumerate(points, 1):
        values = _values(point, channels)
        if values is None or len(values) <= max(x, y) or isnan(values[x] + values[y]):
            raise DataError(
                f"{where}, point {number}: {quote(point.strip())} are not values of the channels"
                f" {quote(', '.join(form.channels))}"
            )
        if tip is not None and tip < len(values) and values[tip] == 0:
            strokes.append([])
        else:
            strokes[-1].append((form.x_sign * values[x], form.y_sign * values[y]))
    return [stroke for stroke in strokes if stroke]


def _values(point: str, channels: list[_Channel]) -> list[float] | None:
    """The values of a point, at most one per channel, NaN for ?; None where it cannot be read."""
    values: list[float] = []
    at, point = 0, point.rstrip()
    while at < len(point):
        match = _VALUE.match(point, at)
        if match is None:
            return None
        if len(values) == len(channels):  # more values than the format names
            return values
        qualifier, decimal, sign, hexadecimal, symbol = match.groups()
        channel, at = channels[len(values)], match.end()
        if symbol == "?":
            values.append(nan)
            continue
        number = {"T": 1.0, "F": 0.0}.get(symbol or "")
        if decimal:
            number = float(decimal)
        elif hexadecimal:
            number = float(int(f"{sign}{hexadecimal[:16]}", 16))
        values.append(channel.read(qualifier, number))
    return values
