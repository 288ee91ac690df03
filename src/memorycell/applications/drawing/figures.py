"""Drawings as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from memorycell.application.contract import AnyModelFile, Record
from memorycell.inspection.page import markup_text
from memorycell.signals.strokes import Drawing

HEIGHT, MARGIN, GAP, CAPTION = 110, 10.0, 30, 20
"""In pixels: of a drawing, around the figure, between drawings, from a drawing to its caption."""
MIN_WIDTH = 60.0
STYLE = (
    "polyline{fill:none;stroke:#3d8fd1;stroke-width:3;stroke-linecap:round;stroke-linejoin:round}"
    "text{font:12px sans-serif;fill:#8a8f98}"
)


def drawing_svg(file: AnyModelFile, record: Record) -> str:
    """The SVG of a prediction, one row per text."""
    drawings: Any = record["drawings"]
    rows: dict[str, list[Drawing]] = {}
    for one in drawings:
        rows.setdefault(one["text"], []).append([np.array(stroke) for stroke in one["strokes"]])
    return rows_svg(rows)


def rows_svg(rows: Mapping[str, Sequence[Drawing]]) -> str:
    """The SVG of drawings, one row per name."""
    elements = []
    width, top = MIN_WIDTH, MARGIN
    for name, drawings in rows.items():
        left = MARGIN
        for drawing in drawings:
            points = np.concatenate(drawing)
            low, high = points.min(0), points.max(0)
            scale = HEIGHT / max(float((high - low)[1]), 0.5)
            elements += [_polyline((stroke - low) * scale + [left, top]) for stroke in drawing]
            left += float((high - low)[0]) * scale + GAP
        width = max(width, left)
        elements.append(
            f'<text x="{MARGIN:.0f}" y="{top + HEIGHT + CAPTION:.0f}">{markup_text(name)}</text>'
        )
        top += HEIGHT + 2 * CAPTION
    size = f'viewBox="0 0 {width:.0f} {top:.0f}" width="{width:.0f}" height="{top:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>'
        f"{''.join(elements)}</svg>\n"
    )


def _polyline(points: np.ndarray) -> str:
    if len(points) == 1:  # a dot
        points = np.repeat(points, 2, 0)
    coordinates = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{coordinates}"/>'
