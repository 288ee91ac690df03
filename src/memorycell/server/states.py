"""States of sessions: as clients get them (snapshots), and as the store keeps them.

A snapshot of a tensor session is that of `Stream.snapshot`. In the store it is the row of floats,
which costs a hundredth of that per step; checksum and fingerprint are columns of the store. After a
durable step the floats of its answer follow, so that the answer can be given again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from memorycell.errors import StateError
from memorycell.server.durable import StoredSession
from memorycell.server.sessions import ItemSession, LiveSession, OpenOptions, TensorSession
from memorycell.state import State

if TYPE_CHECKING:
    from memorycell.server.tensor_lane import TensorLane

ROW = b"row\n"
"""Before a state as a row of floats; a snapshot begins with its length as 8 bytes."""
_SHARED: dict[tuple[Any, ...], OpenOptions] = {}
MAX_SHARED = 1024


def kept_options(options: OpenOptions) -> OpenOptions:
    """The options that a session keeps: without id and state; equal ones are shared."""
    kept = replace(options, id=None, state=None)
    if kept.options:
        return kept
    key = (kept.input, kept.precision, kept.durable, kept.ttl_s, kept.history, kept.owner)
    if len(_SHARED) >= MAX_SHARED:
        _SHARED.clear()
    return _SHARED.setdefault(key, kept)


def options_of_note(row: StoredSession) -> tuple[OpenOptions, tuple[int, Any] | None]:
    """How a stored session was opened, with its state, and its last answer. Raises ValueError."""
    try:
        note = orjson.loads(row.note)
        last = note.pop("last", None)
        options = OpenOptions(id=row.id, state=row.snapshot, **note)
    except (TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None
    return options, None if last is None else (int(last[0]), last[1])


def snapshot_of(session: LiveSession) -> bytes:
    """As clients get it."""
    if isinstance(session, TensorSession):
        state = session.lane.pool.state([session.slot])
        return state.to_bytes(fingerprint=session.lane.fingerprint, extra={"steps": session.steps})
    assert isinstance(session, ItemSession)
    return session.session.snapshot()


def stored_state(session: LiveSession) -> bytes:
    """As the store keeps it."""
    if isinstance(session, TensorSession):
        return session.lane.snapshot_row(session)
    assert isinstance(session, ItemSession)
    return session.session.snapshot()


def answered_rows(states: np.ndarray, answers: np.ndarray) -> list[bytes]:
    """States [n, width] with the answers [n, outputs] to their last step, as they are stored."""
    rows = np.concatenate([states, answers], 1)
    size, data = rows.shape[1] * rows.itemsize, rows.tobytes()
    return [ROW + data[k * size : (k + 1) * size] for k in range(len(rows))]


def stored_answer(session: TensorSession, data: bytes) -> tuple[int, list[Any]] | None:
    """The answer to the last step, where `answered_rows` made the state."""
    width = session.lane.pool.width
    if data[: len(ROW)] != ROW or len(data) == len(ROW) + 4 * width:
        return None
    answer = np.frombuffer(data, np.float32, offset=len(ROW) + 4 * width)
    return 1, answer.reshape(1, *session.served.output_shape).tolist()


def load_state(
    lane: TensorLane, data: bytes | None, *, other_weights: bool = False
) -> np.ndarray | None:
    """A tensor session's state [1, width]; None: zero. Raises `StateError`."""
    if data is None:
        return None
    width = lane.pool.width
    if data[: len(ROW)] == ROW:
        values = np.frombuffer(data, np.float32, offset=len(ROW))
        if len(values) not in (width, width + lane.width):
            raise StateError("state: of another model; start a new session")
        return values[:width].reshape(1, width)
    fingerprint = None if other_weights else lane.fingerprint
    state, _ = State.from_bytes(data, fingerprint=fingerprint)
    rows: np.ndarray = lane.pool.stepper.layout.rows(state)
    if len(rows) != 1:
        raise StateError("state: expected one sequence")
    return rows
