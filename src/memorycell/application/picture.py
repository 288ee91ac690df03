"""The main picture of a trained model, made in training: what a notebook shows of it.

It is not stored in model files, because it shows values of the data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
import numpy as np

PICTURE = "picture"
"""In the result of a training, as JSON."""
MAX_POINTS = 400
"""Of a line."""
MAX_TABLE_ROWS, MAX_CELL_CHARS = 24, 200
MAX_WORD_CHARS = 800
"""Of all words together."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A small picture; without strokes and a frame an empty place.

    caption   below it
    strokes   lists of points (x, y), y downwards
    frame     rows of grey levels, 0 (black) … 255
    """

    caption: str = ""
    strokes: list[list[tuple[float, float]]] = field(default_factory=list)
    frame: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Lines over common positions, a grid, points, words, a table, panels, or parts.

    title    what is shown
    x        the labels of the positions: times, or numbers of rows
    y        the name of the vertical axis
    lines    name -> values at the positions, None where unknown; the first is drawn in grey
    low, high   a band around the last line
    begins   positions at which the last line and its band begin again, as for a new forecast
    level    (name, value) of a horizontal line
    marks    positions to mark, such as detected anomalies
    spans    (first, last) positions to shade, such as labelled anomalies
    span     what the shaded positions are
    log      whether the vertical axis is logarithmic
    rows     the labels of the rows of a grid over the positions
    cells    (position, row, share): the cells of the grid, coloured by their share, 0 to 1
    dots     (position, row) of the grid to mark
    points   (x, y), each near the other where the model is right; `x_name` names the horizontal
             axis. They are drawn with a diagonal, and next to it their differences y - x
    words    (text, value) in reading order, coloured by their values
    full     the value of the full colour of words
    unit     of the values of words
    table    rows of cells; the first is the header
    counts   whether the cells of the table are counts, to be shaded by their share of the row
    panels   small pictures, row by row, as many in each of the `rows`
    parts    pictures of lines, one below the other
    """

    title: str
    x: list[str] = field(default_factory=list)
    y: str = ""
    lines: dict[str, list[float | None]] = field(default_factory=dict)
    low: list[float | None] = field(default_factory=list)
    high: list[float | None] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    level: tuple[str, float] | None = None
    marks: list[int] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    span: str = ""
    log: bool = False
    rows: list[str] = field(default_factory=list)
    cells: list[tuple[int, int, float]] = field(default_factory=list)
    dots: list[tuple[int, int]] = field(default_factory=list)
    points: list[tuple[float, float]] = field(default_factory=list)
    x_name: str = ""
    words: list[tuple[str, float]] = field(default_factory=list)
    full: float = 1.0
    unit: str = ""
    table: list[list[str]] = field(default_factory=list)
    counts: bool = False
    panels: list[Panel] = field(default_factory=list)
    parts: list[Picture] = field(default_factory=list)

    def __post_init__(self) -> None:
        places = [*self.begins, *self.marks, *(k for span in self.spans for k in span)]
        columns = [*self.lines.values(), *([self.low, self.high] if self.low else ())]
        if any(len(column) != len(self.x) for column in columns):
            raise ValueError("a line and the positions differ in length")
        places += [cell[0] for cell in self.cells] + [dot[0] for dot in self.dots]
        levels = [cell[1] for cell in self.cells] + [dot[1] for dot in self.dots]
        if any(not 0 <= row < len(self.rows) for row in levels):
            raise ValueError("a row outside of the picture")
        if any(not 0 <= place < len(self.x) for place in places):
            raise ValueError("a position outside of the picture")
        if self.panels and (not self.rows or len(self.panels) % len(self.rows)):
            raise ValueError("panels that do not fill the rows of the picture")

    def to_json(self) -> dict[str, Any]:
        """Its fields, without what is empty."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return msgspec.convert(data, cls)


def picture_of_result(result: Mapping[str, Any]) -> Picture | None:
    """The confusion matrix or the examples in the result of an evaluation, if it has them."""
    if confusion := result.get("confusion"):
        if len(confusion) > MAX_TABLE_ROWS:
            return None
        rows = [[name, *(str(count) for count in row.values())] for name, row in confusion.items()]
        title = "True class (rows) and prediction (columns) on the test split"
        return Picture(title=title, table=[["", *confusion], *rows], counts=True)
    if examples := result.get("examples"):
        header = ["input", "prediction", "reference"]
        keys = ("source", "ours", "wanted")
        if not all(key in one for one in examples for key in keys):
            return None
        cells = [[str(one[key])[:MAX_CELL_CHARS] for key in keys] for one in examples[:5]]
        return Picture(title="Examples of the test split", table=[header, *cells])
    return None


def json_numbers(values: np.ndarray) -> list[float | None]:
    """Numbers with five digits; None for those that are not finite."""
    return [float(f"{v:.5g}") if np.isfinite(v) else None for v in values.tolist()]
