"""Which columns of a table hold the texts and the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from memorycell.errors import DataError, quote

if TYPE_CHECKING:
    import polars as pl

LABEL_COLUMNS = (
    "label",
    "sentiment",
    "class",
    "category",
    "target",
    "stars",
    "rating",
    "polarity",
    "score",
    "y",
    "labels",
    "emotion",
    "intent",
    "topic",
    "tag",
)
TEXT_COLUMNS = (
    "text",
    "sentence",
    "review",
    "comment",
    "message",
    "content",
    "body",
    "tweet",
    "title",
    "texts",
    "review_text",
    "reviewtext",
    "utterance",
    "document",
    "headline",
)
MIN_ROWS = 20
"""Fewer rows are not enough to find a column by its contents."""
MAX_LABEL_CHARS, MIN_TEXT_CHARS = 30, 15
"""Mean lengths of labels and of texts."""
MIN_ROWS_PER_LABEL = 5
MIN_LENGTH_RATIO = 2.0
"""Of the longest texts to the next longest column."""


class Columns(NamedTuple):
    """The names of two columns; `guessed`: found by their contents."""

    text: str
    label: str
    guessed: bool = False


def find_columns(frame: pl.DataFrame, where: str, text: str | None, label: str | None) -> Columns:
    """The columns that are named, or whose names are usual, or the two of a table of two; else what
    their contents say. Raises `DataError` where that is not clear.
    """
    text = _named(frame, where, text) or _usual(frame, TEXT_COLUMNS, but=label)
    label = _named(frame, where, label) or _usual(frame, LABEL_COLUMNS, but=text)
    if len(frame.columns) == 2 and (text is None) != (label is None):
        other = next(c for c in frame.columns if c not in (text, label))
        text, label = text or other, label or other
    found = text is None or label is None
    text = text or _longest(frame, but=label)
    label = label or _repeated(frame, but=text)
    columns = ", ".join(quote(c) for c in frame.columns[:8])
    if text is None or label is None:
        missing = "text" if text is None else "label"
        raise DataError(
            f"{where}: which column is the {missing}? --set {missing}=NAME; it has {columns[:150]}"
        )
    if text == label:
        raise DataError(f"{where}: column {quote(text)} cannot be both the text and the label")
    for name in (text, label):
        if frame[name].dtype.is_nested():
            raise DataError(
                f"{where}: column {quote(name)} holds lists or objects, expected text; name another"
                f" column: --set {'text' if name == text else 'label'}=NAME"
            )
    return Columns(text, label, found)


def _named(frame: pl.DataFrame, where: str, name: str | None) -> str | None:
    """The column of a name, also in another case."""
    if name is None or name in frame.columns:
        return name
    same = [column for column in frame.columns if _plain(column) == _plain(name)]
    if len(same) != 1:
        columns = ", ".join(quote(c) for c in frame.columns[:8])
        raise DataError(f"{where}: no column {quote(name)}; it has {columns[:150]}")
    return same[0]


def _usual(frame: pl.DataFrame, names: tuple[str, ...], but: str | None) -> str | None:
    """The first column of the usual names."""
    by_name = {_plain(column): column for column in frame.columns if column != but}
    return next((by_name[name] for name in names if name in by_name), None)


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _longest(frame: pl.DataFrame, but: str | None) -> str | None:
    """The column of texts: much longer than the others, and hardly repeated."""
    lengths = {
        name: float(column.str.len_chars().mean() or 0)  # type: ignore[arg-type]
        for name, column in _texts(frame, but).items()
    }
    order = sorted(lengths, key=lengths.__getitem__, reverse=True)
    if not order or frame.height < MIN_ROWS or lengths[order[0]] < MIN_TEXT_CHARS:
        return None
    if len(order) > 1 and lengths[order[0]] < MIN_LENGTH_RATIO * lengths[order[1]]:
        return None
    return order[0] if frame[order[0]].n_unique() > frame.height / 2 else None


def _repeated(frame: pl.DataFrame, but: str | None) -> str | None:
    """The only column of a few short values that are repeated."""
    found = [
        name
        for name, column in _texts(frame, but).items()
        if 2 <= column.drop_nulls().n_unique() <= frame.height / MIN_ROWS_PER_LABEL
        and float(column.str.len_chars().mean() or 0) <= MAX_LABEL_CHARS  # type: ignore[arg-type]
    ]
    return found[0] if len(found) == 1 and frame.height >= MIN_ROWS else None


def _texts(frame: pl.DataFrame, but: str | None) -> dict[str, pl.Series]:
    """Name -> the column as text, of columns that are neither nested nor `but`."""
    import polars as pl

    return {
        column.name: column.cast(pl.String)
        for column in frame.get_columns()
        if column.name != but and not column.dtype.is_nested() and column.dtype != pl.Binary
    }
