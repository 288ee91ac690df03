"""What the server refuses, as exceptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from memorycell.errors import UserError

STATUS = (
    "ok",
    "no such handle",
    "the input has NaN or infinity, or the state would overflow",
    "the session's queue is full",
    "the session is in use elsewhere",
    "the deadline passed",
    "not durable: the store is full",
    "not durable: the store cannot be reached",
)
"""What the status bytes of a binary frame mean."""


class ProblemError(UserError):
    """A problem that the server reported (RFC 9457); the message says what and how to fix it.

    status    the HTTP status
    slug      what kind of problem: "no-such-session", "too-many-requests", …
    problem   the complete object
    """

    def __init__(self, problem: Mapping[str, Any]) -> None:
        self.problem = dict(problem)
        self.status = int(problem.get("status") or 500)
        self.slug = str(problem.get("type", "")).rsplit("/", 1)[-1]
        super().__init__(str(problem.get("detail") or problem.get("title") or "unknown problem"))


class StepError(UserError):
    """A step of several sessions of which some were refused; those are unchanged.

    status   [n] uint8, 0 for the steps taken; see `STATUS`
    y        [n, width] float32, NaN for the steps refused
    """

    def __init__(self, status: np.ndarray, y: np.ndarray, ids: Sequence[str]) -> None:
        self.status, self.y = status, y
        k = int(np.flatnonzero(status)[0])
        code = int(status[k])
        reason = STATUS[code] if code < len(STATUS) else f"status {code}"
        super().__init__(
            f"session {ids[k]}: {reason} ({np.count_nonzero(status)} of {len(ids)} steps refused)"
        )


class AnswerLostError(ConnectionError):
    """The connection broke after the server had taken the step: the session is one step further,
    its output is lost. `AsyncSession.rewind` undoes the step for sessions with a history.
    """


class ConnectionLostError(ConnectionError):
    """The connection broke, or the server closed it."""
