"""Lists of columns as text: names separated by commas, in quotes where they have commas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from memorycell.errors import quote

NAME = re.compile(r'\s*(?:"((?:[^"]|"")*)"\s*(?=,|$)|([^,]*))(?:,|$)')
"""A name in quotes, or up to the next comma."""
MAX_LISTED = 8


def split_names(text: str | None) -> tuple[str, ...]:
    """The names in a list separated by commas. A name in double quotes may have commas, and spaces
    at its ends; quotes in it are doubled, as in CSV.
    """
    found = []
    for match in NAME.finditer(text or ""):
        quoted, plain = match.groups()
        name = plain.strip() if quoted is None else quoted.replace('""', '"')
        if name:
            found.append(name)
    return tuple(found)


def join_names(names: Iterable[str]) -> str:
    """A list that `split_names` reads."""
    return ",".join(map(quoted_name, names))


def unused_note(columns: Sequence[str]) -> list[str]:
    """A line on the columns of a table that a model does not read; none where it reads them all."""
    if not columns:
        return []
    more = f" and {len(columns) - MAX_LISTED} more" if len(columns) > MAX_LISTED else ""
    listed = ", ".join(map(quote, columns[:MAX_LISTED]))
    return [f"column{'s' * (len(columns) > 1)} not used by the model: {listed}{more}"]


def quoted_name(name: str) -> str:
    """A name for a list, in quotes where it needs them."""
    if "," in name or name != name.strip() or name.startswith('"'):
        return '"' + name.replace('"', '""') + '"'
    return name
