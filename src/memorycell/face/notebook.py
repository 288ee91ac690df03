"""A trained model in a notebook: its comparison with the baselines, its main picture, its training.

Pictures are SVG and tables, which every notebook shows; `Trained.figure` has them to zoom into.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memorycell.application.picture import Picture
from memorycell.application.rendering import comparison_html
from memorycell.face.comparing import NOT_COMPARED, comparison, is_compared
from memorycell.face.figures import training_curve
from memorycell.face.panels import panels_svg
from memorycell.face.picture_parts import shown_word
from memorycell.face.pictures import COLOURS
from memorycell.face.svg import Chart
from memorycell.face.svg_parts import grid_svg, points_svg
from memorycell.inspection.page import BAND, BLUE, GREEN, GREY, ORANGE, markup_text

if TYPE_CHECKING:
    from memorycell.face.trained import Trained


def trained_html(model: Trained) -> str:
    """The table of the metrics, the main picture, and the validation metric over the epochs."""
    if not model.metrics:
        return f"<p>memorycell {markup_text(model.task)}</p>"
    parts = [comparison_html(comparison(model))]
    if not is_compared(model):
        parts.append(f"<p>{markup_text(NOT_COMPARED)}</p>")
    if model.picture is not None:
        parts.append(picture_html(model.picture))
    if len(model.history) > 1:
        parts.append(_training_svg(model))
    if model.notes:
        notes = "".join(f"<li>{markup_text(note)}</li>" for note in model.notes)
        parts.append(f"<details><summary>notes on the data</summary><ul>{notes}</ul></details>")
    return f"<div>{''.join(parts)}</div>"


def picture_html(picture: Picture) -> str:
    """A picture with its title."""
    content = _chart(picture) if picture.lines else ""
    if picture.parts:
        content = "".join(map(picture_html, picture.parts))
    elif picture.panels:
        content = panels_svg(picture)
    elif picture.table:
        content = _table(picture)
    elif picture.words:
        content = _words(picture)
    elif picture.points:
        content = points_svg(picture.points, picture.x_name, picture.y)
    elif picture.rows:
        content = grid_svg(picture)
    return f"<div><p><b>{markup_text(picture.title)}</b></p>{content}</div>"


def _chart(picture: Picture) -> str:
    values = [v for line in picture.lines.values() for v in line]
    level = [] if picture.level is None else [picture.level[1]]
    chart = Chart(len(picture.x), [*values, *picture.low, *picture.high, *level], log=picture.log)
    chart.axes(_short(picture.x))
    for first, last in picture.spans:
        chart.span(first, last, GREEN)
    if picture.low:
        chart.band(picture.low, picture.high, BAND, begins=picture.begins)
    lines = list(zip(picture.lines.items(), COLOURS, strict=False))
    for k, ((_, line), colour) in enumerate(lines):
        chart.line(line, colour, begins=picture.begins if k == len(lines) - 1 else ())
    first_line = next(iter(picture.lines.values()), [])
    marks = [(k, v) for k in picture.marks if (v := first_line[k]) is not None]
    chart.dots(marks, ORANGE)
    legend = [(name, colour) for (name, _), colour in lines]
    if picture.level is not None:
        chart.level(picture.level[1], ORANGE)
        legend.append((f"- - {picture.level[0]}", ORANGE))
    if marks:
        legend.append(("● flagged", ORANGE))
    if picture.spans:
        legend.append((f"■ {picture.span}", GREEN))
    chart.legend(legend)
    return chart.svg()


def _short(labels: list[str]) -> list[str]:
    """Times without seconds or hours where all of them are zero."""
    for end in (" 00:00:00", ":00"):
        if labels and all(label.endswith(end) and "-" in label for label in labels):
            return [label.removesuffix(end) for label in labels]
    return labels


def _table(picture: Picture) -> str:
    head, *rows = picture.table
    header = "".join(f"<th>{markup_text(cell)}</th>" for cell in head)
    body = ""
    for name, *cells in rows:
        total = sum(map(int, cells)) if picture.counts else 0
        body += f"<tr><th>{markup_text(name)}</th>"
        for cell in cells:
            share = int(cell) / total if total else 0.0
            style = f' style="background: rgba(61, 143, 209, {share:.2f})"' if share else ""
            body += f"<td{style}>{markup_text(cell)}</td>"
        body += "</tr>"
    return f"<table><tr>{header}</tr>{body}</table>"


def _words(picture: Picture) -> str:
    """The text with a background behind every word."""
    parts = []
    for word, value in picture.words:
        share = min(max(value / picture.full, 0.0), 1.0)
        shown = markup_text(shown_word(word)).replace("\n", "<br>")
        title = f"{value:.3g} {markup_text(picture.unit)}"
        style = f"background: rgba(230, 159, 0, {share:.2f})"
        parts.append(f'<span title="{title}" style="{style}">{shown}</span>')
    style = "font-family: monospace; white-space: pre-wrap; line-height: 1.7; max-width: 64em"
    return f'<div style="{style}">{"".join(parts)}</div>'


def _training_svg(model: Trained) -> str:
    name, values, baseline = training_curve(model)
    if sum(v is not None for v in values) < 2:
        return ""
    chart = Chart(len(values), [*values, baseline])
    chart.axes([str(k) for k in range(1, len(values) + 1)])
    chart.line(values, BLUE)
    legend = [(f"{name} after every epoch", BLUE)]
    if baseline is not None:
        chart.level(baseline)
        legend.append(("- - best baseline", GREY))
    chart.legend(legend)
    return chart.svg()
