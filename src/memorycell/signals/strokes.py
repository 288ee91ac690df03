"""Pen strokes: from the points of a drawing to model inputs.

A drawing is a list of strokes, each [N, 2] float64: the points from pen down to pen up, y pointing
down. Strokes are resampled at equal distances along the line, so that drawing speed does not
matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta

from memorycell.errors import DataError
from memorycell.signals.codec import SignalCodec

Drawing = list[np.ndarray]
MIN_HEIGHT, MAX_COORDINATE = 1e-6, 1e7
MAX_POINTS = 20_000
MAX_STEPS = 100_000
"""Of an encoded drawing."""


@dataclass(frozen=True)
class StrokeCodec(SignalCodec):
    """A drawing in, one of `labels` or a text out.

    frame     "box": every drawing is scaled to one size and centred, and the position of a point is
              a feature (characters); "line": drawings are scaled by `height` (text)
    height    median height of the training drawings, in their own unit
    spacing   distance between points, as a fraction of the height
    """

    kind: ClassVar[str] = "strokes"
    frame: Literal["box", "line"] = "box"
    height: Annotated[float, Meta(ge=MIN_HEIGHT, le=2 * MAX_COORDINATE)] = 1.0
    spacing: Annotated[float, Meta(ge=0.001, le=1)] = 0.06

    @property
    def input_size(self) -> int:
        """See `SignalCodec`."""
        return 8 if self.frame == "box" else 6

    def normalise(self, drawing: Drawing) -> Drawing:
        """Scale and centre: in a box to height 1 (or width, if larger), in a line by `height`."""
        points = np.concatenate(drawing)
        low, high = points.min(0), points.max(0)
        if self.frame == "box":
            size = max(float((high - low).max()), 1e-9)
            return [(stroke - (low + high) / 2) / size for stroke in drawing]
        return [(stroke - [low[0], (low[1] + high[1]) / 2]) / self.height for stroke in drawing]

    def encode(self, drawing: Drawing) -> np.ndarray:
        """Features [T, input_size] float32, one row per point:

        cos and sin of the direction from the previous point, cos and sin of the turn, 1 at the
        first point of a stroke, distance from the previous point; in a box also 2 x and 2 y
        """
        normalised = self.normalise(drawing)
        length = sum(float(np.hypot(*np.diff(s, axis=0).T).sum()) for s in normalised)
        if length / self.spacing > MAX_STEPS:
            raise DataError(
                f"a drawing of {length:,.0f} times the height of the training drawings; it gives"
                f" more than {MAX_STEPS:,} steps; scale it to their size"
            )
        strokes = [resample_stroke(stroke, self.spacing) for stroke in normalised]
        points = np.concatenate(strokes)
        first = np.zeros(len(points))
        first[np.cumsum([0, *map(len, strokes[:-1])])] = 1
        move = np.diff(points, axis=0, prepend=points[:1])
        length = np.hypot(*move.T)
        direction = move / np.maximum(length, 1e-9)[:, None]
        angle = np.arctan2(direction[:, 1], direction[:, 0])
        turn = np.diff(angle, prepend=angle[:1])
        rows = [*direction.T, np.cos(turn), np.sin(turn), first, length]
        if self.frame == "box":
            rows += list(2 * points.T)
        return np.stack(rows, 1).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """See `Codec`."""
        own = {
            name: value
            for name, value in asdict(self).items()
            if name not in ("text", "labels", "sentences")
        }
        return {**super().to_json(), **own}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StrokeCodec:
        """See `Codec`."""
        return cls._checked_from_json(data)


def resample_stroke(stroke: np.ndarray, spacing: float) -> np.ndarray:
    """A stroke [N, 2] resampled at equal distances of about `spacing`, with the same end points. A
    dot gives one point.
    """
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(stroke, axis=0).T))])
    count = min(MAX_POINTS, round(along[-1] / spacing))
    if along[-1] <= 0:
        return stroke[:1]
    at = np.linspace(0, along[-1], max(2, count + 1))
    return np.stack([np.interp(at, along, stroke[:, k]) for k in (0, 1)], 1)


def check_strokes(strokes: Sequence[Any], where: str) -> Drawing:
    """User input, strokes of points [x, y] or [x, y, t], as a drawing without repeated points.

    Raises `DataError` that names the invalid stroke and point.
    """
    drawing = []
    for number, stroke in enumerate(strokes, 1):
        try:
            points = np.array([_point(point) for point in stroke], np.float64).reshape(-1, 2)
        except (TypeError, ValueError, LookupError, OverflowError):
            raise DataError(f"{where}: stroke {number}: expected points [x, y]") from None
        invalid = ~(np.abs(points) <= MAX_COORDINATE).all(1)
        if invalid.any():
            k = int(invalid.argmax())
            raise DataError(
                f"{where}: stroke {number}, point {k + 1}: invalid coordinates"
                f" {points[k].tolist()}; expected finite values of at most {MAX_COORDINATE:g}"
            )
        if len(points):
            moved = np.ones(len(points), bool)
            moved[1:] = (np.diff(points, axis=0) != 0).any(1)
            drawing.append(points[moved])
    if not drawing:
        raise DataError(f"{where}: contains no points")
    count = sum(map(len, drawing))
    if count > MAX_POINTS:
        raise DataError(f"{where}: {count:,} points; the maximum is {MAX_POINTS:,}")
    return drawing


def _point(point: Any) -> tuple[float, float]:
    """The first two values. Raises TypeError for other values than numbers."""
    x, y = point[0], point[1]
    for value in (x, y):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError("not a number")
    return float(x), float(y)
