"""Histories and durable steps of tensor sessions: what happens between a step and its answer.

A durable session is not stepped again until its row is on disk. If it cannot be written, the state
is set back, so that the step can be sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.server.durable import StoreFull
from memorycell.server.frame_steps import FrameStep
from memorycell.server.states import answered_rows
from memorycell.server.tensor_work import (
    NO_HANDLE,
    OK,
    REFUSED,
    STORE_FULL,
    STORE_UNAVAILABLE,
    Work,
)

if TYPE_CHECKING:
    from memorycell.server.durable import Key
    from memorycell.server.sessions import TensorSession
    from memorycell.server.tensor_lane import TensorLane


def keep(
    lane: TensorLane,
    works: Sequence[Work | FrameStep],
    slots: np.ndarray,
    before: np.ndarray,
    y: np.ndarray,
    refused: np.ndarray | None,
) -> tuple[Sequence[Work | FrameStep], np.ndarray, np.ndarray | None]:
    """Remember the states before the step for sessions with a history, and commit durable ones.

    Returns the works that can be answered now, with their outputs and statuses; the others are
    answered after the commit.
    """
    status = np.zeros(len(slots), np.uint8)
    if refused is not None:
        status[refused] = REFUSED
    special = lane.special[slots] & (status == OK)
    for k in np.flatnonzero(special).tolist():
        session = lane.sessions[slots[k]]
        if session is not None:
            session.last = None
            if session.past is not None:
                session.past.append(before[k])
    waits = special & lane.durable[slots]  # a closed session's slot is neither
    if not waits.any():
        return works, y, None if refused is None else status
    if waits.all():
        every = np.arange(len(slots))
        _commit(lane, works, every, slots, every, before, y, status)
        return [], y[:0], None
    ready, later, waiting_rows = _divided(works, waits)
    durable = np.flatnonzero(waits)
    _commit(lane, later, np.flatnonzero(waiting_rows), slots[durable], durable, before, y, status)
    return ready, y[~waiting_rows], None if refused is None else status[~waiting_rows]


def _divided(
    works: Sequence[Work | FrameStep], waits: np.ndarray
) -> tuple[list[Work | FrameStep], list[Work | FrameStep], np.ndarray]:
    """(works without a durable session, the others, the rows of these)"""
    ready: list[Work | FrameStep] = []
    later: list[Work | FrameStep] = []
    rows = np.zeros(len(waits), bool)
    at = 0
    for work in works:
        end = at + work.count
        if waits[at:end].any():
            later.append(work)
            rows[at:end] = True
        else:
            ready.append(work)
        at = end
    return ready, later, rows


def _commit(
    lane: TensorLane,
    works: Sequence[Work | FrameStep],
    rows: np.ndarray,
    slots: np.ndarray,
    durable: np.ndarray,
    before: np.ndarray,
    y: np.ndarray,
    status: np.ndarray,
) -> None:
    """Write the sessions of `slots`, which have the rows `durable` of the batch; then answer
    `works`, whose rows are `rows`.
    """
    context = lane.context
    sessions = [session for slot in slots if (session := lane.sessions[slot]) is not None]
    answers = y[durable]
    for session, answer in zip(sessions, answers, strict=True):
        session.last = (1, answer.reshape(1, *session.served.output_shape).copy())
    stored = context.rows(sessions, answered_rows(lane.pool.rows(slots), answers), last=False)
    lane.block(slots)

    def committed(error: Exception | None, lost: frozenset[Key]) -> None:
        if lane.busy:  # the pool runs in the thread
            context.loop.call_later(0.0005, committed, error, lost)
            return
        alive = [
            (k, s) for k, s in zip(durable, sessions, strict=True) if lane.sessions[s.slot] is s
        ]
        for k, session in alive:
            if error is not None:
                _undo(lane, session, before[k : k + 1])
                status[k] = STORE_FULL if isinstance(error, StoreFull) else STORE_UNAVAILABLE
            elif session.key in lost:
                status[k] = NO_HANDLE
                context.lost(session)
            else:
                session.saved = session.steps
        lane.unblock([session.slot for _, session in alive])
        failed = status[rows]
        if failed.any():
            y[status > OK] = np.nan
            lane.reply(works, y[rows], failed)
        else:
            lane.reply(works, y[rows], None)
        lane.again()

    context.commit(stored, committed)


def _undo(lane: TensorLane, session: TensorSession, before: Any) -> None:
    lane.pool.set_rows([session.slot], before)
    session.steps -= 1
    session.last = None
    if session.past:
        session.past.pop()
