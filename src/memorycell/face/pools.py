"""Pools of a trained model's live sessions, and of its encoded inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from memorycell.errors import UserError
from memorycell.face.options import check_precision, check_range, typed_options
from memorycell.face.session_pool import SessionPool

if TYPE_CHECKING:
    from memorycell.face.trained import Trained
    from memorycell.streaming.pool import Pool

MAX_SESSIONS = 100_000_000


def session_pool(
    model: Trained, sessions: int, precision: str, options: Mapping[str, Any]
) -> SessionPool:
    """`Trained.pool`."""
    check_precision(precision)
    check_range("sessions", sessions, 0, MAX_SESSIONS)
    application = model.application
    given = typed_options(application.stream_options, options, application.name)
    pool = SessionPool(model, precision, given)
    pool.open_many(sessions)
    return pool


def encoded_pool(model: Trained, sessions: int, precision: str, options: Mapping[str, Any]) -> Pool:
    """`Trained.pool` with encoded=True."""
    from memorycell.streaming.pool import Pool

    check_range("sessions", sessions, 0, MAX_SESSIONS)
    try:
        pool = Pool(model.model, max(sessions, 1), precision, **options)
        pool.open_many(sessions)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"pool: {str(error).removeprefix('stream: ')}") from None
    return pool
