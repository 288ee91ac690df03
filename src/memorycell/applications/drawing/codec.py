"""Drawings as moves of a pen, to draw anew: from strokes to moves and back, with the signs that say
what is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from memorycell.errors import DataError
from memorycell.signals.strokes import Drawing, resample_stroke

DOWN, UP, END = 0, 1, 2
"""What the pen does after a move: it stays on the paper, it is lifted, all is drawn."""
APART = 0.35
"""Between two signs side by side, as a share of their height."""


@dataclass(frozen=True)
class PenCodec:
    """What is to be drawn as signs, and how it is drawn as moves [T, 3]: dx and dy in units of
    `scale`, and the pen.

    signs     what can be drawn: the letters of texts, or the names of characters
    spacing   from one point to the next, as a share of the height
    height    of the training drawings in their own unit, where they are texts; 0 where each drawing
              is brought to one size
    scale     deviation of the training moves
    """

    kind: ClassVar[str] = "pen"
    signs: tuple[str, ...]
    spacing: float = 0.08
    height: float = 0.0
    scale: float = 1.0

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Sign -> number."""
        return {sign: k for k, sign in enumerate(self.signs)}

    def read(self, text: str) -> list[int]:
        """The numbers of the signs of a text: its letters, or names with blanks between them.
        Raises `DataError`.
        """
        parts = list(text) if all(len(sign) == 1 for sign in self.signs) else text.split()
        unknown = [part for part in parts if part not in self.numbers]
        if unknown or not parts:
            shown = " ".join(self.signs[:20]) + (" …" if len(self.signs) > 20 else "")
            what = (
                f"{unknown[0]!r} is no sign" if unknown else "there is nothing to draw; give signs"
            )
            raise DataError(f"{what} that this model draws: {shown}")
        return [self.numbers[part] for part in parts]

    def framed(self, drawing: Drawing) -> Drawing:
        """Its left edge at 0, its middle at height 0; its height (or width, if that is larger) 1,
        or as in training.
        """
        points = np.concatenate(drawing)
        low, high = points.min(0), points.max(0)
        size = self.height or max(float((high - low).max()), 1e-9)
        return [(stroke - [low[0], (low[1] + high[1]) / 2]) / size for stroke in drawing]

    def moves(self, drawing: Drawing) -> np.ndarray:
        """[T, 3] float32: dx, dy, and what the pen does then. The first move comes from the left
        edge, at half the height.
        """
        strokes = [resample_stroke(stroke, self.spacing) for stroke in drawing]
        points = np.concatenate([np.zeros((1, 2)), *strokes])
        pen = np.zeros(len(points) - 1)
        pen[np.cumsum([len(stroke) for stroke in strokes]) - 1] = UP
        pen[-1] = END
        return np.column_stack([np.diff(points, axis=0) / self.scale, pen]).astype(np.float32)

    def drawing(self, moves: np.ndarray) -> Drawing:
        """The strokes of moves [T, 3]."""
        points = np.cumsum(moves[:, :2].astype(np.float64) * self.scale, 0)
        ends = np.flatnonzero(moves[:-1, 2] != DOWN) + 1
        return [stroke for stroke in np.split(points, ends) if len(stroke)]

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        return {"signs": len(self.signs)}

    def to_json(self) -> dict[str, Any]:
        """What a model file keeps."""
        return {**asdict(self), "signs": list(self.signs)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PenCodec:
        """Raises KeyError, TypeError or ValueError where the JSON is not a codec's."""
        codec = cls(
            tuple(data["signs"]), *(float(data[name]) for name in ("spacing", "height", "scale"))
        )
        if not codec.signs or not all(isinstance(s, str) and s for s in codec.signs):
            raise ValueError("not signs")
        if not (0.001 <= codec.spacing <= 1 and codec.height >= 0 and 0 < codec.scale < 1e6):
            raise ValueError("not a codec of a pen")
        return codec


def side_by_side(drawings: Sequence[Drawing]) -> Drawing:
    """Framed drawings one after another in a line."""
    placed: Drawing = []
    at = 0.0
    for drawing in drawings:
        placed += [stroke + np.array([at, 0.0]) for stroke in drawing]
        at += max(float(stroke[:, 0].max()) for stroke in drawing) + APART
    return placed


def svg(rows: Mapping[str, Sequence[Drawing]], *, height: int = 110) -> str:
    """A picture of drawings: a row of them for every name."""
    from xml.sax.saxutils import escape

    parts = []
    widest, top = 60.0, 10.0
    for name, drawings in rows.items():
        left = 10.0
        for drawing in drawings:
            points = np.concatenate(drawing)
            low, high = points.min(0), points.max(0)
            unit = height / max(float((high - low)[1]), 0.5)
            for stroke in drawing:
                placed = (stroke - low) * unit + [left, top]
                line = " ".join(
                    f"{x:.1f},{y:.1f}"
                    for x, y in (placed if len(placed) > 1 else np.repeat(placed, 2, 0))
                )
                parts.append(f'<polyline points="{line}"/>')
            left += float((high - low)[0]) * unit + 30
        widest = max(widest, left)
        parts.append(f'<text x="10" y="{top + height + 20:.0f}">{escape(name)}</text>')
        top += height + 40
    style = (
        "polyline{fill:none;stroke:#3d8fd1;stroke-width:3;stroke-linecap:round;stroke-linejoin:round}text{font:12px"
        " sans-serif;fill:#8a8f98}"
    )
    size = f'viewBox="0 0 {widest:.0f} {top:.0f}" width="{widest:.0f}" height="{top:.0f}"'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg"'
        f" {size}><style>{style}</style>{''.join(parts)}</svg>\n"
    )
