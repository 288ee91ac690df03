"""Pen strokes: from files and points as they are drawn to the steps a model reads.

A drawing is a list of strokes, each [N, 2] float64: the points between pen down and pen up, y
growing downwards. What is read are its points set anew at equal distances along the line, so that
how fast a person draws does not matter.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from memorycell.errors import DataError
from memorycell.signals.codec import SignalCodec

Drawing = list[np.ndarray]
FARTHEST = 1e7
"""Coordinates beyond are taken for mistakes."""
MOST_POINTS = 20_000
INK = "http://www.w3.org/2003/InkML"
SAYS = ("label", "text", "truth", "class", "word", "transcription")
"""The names under which a line of JSON, or an annotation in InkML, says what was written."""


@dataclass(frozen=True)
class StrokeCodec(SignalCodec):
    """A drawing in, one of `labels` or a text out.

    frame     "box": the drawing is brought to one size and place, which says where in it a point
              lies (characters); "line": it is brought to the height of training's lines (text)
    height    median height of the training drawings, in their own unit
    spacing   from one point to the next, as a share of the height
    """

    kind: ClassVar[str] = "strokes"
    frame: str = "box"
    height: float = 1.0
    spacing: float = 0.06

    @property
    def input_size(self) -> int:
        """Features a step."""
        return 8 if self.frame == "box" else 6

    def framed(self, drawing: Drawing) -> Drawing:
        """The drawing with its height (or width, if that is larger) at 1, centred; or, in a line,
        at the training scale.
        """
        points = np.concatenate(drawing)
        low, high = points.min(0), points.max(0)
        if self.frame == "box":
            size = max(float((high - low).max()), 1e-9)
            return [(stroke - (low + high) / 2) / size for stroke in drawing]
        return [(stroke - [low[0], (low[1] + high[1]) / 2]) / self.height for stroke in drawing]

    def encode(self, drawing: Drawing) -> np.ndarray:
        """Features [T, input_size] float32, a row a point:

        cos and sin of the direction it was reached in, cos and sin of the turn, whether the pen was
        up, how far it was; and in a box, where it lies
        """
        strokes = [respaced(stroke, self.spacing) for stroke in self.framed(drawing)]
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
        """What a model file keeps."""
        own = {
            name: value
            for name, value in asdict(self).items()
            if name not in ("text", "labels", "sentences")
        }
        return {**super().to_json(), **own}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StrokeCodec:
        """Raises KeyError, TypeError or ValueError where the JSON is not a codec's."""
        codec = cls(
            **cls.outputs(data),
            frame=str(data["frame"]),
            height=float(data["height"]),
            spacing=float(data["spacing"]),
        )
        if (
            codec.frame not in ("box", "line")
            or not 0 < codec.height < FARTHEST
            or not 0.001 <= codec.spacing <= 1
        ):
            raise ValueError("not a codec of strokes")
        return codec


def respaced(stroke: np.ndarray, spacing: float) -> np.ndarray:
    """A stroke [N, 2] with points at equal distances along it, about `spacing`; its ends stay. A
    dot stays one point.
    """
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(stroke, axis=0).T))])
    count = min(MOST_POINTS, round(along[-1] / spacing))
    if along[-1] <= 0:
        return stroke[:1]
    at = np.linspace(0, along[-1], max(2, count + 1))
    return np.stack([np.interp(at, along, stroke[:, k]) for k in (0, 1)], 1)


def checked(strokes: Sequence[Any], where: str) -> Drawing:
    """What a person gives as strokes, [[x, y], …] or [[x, y, t], …] each, as a drawing; points that
    repeat are one.

    Raises `DataError` that names the stroke and the point that is none.
    """
    drawing = []
    for number, stroke in enumerate(strokes, 1):
        try:
            points = np.array(
                [(float(point[0]), float(point[1])) for point in stroke], np.float64
            ).reshape(-1, 2)
        except (TypeError, ValueError, IndexError, KeyError):
            raise DataError(f"{where}: stroke {number}: expected points [x, y]") from None
        wrong = ~(np.abs(points) <= FARTHEST).all(1)
        if wrong.any():
            k = int(wrong.argmax())
            raise DataError(
                f"{where}: stroke {number}, point {k + 1}: {points[k].tolist()} is no place on a"
                " page"
            )
        if len(points):
            fresh = np.ones(len(points), bool)
            fresh[1:] = (np.diff(points, axis=0) != 0).any(1)
            drawing.append(points[fresh])
    if not drawing:
        raise DataError(f"{where}: holds no point")
    if sum(map(len, drawing)) > MOST_POINTS:
        raise DataError(f"{where}: {sum(map(len, drawing)):,} points; {MOST_POINTS:,} at most")
    return drawing


# ---- files ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """A drawing of a file, and what it says ("" where that is not told)."""

    drawing: Drawing
    said: str
    name: str
    fields: Mapping[str, str]


def read_strokes(path: Path, where: str) -> tuple[list[Drawn], list[str]]:
    """(drawings, notes) of JSON lines, InkML, or Omniglot's text files, in a folder or a .zip; what
    is damaged is left out.

    A line of JSON is {"strokes": [[[x, y], …], …], "label": …}; further values are fields. Of
    Omniglot's files the folders are the label, and the writer's number is a field.
    """
    found: list[Drawn] = []
    bad: list[str] = []
    for name, text in _texts(path, where):
        readers = {".txt": _omniglot, ".inkml": _inkml}
        read = next(
            (r for ending, r in readers.items() if name.lower().endswith(ending)), _json_lines
        )
        for one in read(name, text):
            if isinstance(one, str):
                bad.append(one)
            else:
                found.append(one)
    if not found:
        raise DataError(
            bad[0]
            if bad
            else f"{where}: holds no drawings (.jsonl, .inkml, Omniglot's .txt or .zip)"
        )
    notes = (
        [f"left out: {len(bad):,} drawings that are damaged (the first: {bad[0]})"] if bad else []
    )
    return found, notes


def _texts(path: Path, where: str) -> Iterator[tuple[str, str]]:
    endings = (".jsonl", ".ndjson", ".inkml", ".txt")
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in endings):
            yield (
                file.relative_to(path).as_posix(),
                file.read_text(encoding="utf-8", errors="replace"),
            )
    elif path.suffix == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                for entry in sorted(archive.infolist(), key=lambda e: e.filename):
                    own = not entry.filename.startswith(
                        "__MACOSX"
                    ) and entry.filename.lower().endswith(endings)
                    if own and entry.file_size < 10_000_000:
                        yield entry.filename, archive.read(entry).decode(errors="replace")
        except (zipfile.BadZipFile, OSError, NotImplementedError, EOFError) as error:
            raise DataError(f"{path}: not a readable archive ({error})") from None
    elif path.suffix.lower() in endings:
        yield path.name, path.read_text(encoding="utf-8", errors="replace")
    else:
        raise DataError(f"{where}: the ending {path.suffix} is none of {', '.join(endings)}, .zip")


def _omniglot(name: str, text: str) -> Iterator[Drawn | str]:
    """START, lines x,y,t with y growing upwards, BREAK after every stroke;
    ALPHABET/characterNN/ID_WRITER.txt.
    """
    strokes: list[list[tuple[float, float]]] = [[]]
    for number, line in enumerate(io.StringIO(text), 1):
        line = line.strip()
        if line in ("START", ""):
            continue
        if line == "BREAK":
            strokes.append([])
            continue
        try:
            x, y, *_ = map(float, line.split(","))
        except ValueError:
            yield f"{name}: line {number}: expected x,y,t"
            return
        strokes[-1].append((x, -y))
    folders = name.split("/")[:-1]
    writer = re.search(r"_(\d+)\.txt$", name)
    fields = {"writer": str(int(writer[1]))} if writer else {}
    label = "/".join(part.removeprefix("character") for part in folders[-2:])
    yield _drawn(
        [s for s in strokes if s],
        label,
        name,
        {**fields, "alphabet": folders[-2] if len(folders) > 1 else ""},
    )


def _json_lines(name: str, text: str) -> Iterator[Drawn | str]:
    for number, line in enumerate(io.StringIO(text), 1):
        if not line.strip():
            continue
        where = f"{name}: line {number}"
        try:
            row = json.loads(line)
            strokes = row["strokes"]
        except (ValueError, KeyError, TypeError):
            yield f'{where}: expected JSON like {{"strokes": [[[x, y], …], …], "label": "a"}}'
            continue
        said = next((str(row[key]) for key in SAYS if row.get(key) is not None), "")
        fields = {k: str(v) for k, v in row.items() if isinstance(v, (str, int)) and k not in SAYS}
        yield _drawn(strokes, said, where, fields)


def _inkml(name: str, text: str) -> Iterator[Drawn | str]:
    """InkML (W3C 2011): the points of every <trace>, and the <annotation> that says what was
    written.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        root = fromstring(text, forbid_dtd=True)
        strokes = [
            [
                tuple(map(float, point.split()[:2]))
                for point in (trace.text or "").split(",")
                if point.strip()
            ]
            for trace in root.iter(f"{{{INK}}}trace")
        ]
    except (DefusedXmlException, ParseError) as error:
        yield f"{name}: not safe and whole InkML ({type(error).__name__})"
        return
    except ValueError:
        yield f"{name}: a trace whose points are not numbers x y"
        return
    said = {a.get("type", ""): (a.text or "").strip() for a in root.iter(f"{{{INK}}}annotation")}
    yield _drawn(strokes, next((said[key] for key in SAYS if said.get(key)), ""), name, said)


def _drawn(strokes: Sequence[Any], said: str, name: str, fields: Mapping[str, str]) -> Drawn | str:
    try:
        return Drawn(checked(strokes, name), said, name, fields)
    except DataError as error:
        return str(error)


# ---- for training: the same drawn otherwise ------------------------------------------------------


def redrawn(drawing: Drawing, rng: np.random.Generator, *, warp: float, order: float) -> Drawing:
    """As another hand might have drawn it: turned, slanted and stretched, every stroke a little
    elsewhere, larger or smaller, with a slow tremor; with probability `order` two strokes change
    places, with half of it one runs backwards.

    warp   how much: 1 is turned by up to 17 degrees and slanted by up to 0.3
    """
    points = np.concatenate(drawing)
    centre, size = points.mean(0), max(float(np.ptp(points, axis=0).max()), 1e-9)
    turn, slant = rng.uniform(-0.3, 0.3, 2) * warp
    stretch = np.exp(rng.uniform(-0.2, 0.2, 2) * warp)
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, slant], [0, 1]]) @ np.diag(stretch)
    made = []
    for stroke in drawing:
        own = stroke.mean(0)
        moved = (stroke - own) * np.exp(rng.uniform(-0.1, 0.1, 2) * warp) + own
        moved = moved + rng.normal(0, 0.03 * warp, 2) * size
        phase = np.linspace(0, np.pi * rng.uniform(0.5, 2), len(stroke))[:, None] + rng.uniform(
            0, 2 * np.pi, 2
        )
        moved = moved + np.sin(phase) * rng.normal(0, 0.02 * warp, 2) * size
        made.append((moved - centre) @ matrix.T + centre)
    if len(made) > 1 and rng.random() < order:
        a, b = rng.choice(len(made), 2, replace=False)
        made[a], made[b] = made[b], made[a]
    if rng.random() < order / 2:
        k = int(rng.integers(len(made)))
        made[k] = made[k][::-1]
    return made
