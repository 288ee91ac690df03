"""Read IAM-OnDB's XML: strokes from a whiteboard and the transcripts of their lines (Liwicki &
Bunke 2005, IAM-OnDB - an on-line English sentence database).
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from memorycell.language.markup import attribute, local_name
from memorycell.signals.drawings import FoundDrawings, LabelledDrawing, shown_name

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

ROOT_NAME = "WhiteboardCaptureSession"
_LINE_NAME = re.compile(r"([^/]+)-(\d+)\.xml$")
_TRANSCRIPT_START = re.compile(r"^CSR:\s*$", re.MULTILINE)


def read_iam(root: Element, name: str, found: FoundDrawings) -> None:
    """Every `<Stroke>` with its `<Point>`s is a stroke. The label is the text of the file's
    `<TextLine>`s, where it has them; the writer is a field.
    """
    try:
        strokes = [
            [(float(p.attrib["x"]), float(p.attrib["y"])) for p in s if local_name(p) == "Point"]
            for s in root.iter()
            if local_name(s) == "Stroke"
        ]
    except (KeyError, ValueError):
        found.damaged.append(f"{shown_name(name)}: a <Point> without numbers x and y")
        return
    lines = [attribute(e, "text") for e in root.iter() if local_name(e) == "TextLine"]
    writers = (attribute(e, "writerID") for e in root.iter())
    writer = next((w for w in writers if w), "")
    label = html.unescape(" ".join(lines))
    found.add(strokes, label, name, {"writer": writer} if writer else {})


def read_transcripts(text: str) -> list[str] | None:
    """The lines after "CSR:" of a file of transcripts; None for another text file."""
    start = _TRANSCRIPT_START.search(text)
    if start is None:
        return None
    return [line.strip() for line in text[start.end() :].split("\n") if line.strip()]


def with_transcript(drawing: LabelledDrawing, transcripts: dict[str, list[str]]) -> LabelledDrawing:
    """The drawing of the line file FORM-02.xml with line 2 of FORM.txt as its label.

    transcripts   FORM -> lines
    """
    match = _LINE_NAME.search(drawing.name)
    if drawing.label or match is None:
        return drawing
    lines, number = transcripts.get(match[1], []), int(match[2][:9])
    if not 1 <= number <= len(lines):
        return drawing
    return LabelledDrawing(drawing.drawing, lines[number - 1], drawing.name, drawing.fields)
