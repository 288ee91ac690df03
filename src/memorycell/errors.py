"""Errors the user can fix, reported in one line.

The command line prints them without a traceback and exits with status 2; programs catch them as
ordinary exceptions. The message names the place (file, row, column) and the fix.
"""

MAX_QUOTED_CHARS = 80


class UserError(ValueError):
    """An error the user can fix; the message names the place and the fix.

    It is a ValueError: where code catches the ValueErrors of others, `except UserError:
    raise` comes first.
    """


class DataError(UserError):
    """The data cannot be used as they are."""


class ModelFileError(UserError):
    """A file is not a memorycell model, is damaged, or was written by a later version."""


class StateError(UserError):
    """A saved state is damaged or belongs to other weights."""


class DataWarning(UserWarning):
    """What was found in the data of a prediction that is given as a data frame: columns that are
    not used, a series that is new, a text that was cut.
    """


def quote(value: object) -> str:
    """Text from a file or a user for a message: its `repr`, which escapes newlines and control
    characters, cut to `MAX_QUOTED_CHARS`.
    """
    text = repr(value[: MAX_QUOTED_CHARS + 1] if isinstance(value, str) else value)
    text = "".join(c if c.isprintable() else " " for c in text)  # other objects' repr
    if len(text) <= MAX_QUOTED_CHARS:
        return text
    return text[: MAX_QUOTED_CHARS - 1] + "…"


def counted(count: int, units: str) -> str:
    """A number of things for a message: "1 row", "2 rows", "1,200 rows".

    units   what is counted, in the plural
    """
    return f"{count:,} {_singular(units) if count == 1 else units}"


def _singular(units: str) -> str:
    if units.endswith("series"):
        return units
    for end, one in (("ies", "y"), ("sses", "ss"), ("s", "")):
        if units.endswith(end):
            return units[: -len(end)] + one
    return units
