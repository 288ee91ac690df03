"""Self-contained HTML pages of figures. plotly.js is embedded, so a page needs no network; it
follows the reader's light or dark mode.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.errors import UserError, quote

if TYPE_CHECKING:
    import plotly.graph_objects as go

# After Okabe & Ito (2008): distinguishable with any colour vision, on light and dark backgrounds.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#3d8fd1", "#e69f00", "#009e73", "#cc79a7", "#8a8f98"
BAND = "rgba(61, 143, 209, 0.22)"
STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1d2430; --soft: #5b6472; --paper: #fff; --card: #f6f7f9; --line: #d9dde3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e9ee; --soft: #a2abb8; --paper: #14181f; --card: #1b212b; --line: #333c49;
  }
}
body {
  margin: 0 auto; max-width: 1040px; padding: 2rem 1.2rem 4rem;
  background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
}
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.1rem; margin: 2.4rem 0 .2rem; }
p { margin: .2rem 0 .8rem; color: var(--soft); max-width: 72ch; white-space: pre-line; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
tr.highlight td { font-weight: 650; }
.figure { width: 100%; }
.words { color: var(--ink); line-height: 2.1; max-width: none; }
.words span { padding: .15rem .3rem; border-radius: .25rem; }
ul { color: var(--soft); padding-left: 1.2rem; }
"""

# Draws every figure in the colours of the page, and again when light or dark mode changes.
SCRIPT = """
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
function draw() {
  const ink = style('--ink'), line = style('--line');
  for (const element of document.querySelectorAll('.figure')) {
    const figure = JSON.parse(document.getElementById(element.id + '-data').textContent);
    figure.layout.font = Object.assign({}, figure.layout.font, {color: ink});
    for (const name of Object.keys(figure.layout).filter(key => /^[xy]axis/.test(key)))
      Object.assign(figure.layout[name], {gridcolor: line, zerolinecolor: line, linecolor: line});
    const options = {responsive: true, displaylogo: false, displayModeBar: false};
    Plotly.react(element, figure.data, figure.layout, options);
  }
}
draw();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
"""


NOT_IN_XML = re.compile(
    r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]"
)
"""The characters that XML 1.0 excludes or discourages, among them control characters and lone
surrogates.
"""
TEMPLATES = ("hovertemplate", "texttemplate")
"""The strings of a figure that are templates of ours: plotly reads tags in them."""


@dataclass
class Section:
    """One section of a page.

    title       the finding
    text        an explanation
    table       rows of cells; the first row is the header
    highlight   first cell of the row to set in bold
    words       (word, value): each word coloured by its value in -1 … 1, orange below 0, blue above
    name        of the figure, for `Page.figures`; by default "figure"
    """

    title: str
    text: str = ""
    figure: go.Figure | None = None
    table: Sequence[Sequence[str]] = field(default_factory=list)
    highlight: str = ""
    words: Sequence[tuple[str, float]] = field(default_factory=list)
    name: str = ""


class Page(str):
    """The HTML of a page, and its sections."""

    sections: Sequence[Section] = ()

    def figures(self) -> dict[str, go.Figure]:
        """Name -> figure, in their order on the page; a repeated name is numbered. Foreign text in
        them is escaped, as plotly reads <b> and <a href=…> in every label.
        """
        found: dict[str, go.Figure] = {}
        for section in self.sections:
            if section.figure is not None:
                name, count = section.name or "figure", 2
                while name in found:
                    name, count = f"{section.name or 'figure'} {count}", count + 1
                found[name] = escaped_figure(section.figure)
        return found


def page(title: str, lead: str, sections: Sequence[Section], notes: Sequence[str] = ()) -> Page:
    """The HTML of a page. Raises `UserError` without plotly."""
    parts = [f"<h1>{markup_text(title)}</h1>", f"<p>{markup_text(lead)}</p>"]
    for number, section in enumerate(sections):
        parts.append(f"<h2>{markup_text(section.title)}</h2>")
        if section.text:
            parts.append(f"<p>{markup_text(section.text)}</p>")
        if section.words:
            parts.append(_coloured_words(section.words))
        if section.table:
            parts.append(_table(section))
        if section.figure is not None:
            data = figure_json(section.figure)
            parts.append(f'<div class="figure" id="figure-{number}"></div>')
            parts.append(
                f'<script type="application/json" id="figure-{number}-data">{data}</script>'
            )
    if notes:
        items = "".join(f"<li>{markup_text(note)}</li>" for note in notes)
        parts.append(f"<h2>Notes</h2><ul>{items}</ul>")
    result = Page(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{markup_text(title)}</title><style>{STYLE}</style>"
        f"<script>{_plotly_script()}</script></head>\n"
        f"<body>{''.join(parts)}<script>{SCRIPT}</script></body></html>\n"
    )
    result.sections = sections
    return result


def markup_text(text: str) -> str:
    """Foreign text as content or an attribute's value of HTML and XML: markup is replaced by
    entities, and what XML excludes by �.
    """
    return html.escape(NOT_IN_XML.sub("\ufffd", text))


def figure_json(shown: go.Figure) -> str:
    """A figure as JSON for a script element, with nothing that HTML or plotly takes for markup:
    plotly reads <b> and <a href=…> in every label.
    """
    text = json.dumps(_without_markup(json.loads(shown.to_json())))  # ASCII: no U+2028 either
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def named_figure(figures: Mapping[str, go.Figure], name: str) -> go.Figure:
    """The figure of a name. Raises `UserError` for an unknown one."""
    if name not in figures:
        raise UserError(f"no figure {quote(name)}; there are {', '.join(figures) or 'none'}")
    return figures[name]


def escaped_figure(shown: go.Figure) -> go.Figure:
    """A copy of a figure whose text has nothing that plotly takes for markup."""
    parts = [part.to_plotly_json() for part in (*shown.data, shown.layout)]
    *data, layout = [_without_markup(part) for part in parts]
    return _graph_objects().Figure(data=data, layout=layout)


def _without_markup(value: Any, key: str = "") -> Any:
    if isinstance(value, np.ndarray):
        return _without_markup(value.tolist(), key) if value.dtype.kind in "OU" else value
    if isinstance(value, str):
        # Plotly knows the entities of &, < and >, not that of a quotation mark.
        return value if key in TEMPLATES else html.escape(value, quote=False)
    if isinstance(value, (list, tuple)):
        return [_without_markup(item, key) for item in value]
    if isinstance(value, dict):
        return {name: _without_markup(item, name) for name, item in value.items()}
    return value


def figure(height: int = 360) -> go.Figure:
    """An empty figure in the page's style: transparent, unified hover, legend above."""
    go = _graph_objects()
    empty = go.Figure()
    empty.update_layout(
        template="none",
        height=height,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 60, "r": 20, "t": 40, "b": 50},
        hovermode="x unified",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        xaxis={"automargin": True},
        yaxis={"automargin": True},
    )
    return empty


def _coloured_words(words: Sequence[tuple[str, float]]) -> str:
    spans = []
    for text, value in words:
        colour = "61, 143, 209" if value >= 0 else "230, 159, 0"
        style = f"background: rgba({colour}, {min(1.0, abs(value)):.2f})"
        if abs(value) > 0.5:  # dark text on a strong colour, in dark mode too
            style += "; color: #14181f"
        spans.append(f'<span style="{style}" title="{value:+.2f}">{markup_text(text)}</span>')
    return f'<p class="words">{" ".join(spans)}</p>'


def _table(section: Section) -> str:
    head, *rows = section.table
    header = "".join(f"<th>{markup_text(cell)}</th>" for cell in head)
    body = ""
    for row in rows:
        name = "highlight" if row[0] == section.highlight else ""
        cells = "".join(f"<td>{markup_text(cell)}</td>" for cell in row)
        body += f'<tr class="{name}">{cells}</tr>'
    return f"<table><tr>{header}</tr>{body}</table>"


def _graph_objects() -> Any:
    try:
        import plotly.graph_objects as graph_objects
    except ModuleNotFoundError:
        raise UserError("figures need plotly: pip install 'memorycell[forecast]'") from None
    return graph_objects


def _plotly_script() -> str:
    _graph_objects()
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())
