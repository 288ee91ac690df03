"""Generated pen strokes of the digits 0 to 9, for a demonstration that needs no download: templates
in several styles, distorted at random. They are no handwriting; a model of them is for trying.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import numpy as np

from memorycell.errors import UserError

Points = list[tuple[float, float]]

HEIGHT = 100.0
POINTS_PER_STROKE = 24
CONTROL_JITTER = 0.07
"""Standard deviation of the control points, as a share of the height."""


def _arc(
    cx: float, cy: float, rx: float, ry: float, begin: float, end: float, n: int = 7
) -> Points:
    """Points of an ellipse, angles in degrees; 0 is to the right, 90 down."""
    angles = np.radians(np.linspace(begin, end, n))
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


TEMPLATES: dict[str, list[list[Points]]] = {
    "0": [[_arc(0.35, 0.5, 0.33, 0.5, -90, -450, 11)], [_arc(0.35, 0.5, 0.3, 0.5, -90, 270, 11)]],
    "1": [
        [[(0.3, 0.0), (0.3, 0.33), (0.3, 0.66), (0.3, 1.0)]],
        [[(0.1, 0.25), (0.22, 0.13), (0.35, 0.0), (0.35, 0.5), (0.35, 1.0)]],
        [
            [(0.1, 0.25), (0.22, 0.13), (0.35, 0.0), (0.35, 0.5), (0.35, 1.0)],
            [(0.1, 1.0), (0.35, 1.0), (0.6, 1.0)],
        ],
    ],
    "2": [
        [[*_arc(0.33, 0.27, 0.3, 0.27, -170, 30, 6), (0.3, 0.75), (0.02, 1.0), (0.66, 1.0)]],
        [
            [
                *_arc(0.33, 0.27, 0.3, 0.27, -170, 40, 6),
                (0.25, 0.8),
                (0.05, 0.95),
                (0.15, 0.82),
                (0.4, 0.95),
                (0.68, 0.95),
            ]
        ],
    ],
    "3": [
        [[*_arc(0.3, 0.25, 0.3, 0.25, -150, 80, 6), *_arc(0.3, 0.74, 0.33, 0.26, -80, 150, 7)]],
        [
            [
                (0.05, 0.0),
                (0.6, 0.0),
                (0.3, 0.42),
                *_arc(0.3, 0.7, 0.32, 0.29, -80, 150, 7),
            ]
        ],
    ],
    "4": [
        [
            [(0.45, 0.0), (0.25, 0.35), (0.0, 0.68), (0.68, 0.68)],
            [(0.5, 0.35), (0.5, 0.7), (0.5, 1)],
        ],
        [[(0.05, 0.0), (0.05, 0.5), (0.6, 0.5)], [(0.55, 0.0), (0.55, 0.5), (0.55, 1.0)]],
        [[(0.5, 1.0), (0.5, 0.5), (0.5, 0.0), (0.0, 0.65), (0.7, 0.65)]],
    ],
    "5": [
        [
            [(0.1, 0.0), (0.07, 0.4), *_arc(0.3, 0.68, 0.33, 0.31, -130, 150, 8)],
            [(0.1, 0.0), (0.35, 0.0), (0.62, 0.0)],
        ],
        [[(0.62, 0.0), (0.12, 0.0), (0.07, 0.42), *_arc(0.3, 0.68, 0.33, 0.31, -120, 150, 8)]],
    ],
    "6": [
        [[(0.5, 0.0), (0.18, 0.3), (0.04, 0.7), *_arc(0.32, 0.72, 0.28, 0.27, 160, -190, 9)]],
        [[(0.6, 0.06), (0.2, 0.25), (0.04, 0.65), *_arc(0.32, 0.74, 0.28, 0.25, 150, -150, 9)]],
    ],
    "7": [
        [[(0.0, 0.0), (0.33, 0.0), (0.66, 0.0), (0.45, 0.45), (0.25, 1.0)]],
        [
            [(0.0, 0.05), (0.33, 0.0), (0.66, 0.0), (0.45, 0.45), (0.25, 1.0)],
            [(0.15, 0.5), (0.4, 0.5), (0.6, 0.5)],
        ],
    ],
    "8": [
        [
            [
                *_arc(0.35, 0.25, 0.28, 0.25, -40, -260, 7),
                *_arc(0.35, 0.75, 0.32, 0.25, -80, 260, 9),
                (0.6, 0.15),
            ]
        ],
        [[*_arc(0.35, 0.24, 0.26, 0.24, 90, 450, 9)], [*_arc(0.35, 0.74, 0.32, 0.26, -90, 270, 9)]],
    ],
    "9": [
        [[*_arc(0.33, 0.27, 0.28, 0.27, -20, -360, 9), (0.6, 0.5), (0.5, 1.0)]],
        [[*_arc(0.33, 0.27, 0.28, 0.27, -20, -350, 9), (0.6, 0.7), (0.4, 0.98), (0.1, 0.9)]],
    ],
}
"""Digit -> styles -> strokes -> control points; x to the right, y down, height 1."""


def digit_lines(count: int, seed: int = 0) -> Iterator[str]:
    """JSON lines of drawings as `signals.stroke_json` reads them, `count` for each digit."""
    if count < 1:
        raise UserError(f"digits: expected at least one drawing per digit, got {count}")
    rng = np.random.default_rng(seed)
    for k in range(count):
        for label in TEMPLATES:
            strokes = [
                [[round(float(x), 1), round(float(y), 1)] for x, y in stroke]
                for stroke in draw_digit(label, rng)
            ]
            yield json.dumps({"strokes": strokes, "label": label, "index": str(k)})


def draw_digit(label: str, rng: np.random.Generator) -> list[np.ndarray]:
    """The strokes of a digit in a random style, size, slant and distortion; [N, 2] each."""
    styles = TEMPLATES[label]
    style = styles[rng.integers(len(styles))]
    shear, turn = rng.normal(0, 0.2), rng.normal(0, 0.12)
    width = float(np.exp(rng.normal(0, 0.25)))
    cos, sin = math.cos(turn), math.sin(turn)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.array([[width, shear], [0.0, 1.0]])
    shift, size = rng.uniform(0, 80, 2), HEIGHT * float(np.exp(rng.normal(0, 0.3)))
    strokes = []
    for stroke in style:
        control = np.array(stroke) + rng.normal(0, CONTROL_JITTER, (len(stroke), 2))
        smooth = rng.random()  # from straight lines between the points to a smooth curve
        curve = smooth * _smooth(control) + (1 - smooth) * _straight(control)
        strokes.append(curve @ matrix.T * size + shift)
    return strokes


def _straight(control: np.ndarray) -> np.ndarray:
    """Points of straight lines through the control points, [POINTS_PER_STROKE, 2]."""
    at, knots = np.linspace(0, len(control) - 1, POINTS_PER_STROKE), np.arange(len(control))
    return np.stack([np.interp(at, knots, control[:, k]) for k in (0, 1)], 1)


def _smooth(control: np.ndarray) -> np.ndarray:
    """Points of a Catmull-Rom spline through the control points, [POINTS_PER_STROKE, 2]."""
    p = np.concatenate([control[:1], control, control[-1:]])
    at = np.linspace(0, len(control) - 1, POINTS_PER_STROKE)
    k = np.minimum(at.astype(int), len(control) - 2)
    t = (at - k)[:, None]
    p0, p1, p2, p3 = p[k], p[k + 1], p[k + 2], p[k + 3]
    # Catmull & Rom (1974), uniform.
    spline: np.ndarray = 0.5 * (
        2 * p1
        + (p2 - p0) * t
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
        + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
    return spline
