"""The strokes of a drawing in JSON, in the forms in which canvases and programs keep them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MIN_COLUMN_POINTS = 8
"""Columns of x and y under `strokes` are recognised from this number on: a point has fewer values
(x, y, t, pressure, two angles).
"""


def to_strokes(value: Any) -> list[Any] | None:
    """Strokes as lists of points [x, y, …], from any of

    - lists of points [x, y], [x, y, t] or {"x": …, "y": …}
    - columns [[x, …], [y, …]] or {"x": [x, …], "y": [y, …]}, also with times
    - {"points": …} with one of these, as signature pads write it

    None for another form. Numbers are checked by `strokes.check_strokes`.
    """
    if not _is_list(value):
        return None
    strokes = [_unpacked(stroke) for stroke in value]
    if any(stroke is None for stroke in strokes):
        return None
    widest = max((len(row) for stroke in strokes for row in stroke if _is_list(row)), default=0)
    if widest < MIN_COLUMN_POINTS:
        return strokes
    columns = [columns_to_points(stroke) for stroke in strokes]
    return None if any(stroke is None for stroke in columns) else columns


def drawing_strokes(row: Mapping[str, Any]) -> list[Any] | None:
    """The strokes of a JSON object: in any form under `strokes`, or in columns under `drawing`, as
    in Quick, Draw!; None for another object.
    """
    if row.get("strokes") is not None or not _is_list(row.get("drawing")):
        return to_strokes(row.get("strokes"))
    columns = [columns_to_points(stroke) for stroke in row["drawing"]]
    return None if any(stroke is None for stroke in columns) else columns


def columns_to_points(stroke: Any) -> list[tuple[Any, Any]] | None:
    """Points from columns [xs, ys] or [xs, ys, ts]; None if invalid."""
    try:
        if len(stroke) not in (2, 3):
            return None
        return list(zip(stroke[0], stroke[1], strict=True))
    except (TypeError, ValueError, LookupError):
        return None


def is_bare_drawing(value: Any) -> bool:
    """Whether a JSON list is one drawing without a label: strokes of points or columns, or the
    strokes of a signature pad.
    """
    if not _is_list(value) or not value:
        return False
    return all(
        (isinstance(stroke, Mapping) and "points" in stroke)
        or (_is_list(stroke) and len(stroke) > 0 and all(map(_is_row, stroke)))
        for stroke in value
    )


def _unpacked(stroke: Any) -> Any:
    """A stroke as a list of points or of columns; None for another form."""
    if isinstance(stroke, Mapping) and "points" in stroke:
        stroke = stroke["points"]
    if isinstance(stroke, Mapping):
        if not {"x", "y"} <= stroke.keys():
            return None
        return columns_to_points([stroke["x"], stroke["y"]])
    if not _is_list(stroke):
        return None
    return [_point(point) for point in stroke]


def _point(point: Any) -> Any:
    if isinstance(point, Mapping) and {"x", "y"} <= point.keys():
        return [point["x"], point["y"]]
    return point


def _is_row(value: Any) -> bool:
    """A point, or a column of numbers."""
    if isinstance(value, Mapping):
        return {"x", "y"} <= value.keys()
    return _is_list(value) and len(value) > 0 and not any(map(_is_list, value))


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))
