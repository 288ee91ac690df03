"""Mistakes a person can mend, told in one line.

The command line prints these without a traceback and ends with status 2; programs catch them as
ordinary exceptions. The line names the place (file, row, column) and the mend.
"""


class UserError(Exception):
    """Something the person who called can put right: the message says where it is and what to do."""


class DataError(UserError):
    """The data given cannot be used as they are."""


class ModelFileError(UserError):
    """A file is not a model of ours, is damaged, or was written by a later version."""


class StateError(UserError):
    """A saved state is damaged or belongs to other weights."""
