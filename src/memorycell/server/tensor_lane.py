"""The tensor sessions of a model: whatever waits is stepped in one call of its pool.

Requests are taken in their order of arrival. A request with a session that is already in the batch
waits for the next one, so that the order within a session is kept. While a batch runs in the
thread, the next one fills.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.server.compute import Cost
from memorycell.server.frame_steps import FrameStep, answer_frames, are_frames, inputs_of
from memorycell.server.problems import Problem
from memorycell.server.scheduling import Scheduler
from memorycell.server.sessions import call_alive
from memorycell.server.states import ROW
from memorycell.server.tensor_commits import keep
from memorycell.server.tensor_work import DEADLINE, OK, QUEUE_FULL, REFUSED, Call, Work
from memorycell.streaming.finite import finite_step
from memorycell.streaming.pool import Pool

if TYPE_CHECKING:
    from memorycell.server.context import Context
    from memorycell.server.served import ServedModel
    from memorycell.server.sessions import TensorSession

MAX_BATCH = 4096
BLOCKED = 1 << 62
"""Stamp of a session whose answer is being written to the store."""
FIRST_GUESS_US = 5.0


class TensorLane:
    """See the module's text. Everything but the stepping itself runs on the event loop."""

    def __init__(self, served: ServedModel, precision: str, context: Context) -> None:
        self.served, self.precision, self.context = served, precision, context
        assert served.module is not None
        self.pool = Pool(served.module, 64, precision, on_nonfinite="skip")
        self.fingerprint = self.pool.fingerprint
        self.input_size, self.width = served.input_size, served.output_size
        self.stepped, self.used = np.zeros(64, np.int64), np.zeros(64, np.float64)
        self.durable = np.zeros(64, bool)  # every step is on disk before its answer
        self.special = np.zeros(64, bool)  # durable, or with a history
        self.sessions: list[TensorSession | None] = [None] * 64
        self._stamp = np.zeros(64, np.int64)
        self._batch = 0
        self._blocked = 0  # sessions with the stamp BLOCKED
        self._pending: deque[Work | FrameStep | Call] = deque()
        self.rows = 0  # that wait
        self._since = 0.0  # when the first of them arrived
        self._max_queue = context.config.max_queue
        self.busy = False
        self._cost = Cost(FIRST_GUESS_US)
        self._scheduler = Scheduler(self._run, context.config.window_ms / 1000)

    # ---- sessions --------------------------------------------------------------------------------

    def open(self, session: TensorSession) -> int:
        """A slot. The pool must not be running: see `exclusive`."""
        slot = self.pool.open()
        if slot >= len(self.stepped):
            size = 2 * len(self.stepped)
            for name in ("stepped", "used", "special", "durable", "_stamp"):
                array = getattr(self, name)
                setattr(
                    self, name, np.concatenate([array, np.zeros(size - len(array), array.dtype)])
                )
            self.sessions += [None] * (size - len(self.sessions))
        self.sessions[slot] = session
        self.stepped[slot] = 0
        self._stamp[slot] = 0
        self.durable[slot] = session.options.durable == "step"
        self.special[slot] = self.durable[slot] or session.options.history > 0
        return slot

    def close(self, slot: int) -> None:
        """Free a slot; see `open`."""
        self.sessions[slot] = None
        self.durable[slot] = self.special[slot] = False
        if self._stamp[slot] == BLOCKED:
            self._blocked -= 1
        self._stamp[slot] = 0
        self.pool.close(slot)

    async def exclusive(self, function: Callable[[], Any]) -> Any:
        """Call a function while no batch runs."""
        while self.busy:
            await self.context.compute.call(lambda: None)  # after the running batch
            await asyncio.sleep(0)
        return function()

    async def call(
        self, session: TensorSession, function: Callable[[], Any], units: int = 1
    ) -> Any:
        """Call a function after the session's waiting steps, alone with the pool. `units`: its
        length in steps.
        """
        future: asyncio.Future[Any] = self.context.loop.create_future()

        def done(result: Any) -> None:
            if future.cancelled():
                return
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)

        self._add(Call(session.slot, lambda: call_alive(session, function), done, units))
        return await future

    # ---- steps -----------------------------------------------------------------------------------

    def submit(self, work: Work | FrameStep) -> None:
        """Step, soon."""
        if self.rows + work.count > self._max_queue:
            self._fail(work, QUEUE_FULL)
            return
        self._add(work)

    def _add(self, work: Work | FrameStep | Call) -> None:
        if not self._pending:
            self._since = time.perf_counter()
        self._pending.append(work)
        self.rows += work.count
        if not (self.busy or self._scheduler.settled or self._awaits_commit(work)):
            self._scheduler.schedule(self.rows)

    def _awaits_commit(self, work: Work | FrameStep | Call) -> bool:
        """Whether work is for a durable session while a commit is being written: its own answer
        could only be in the next one, so it is stepped with all that arrives until then.
        """
        if not self._blocked:
            return False
        durable = self.durable[work.slots]
        return bool(durable if isinstance(work.slots, int) else durable.any())

    def _fail(self, work: Work | FrameStep, status: int) -> None:
        work.reply(self._missing(work.count), np.full(work.count, status, np.uint8))

    def _missing(self, count: int) -> bytes:
        return np.full((count, self.width), np.nan, np.float32).tobytes()

    def steps(self, session: TensorSession, x: np.ndarray) -> np.ndarray:
        """Steps x [T, I] of one session, all or none -> y [T, width]; runs alone with the pool."""
        slots = [session.slot]
        row = self.pool.rows(slots)
        before = row.copy()
        y, after = finite_step(self.pool.stepper, large=True)(row, 0, np.ascontiguousarray(x))
        if after < 0:
            raise Problem(
                "unusable-input", "x: NaN, infinity or overflow; the session is unchanged"
            )
        if session.past is not None:
            # The states in between are only needed for a history.
            for k in range(len(x)):
                session.past.append(before[0].copy())
                if len(x) > 1:
                    finite_step(self.pool.stepper)(before, 0, x[k])
        self.pool.set_rows(slots, row)
        self.stepped[session.slot] += len(x)
        self.used[session.slot] = time.monotonic()
        return y.reshape(len(x), -1)

    # ---- batches ---------------------------------------------------------------------------------

    def _run(self) -> None:
        if self.busy:
            return
        works, call = self._take()
        if call is not None:
            self.busy = True
            self.context.compute.start(call.function, lambda result: self._called(call, result))
            return
        if not works:  # what waits is blocked until a commit, which runs this again
            return
        since = self._since
        count = len(works) if are_frames(works) else sum(work.count for work in works)
        slots, x = self._gather(works, count)
        self._scheduler.batch_started(count)
        if not (self._cost.is_short(count) and self.served.native):
            self.busy = True
            self.context.compute.start(
                lambda: self._step(slots, x), lambda done: self._stepped(works, slots, done, since)
            )
            return
        try:
            done: Any = self._step(slots, x)
        except Exception as error:
            done = error
        self._stepped(works, slots, done, since)

    def again(self) -> None:
        """Run what waits."""
        if self._pending and self.rows > 0:
            self._scheduler.schedule(self.rows)

    def _called(self, call: Call, result: Any) -> None:
        self.busy = False
        call.done(result)
        self.again()

    def _take(self) -> tuple[list[Work | FrameStep], Call | None]:
        """The next batch; or one long call, to be run alone."""
        pending = self._pending
        if not self._blocked and len(pending) <= MAX_BATCH:
            works: list[Any] = list(pending)
            if not are_frames(pending):
                works = [work for work in works if type(work) is not Call and work.count == 1]
                works = [work for work in works if not work.deadline]
            if len(works) == len(pending) == len({work.slots for work in works}):
                pending.clear()
                self.rows = 0
                return works, None
        self._batch += 1
        taken: list[Work | FrameStep] = []
        later: list[Work | FrameStep | Call] = []
        count, now, long_call = 0, time.perf_counter(), None
        while pending:
            work = pending.popleft()
            stamps = self._stamp[work.slots]
            waits = (
                bool((stamps >= self._batch).any())
                or self._awaits_commit(work)
                or count + work.count > max(MAX_BATCH, work.count)
            )
            if waits or long_call is not None:
                later.append(work)
                if not (stamps == BLOCKED).any():
                    self._stamp[work.slots] = self._batch
                elif work.count > 1:
                    own = np.asarray(work.slots)
                    self._stamp[own[stamps != BLOCKED]] = self._batch
                continue
            self.rows -= work.count
            if isinstance(work, Call):
                if self._cost.is_short(work.units) and self.served.native:
                    try:
                        result = work.function()
                    except BaseException as error:
                        result = error
                    work.done(result)
                    if self._stamp[work.slots] == BLOCKED:
                        continue
                elif not taken:
                    long_call = work
                else:
                    later.append(work)
                    self.rows += work.count
                    self._stamp[work.slots] = self._batch
            elif work.deadline and now > work.deadline:
                self._fail(work, DEADLINE)
            else:
                self._stamp[work.slots] = self._batch
                taken.append(work)
                count += work.count
        pending.extend(later)
        return taken, long_call

    def _gather(
        self, works: Sequence[Work | FrameStep], count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        if are_frames(works):
            return np.array([work.slots for work in works]), inputs_of(works, self.input_size)
        raw = works[0].row if len(works) == 1 else b"".join([work.row for work in works])
        x = np.frombuffer(raw, np.float32).reshape(count, self.input_size)
        if len(works) == count:
            slots = np.array([work.slots for work in works], np.int64)
            return slots.reshape(count), x
        return np.concatenate([np.atleast_1d(work.slots) for work in works]), x

    def _step(
        self, slots: np.ndarray, x: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """(y [n, width], rows that were refused or None, states before or None)."""
        started = time.thread_time()  # which other processes do not change
        before = self.pool.rows(slots) if self.special[slots].any() else None
        skipped = self.pool.nonfinite_steps
        y = self.pool.step(slots, x).reshape(len(slots), -1)
        refused = None
        if self.pool.nonfinite_steps != skipped:
            refused = np.isnan(y).all(1)
        self._cost.measured(len(slots), time.thread_time() - started)
        return y, refused, before

    def _stepped(
        self, works: Sequence[Work | FrameStep], slots: np.ndarray, done: Any, since: float
    ) -> None:
        self.busy = False
        if isinstance(done, BaseException):
            self.context.defect(done)
            for work in works:
                self._fail(work, REFUSED)
            self.again()
            return
        y, refused, before = done
        status = None
        if refused is None:
            self.stepped[slots] += 1
        else:
            self.stepped[slots[~refused]] += 1
            status = np.where(refused, REFUSED, OK).astype(np.uint8)
        self.used[slots] = time.monotonic()
        self.context.metrics.batch(self.served.name, len(slots), since)
        if before is not None:
            works, y, status = keep(self, works, slots, before, y, refused)
        self.reply(works, y, status)
        self.again()

    def reply(
        self, works: Sequence[Work | FrameStep], y: np.ndarray, status: np.ndarray | None
    ) -> None:
        """Answer works with outputs [n, width] and statuses [n]."""
        if status is None and are_frames(works):
            answer_frames(works, y)
            return
        out, size, begin = y.tobytes(), 4 * self.width, 0
        if status is None:
            for work in works:
                end = begin + work.count * size
                work.reply(out[begin:end], None)
                begin = end
            return
        row = 0
        for work in works:
            part = status[row : row + work.count]
            work.reply(out[row * size : (row + work.count) * size], part if part.any() else None)
            row += work.count

    # ---- durable sessions ----------------------------------------------------------------------

    def block(self, slots: Sequence[int] | np.ndarray) -> None:
        """Let the steps of sessions wait until `unblock`."""
        self._stamp[slots] = BLOCKED
        self._blocked += len(slots)

    def unblock(self, slots: Sequence[int]) -> None:
        """See `block`."""
        self._stamp[slots] = 0
        self._blocked -= len(slots)

    def snapshot_row(self, session: TensorSession) -> bytes:
        """The state as it is stored: its row of floats. No batch must run."""
        return ROW + self.pool.rows([session.slot]).tobytes()

    # ---- other weights ---------------------------------------------------------------------------

    async def carry(self, served: ServedModel) -> None:
        """Continue all sessions on another version of the model. Raises ValueError where its states
        are others.
        """
        assert served.module is not None
        module, precision = served.module, self.precision
        other = await self.context.compute.call(lambda: Pool(module, 1, precision))

        def adopt() -> None:
            self.pool.adopt(other)
            old, self.served, self.fingerprint = self.served, served, other.fingerprint
            for session in self.sessions:
                if session is not None:
                    session.served = served
                    old.sessions -= 1
                    served.sessions += 1
            del old.tensor_lanes[precision]
            served.tensor_lanes[precision] = self

        await self.exclusive(adopt)
