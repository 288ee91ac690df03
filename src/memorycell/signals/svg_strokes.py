"""Read the strokes of an SVG drawing: paths, lines and polygons, with their transforms."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from memorycell.errors import DataError, quote
from memorycell.language.markup import attribute, local_name
from memorycell.signals.drawings import FoundDrawings, shown_name
from memorycell.signals.svg_path import NUMBER, flatten_path

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

UNSEEN = {"defs", "clipPath", "mask", "pattern", "marker", "symbol"}
"""Elements whose content is not drawn."""
NEUTRAL = {"", "svg", "g", "a", "title", "desc", "metadata", "style", "switch"}
"""Elements that draw nothing themselves."""
CIRCLE_POINTS = 65
_TRANSFORM = re.compile(r"\s*,?\s*([a-zA-Z]+)\s*\(([^()]*)\)")


def read_svg(root: Element, name: str, found: FoundDrawings) -> None:
    """All strokes of a file are one drawing, labelled by its `<title>`, else by its folder."""
    where = shown_name(name)
    strokes: list[np.ndarray] = []
    try:
        for element, matrix in _drawn(root, where):
            shapes = _strokes(element, where)
            if shapes is None:
                found.ignored[f"SVG elements <{quote(local_name(element))[1:-1]}>"] += 1
            else:
                strokes += [s @ matrix[:, :2].T + matrix[:, 2] for s in shapes]
    except DataError as error:
        found.damaged.append(str(error))
        return
    title = next((e.text or "" for e in root if local_name(e) == "title"), "").strip()
    folders = name.split("/")[:-1]
    found.add([s.tolist() for s in strokes], title or (folders[-1] if folders else ""), name)


def _drawn(root: Element, where: str) -> Iterator[tuple[Element, np.ndarray]]:
    """The elements that draw, in order, with the matrix [2, 3] from their coordinates."""
    stack = [(root, np.eye(2, 3))]
    while stack:
        element, outer = stack.pop()
        hidden = "display:none" in attribute(element, "style").replace(" ", "")
        if hidden or attribute(element, "display") == "none" or local_name(element) in UNSEEN:
            continue
        matrix = _combined(outer, _transform(attribute(element, "transform"), where))
        if local_name(element) not in NEUTRAL:
            yield element, matrix
        if local_name(element) in NEUTRAL:
            stack += [(child, matrix) for child in reversed(element)]


def _strokes(element: Element, where: str) -> list[np.ndarray] | None:
    """The strokes [N, 2] of an element; None for one that is not a line."""
    kind = local_name(element)
    if kind == "path":
        return flatten_path(attribute(element, "d"), where)
    if kind in ("polyline", "polygon"):
        values = _numbers(attribute(element, "points"), where)
        if len(values) % 2:
            raise DataError(f"{where}: a <{kind}> has an odd number of coordinates")
        points = np.array(values).reshape(-1, 2)
        return [np.concatenate([points, points[:1]]) if kind == "polygon" else points]
    if kind == "line":
        x1, y1, x2, y2 = (_length(element, key, where) for key in ("x1", "y1", "x2", "y2"))
        return [np.array([[x1, y1], [x2, y2]])]
    if kind == "rect":
        x, y, w, h = (_length(element, key, where) for key in ("x", "y", "width", "height"))
        return [np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h], [x, y]])]
    if kind in ("circle", "ellipse"):
        names = ("cx", "cy", "r", "r") if kind == "circle" else ("cx", "cy", "rx", "ry")
        cx, cy, rx, ry = (_length(element, key, where) for key in names)
        angle = np.linspace(0, 2 * math.pi, CIRCLE_POINTS)
        return [np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], 1)]
    return None


def _length(element: Element, key: str, where: str) -> float:
    """An attribute as a number; its unit is left out, and 0 is the default."""
    text = attribute(element, key).strip()
    match = re.fullmatch(rf"({NUMBER})\s*(?:px|pt|pc|mm|cm|in)?", text)
    if text and match is None:
        raise DataError(f"{where}: {key}={quote(text)} is not a number")
    return float(match[1]) if match else 0.0


def _numbers(text: str, where: str) -> list[float]:
    rest = re.sub(NUMBER, " ", text)
    if rest.replace(",", " ").strip():
        raise DataError(f"{where}: {quote(text)} are not numbers")
    numbers = [float(number) for number in re.findall(NUMBER, text)]
    if not all(map(math.isfinite, numbers)):
        raise DataError(f"{where}: a number of {quote(text)} is too large")
    return numbers


# ---- transforms ----------------------------------------------------------------------------------


def _combined(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The matrix [2, 3] that applies `inner`, then `outer`."""
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def _transform(text: str, where: str) -> np.ndarray:
    """The matrix [2, 3] of a transform attribute (SVG 2, chapter 8). Raises `DataError`."""
    matrix, at = np.eye(2, 3), 0
    text = text.strip()
    while at < len(text):
        match = _TRANSFORM.match(text, at)
        step = None if match is None else _transform_step(match[1], _numbers(match[2], where))
        if match is None or step is None:
            raise DataError(f"{where}: transform={quote(text)} is not a transform of SVG")
        matrix, at = _combined(matrix, step), match.end()
    return matrix


def _transform_step(kind: str, values: list[float]) -> np.ndarray | None:
    count = len(values)
    if kind == "matrix" and count == 6:
        return np.array(values).reshape(3, 2).T
    if kind == "translate" and count in (1, 2):
        return np.array([[1, 0, values[0]], [0, 1, values[1] if count == 2 else 0.0]])
    if kind == "scale" and count in (1, 2):
        return np.array([[values[0], 0, 0], [0, values[-1], 0.0]])
    if kind in ("skewX", "skewY") and count == 1:
        slope = math.tan(math.radians(values[0]))
        return np.array(
            [[1, slope, 0], [0, 1, 0]] if kind == "skewX" else [[1, 0, 0], [slope, 1, 0]]
        )
    if kind == "rotate" and count in (1, 3):
        cos, sin = math.cos(math.radians(values[0])), math.sin(math.radians(values[0]))
        turn, centre = np.array([[cos, -sin], [sin, cos]]), np.array(values[1:] or [0.0, 0.0])
        return np.column_stack([turn, centre - turn @ centre])
    return None
