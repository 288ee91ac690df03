"""Tables as text, for results that people read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


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
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")


def printable(text: str) -> str:
    """Foreign text on one line of a terminal: escape sequences and other characters that are not
    printed are shown as <U+001B>.
    """
    return "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in text)


def comparison_text(result: Mapping[str, Any]) -> str:
    """The metrics of a model below those of the baselines, best last, and the skill."""
    primary, higher, skill = result["primary"], result["higher"], result["skill"]
    arrow = "↑" if higher else "↓"
    metrics = list(result["metrics"])
    ranked = sorted(result["baselines"].items(), key=lambda b: b[1][primary], reverse=not higher)
    rows = (
        [name, *(f"{values[m]:.4g}" if m in values else "" for m in metrics)]
        for name, values in [*ranked, ("memorycell", result["metrics"])]
    )
    header = ["method", *(f"{m} {arrow}" if m == primary else m for m in metrics)]
    text = table_text(f"{result['task']}: on the held-out test split", header, rows)
    if skill is None:
        return text
    return f"{text}\n{primary} {arrow}: {skill_text(skill)} ({ranked[-1][0]})"


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
