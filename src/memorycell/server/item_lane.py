"""The item sessions of a model: requests of different sessions run together.

Sessions whose steps are generators (`application.contract.Stepwise`) are stepped in one call of the
engine per time step; the others are fed one by one. A request is applied completely or not at all.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from memorycell.application.contract import Forkable, Item, Record, Session, Stepwise
from memorycell.server.compute import Cost
from memorycell.server.gates import GateRecord
from memorycell.server.problems import Problem, internal_problem, problem_of
from memorycell.server.restoring import restored
from memorycell.server.scheduling import Scheduler
from memorycell.server.sessions import ItemSession, StepResult, call_alive
from memorycell.streaming.stepwise import StreamSteps, run_together

if TYPE_CHECKING:
    import numpy as np

    from memorycell.server.context import Context
    from memorycell.server.served import ServedModel
    from memorycell.streaming.stream import Stream

MAX_BATCH = 256
MAX_QUEUED = 64
"""Requests of one session that wait."""
FIRST_GUESS_US = 5000.0


class ItemWork:
    """Items for a session. `done` takes a `StepResult` or an exception, on the event loop."""

    __slots__ = (
        *("after", "arrived", "before", "deadline", "done", "gates", "items", "session"),
        *("snapshot", "state"),
    )

    def __init__(
        self,
        session: ItemSession,
        items: Sequence[Item],
        done: Callable[[Any], None],
        *,
        watch: bool = False,
        after: int | None = None,
        deadline: float = 0.0,
    ) -> None:
        self.session, self.items, self.done = session, items, done
        self.after, self.deadline, self.arrived = after, deadline, time.perf_counter()
        self.gates = GateRecord() if watch else None
        self.snapshot: bytes | None = None
        self.before: list[Session] = []  # the session before each item that can be rewound
        self.state: Session | None = None  # the session before the request


class ItemCall:
    """A function that needs a session between two of its requests."""

    __slots__ = ("arrived", "done", "function", "session")

    def __init__(
        self, session: ItemSession, function: Callable[[], Any], done: Callable[[Any], None]
    ) -> None:
        self.session, self.function, self.done = session, function, done
        self.arrived = time.perf_counter()


class ItemLane:
    """See the module's text."""

    def __init__(self, served: ServedModel, precision: str, context: Context) -> None:
        self.served, self.precision, self.context = served, precision, context
        self._pending: deque[ItemWork | ItemCall] = deque()
        self.sessions: set[ItemSession] = set()
        self._busy = False
        self._cost = Cost(FIRST_GUESS_US)
        self._scheduler = Scheduler(self._run, context.config.window_ms / 1000)

    def submit(self, work: ItemWork) -> None:
        """Read items, soon. Raises `Problem` where too many requests wait."""
        session = work.session
        if session.queued >= MAX_QUEUED or len(self._pending) >= self.context.config.max_queue:
            raise Problem(
                "too-many-requests",
                f"{session.queued} requests of this session wait; wait for their answers",
                retry_after=1,
            )
        session.queued += 1
        self._add(work)

    async def call(self, session: ItemSession, function: Callable[[], Any]) -> Any:
        """Call a function after the session's waiting requests, in the thread."""
        future = self.context.loop.create_future()

        def done(result: Any) -> None:
            if future.cancelled():
                return
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)

        session.queued += 1
        self._add(ItemCall(session, function, done))
        return await future

    def _add(self, work: ItemWork | ItemCall) -> None:
        self._pending.append(work)
        if not self._busy:
            self._scheduler.schedule(len(self._pending))

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._pending)

    async def exclusive(self, function: Callable[[], Any]) -> Any:
        """Call a function in the thread while no batch runs."""
        while self._busy:
            await self.context.compute.call(lambda: None)  # after the running batch
            await asyncio.sleep(0)
        self._busy = True
        try:
            return await self.context.compute.call(function)
        finally:
            self._busy = False
            if self._pending:
                self._scheduler.schedule(len(self._pending))

    async def carry(self, served: ServedModel) -> None:
        """Continue the sessions on another version of the model; those that it refuses stay."""

        def move() -> None:
            old = self.served
            for session in list(self.sessions):
                try:
                    snapshot = session.session.snapshot()
                    session.session = restored(
                        served, session.options, snapshot, other_weights=True
                    )
                except Exception as error:
                    self.context.refused(session, error)
                    continue
                session.past.clear()
                session.served = served
                old.sessions -= 1
                served.sessions += 1
            self.served = served
            old.lanes.pop(self.precision, None)
            served.lanes[self.precision] = self

        await self.exclusive(move)

    # ---- batches ---------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._busy:
            return
        batch = self._take()
        if not batch:
            return
        self._scheduler.batch_started(len(batch))
        watched = any(isinstance(work, ItemWork) and work.gates is not None for work in batch)
        units = sum(len(work.items) if isinstance(work, ItemWork) else 1 for work in batch)
        if self._cost.is_short(units) and self.served.native and not watched:
            self._finish(batch, self._work(batch, units))
        else:
            self._busy = True
            self.context.compute.start(
                lambda: self._work(batch, units), lambda results: self._finish(batch, results)
            )

    def _take(self) -> list[ItemWork | ItemCall]:
        """The next batch: the first request of each session that is not blocked."""
        batch: list[ItemWork | ItemCall] = []
        later: list[ItemWork | ItemCall] = []
        taken: set[int] = set()
        now = time.perf_counter()
        while self._pending and len(batch) < MAX_BATCH:
            work = self._pending.popleft()
            session = work.session
            if session.blocked or id(session) in taken:
                later.append(work)
            elif isinstance(work, ItemWork) and work.deadline and now > work.deadline:
                session.queued -= 1
                work.done(Problem("deadline", "the items were not read in time; try again"))
            else:
                taken.add(id(session))
                batch.append(work)
        self._pending.extendleft(reversed(later))
        return batch

    def _work(self, batch: Sequence[ItemWork | ItemCall], units: int) -> list[Any]:
        """The results or exceptions of a batch; may run in the thread."""
        started = time.perf_counter()  # a session may also wait for something
        results: list[Any] = [None] * len(batch)
        together: list[int] = []
        for k, work in enumerate(batch):
            try:
                if isinstance(work, ItemCall):
                    results[k] = call_alive(work.session, work.function)
                elif not work.session.alive:
                    results[k] = taken_problem()
                elif (again := self._again_or_begin(work)) is not None:
                    results[k] = again
                elif isinstance(work.session.session, Stepwise):
                    together.append(k)
                else:
                    results[k] = self._feed(work)
            except Exception as error:
                results[k] = error
        works: list[Any] = [batch[k] for k in together]

        def record(k: int, stream: Stream, x: np.ndarray) -> None:
            if works[k].gates is not None:
                works[k].gates.step(stream, x)

        on_step = record if any(work.gates is not None for work in works) else None
        outcomes = run_together([_all_items(work) for work in works], on_step)
        for k, outcome in zip(together, outcomes, strict=True):
            results[k] = outcome
        for k, work in enumerate(batch):
            if isinstance(work, ItemWork):
                results[k] = self._settle(work, results[k])
        self._cost.measured(units, time.perf_counter() - started)
        return results

    def _again_or_begin(self, work: ItemWork) -> StepResult | None:
        """The answers of a request that was answered before; else None, and the session can be
        restored to what it is now.
        """
        session = work.session
        repeated = repeated_answer(session.last, session.steps, work.after, len(work.items))
        if repeated is not None:
            return StepResult(repeated, session.steps)
        work.state = copy_of(session)
        return None

    def _feed(self, work: ItemWork) -> list[list[Record]]:
        answers = []
        session = work.session
        for item in work.items:
            _remember(work)
            if work.gates is None or session.served.trained is None:
                answers.append(session.session.feed(item))
            else:
                work.gates.complete = True
                with work.gates.tracing(session.served.trained.model):
                    answers.append(session.session.feed(item))
                work.gates.end_item()
        return answers

    def _settle(self, work: ItemWork, outcome: Any) -> Any:
        """A `StepResult`, or an exception with the session as before the request."""
        session = work.session
        if isinstance(outcome, StepResult):
            return outcome
        if isinstance(outcome, BaseException):
            if work.state is not None:
                session.session = work.state
            return outcome
        session.past.extend(work.before[-(session.past.maxlen or 0) :] if work.before else ())
        session.steps += len(work.items)
        session.last = (len(work.items), outcome)
        if session.options.durable == "step":
            try:
                work.snapshot = session.session.snapshot()
            except Exception as error:
                self._undo(work)
                return error
        gates = None if work.gates is None else work.gates.to_json()
        return StepResult(outcome, session.steps, gates)

    def _undo(self, work: ItemWork) -> None:
        session = work.session
        session.steps -= len(work.items)
        session.last = None
        if work.state is not None:
            session.session = work.state
        for _ in range(min(len(work.before), len(session.past))):
            session.past.pop()

    def _finish(self, batch: Sequence[ItemWork | ItemCall], results: Any) -> None:
        self._busy = False
        if isinstance(results, BaseException):
            results = [results] * len(batch)
        durable: list[tuple[ItemWork, StepResult]] = []
        for work, result in zip(batch, results, strict=True):
            work.session.queued -= 1
            if isinstance(result, BaseException) and problem_of(result) is None:
                self.context.defect(result)
                result = internal_problem()
            if isinstance(work, ItemWork):
                work.session.touch()
                if isinstance(result, StepResult) and work.snapshot is not None:
                    durable.append((work, result))
                    continue
            work.done(result)
        self.context.metrics.batch(self.served.name, len(batch), batch[0].arrived)
        if durable:
            self._commit(durable)
        if self._pending:
            self._scheduler.schedule(len(self._pending))

    def _commit(self, durable: Sequence[tuple[ItemWork, StepResult]]) -> None:
        for work, _ in durable:
            work.session.blocked = True

        def committed(error: Exception | None, lost: frozenset[tuple[str, str]]) -> None:
            for work, result in durable:
                session = work.session
                session.blocked = False
                if error is not None:
                    self._undo(work)
                    work.done(error)
                elif session.key in lost:
                    self.context.lost(session)
                    work.done(taken_problem())
                else:
                    session.saved = session.steps
                    work.done(result)
            if self._pending:
                self._scheduler.schedule(len(self._pending))

        rows = [self.context.row(work.session, work.snapshot or b"") for work, _ in durable]
        self.context.commit(rows, committed)


def _all_items(work: ItemWork) -> StreamSteps[list[list[Record]]]:
    """The answers to all items of a request."""
    answers = []
    for item in work.items:
        _remember(work)
        session = work.session.session
        assert isinstance(session, Stepwise)
        answers.append((yield from session.steps(item)))
        if work.gates is not None:
            work.gates.end_item()
    return answers


def _remember(work: ItemWork) -> None:
    if work.session.past.maxlen:
        work.before.append(work.state if not work.before and work.state else copy_of(work.session))


def copy_of(session: ItemSession) -> Session:
    """An independent copy of what a session runs."""
    own = session.session
    if isinstance(own, Forkable):
        return own.fork()
    copy = session.served.new_session(session.precision, session.options.options)
    copy.restore(own.snapshot())
    return copy


def repeated_answer(
    last: tuple[int, Any] | None, steps: int, after: int | None, count: int
) -> list[Any] | None:
    """The answers given before, where a request that names the number of items before it, `after`,
    was already applied; None where it is to be applied. Raises `Problem` 409.
    """
    if after is None or after == steps:
        return None
    if last is not None and last[0] == count and after + count == steps:
        answers: list[Any] = last[1]
        return answers
    raise Problem(
        "steps-differ",
        f"the session has read {steps} items, not {after}; continue from there",
        steps=steps,
    )


def taken_problem() -> Problem:
    """The session now belongs to another server."""
    return Problem("no-such-session", "another server has taken over this session; ask again")
