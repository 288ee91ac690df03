"""Points and grids of a main picture as SVG."""

from __future__ import annotations

from memorycell.application.picture import Picture
from memorycell.face.svg import HEIGHT, WIDTH, element, text
from memorycell.inspection.page import BLUE, GREY, ORANGE

LEFT, RIGHT, TOP, BOTTOM, GAP = 64, 12, 12, 40, 84
MAX_CELL_PX = 16
MAX_ROW_LABELS, MAX_PLACE_LABELS = 12, 8


def points_svg(points: list[tuple[float, float]], x_name: str, y_name: str) -> str:
    """Two panels: the points with a diagonal, and their differences y - x over x."""
    width = (WIDTH - LEFT - RIGHT - GAP) / 2
    residuals = [(x, y - x) for x, y in points]
    both = [v for point in points for v in point]
    ends = min(both), max(both)
    across = min(x for x, _ in points), max(x for x, _ in points)
    left = _Panel(LEFT, width, ends, ends)
    right = _Panel(
        LEFT + width + GAP,
        width,
        across,
        (min(v for _, v in residuals), max(v for _, v in residuals)),
    )
    parts = [
        *left.frame(x_name, y_name),
        left.line((ends[0], ends[0]), (ends[1], ends[1])),
        *left.dots(points),
        *right.frame(x_name, "residual"),
        *([right.line((across[0], 0.0), (across[1], 0.0))] if right.holds(0.0) else []),
        *right.dots(residuals),
    ]
    return element(parts, HEIGHT + 20)


class _Panel:
    """A rectangle with axes; x and y are the ranges of values."""

    def __init__(
        self, left: float, width: float, x: tuple[float, float], y: tuple[float, float]
    ) -> None:
        self.left, self.width = left, width
        self.height = HEIGHT + 20 - TOP - BOTTOM
        self.x_range, self.y_range = _padded(*x), _padded(*y)

    def x(self, value: float) -> float:
        """Pixels from the left."""
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * self.width

    def y(self, value: float) -> float:
        """Pixels from the top."""
        low, high = self.y_range
        return TOP + (high - value) / (high - low) * self.height

    def holds(self, y: float) -> bool:
        """Whether a value is inside the vertical range."""
        return self.y_range[0] <= y <= self.y_range[1]

    def frame(self, x_name: str, y_name: str) -> list[str]:
        """The outline with the values at a few places, and the names of the axes."""
        bottom = TOP + self.height
        parts = [
            f'<rect x="{self.left:.1f}" y="{TOP}" width="{self.width:.1f}"'
            f' height="{self.height:.1f}" fill="none" stroke="{GREY}" stroke-opacity="0.4"/>'
        ]
        for share in (0.1, 0.5, 0.9):
            (x0, x1), (y0, y1) = self.x_range, self.y_range
            x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
            parts.append(text(self.x(x), bottom + 14, f"{x:.3g}", "middle"))
            parts.append(text(self.left - 5, self.y(y) + 4, f"{y:.3g}", "end"))
        parts.append(text(self.left + self.width / 2, bottom + 30, x_name, "middle"))
        middle = TOP + self.height / 2
        at = self.left - 48
        parts.append(
            f'<g transform="rotate(-90 {at:.1f} {middle:.1f})">'
            f"{text(at, middle + 4, y_name, 'middle')}</g>"
        )
        return parts

    def line(self, begin: tuple[float, float], end: tuple[float, float]) -> str:
        """A dashed line between two points."""
        (x0, y0), (x1, y1) = begin, end
        return (
            f'<line x1="{self.x(x0):.1f}" y1="{self.y(y0):.1f}" x2="{self.x(x1):.1f}"'
            f' y2="{self.y(y1):.1f}" stroke="{GREY}" stroke-dasharray="5 4"/>'
        )

    def dots(self, points: list[tuple[float, float]]) -> list[str]:
        """A mark per point."""
        return [
            f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="2.5" fill="{BLUE}"'
            ' fill-opacity="0.7"/>'
            for x, y in points
        ]


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    return low - pad, high + pad


def grid_svg(picture: Picture) -> str:
    """Cells coloured by their shares, and dots; the first row is at the bottom."""
    wide = (WIDTH - LEFT - RIGHT) / len(picture.x)
    high = min(MAX_CELL_PX, max(320 / len(picture.rows), 4.0))
    bottom = TOP + high * len(picture.rows)

    def corner(place: int, row: int) -> tuple[float, float]:
        return LEFT + wide * place, bottom - high * (row + 1)

    parts = [
        f'<rect x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" height="{bottom - TOP:.1f}"'
        f' fill="none" stroke="{GREY}" stroke-opacity="0.4"/>'
    ]
    for place, row, share in picture.cells:
        x, y = corner(place, row)
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}" fill="{BLUE}"'
            f' fill-opacity="{share:.2f}"/>'
        )
    radius = min(wide, high, 6.0) / 3
    for place, row in picture.dots:
        x, y = corner(place, row)
        parts.append(
            f'<circle cx="{x + wide / 2:.1f}" cy="{y + high / 2:.1f}" r="{radius:.1f}"'
            f' fill="{ORANGE}"/>'
        )
    parts += [
        text(LEFT - 6, corner(0, row)[1] + high / 2 + 4, picture.rows[row], "end")
        for row in range(0, len(picture.rows), -(-len(picture.rows) // MAX_ROW_LABELS))
    ]
    for place in range(0, len(picture.x), -(-len(picture.x) // MAX_PLACE_LABELS)):
        x = corner(place, 0)[0] + wide / 2
        parts.append(text(x, bottom + 14, picture.x[place], "middle"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, bottom + 30, picture.x_name, "middle"))
    return element(parts, round(bottom) + BOTTOM)
