"""Steps of one tensor session for doors that wait for the answer: REST, JSON and OIP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from memorycell.server.context import Context
from memorycell.server.gates import GateRecord
from memorycell.server.item_lane import repeated_answer, taken_problem
from memorycell.server.problems import Problem
from memorycell.server.sessions import StepResult, TensorSession
from memorycell.server.stores import store_problem
from memorycell.server.tensor_work import (
    DEADLINE,
    NO_HANDLE,
    OK,
    QUEUE_FULL,
    STORE_FULL,
    STORE_UNAVAILABLE,
    Work,
)
from memorycell.streaming.stream import Stream

MAX_STEPS = 100_000


async def step_tensors(
    context: Context,
    session: TensorSession,
    items: Sequence[Any] | np.ndarray,
    *,
    watch: bool = False,
    after: int | None = None,
    deadline_s: float | None = None,
    as_array: bool = False,
) -> StepResult:
    """Read rows of numbers; all or none. One row runs together with those of other sessions. Raises
    `Problem`.
    """
    x = as_rows(items, session.lane.input_size)
    if not len(x):
        return StepResult([], session.steps)
    shape = session.served.output_shape
    async with session.lock:  # so that `after` is compared in order
        repeated = repeated_answer(session.last, session.steps, after, len(x))
        if repeated is not None:
            answered = repeated.tolist() if isinstance(repeated, np.ndarray) else repeated
            return StepResult(answered, session.steps)
        gates = None
        if len(x) == 1 and not watch:
            y = await _one(context, session, x, deadline_s)
        else:
            y, gates = await _several(context, session, x, watch=watch)
        y = y.reshape(len(x), *shape)
        answers = y if as_array else y.tolist()
        session.last = (len(x), y.tolist()) if after is not None else session.last
        return StepResult(answers, session.steps, gates)  # type: ignore[arg-type]


def as_rows(items: Sequence[Any] | np.ndarray, size: int) -> np.ndarray:
    """Rows of numbers as [T, size] float32. Raises `Problem` 422."""
    try:
        if not isinstance(items, np.ndarray) and any(
            not isinstance(row, (list, tuple, np.ndarray)) for row in items
        ):
            raise ValueError("not a list of numbers")
        x = np.asarray(items)
        if x.size and x.dtype.kind not in "fiu":
            raise ValueError("not numbers")
        with np.errstate(over="ignore"):
            x = np.ascontiguousarray(x, np.float32)
    except (ValueError, TypeError, OverflowError):
        raise Problem("unusable-input", f"expected a list of {size} numbers per item") from None
    if not len(x):
        return np.zeros((0, size), np.float32)
    if x.ndim != 2 or x.shape[1] != size:
        raise Problem(
            "unusable-input", f"expected a list of {size} numbers per item, got {list(x.shape[1:])}"
        )
    if len(x) > MAX_STEPS:
        raise Problem("too-large", f"at most {MAX_STEPS:,} items per request, got {len(x):,}")
    return x


async def _one(
    context: Context, session: TensorSession, x: np.ndarray, deadline_s: float | None
) -> np.ndarray:
    future: asyncio.Future[tuple[bytes, Any]] = context.loop.create_future()

    def reply(y: bytes, status: np.ndarray | None) -> None:
        if not future.cancelled():
            future.set_result((y, status))

    deadline = 0.0 if deadline_s is None else time.perf_counter() + deadline_s
    session.lane.submit(Work(session.slot, x.tobytes(), 1, reply, deadline))
    y, status = await future
    if status is not None and status[0] != OK:
        raise status_problem(int(status[0]))
    return np.frombuffer(y, np.float32)


async def _several(
    context: Context, session: TensorSession, x: np.ndarray, *, watch: bool
) -> tuple[np.ndarray, dict[str, Any] | None]:
    lane = session.lane
    durable = session.options.durable == "step"

    def run() -> tuple[np.ndarray, np.ndarray, dict[str, Any] | None]:
        before = lane.pool.rows([session.slot])
        record = GateRecord()
        if watch:
            stream = Stream(lane.pool.module, lane.precision, history=0)
            stream.state = lane.pool.state([session.slot])
            record.step(stream, x)
        y = lane.steps(session, x)
        session.last = (len(x), y.reshape(len(x), *session.served.output_shape).tolist())
        if durable:
            lane.block([session.slot])
        return y, before, record.to_json() if watch else None

    y, before, gates = await lane.call(session, run, units=len(x) + 200 * watch)
    context.metrics.batch(session.served.name, len(x), time.perf_counter())
    if durable:
        await _commit(context, session, before, len(x))
    return y, gates


async def _commit(context: Context, session: TensorSession, before: np.ndarray, count: int) -> None:
    lane = session.lane
    assert context.committer is not None

    def undo() -> None:
        lane.pool.set_rows([session.slot], before)
        session.steps -= count
        session.last = None
        for _ in range(min(count, len(session.past or ()))):
            assert session.past is not None
            session.past.pop()

    lost: frozenset[tuple[str, str]] = frozenset()
    try:
        row = await lane.exclusive(lambda: context.row(session, lane.snapshot_row(session)))
        with store_problem():
            lost = await context.committer.put([row])
        session.saved = session.steps
    except BaseException:
        await lane.exclusive(undo)
        raise
    finally:
        lane.unblock([session.slot])
        lane.again()
    if session.key in lost:
        context.lost(session)
        raise taken_problem()


def status_problem(status: int) -> Problem:
    """The problem of a row's status."""
    if status == QUEUE_FULL:
        return Problem("too-many-requests", "too many steps wait; try again", retry_after=1)
    if status == DEADLINE:
        return Problem("deadline", "the items were not read in time; try again")
    if status == STORE_UNAVAILABLE:
        return Problem(
            "store-unavailable",
            "the store cannot be written; nothing was changed, try again",
            retry_after=1,
        )
    if status == STORE_FULL:
        return Problem(
            "store-full", "the store cannot be written; nothing was changed: free space, try again"
        )
    if status == NO_HANDLE:
        return taken_problem()
    return Problem("unusable-input", "x: NaN, infinity or overflow; the session is unchanged")
