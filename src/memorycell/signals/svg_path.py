"""The path data of SVG as polylines (SVG 2, W3C 2018, chapter 9)."""

from __future__ import annotations

import math
import re

import numpy as np

from memorycell.errors import DataError, quote

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
ARGUMENTS = {
    "M": "nn",
    "L": "nn",
    "H": "n",
    "V": "n",
    "C": "nnnnnn",
    "S": "nnnn",
    "Q": "nnnn",
    "T": "nn",
    "A": "nnnffnn",
    "Z": "",
}
"""Command -> its arguments: n a number, f a flag, 0 or 1."""
CURVE_TOLERANCE = 0.002
"""Distance of a polyline from its curve, as a fraction of the size of its control points."""
MAX_CURVE_POINTS = 64
MAX_ARC_STEP = math.pi / 24
"""Radians of an ellipse between two points."""
MAX_SEGMENTS = 20_000
_SEPARATOR = re.compile(r"[\s,]*")
_TOKENS = {"n": re.compile(NUMBER), "f": re.compile("[01]")}


def flatten_path(data: str, where: str) -> list[np.ndarray]:
    """The subpaths of a `d` attribute as strokes [N, 2] float64, with curves as polylines. A move
    alone draws nothing.

    Raises `DataError` for path data that are not complete.
    """
    pen = _Pen()
    at, command = _skip(data, 0), ""
    for _ in range(MAX_SEGMENTS):
        if at >= len(data):
            return [np.array(stroke) for stroke in pen.strokes if len(stroke) > 1]
        if data[at].upper() in ARGUMENTS:
            command, at = data[at], _skip(data, at + 1)
        elif command in ("", "z", "Z"):
            raise _invalid(data, at, where)
        values: list[float] = []
        for kind in ARGUMENTS[command.upper()]:
            match = _TOKENS[kind].match(data, at)
            if match is None:
                raise _invalid(data, at, where)
            values.append(float(match[0]))
            at = _skip(data, match.end())
        if not pen.strokes and command not in "mM":
            raise _invalid(data, at, where)
        if not all(abs(value) < 1e12 for value in values):
            raise DataError(f"{where}: path data with absurdly large numbers")
        pen.draw(command, values)
        command = {"m": "l", "M": "L"}.get(command, command)  # further pairs are lines
    raise DataError(f"{where}: path data with more than {MAX_SEGMENTS:,} segments")


def _skip(data: str, at: int) -> int:
    match = _SEPARATOR.match(data, at)
    return match.end() if match else at


def _invalid(data: str, at: int, where: str) -> DataError:
    return DataError(f"{where}: path data that cannot be read at {quote(data[at : at + 20])}")


class _Pen:
    """Draws the commands of path data.

    strokes   lists of points, the last one being drawn
    control   the last control point of the command before, if it was a curve of `curve`'s degree
    """

    def __init__(self) -> None:
        self.strokes: list[list[np.ndarray]] = []
        self.control = np.zeros(2)
        self.curve = ""

    def draw(self, command: str, values: list[float]) -> None:
        name = command.upper()
        here = self.strokes[-1][-1] if self.strokes else np.zeros(2)
        origin = here if command.islower() else np.zeros(2)
        curve = ""
        if name == "M":
            self.strokes.append([origin + values])
        elif name == "Z":
            start = self.strokes[-1][0]
            self.strokes[-1].append(start)
            self.strokes.append([start])  # a command that follows without M begins there
        elif name in "HV":
            axis = "HV".index(name)
            end = here.copy()
            end[axis] = origin[axis] + values[0]
            self.strokes[-1].append(end)
        elif name == "A":
            end = origin + values[5:]
            self.strokes[-1] += _arc(here, end, *values[:5])
        elif name in "LCSQT":
            points = [origin + values[k : k + 2] for k in range(0, len(values), 2)]
            curve = {"S": "C", "T": "Q"}.get(name, name)
            if name in "ST":  # the first control point mirrors the last one of the curve before
                mirrored = 2 * here - self.control if self.curve == curve else here
                points.insert(0, mirrored)
            self.strokes[-1] += _bezier([here, *points])
            self.control = points[-2] if len(points) > 1 else here
        self.curve = curve


def _bezier(points: list[np.ndarray]) -> list[np.ndarray]:
    """The curve of control points, without the first point, in as many steps as bound its distance
    from the polyline (Wang, Shen & Zhao 1984).
    """
    control, degree = np.array(points), len(points) - 1
    size = max(float(np.ptp(control, axis=0).max()), 1e-12)
    bend = 0.0
    if degree > 1:
        bend = float(np.hypot(*np.diff(control, n=2, axis=0).T).max())
    steps = math.sqrt(degree * (degree - 1) / 8 * bend / (CURVE_TOLERANCE * size))
    t = np.linspace(0, 1, min(MAX_CURVE_POINTS, max(1, math.ceil(steps))) + 1)[1:, None]
    binomials = [math.comb(degree, k) for k in range(degree + 1)]
    terms = [binomials[k] * t**k * (1 - t) ** (degree - k) * control[k] for k in range(degree + 1)]
    curve = np.sum(terms, axis=0)
    curve[-1] = control[-1]
    return list(curve)


def _arc(
    start: np.ndarray,
    end: np.ndarray,
    rx: float,
    ry: float,
    turn: float,
    large: float,
    sweep: float,
) -> list[np.ndarray]:
    """An elliptical arc, without the first point; from end points to centre as in appendix B.2.4 of
    SVG 2.
    """
    rx, ry = abs(rx), abs(ry)
    if rx == 0 or ry == 0 or (start == end).all():
        return [end]
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    rotation = np.array([[cos, -sin], [sin, cos]])
    x, y = rotation.T @ (start - end) / 2
    growth = (x / rx) ** 2 + (y / ry) ** 2
    if growth > 1:  # radii that are too small are scaled up
        rx, ry, growth = rx * math.sqrt(growth), ry * math.sqrt(growth), 1.0
    factor = math.sqrt(max(0.0, 1 / growth - 1)) * (1 if large != sweep else -1)
    centre = factor * np.array([rx * y / ry, -ry * x / rx])
    first = math.atan2((y - centre[1]) / ry, (x - centre[0]) / rx)
    last = math.atan2((-y - centre[1]) / ry, (-x - centre[0]) / rx)
    span = (last - first) % (2 * math.pi)
    if not sweep:
        span -= 2 * math.pi
    angle = first + span * np.linspace(0, 1, max(2, math.ceil(abs(span) / MAX_ARC_STEP)) + 1)[1:]
    local = np.stack([rx * np.cos(angle), ry * np.sin(angle)], 1) + centre
    points = local @ rotation.T + (start + end) / 2
    points[-1] = end
    return list(points)
