"""Tables as text, for results that people read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

CONTROLS = re.compile(r"\x1b\[[0-9;]*m|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Styles (SGR sequences), and single control characters."""
MAX_WIDTH = 500
"""Of a table that is not shown on a terminal, in characters."""


def table_text(
    title: str,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    highlight: str | None = "memorycell",
) -> str:
    """A table; the first column is aligned left, and the row that starts with `highlight` bold.

    Names of columns and of classes are foreign: nothing in them is markup or controls a terminal.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(title=printable(title), title_justify="left")
    for k, name in enumerate(header):
        table.add_column(printable(name), justify="right" if k else "left")
    for row in rows:
        table.add_row(*map(printable, row), style="bold" if row[0] == highlight else "")
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:  # no number is cut for a width that nothing has
        options = console.options.update(max_width=MAX_WIDTH)
        console.width = max(console.width, console.measure(table, options=options).maximum)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")


def printable(text: str) -> str:
    """Foreign text on one line of a terminal: escape sequences and other characters that are not
    printed are shown as <U+001B>.
    """
    return "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in text)


def without_controls(text: str) -> str:
    """Text of several lines for a terminal: control characters other than newlines, tabs and the
    styles of our tables are shown as <U+001B>.
    """
    return CONTROLS.sub(lambda m: m[0] if len(m[0]) > 1 else f"<U+{ord(m[0]):04X}>", text)


def comparison_text(result: Mapping[str, Any]) -> str:
    """`comparison_table` and `skill_line`."""
    if result["skill"] is None:
        return comparison_table(result)
    return f"{comparison_table(result)}\n{skill_line(result)}"


def comparison_table(result: Mapping[str, Any]) -> str:
    """The metrics of a model below those of the baselines, best last."""
    return table_text(*_comparison(result))


def skill_line(result: Mapping[str, Any]) -> str:
    """The relative improvement over the best baseline, in words."""
    _, header, rows = _comparison(result)
    return f"{header[1]}: {skill_text(result['skill'])} ({rows[-2][0]})"


def comparison_html(result: Mapping[str, Any]) -> str:
    """`comparison_text` as an HTML table, for notebooks."""
    title, header, rows = _comparison(result)
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    skill = "" if result["skill"] is None else f"<p>{escape(skill_text(result['skill']))}</p>"
    return f"<table><caption>{escape(title)}</caption><tr>{head}</tr>{body}</table>{skill}"


def _comparison(result: Mapping[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """(title, header with the primary metric first, rows with the model last)"""
    primary, higher = result["primary"], result["higher"]
    metrics = [primary, *(name for name in result["metrics"] if name != primary)]
    ranked = sorted(result["baselines"].items(), key=lambda b: b[1][primary], reverse=not higher)
    rows = [
        [name, *(f"{values[m]:.4g}" if m in values else "" for m in metrics)]
        for name, values in [*ranked, ("memorycell", result["metrics"])]
    ]
    header = ["method", f"{primary} {'↑' if higher else '↓'}", *metrics[1:]]
    return f"{result['task']}: on the held-out test split", header, rows


def skill_text(skill: float) -> str:
    """A relative improvement in words."""
    return f"{abs(skill):.1%} {'better' if skill >= 0 else 'WORSE'} than the best baseline"


def confusion_text(counts: Mapping[str, Mapping[str, int]]) -> str:
    """A confusion matrix: rows are the true classes, columns the predicted ones."""
    rows = ([name, *map(str, row.values())] for name, row in counts.items())
    return table_text("true class (rows), prediction (columns)", ["", *counts], rows)


def classification_details(result: Mapping[str, Any]) -> list[str]:
    """`Application.render_details` of classifiers."""
    return [confusion_text(result["confusion"])] if "confusion" in result else []


def backtest_text(result: Mapping[str, Any]) -> str:
    """The result of a backtest: the primary metric of every fold and method, and the mean."""
    primary, folds = result["primary"], result["folds"]
    ranked = sorted(
        result["baselines"],
        key=lambda name: result["baselines"][name][primary],
        reverse=not result["higher"],
    )
    rows = [
        [name, *(f"{f['baselines'][name][primary]:.4g}" for f in folds), f"{mean[primary]:.4g}"]
        for name in ranked
        for mean in [result["baselines"][name]]
    ]
    ours = [*(fold["metrics"][primary] for fold in folds), result["metrics"][primary]]
    rows.append(["memorycell", *(f"{value:.4g}" for value in ours)])
    header = ["method", *(fold["test"] for fold in folds), "mean"]
    table = table_text(f"{primary} of every fold", header, rows)
    skill = skill_text(result["skill"])
    return f"{table}\n{skill}, mean over the folds ({result['seconds']:.0f} s)"
