"""Line charts as SVG, which every notebook shows, also without a network and where scripts are not
trusted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from memorycell.inspection.page import GREY, markup_text

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 240, 62, 34, 30, 16
"""Of a chart and of its margins, in pixels."""
MAX_LABELS = 5
Values = Sequence[float | None]


class Chart:
    """A chart over the positions 0 … count - 1; None in values is a gap.

    values   all that is drawn, for the range of the vertical axis
    log      whether the vertical axis is logarithmic
    """

    def __init__(self, count: int, values: Iterable[float | None], *, log: bool = False) -> None:
        known = [v for v in values if v is not None and (v > 0 or not log)]
        self.log = log
        low, high = (min(known), max(known)) if known else (0.1, 1.0)
        low, high = self._scaled(low), self._scaled(high)
        pad = 0.08 * (high - low) or abs(high) * 0.1 or 1.0
        self.low, self.high, self.count = low - pad, high + pad, count
        self.parts: list[str] = []

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def x(self, position: float) -> float:
        """Pixels from the left."""
        return LEFT + position / max(self.count - 1, 1) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        share = (self.high - self._scaled(value)) / (self.high - self.low)
        return TOP + share * (HEIGHT - TOP - BOTTOM)

    def line(self, values: Values, colour: str, *, begins: Sequence[int] = ()) -> None:
        """A line through values, that begins again at gaps and at the positions `begins`."""
        for run in _runs(values, begins):
            points = [(self.x(k), self.y(v)) for k, v in run]
            if len(points) == 1:
                self.dots([run[0]], colour)
            else:
                self.parts.append(_polyline(points, colour))

    def band(self, low: Values, high: Values, colour: str, *, begins: Sequence[int] = ()) -> None:
        """The area between two lines."""
        for lower, upper in zip(_runs(low, begins), _runs(high, begins), strict=True):
            outline = [*upper, *reversed(lower)]
            points = " ".join(f"{self.x(k):.1f},{self.y(v):.1f}" for k, v in outline)
            self.parts.append(f'<polygon points="{points}" fill="{colour}" stroke="none"/>')

    def level(self, value: float, colour: str = GREY) -> None:
        """A dashed horizontal line."""
        points = [(float(LEFT), self.y(value)), (float(WIDTH - RIGHT), self.y(value))]
        self.parts.append(_polyline(points, colour, "5 4"))

    def span(self, first: int, last: int, colour: str) -> None:
        """A shaded range of positions."""
        left, right = self.x(max(first - 0.5, 0)), self.x(min(last + 0.5, self.count - 1))
        self.parts.append(
            f'<rect x="{left:.1f}" y="{TOP}" width="{max(right - left, 1):.1f}"'
            f' height="{HEIGHT - TOP - BOTTOM}" fill="{colour}" fill-opacity="0.25"/>'
        )

    def dots(self, points: Iterable[tuple[int, float]], colour: str) -> None:
        """Marks at (position, value)."""
        self.parts += [
            f'<circle cx="{self.x(k):.1f}" cy="{self.y(v):.1f}" r="2.5" fill="{colour}"/>'
            for k, v in points
        ]

    def axes(self, labels: Sequence[str]) -> None:
        """Levels with their values, and at most five labels below."""
        for share in (0.1, 0.5, 0.9):
            scaled = self.low + share * (self.high - self.low)
            value = 10**scaled if self.log else scaled
            y = self.y(value)
            self.parts.append(
                f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GREY}"'
                ' stroke-opacity="0.25"/>'
            )
            self.text(LEFT - 6, y + 4, f"{value:.4g}", "end")
        for k in _shown(labels):
            left, right = k == 0, k == len(labels) - 1
            anchor = "start" if left and not right else "end" if right and not left else "middle"
            self.text(self.x(k), HEIGHT - 14, labels[k], anchor)

    def legend(self, entries: Sequence[tuple[str, str]]) -> None:
        """(text, colour) above the chart, from the left."""
        at = float(LEFT)
        for text, colour in entries:
            self.text(at, 16, text, "start", colour)
            at += 6.2 * len(text) + 18

    def text(self, x: float, y: float, words: str, anchor: str, colour: str = GREY) -> None:
        """See `text`."""
        self.parts.append(text(x, y, words, anchor, colour))

    def svg(self) -> str:
        """The chart as an element of a page."""
        return element(self.parts, HEIGHT)


def text(x: float, y: float, words: str, anchor: str, colour: str = GREY) -> str:
    """Words at a point; the anchor is "start", "middle" or "end"."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">'
        f"{markup_text(words)}</text>"
    )


def element(parts: Iterable[str], height: int) -> str:
    """The element of a page that holds the parts."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        f' viewBox="0 0 {WIDTH} {height}" role="img" font-family="sans-serif" font-size="11"'
        f' style="max-width: 100%">{"".join(parts)}</svg>'
    )


def _runs(values: Values, begins: Sequence[int]) -> list[list[tuple[int, float]]]:
    """The (position, value) between gaps."""
    runs: list[list[tuple[int, float]]] = []
    current: list[tuple[int, float]] = []
    for k, value in enumerate(values):
        if current and (value is None or k in begins):
            runs.append(current)
            current = []
        if value is not None:
            current.append((k, value))
    return [*runs, current] if current else runs


def _shown(labels: Sequence[str]) -> list[int]:
    """Positions of the labels that are written, the first and the last among them."""
    longest = max(map(len, labels), default=1)
    shown = max(min(len(labels), MAX_LABELS, (WIDTH - LEFT - RIGHT) // (7 * longest + 14)), 1)
    return sorted({round(k * (len(labels) - 1) / max(shown - 1, 1)) for k in range(shown)})


def _polyline(points: Sequence[tuple[float, float]], colour: str, dash: str = "") -> str:
    at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
