"""Item sessions from states, also from those of other weights."""

from __future__ import annotations

from memorycell.application.contract import Session
from memorycell.errors import StateError
from memorycell.server.problems import Problem
from memorycell.server.served import ServedModel
from memorycell.server.sessions import OpenOptions
from memorycell.state import State


def restored(
    served: ServedModel, options: OpenOptions, data: bytes | None, *, other_weights: bool = False
) -> Session:
    """An item session in a state. Raises `UserError`, `StateError`."""
    session = served.new_session(options.precision, options.options)
    if data is None:
        return session
    if other_weights:
        data = with_fingerprint(data, served.fingerprint_of(options.precision))
    try:
        session.restore(data)
    except StateError as error:
        raise Problem("state-refused", str(error)) from None
    return session


def with_fingerprint(data: bytes, fingerprint: str) -> bytes:
    """A snapshot with the fingerprint of other weights; other formats are unchanged."""
    try:
        state, extra = State.from_bytes(data)
    except StateError:
        return data
    return state.to_bytes(fingerprint=fingerprint, extra=extra)
