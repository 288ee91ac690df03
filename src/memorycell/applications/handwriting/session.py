"""Handwriting recognition live: points of a pen in, the answer for the drawing so far out."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from memorycell.application.contract import Item, ModelFile, NoOptions, Record
from memorycell.applications.handwriting.codec import LineCodec
from memorycell.applications.handwriting.predict import answer
from memorycell.errors import DataError, StateError, UserError
from memorycell.reading import decode_text
from memorycell.setting_fields import from_json, parse_json
from memorycell.signals.canvas_strokes import drawing_strokes, is_bare_drawing, to_strokes
from memorycell.signals.recognise import SignalModel
from memorycell.signals.strokes import MAX_POINTS, Drawing, StrokeCodec, check_strokes
from memorycell.signals.svg_path import flatten_path

STATE_FORMAT: Literal["memorycell-drawing-2"] = "memorycell-drawing-2"
PATH_DATA = re.compile(r"\s*[mM]\s*[-+.\d]")


class HandwritingSession:
    """See `Session`. An item is

    - a point, a line `[x, y]` or a mapping with `x` and `y`
    - `up` where the pen is lifted
    - a stroke, `[[x, y], …]`, `[[x, …], [y, …]]` or `{"points": …}`, after which the pen is lifted;
      or the path data of SVG, `M 0 0 L 5 9`
    - a drawing, `{"strokes": …}` or a line of Quick, Draw!, which takes the place of the one so far
    - an empty line, which starts a new drawing

    The complete drawing is read again at every point, because its scale depends on all points. The
    last answer is therefore that of the complete drawing.
    """

    def __init__(
        self,
        file: ModelFile[SignalModel, StrokeCodec | LineCodec],
        precision: str = "float32",
        options: NoOptions | None = None,
    ) -> None:
        if isinstance(file.codec, LineCodec):
            raise UserError("stream: this model reads images; use memorycell predict")
        if precision != "float32":
            raise UserError(f"stream: handwriting runs in float32, not {precision}")
        self.file, self._codec = file, file.codec
        self.strokes: list[list[tuple[float, float]]] = [[]]
        self._lines = 0

    def feed(self, item: Item) -> list[Record]:
        """See `Session`."""
        if isinstance(item, Mapping):
            self._add(item, "row")
        elif not self._feed_line(item):
            return []
        drawing = self.drawing
        record = answer(self.file, self._codec.encode(drawing))
        points = sum(map(len, self.strokes))
        return [{**record, "strokes": len(drawing), "points": points}]

    def _feed_line(self, item: str | bytes) -> bool:
        """Whether the line adds a point."""
        self._lines += 1
        where = f"stdin, line {self._lines}"
        line = decode_text(item, where) if isinstance(item, bytes) else item
        line = line.removeprefix("\ufeff")
        if not line.strip():
            self.strokes = [[]]
            return False
        if line.strip().strip('"') == "up":
            if self.strokes[-1]:
                self.strokes.append([])
            return False
        if PATH_DATA.match(line):
            self._add_strokes([s.tolist() for s in flatten_path(line.strip(), where)], where)
            return True
        try:
            value = parse_json(line)
        except ValueError:
            raise _not_a_point(where) from None
        self._add(value, where)
        return True

    def close(self) -> list[Record]:
        """See `Session`."""
        return []

    @property
    def drawing(self) -> Drawing:
        """The drawing so far."""
        return check_strokes([stroke for stroke in self.strokes if stroke], "stdin")

    def _add(self, value: Any, where: str) -> None:
        """A point, a stroke or a drawing."""
        if isinstance(value, Mapping) and ("strokes" in value or "drawing" in value):
            before, self.strokes = self.strokes, [[]]
            try:
                self._add_strokes(drawing_strokes(value), where)
            except DataError:
                self.strokes = before
                raise
        elif is_bare_drawing([value]):
            self._add_strokes(to_strokes([value]), where)
        else:
            self._add_point(value, where)

    def _add_strokes(self, strokes: list[Any] | None, where: str) -> None:
        """Strokes after those so far; the pen is lifted before and after them."""
        if strokes is None:
            raise _not_a_point(where)
        added = check_strokes(strokes, where)
        self._check_count(sum(map(len, added)), where)
        own = [stroke for stroke in self.strokes if stroke]
        self.strokes = [*own, *([(x, y) for x, y in s.tolist()] for s in added), []]

    def _check_count(self, more: int, where: str) -> None:
        if sum(map(len, self.strokes)) + more > MAX_POINTS:
            raise DataError(
                f"{where}: a drawing has at most {MAX_POINTS:,} points; an empty line starts a new"
                " one"
            )

    def _add_point(self, point: Any, where: str) -> None:
        try:
            x, y = (point["x"], point["y"]) if isinstance(point, Mapping) else (point[0], point[1])
        except (TypeError, KeyError, IndexError):
            raise _not_a_point(where) from None
        check_strokes([[(x, y)]], where)
        self._check_count(1, where)
        self.strokes[-1].append((float(x), float(y)))

    def fork(self) -> HandwritingSession:
        """See `Forkable`."""
        other = copy.copy(self)
        other.strokes = [list(stroke) for stroke in self.strokes]
        return other

    def snapshot(self) -> bytes:
        """See `Session`."""
        saved = _SavedDrawing(STATE_FORMAT, self.strokes, _checksum(self.strokes))
        return json.dumps(asdict(saved)).encode()

    def restore(self, data: bytes) -> None:
        """See `Session`."""
        try:
            state = from_json(_SavedDrawing, parse_json(data))
            if state.format == STATE_FORMAT and state.checksum != _checksum(state.strokes):
                raise ValueError("its checksum does not match")
            if any(state.strokes):
                check_strokes([stroke for stroke in state.strokes if stroke], "state")
        except (ValueError, TypeError, DataError):
            raise StateError("not the state of a drawing; start without it") from None
        self.strokes = [list(stroke) for stroke in state.strokes] or [[]]


@dataclass(frozen=True)
class _SavedDrawing:
    format: Literal["memorycell-drawing-1", "memorycell-drawing-2"]
    strokes: list[list[tuple[float, float]]]
    checksum: str = ""  # format 1 has none


def _checksum(strokes: list[list[tuple[float, float]]]) -> str:
    """SHA-256 of the strokes as JSON."""
    return hashlib.sha256(json.dumps(strokes).encode()).hexdigest()


def _not_a_point(where: str) -> DataError:
    return DataError(
        f"{where}: expected a point [x, y], a stroke [[x, y], …], a drawing"
        ' {"strokes": …}, SVG path data, "up", or an empty line for a new drawing'
    )
