"""The columns of a frame that a trained model does not know."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from memorycell.errors import quote
from memorycell.face.frames import to_polars
from memorycell.tables.column_lists import split_names

if TYPE_CHECKING:
    from memorycell.face.trained import Trained

MAX_LISTED = 8


def warn_of_ignored(model: Trained, frame: Any) -> None:
    """Warn of columns of a frame that are neither read nor named in the model's settings, as the
    label is.
    """
    read = model.application.session_columns
    if read is None:
        return
    texts = [value for value in model.settings.values() if isinstance(value, str)]
    known = {*read(model), *texts, *(name for text in texts for name in split_names(text))}
    ignored = [name for name in to_polars(frame).columns if name not in known]
    if ignored:
        more = f" and {len(ignored) - MAX_LISTED} more" if len(ignored) > MAX_LISTED else ""
        listed = ", ".join(map(quote, ignored[:MAX_LISTED]))
        warnings.warn(
            f"column{'s' * (len(ignored) > 1)} not used by the model: {listed}{more}", stacklevel=3
        )
