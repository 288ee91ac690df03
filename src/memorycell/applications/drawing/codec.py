"""From pen strokes to moves of the pen and back, and from text to the signs to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from memorycell.errors import DataError, quote
from memorycell.setting_fields import from_json
from memorycell.signals.strokes import MAX_COORDINATE, MIN_HEIGHT, Drawing, resample_stroke

PEN_DOWN, PEN_UP, PEN_END = 0, 1, 2
"""After a move the pen stays down, is lifted, or the drawing ends."""
SIGN_GAP = 0.35
"""Between signs in a row, as a fraction of their height."""
MAX_SHOWN_SIGNS = 20
MIN_SCALE = 1e-9


@dataclass(frozen=True)
class PenCodec:
    """Converts drawings to moves [T, 3]: dx and dy in units of `scale`, and the pen.

    signs     what can be drawn: letters, or names of characters
    spacing   distance between points, as a fraction of the height
    height    median height of the training drawings in their own unit, for text; 0: each drawing is
              scaled to height 1
    scale     standard deviation of dx and dy in training
    """

    kind: ClassVar[str] = "pen"
    signs: tuple[str, ...]
    spacing: Annotated[float, Meta(ge=0.001, le=1)] = 0.08
    height: Annotated[float, Meta(ge=0, le=2 * MAX_COORDINATE)] = 0.0
    scale: Annotated[float, Meta(ge=MIN_SCALE, le=1e6)] = 1.0

    @cached_property
    def letters(self) -> bool:
        """Whether the signs are letters."""
        return all(len(sign) == 1 for sign in self.signs)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {sign: k for k, sign in enumerate(self.signs)}

    def sign_ids(self, text: str) -> list[int]:
        """The ids of the signs in a text: its letters, or names separated by spaces. Raises
        `DataError` for an empty text and for unknown signs.
        """
        signs = list(text) if self.letters else text.split()
        unknown = [sign for sign in signs if sign not in self._ids]
        if unknown or not signs:
            shown = quote(" ".join(self.signs[:MAX_SHOWN_SIGNS]))[1:-1]
            shown += " …" if len(self.signs) > MAX_SHOWN_SIGNS else ""
            problem = f"{quote(unknown[0])} is not a sign" if unknown else "no signs given"
            raise DataError(f"{problem}; this model draws {shown}")
        return [self._ids[sign] for sign in signs]

    def normalise(self, drawing: Drawing) -> Drawing:
        """Move the left edge to 0 and the vertical middle to 0, and scale to height 1 (or width 1,
        if larger), or by `height`.
        """
        points = np.concatenate(drawing)
        low, high = points.min(0), points.max(0)
        size = self.height or max(float((high - low).max()), 1e-9)
        return [(stroke - [low[0], (low[1] + high[1]) / 2]) / size for stroke in drawing]

    def to_moves(self, drawing: Drawing) -> np.ndarray:
        """The moves [T, 3] float32 of a normalised drawing: dx, dy, and the pen after the move. The
        pen starts at the left edge, at half the height.
        """
        strokes = [resample_stroke(stroke, self.spacing) for stroke in drawing]
        points = np.concatenate([np.zeros((1, 2)), *strokes])
        pen = np.full(len(points) - 1, PEN_DOWN, float)
        pen[np.cumsum([len(stroke) for stroke in strokes]) - 1] = PEN_UP
        pen[-1] = PEN_END
        return np.column_stack([np.diff(points, axis=0) / self.scale, pen]).astype(np.float32)

    def to_strokes(self, moves: np.ndarray) -> Drawing:
        """The strokes of moves [T, 3]."""
        points = np.cumsum(moves[:, :2].astype(np.float64) * self.scale, 0)
        ends = np.flatnonzero(moves[:-1, 2] != PEN_DOWN) + 1
        return [stroke for stroke in np.split(points, ends) if len(stroke)]

    def model_sizes(self) -> dict[str, object]:
        """See `Codec`."""
        return {"signs": len(self.signs)}

    def to_json(self) -> dict[str, Any]:
        """See `Codec`."""
        return {**asdict(self), "signs": list(self.signs)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PenCodec:
        """See `Codec`."""
        for field in fields(cls):
            if field.name not in data:
                raise ValueError(f"missing field {field.name}")
        codec = from_json(cls, data)
        if not codec.signs or not all(codec.signs) or len(set(codec.signs)) < len(codec.signs):
            raise ValueError("signs: none, a duplicate or an empty one")
        if 0 < codec.height < MIN_HEIGHT:
            raise ValueError(f"height: expected 0, or {MIN_HEIGHT:g} or more")
        return codec


def join_in_row(drawings: Sequence[Drawing]) -> Drawing:
    """Normalised drawings next to each other, from left to right."""
    row: Drawing = []
    left = 0.0
    for drawing in drawings:
        row += [stroke + np.array([left, 0.0]) for stroke in drawing]
        left += max(float(stroke[:, 0].max()) for stroke in drawing) + SIGN_GAP
    return row
