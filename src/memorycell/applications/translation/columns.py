"""Which two columns of a table are a text and its translation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from memorycell.applications.translation.languages import (
    SOURCE_NAMES,
    TARGET_NAMES,
    language_code,
    same_language,
)
from memorycell.errors import DataError, quote

MAX_SAMPLED = 2000
"""Cells per column that are looked at."""
MIN_TEXT_SHARE = 0.5
"""Of the cells of a column of texts."""
CODE = re.compile(r"[!-~]*\d[!-~]*|https?://\S+|[\W\d_]*")
"""A cell that is no text: a number, an identifier, an address, a date."""
MIN_DISTINCT = 0.02
"""Share of distinct cells below which a long column is one of categories."""
MIN_CATEGORY_CELLS = 50

Cells = Sequence[str]


def find_pair(
    columns: Mapping[str, Cells], where: str, languages: tuple[str, str] | None
) -> tuple[str, str, str]:
    """(name of the source, name of the target, note) of columns by name; without a header the names
    are "1", "2", ….

    By default the columns named source and target, the only two named after languages, or the first
    two of text. Raises `DataError` where there are none.
    """
    if languages is not None:
        source, target = (_wanted(columns, where, name) for name in languages)
        return source, target, f"from {_shown(source)} to {_shown(target)}"
    texts = [name for name, cells in columns.items() if _is_text(cells)]
    varied = [name for name in texts if not _is_category(columns[name])]
    texts = varied if len(varied) >= 2 else texts
    if len(texts) < 2:
        others = [name for name in columns if name not in texts]
        what = f"; {_shown(others[0])} holds no text, such as {_sample(columns[others[0]])}"
        raise DataError(
            f"{where}: expected two columns of text, found {len(texts)}{what if others else ''};"
            " name them, also by number: --set languages=1,2"
        )
    pair = _by_role(texts) or _by_language(texts) or (texts[0], texts[1])
    note = f"from {_shown(pair[0])} to {_shown(pair[1])}"
    unused = [name for name in texts if name not in pair]
    if len(columns) > 2:
        note += f", of {len(columns)} columns" + ("" if unused else ", the others hold no text")
    source, target = pair
    return source, target, f"{note}; the other direction: --set languages={target},{source}"


def _wanted(columns: Mapping[str, Cells], where: str, name: str) -> str:
    """The column of a name, a number, or a language."""
    found = [column for column in columns if same_language(column, name)]
    if name in columns:
        found = [name]
    elif not found and name.isdecimal() and 1 <= int(name) <= len(columns):
        found = [list(columns)[int(name) - 1]]
    if len(found) != 1:
        listed = ", ".join(quote(column) for column in list(columns)[:6])[:150]
        raise DataError(
            f"{where}: no column of the language {quote(name)}; it has {listed}; name two of them,"
            " also by number: --set languages=1,2"
        )
    return found[0]


def _by_role(names: Sequence[str]) -> tuple[str, str] | None:
    """The columns that are named source and target."""
    by_name = {name.strip().lower(): name for name in names}
    source = [by_name[n] for n in SOURCE_NAMES if n in by_name]
    target = [by_name[n] for n in TARGET_NAMES if n in by_name]
    return (source[0], target[0]) if source and target else None


def _by_language(names: Sequence[str]) -> tuple[str, str] | None:
    """The only two columns that are named after languages."""
    found = [name for name in names if language_code(name)]
    return (found[0], found[1]) if len(found) == 2 else None


def _is_text(cells: Cells) -> bool:
    some = [cell for cell in _some(cells) if cell.strip()]
    texts = sum(CODE.fullmatch(cell.strip()) is None for cell in some)
    return bool(some) and texts >= MIN_TEXT_SHARE * len(some)


def _is_category(cells: Cells) -> bool:
    """Whether a few values are repeated, such as codes of languages or a licence."""
    some = _some(cells)
    return len(some) >= MIN_CATEGORY_CELLS and len(set(some)) < MIN_DISTINCT * len(some)


def _some(cells: Cells) -> Cells:
    return cells[:: max(1, len(cells) // MAX_SAMPLED)]


def _sample(cells: Cells) -> str:
    return quote(next((cell for cell in cells if cell.strip()), ""))


def _shown(name: str) -> str:
    return f"column {name}" if name.isdecimal() else quote(name)
