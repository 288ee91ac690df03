"""Read strokes from JSON lines, and the lines of Quick, Draw!."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from memorycell.setting_fields import parse_json
from memorycell.signals.drawings import LABEL_KEYS, FoundDrawings, first_label, shown_name

COMMENTED_OUT = re.compile(r"#[#\s]*[{\[]")
EXAMPLE = '{"strokes": [[[x, y], …], …], "label": "a"}'


def read_json_strokes(text: str, name: str, found: FoundDrawings) -> None:
    """One drawing per line, or a JSON list of drawings. Lines that begin with # are comments, but
    not drawings with a # before them: those are damaged, as is what is not JSON.

    {"strokes": [[[x, y], …], …], "label": …}     further values are fields
    {"drawing": [[[x, …], [y, …]], …], "word": …}   as in Quick, Draw! (Google 2017), with or
                                                    without times
    """
    for where, row in _rows(text, name, found):
        if not isinstance(row, Mapping):
            found.damaged.append(f"{where}: expected JSON like {EXAMPLE}")
            continue
        strokes = row.get("strokes")
        if strokes is None and "drawing" in row:
            strokes = _columns_to_points(row["drawing"])
        if not isinstance(strokes, Sequence) or isinstance(strokes, str):
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
            items = [None]
        for number, item in enumerate(items, 1):
            yield f"{where}: item {number}", item
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("#") and not COMMENTED_OUT.match(line):
            found.ignored["lines that begin with #"] += 1
        elif line.strip():
            try:
                yield f"{where}: line {number}", parse_json(line)
            except ValueError:
                yield f"{where}: line {number}", None


def _columns_to_points(drawing: Any) -> list[list[tuple[Any, Any]]] | None:
    """Strokes of points from strokes of columns [xs, ys] or [xs, ys, ts]; None if invalid."""
    try:
        return [list(zip(stroke[0], stroke[1], strict=True)) for stroke in drawing]
    except (TypeError, ValueError, LookupError):
        return None


def _text(value: Any) -> str | None:
    """A value as a field; None for lists, objects and null."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int, float)) else None
