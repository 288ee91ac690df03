"""Read pen strokes from files: JSON lines, InkML, SVG, IAM-OnDB and Omniglot."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from memorycell.errors import DataError, quote
from memorycell.language.markup import local_name, parse_xml
from memorycell.reading import decode_text, normalise
from memorycell.signals.drawings import FoundDrawings, LabelledDrawing, shown_name
from memorycell.signals.iam_online import ROOT_NAME, read_iam, read_transcripts, with_transcript
from memorycell.signals.inkml import read_inkml
from memorycell.signals.stroke_json import read_json_strokes
from memorycell.signals.svg_strokes import read_svg

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
XML_SUFFIXES = (".inkml", ".xml", ".svg")
SUFFIXES = (*JSON_SUFFIXES, *XML_SUFFIXES, ".txt")
XML_READERS = {"ink": read_inkml, "svg": read_svg, ROOT_NAME: read_iam}
"""Name of the root element -> reader."""
MAX_ENTRY_BYTES = 100_000_000
"""Of a file in an archive."""


def read_strokes(
    path: Path, where: str, *, encoding: str | None = None, lossy: bool = False
) -> tuple[list[LabelledDrawing], list[str]]:
    """(drawings, notes) of a file, a folder or a .zip.

    encoding   of text files, and of XML that does not name its own; by default UTF-8
    lossy      accept that more than `reading.MAX_SKIPPED` of the drawings are damaged

    In Omniglot's files the label is the folder and the writer's number is a field. A line of
    IAM-OnDB finds its transcript in the .txt file of its form.

    Raises `DataError` where no drawing can be read, or too many are damaged.
    """
    found = FoundDrawings()
    transcripts: dict[str, list[str]] = {}
    for name, data in _read_files(path, where, found):
        try:
            if name.lower().endswith(XML_SUFFIXES):
                _read_xml(data, name, encoding, found)
                continue
            text = normalise(decode_text(data, shown_name(name), encoding))
        except DataError as error:
            found.damaged.append(str(error))
            continue
        if name.lower().endswith(JSON_SUFFIXES):
            read_json_strokes(text, name, found)
        elif _is_omniglot(text):
            _read_omniglot(text, name, found)
        elif (lines := read_transcripts(text)) is not None:
            transcripts[re.split(r"[/\\]", name)[-1][: -len(".txt")]] = lines
        else:
            found.ignored["text files without strokes"] += 1
    if not found.drawings:
        expected = f"{where}: contains no drawings ({', '.join((*SUFFIXES, '.zip'))})"
        raise DataError(found.damaged[0] if found.damaged else expected)
    return [with_transcript(d, transcripts) for d in found.drawings], found.notes(where, lossy)


def _read_xml(data: bytes, name: str, encoding: str | None, found: FoundDrawings) -> None:
    root = parse_xml(data, shown_name(name), encoding)
    reader = XML_READERS.get(local_name(root))
    if reader is None:
        found.damaged.append(
            f"{shown_name(name)}: XML of the kind <{quote(local_name(root))[1:-1]}>; expected"
            f" {', '.join(f'<{kind}>' for kind in XML_READERS)}"
        )
    else:
        reader(root, name, found)


def _read_files(path: Path, where: str, found: FoundDrawings) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every file with strokes."""
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES):
            if file.is_file():
                yield file.relative_to(path).as_posix(), _file_bytes(file)
    elif path.suffix.lower() == ".zip":
        yield from _read_archive(path, found)
    elif path.suffix.lower() in SUFFIXES:
        yield path.name, _file_bytes(path)
    else:
        expected = ", ".join((*SUFFIXES, ".zip"))
        raise DataError(f"{where}: unknown file type {quote(path.suffix)}; expected {expected}")


def _file_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _read_archive(path: Path, found: FoundDrawings) -> Iterator[tuple[str, bytes]]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, NotImplementedError, EOFError, ValueError) as error:
        raise DataError(f"{path}: not a readable archive ({quote(str(error))})") from None
    with archive:
        for entry in sorted(archive.infolist(), key=lambda e: e.filename):
            name = entry.filename
            if name.startswith("__MACOSX") or not name.lower().endswith(SUFFIXES):
                continue
            if entry.file_size > MAX_ENTRY_BYTES:
                found.damaged.append(
                    f"{shown_name(name)}: {entry.file_size:,} bytes in an archive; the maximum is"
                    f" {MAX_ENTRY_BYTES:,}; unpack it"
                )
                continue
            try:
                data = archive.read(entry)
            except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, EOFError) as error:
                found.damaged.append(
                    f"{shown_name(name)}: cannot be unpacked ({quote(str(error))})"
                )
                continue
            yield name, data


# ---- Omniglot ------------------------------------------------------------------------------------


def _is_omniglot(text: str) -> bool:
    first = text.lstrip().split("\n", 1)[0].strip()
    return first == "START" or re.fullmatch(r"[-+.\deE]+(,[-+.\deE]+)+", first) is not None


def _read_omniglot(text: str, name: str, found: FoundDrawings) -> None:
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
            found.damaged.append(f"{shown_name(name)}: line {number}: expected x,y,t")
            return
        strokes[-1].append((x, -y))
    folders = name.split("/")[:-1]
    writer = re.search(r"_(\d+)\.txt$", name)
    fields = {"writer": str(int(writer[1]))} if writer else {}
    fields["alphabet"] = folders[-2] if len(folders) > 1 else ""
    label = "/".join(part.removeprefix("character") for part in folders[-2:])
    found.add([s for s in strokes if s], label, name, fields)
