"""Numbers that stand for missing values in the files of measuring systems, such as -9999."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

SENTINELS = (*(-99.9, -999.9, -9999.9), *(-999.0, -9999.0, -99999.0), *(9999.0, 99999.0), 999999.0)
MIN_COUNT = 2


def sentinel_note(column: pl.Series) -> str | None:
    """A note on the number of `SENTINELS` that occurs in a column of plain numbers several times,
    far from all others; None where there is none.
    """
    import polars as pl

    if not (column.dtype == pl.String or column.dtype.is_numeric()):
        return None
    values = column.cast(pl.Float64, strict=False)
    if (values.is_in(list(SENTINELS)).sum() or 0) < MIN_COUNT:
        return None
    values = values.drop_nulls().drop_nans()
    marks = values.is_in(list(SENTINELS))
    others = values.filter(~marks)
    if int(marks.sum()) < MIN_COUNT or len(others) < MIN_COUNT:
        return None
    low, high = float(others.min()), float(others.max())  # type: ignore[arg-type]
    counts = values.filter(marks).value_counts(sort=True)
    for value, count in counts.rows():
        if count >= MIN_COUNT and not 2 * low - high <= value <= 2 * high - low:
            return (
                f"{value:g} occurs {count:,} times, far from the other values, and is read as a"
                " number; if it marks missing values, leave these cells empty"
            )
    return None
