"""A trained model in a notebook: its comparison with the baselines, and its training.

The picture is SVG, which every notebook shows, also without a network and where scripts are not
trusted; `Trained.figure` has it to zoom into.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memorycell.application.rendering import comparison_html
from memorycell.face.figures import training_curve
from memorycell.inspection.page import BLUE, GREY, markup_text

if TYPE_CHECKING:
    from memorycell.face.trained import Trained

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 560, 220, 62, 34, 30, 16
"""Of the picture and of its margins, in pixels."""


def comparison(model: Trained) -> dict[str, Any]:
    """What `application.rendering` draws: the metrics of a model and of the baselines."""
    return {
        "task": model.task,
        "primary": model.primary,
        "higher": model.higher_is_better,
        "metrics": model.metrics,
        "baselines": model.baselines,
        "skill": model.skill,
    }


def trained_html(model: Trained) -> str:
    """The table of the metrics, and the validation metric over the epochs."""
    if not model.metrics:
        return f"<p>memorycell {markup_text(model.task)}</p>"
    picture = _training_svg(model) if len(model.history) > 1 else ""
    notes = "".join(f"<li>{markup_text(note)}</li>" for note in model.notes)
    listed = f"<details><summary>notes on the data</summary><ul>{notes}</ul></details>"
    return f"<div>{comparison_html(comparison(model))}{picture}{listed if notes else ''}</div>"


def _training_svg(model: Trained) -> str:
    name, values, baseline = training_curve(model)
    known = [(k, v) for k, v in enumerate(values, 1) if v is not None]
    if len(known) < 2:
        return ""
    levels = [v for _, v in known] + ([] if baseline is None else [baseline])
    low, high = min(levels), max(levels)
    pad = 0.08 * (high - low) or abs(high) * 0.1 or 1.0
    low, high = low - pad, high + pad

    def x(epoch: float) -> float:
        return LEFT + (epoch - 1) / max(len(values) - 1, 1) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        _text(LEFT, 14, f"{name} after every epoch", "start", BLUE),
        *(_level(y(v), f"{v:.4g}") for v in _ticks(low, high)),
        *(_text(x(k), HEIGHT - 14, str(k), "middle") for k in _epochs(len(values))),
        _line([(x(k), y(v)) for k, v in known], BLUE),
    ]
    if baseline is not None:
        parts.append(_line([(LEFT, y(baseline)), (WIDTH - RIGHT, y(baseline))], GREY, "5 4"))
        parts.append(_text(WIDTH - RIGHT, 14, "- - best baseline", "end"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}"'
        f' viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif" font-size="11">'
        f"{''.join(parts)}</svg>"
    )


def _ticks(low: float, high: float) -> list[float]:
    return [low + share * (high - low) for share in (0.1, 0.5, 0.9)]


def _epochs(count: int) -> list[int]:
    """At most five epochs to name, the first and the last among them."""
    shown = min(count, 5)
    return sorted({1 + round(k * (count - 1) / max(shown - 1, 1)) for k in range(shown)})


def _level(y: float, label: str) -> str:
    line = (
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GREY}"'
        ' stroke-opacity="0.25"/>'
    )
    return line + _text(LEFT - 6, y + 4, label, "end")


def _line(points: Sequence[tuple[float, float]], colour: str, dash: str = "") -> str:
    at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str = GREY) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">'
        f"{markup_text(text)}</text>"
    )
