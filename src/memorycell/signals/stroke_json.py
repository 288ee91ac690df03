"""Read strokes from JSON: lines or a list of drawings, Quick, Draw!, and what canvases save."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from memorycell.setting_fields import parse_json
from memorycell.signals.canvas_strokes import drawing_strokes, is_bare_drawing, to_strokes
from memorycell.signals.drawings import LABEL_KEYS, FoundDrawings, first_label, shown_name

COMMENTED_OUT = re.compile(r"#[#\s]*[{\[]")
EXAMPLE = '{"strokes": [[[x, y], …], …], "label": "a"}'


def read_json_strokes(text: str, name: str, found: FoundDrawings) -> None:
    """One drawing per line, a JSON list of drawings, or one drawing. Lines that begin with # are
    comments, but not drawings with a # before them: those are damaged, as is what is not JSON.

    {"strokes": [[[x, y], …], …], "label": …}     strokes in any form of `to_strokes`; further
                                                    values are fields
    {"drawing": [[[x, …], [y, …]], …], "word": …}   as in Quick, Draw! (Google 2017), with or
                                                    without times
    [[[x, …], [y, …]], …]                           strokes alone, in any form of `to_strokes`;
                                                    the label is the folder
    """
    folders = name.split("/")[:-1]
    for where, row in _rows(text, name, found):
        if is_bare_drawing(row):
            found.add(to_strokes(row) or [], folders[-1] if folders else "", where)
            continue
        strokes = None
        if isinstance(row, Mapping):
            strokes = drawing_strokes(row)
        if strokes is None:
            found.damaged.append(f"{where}: expected JSON like {EXAMPLE}")
            continue
        texts = ((key, _text(value)) for key, value in row.items())
        values = {key: text for key, text in texts if text is not None}
        fields = {key: text for key, text in values.items() if key not in LABEL_KEYS}
        found.add(strokes, first_label(values), where, fields)


def _rows(text: str, name: str, found: FoundDrawings) -> Iterator[tuple[str, Any]]:
    """(place, value) of every line, or of every item of a list; None for what is not JSON."""
    where = shown_name(name)
    if text.lstrip().startswith("["):
        try:
            items = parse_json(text)
        except ValueError:
            items = None
        if is_bare_drawing(items):
            yield where, items
            return
        if items is not None:
            for number, item in enumerate(items, 1):
                yield f"{where}: item {number}", item
            return
        if not _is_json(text.lstrip().split("\n", 1)[0]):
            yield f"{where}: item 1", None
            return
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("#") and not COMMENTED_OUT.match(line):
            found.ignored["lines that begin with #"] += 1
        elif line.strip():
            try:
                yield f"{where}: line {number}", parse_json(line)
            except ValueError:
                yield f"{where}: line {number}", None


def _is_json(line: str) -> bool:
    try:
        parse_json(line)
    except ValueError:
        return False
    return True


def _text(value: Any) -> str | None:
    """A value as a field; None for lists, objects and null."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int, float)) else None
