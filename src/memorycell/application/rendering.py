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
    """A table; the first column is aligned left, and the row that starts with `highlight` bold."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for k, name in enumerate(header):
        table.add_column(name, justify="right" if k else "left")
    for row in rows:
        table.add_row(*row, style="bold" if row[0] == highlight else "")
    console = Console()
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")


def confusion_text(counts: Mapping[str, Mapping[str, int]]) -> str:
    """A confusion matrix: rows are the true classes, columns the predicted ones."""
    rows = ([name, *map(str, row.values())] for name, row in counts.items())
    return table_text("true class (rows), prediction (columns)", ["", *counts], rows)


def classification_details(result: Mapping[str, Any]) -> list[str]:
    """`Application.render_details` of classifiers."""
    return [confusion_text(result["confusion"])] if "confusion" in result else []
