"""Checks of single values of data in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from memorycell.errors import UserError, counted, quote


def is_value(one: Any) -> bool:
    """Whether it is one number or text, and no sequence."""
    return (
        isinstance(one, (str, bytes))
        or getattr(one, "ndim", None) == 0
        or not (hasattr(one, "__len__") or hasattr(one, "__iter__"))
    )


def present(label: Any, where: str) -> Any:
    """The label. Raises `UserError` where it is None, NaN or NaT, or not one value."""
    if np.ndim(label) > 0:
        raise UserError(f"{where} is {quote(label)}: expected one value")
    if label is None or type(label).__name__ == "NAType" or bool(label != label):
        raise UserError(f"{where} is missing; leave its row out, or give a label")
    return label.item() if isinstance(label, np.generic) else label


def strings(values: Sequence[Any], what: str) -> list[str]:
    """The values. Raises TypeError for one that is not a string."""
    for k, value in enumerate(values, 1):
        if not isinstance(value, str):
            raise TypeError(f"{what} {k} is {type(value).__name__}")
    return list(values)


def check_ragged(rows: Any, where: str, name: str = "row") -> None:
    """Raises ValueError where the rows of a list of lists differ in length."""
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        return
    lengths = [len(row) if isinstance(row, (Sequence, np.ndarray)) else -1 for row in rows]
    for k, length in enumerate(lengths, 1):
        if length != lengths[0]:
            raise ValueError(
                f"{where}: {name} {k} has {counted(max(length, 1), 'values')}, {name} 1 has"
                f" {max(lengths[0], 1)}; give {name}s of one length"
            )
