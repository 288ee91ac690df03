"""Read pen strokes from JSON lines, InkML and Omniglot's text files."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memorycell.errors import DataError
from memorycell.signals.strokes import Drawing, check_strokes

INKML_NAMESPACE = "http://www.w3.org/2003/InkML"
LABEL_KEYS = ("label", "text", "truth", "class", "word", "transcription")
"""Keys of a JSON line, and types of an InkML annotation, that hold the label."""
SUFFIXES = (".jsonl", ".ndjson", ".inkml", ".txt")
MAX_ENTRY_BYTES = 10_000_000
"""Of a file in an archive; larger ones are ignored."""


@dataclass(frozen=True)
class LabelledDrawing:
    """A drawing from a file.

    label    a class name or transcript; "" where the file has none
    fields   other values of the file, such as the writer
    """

    drawing: Drawing
    label: str
    name: str
    fields: Mapping[str, str]


def read_strokes(path: Path, where: str) -> tuple[list[LabelledDrawing], list[str]]:
    """(drawings, notes) of a file, a folder or a .zip. Damaged drawings are left out.

    A JSON line is {"strokes": [[[x, y], …], …], "label": …}; further values are fields. In
    Omniglot's files the label is the folder and the writer's number is a field.

    Raises `DataError` where no drawing can be read.
    """
    drawings: list[LabelledDrawing] = []
    errors: list[str] = []
    readers = {".txt": _read_omniglot, ".inkml": _read_inkml}
    for name, text in _read_texts(path, where):
        read = next((r for s, r in readers.items() if name.lower().endswith(s)), _read_json_lines)
        for item in read(name, text):
            if isinstance(item, str):
                errors.append(item)
            else:
                drawings.append(item)
    if not drawings:
        raise DataError(
            errors[0]
            if errors
            else f"{where}: contains no drawings (.jsonl, .inkml, Omniglot's .txt or .zip)"
        )
    if errors:
        return drawings, [f"left out: {len(errors):,} damaged drawings (the first: {errors[0]})"]
    return drawings, []


def _read_texts(path: Path, where: str) -> Iterator[tuple[str, str]]:
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES):
            name = file.relative_to(path).as_posix()
            yield name, file.read_text(encoding="utf-8", errors="replace")
    elif path.suffix == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                for entry in sorted(archive.infolist(), key=lambda e: e.filename):
                    name = entry.filename
                    if name.startswith("__MACOSX") or not name.lower().endswith(SUFFIXES):
                        continue
                    if entry.file_size < MAX_ENTRY_BYTES:
                        yield name, archive.read(entry).decode(errors="replace")
        except (zipfile.BadZipFile, OSError, NotImplementedError, EOFError) as error:
            raise DataError(f"{path}: not a readable archive ({error})") from None
    elif path.suffix.lower() in SUFFIXES:
        yield path.name, path.read_text(encoding="utf-8", errors="replace")
    else:
        expected = ", ".join((*SUFFIXES, ".zip"))
        raise DataError(f"{where}: unknown file type {path.suffix}; expected {expected}")


def _read_omniglot(name: str, text: str) -> Iterator[LabelledDrawing | str]:
    """START, lines x,y,t with y pointing up, BREAK after every stroke;
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
    fields["alphabet"] = folders[-2] if len(folders) > 1 else ""
    label = "/".join(part.removeprefix("character") for part in folders[-2:])
    yield _checked([s for s in strokes if s], label, name, fields)


def _read_json_lines(name: str, text: str) -> Iterator[LabelledDrawing | str]:
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
        label = next((str(row[key]) for key in LABEL_KEYS if row.get(key) is not None), "")
        fields = {
            key: str(value)
            for key, value in row.items()
            if isinstance(value, (str, int)) and key not in LABEL_KEYS
        }
        yield _checked(strokes, label, where, fields)


def _read_inkml(name: str, text: str) -> Iterator[LabelledDrawing | str]:
    """InkML (W3C 2011): the points of every <trace>, and the <annotation> with the label."""
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
            for trace in root.iter(f"{{{INKML_NAMESPACE}}}trace")
        ]
    except (DefusedXmlException, ParseError) as error:
        yield f"{name}: InkML that is unsafe or incomplete ({type(error).__name__})"
        return
    except ValueError:
        yield f"{name}: a trace has points that are not numbers x y"
        return
    annotations = root.iter(f"{{{INKML_NAMESPACE}}}annotation")
    fields = {a.get("type", ""): (a.text or "").strip() for a in annotations}
    label = next((fields[key] for key in LABEL_KEYS if fields.get(key)), "")
    yield _checked(strokes, label, name, fields)


def _checked(
    strokes: Sequence[Any], label: str, name: str, fields: Mapping[str, str]
) -> LabelledDrawing | str:
    """The drawing, or the reason why it is invalid."""
    try:
        return LabelledDrawing(check_strokes(strokes, name), label, name, fields)
    except DataError as error:
        return str(error)
