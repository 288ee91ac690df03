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
from memorycell.server.tensor_work import NO_HANDLE, REFUSED, STORE_FULL, STORE_UNAVAILABLE, Work

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
) -> tuple[list[Work | FrameStep], np.ndarray, np.ndarray | None]:
    """Remember the states before the step for sessions with a history, and commit durable ones.

    Returns the works that can be answered now, with their outputs and statuses; the others are
    answered after the commit.
    """
    status = np.zeros(len(slots), np.uint8)
    if refused is not None:
        status[refused] = REFUSED
    durable: list[tuple[int, TensorSession]] = []
    for k in np.flatnonzero(lane.special[slots]).tolist():
        session = lane.sessions[slots[k]]
        if session is None or status[k]:
            continue
        if session.past is not None:
            session.past.append(before[k])
        session.last = None
        if session.options.durable == "step":
            session.last = (1, y[k].reshape(1, *session.served.output_shape).copy())
            durable.append((k, session))
    if not durable:
        return list(works), y, None if refused is None else status
    waits = np.zeros(len(slots), bool)
    waits[[k for k, _ in durable]] = True
    ready: list[Work | FrameStep] = []
    later: list[Work | FrameStep] = []
    rows: list[np.ndarray] = []
    at = 0
    for work in works:  # works without a durable session do not wait
        own = np.arange(at, at + work.count)
        if waits[own].any():
            later.append(work)
            rows.append(own)
        else:
            ready.append(work)
        at += work.count
    waiting_rows = np.concatenate(rows)
    _commit(lane, later, waiting_rows, durable, before, y, status)
    left = np.ones(len(slots), bool)
    left[waiting_rows] = False
    return ready, y[left], None if refused is None else status[left]


def _commit(
    lane: TensorLane,
    works: list[Work | FrameStep],
    rows: np.ndarray,
    durable: list[tuple[int, TensorSession]],
    before: np.ndarray,
    y: np.ndarray,
    status: np.ndarray,
) -> None:
    """Write durable sessions, then answer `works`, whose rows of the batch are `rows`."""
    context = lane.context
    slots = [session.slot for _, session in durable]
    states = lane.snapshot_rows(slots)
    sessions = (session for _, session in durable)
    stored = [context.row(*pair) for pair in zip(sessions, states, strict=True)]
    lane.block(slots)

    def committed(error: Exception | None, lost: frozenset[Key]) -> None:
        if lane.busy:  # the pool runs in the thread
            context.loop.call_later(0.0005, committed, error, lost)
            return
        alive = [(k, s) for k, s in durable if lane.sessions[s.slot] is s]
        for k, session in alive:
            if error is not None:
                _undo(lane, session, before[k : k + 1])
                status[k] = STORE_FULL if isinstance(error, StoreFull) else STORE_UNAVAILABLE
            elif session.key in lost:
                status[k] = NO_HANDLE
                context.lost(session)
            else:
                session.saved = session.steps
        y[status > 0] = np.nan
        lane.unblock([session.slot for _, session in alive])
        lane.reply(works, y[rows], status[rows])
        lane.again()

    context.commit(stored, committed)


def _undo(lane: TensorLane, session: TensorSession, before: Any) -> None:
    lane.pool.set_rows([session.slot], before)
    session.steps -= 1
    session.last = None
    if session.past:
        session.past.pop()
