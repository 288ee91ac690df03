"""The sessions of a server: opened, found, stepped, saved and closed. All doors call this.

Everything runs on one event loop. A session is in memory, or only in the store; `find` gives it in
both cases.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from memorycell.application.contract import Item
from memorycell.server.committing import Committer
from memorycell.server.compute import Compute
from memorycell.server.config import ServerConfig
from memorycell.server.context import LOG, Context
from memorycell.server.durable import Key, Store
from memorycell.server.extras import add_story, start_demo
from memorycell.server.item_lane import ItemWork
from memorycell.server.loading import Source
from memorycell.server.metrics import Metrics
from memorycell.server.opening import Opener, gone
from memorycell.server.peers import Peers
from memorycell.server.problems import Problem
from memorycell.server.registry import Registry
from memorycell.server.restoring import restored
from memorycell.server.served import ServedModel
from memorycell.server.sessions import (
    ItemSession,
    LiveSession,
    OpenOptions,
    StepResult,
    TensorSession,
)
from memorycell.server.states import load_state, snapshot_of
from memorycell.server.stores import store_problem
from memorycell.server.tensor_steps import step_tensors
from memorycell.server.upkeep import Upkeep


class Hub:
    """See the module's text. `start` before use, `stop` at the end."""

    def __init__(
        self, config: ServerConfig, store: Store | None = None, peers: Peers | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self.config, self.peers = config, peers
        self.metrics = Metrics(self._gauges)
        self.compute = Compute(loop)
        committer = None if store is None else Committer(store, loop)
        self.context = Context(config, loop, self.compute, self.metrics, committer, self._lost)
        sources = [Source.parse(text, "file") for text in config.files]
        sources += [Source.parse(text, "module") for text in config.modules]
        self.registry = Registry(sources, self.compute, self._new_version)
        self.sessions: dict[Key, LiveSession] = {}
        self.owners: Counter[str] = Counter()
        self.draining = self.ready = False
        self.on_version: Callable[[str, int], None] = lambda name, version: None
        self._opener = Opener(self)
        self._stop_demo: Callable[[], None] = lambda: None
        self._upkeep = Upkeep(self)

    @property
    def committer(self) -> Committer | None:
        """What writes to the store; None without one."""
        return self.context.committer

    async def start(self) -> None:
        """Load the models. Raises `UserError`."""
        add_story(self.registry)
        await self.registry.load_all()
        self._upkeep.start()
        if self.config.demo:
            self._stop_demo = start_demo(self.registry, self.context.loop)
        self.ready = True

    async def stop(self) -> None:
        """Let what waits end, for at most `drain_s` seconds, and save the sessions."""
        self.draining, self.ready = True, False
        self._stop_demo()
        await self._upkeep.stop(self.config.drain_s)
        if self.committer is not None:
            await self.committer.close()
        self.compute.close()

    # ---- models ----------------------------------------------------------------------------------

    def models(self) -> list[ServedModel]:
        """The newest version of each."""
        return self.registry.models()

    def model(self, name: str, version: int | None = None) -> ServedModel:
        """A model. Raises `Problem` 404."""
        return self.registry.model(name, version)

    async def _new_version(self, served: ServedModel, previous: ServedModel | None) -> None:
        if previous is None:
            return
        self.on_version(served.name, served.version)
        if self.config.carry == "state" and served.architecture == previous.architecture:
            lanes: list[Any] = [*previous.tensor_lanes.values(), *previous.lanes.values()]
            for lane in lanes:
                try:
                    await lane.carry(served)
                except ValueError as error:  # the sessions continue on the old version
                    LOG.warning(
                        "%s: sessions stay on version %d: %s", served.name, previous.version, error
                    )

    # ---- sessions --------------------------------------------------------------------------------

    async def open(self, model: str, options: OpenOptions, *, steps: int = 0) -> LiveSession:
        """Open a session; `steps` items led to its state. Raises `Problem`."""
        self.check_open()
        session = await self._opener.open(self.model(model), options)
        session.steps += steps
        if options.durable != "none":
            try:
                await self.save(session)
            except BaseException:
                await self.close(session)
                raise
        return await self._current(session)  # it may have been spilled while it was written

    async def find(self, model: str, id: str) -> LiveSession:
        """A session, from the store if it is not in memory. Raises `Problem` 404."""
        self.check_open()
        self.model(model)
        return await self._opener.find((model, id))

    def add(self, session: LiveSession) -> None:
        """A session is open."""
        self.sessions[session.key] = session
        self.owners[session.options.owner] += 1
        self._upkeep.note(session)

    def check_open(self) -> None:
        """Raises `Problem` 503 while the server does not answer."""
        if self.draining:
            raise Problem("draining", "the server is shutting down; connect again", retry_after=2)

    # ---- steps -----------------------------------------------------------------------------------

    async def step(
        self,
        session: LiveSession,
        items: Sequence[Any],
        *,
        watch: bool = False,
        after: int | None = None,
        deadline_s: float | None = None,
    ) -> StepResult:
        """Read items; all or none. Raises `Problem`."""
        session = await self._current(session)
        if isinstance(session, TensorSession):
            return await step_tensors(
                self.context, session, items, watch=watch, after=after, deadline_s=deadline_s
            )
        assert isinstance(session, ItemSession)
        future: asyncio.Future[StepResult] = self.context.loop.create_future()

        def done(result: Any) -> None:
            if future.cancelled():
                return
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)

        deadline = 0.0 if deadline_s is None else time.perf_counter() + deadline_s
        typed: Sequence[Item] = items
        session.lane.submit(
            ItemWork(session, typed, done, watch=watch, after=after, deadline=deadline)
        )
        with store_problem():
            return await future

    async def step_tensors(
        self, session: LiveSession, x: np.ndarray, deadline_s: float | None = None
    ) -> np.ndarray:
        """Steps x [T, I] float32 of a tensor session -> y [T, *output_shape]. Raises `Problem`."""
        session = await self._current(session)
        if not isinstance(session, TensorSession):
            raise Problem("bad-request", f"session {session.id!r} reads items, not tensors")
        result = await step_tensors(self.context, session, x, deadline_s=deadline_s, as_array=True)
        y = np.asarray(result.answers, np.float32)
        return y.reshape(len(x), *session.served.output_shape)

    async def _current(self, session: LiveSession) -> LiveSession:
        """The session, read from the store if it was spilled since it was found. Raises `Problem`
        for one that was closed, and while the server is shutting down.
        """
        self.check_open()
        if session.closed:
            if not session.spilled:
                raise gone(session.key)
            return await self._opener.find(session.key)
        return session

    async def end(self, session: LiveSession) -> StepResult:
        """The input has ended: the answers that were waiting for more."""
        session = await self._current(session)
        if not isinstance(session, ItemSession):
            return StepResult([], session.steps)
        own = session
        answers = await self._in_order(own, lambda: own.session.close())
        await self._save_durable(session)
        return StepResult(answers, session.steps)

    # ---- state -----------------------------------------------------------------------------------

    async def _in_order(self, session: LiveSession, function: Any) -> Any:
        """Call a function after the session's waiting requests."""
        result = await session.lane.call(session, function)
        session.touch()
        return result

    async def fork(self, session: LiveSession, options: OpenOptions) -> LiveSession:
        """A new session with the same state."""
        session = await self._current(session)
        snapshot = await self.snapshot(session)
        steps = session.steps
        old = session.options
        return await self.open(
            session.served.name,
            OpenOptions(
                options.id,
                old.input,
                old.precision,
                options.durable,
                options.ttl_s,
                options.history,
                old.options,
                options.owner,
                snapshot,
            ),
            steps=steps,
        )

    async def rewind(self, session: LiveSession, items: int) -> None:
        """Undo the last items. Raises `Problem` 422 beyond the history."""
        session = await self._current(session)
        await self._in_order(session, lambda: session.rewind(items))
        await self._save_durable(session)

    async def snapshot(self, session: LiveSession) -> bytes:
        """The state, as `Session.snapshot` or `Stream.snapshot` gives it."""
        session = await self._current(session)
        snapshot: bytes = await self._in_order(session, lambda: snapshot_of(session))
        return snapshot

    async def restore(self, session: LiveSession, snapshot: bytes) -> None:
        """Set the state. Raises `Problem` or `StateError`, and nothing has changed."""
        session = await self._current(session)
        if isinstance(session, TensorSession):
            rows = load_state(session.lane, snapshot)
            assert rows is not None
            await self._in_order(session, lambda: session.set_rows(rows))
        else:
            assert isinstance(session, ItemSession)
            own, served, options = session, session.served, session.options
            await self._in_order(own, lambda: own.set_session(restored(served, options, snapshot)))
        await self._save_durable(session)

    async def save(self, session: LiveSession) -> None:
        """Write a session to the store. Raises `Problem`."""
        if self.committer is None:
            return
        with store_problem():
            if not await self.context.write(session):
                self._lost(session)
                raise gone(session.key)

    async def _save_durable(self, session: LiveSession) -> None:
        if session.options.durable != "none":
            await self.save(session)

    # ---- closing ---------------------------------------------------------------------------------

    async def close(self, session: LiveSession, reason: str = "deleted") -> None:
        """End a session; its memory is free when this returns."""
        if session.spilled:
            session = await self._opener.find(session.key)
        if session.closed:
            return
        stored, key = session.saved >= 0, session.key
        self._opener.closing.add(key)
        try:
            self.forget(session, reason)
            await session.lane.call(session, session.free)
            if stored and self.committer is not None:
                with store_problem():
                    await self.committer.call(lambda store: store.delete([key]))
        finally:
            self._opener.closing.discard(key)

    def forget(self, session: LiveSession, reason: str) -> None:
        """Refuse further requests to a session."""
        session.closed = True
        self.sessions.pop(session.key, None)
        self.owners[session.options.owner] -= 1
        if session.socket is not None:
            session.socket.released(session, reason)

    async def spill(self, sessions: Sequence[LiveSession]) -> int:
        """Move sessions that no socket holds to the store; their number. `find` reads them again.
        Raises as `Store.put`, and the sessions stay.
        """
        assert self.committer is not None
        chosen = [s for s in sessions if not s.closed and s.socket is None]
        spilling = self._opener.spilling
        for session in chosen:  # what waits in its lane is still done, and nothing comes after it
            session.closed = session.spilled = True
            self.sessions.pop(session.key)
            spilling[session.key] = self.context.loop.create_future()
        left = list(chosen)
        try:
            await asyncio.gather(*(self.context.write(session) for session in chosen))
            while left:
                await left[0].lane.call(left[0], left[0].free)
                session = left.pop(0)
                self.owners[session.options.owner] -= 1
                spilling.pop(session.key).set_result(None)
        finally:
            for session in left:
                session.closed = session.spilled = False
                self.sessions[session.key] = session
                spilling.pop(session.key).set_result(None)
        return len(chosen)

    def _lost(self, session: LiveSession) -> None:
        """Another server has taken the session."""
        if not session.closed:
            self.forget(session, "taken")
            task = self.context.loop.create_task(session.lane.call(session, session.free))
            self._upkeep.keep(task)

    # ---- figures ---------------------------------------------------------------------------------

    def _gauges(self) -> dict[str, tuple[str, float]]:
        lanes = [lane for served in self.all_versions() for lane in served.tensor_lanes.values()]
        items = [lane for served in self.all_versions() for lane in served.lanes.values()]
        return {
            "sessions_resident": ("Sessions in memory", len(self.sessions)),
            "queue_items": (
                "Steps that wait",
                sum(lane.rows for lane in lanes) + sum(lane.waiting for lane in items),
            ),
            "state_bytes": ("Memory of pools", sum(lane.pool.nbytes for lane in lanes)),
            "sessions_spilled_total": ("Idle sessions written to the store", self._upkeep.spilled),
            "store_commits": (
                "Transactions of the store",
                0 if self.committer is None else self.committer.commits,
            ),
            "store_rows": (
                "Sessions written to the store",
                0 if self.committer is None else self.committer.rows,
            ),
            "models": ("Models", len(self.registry.versions)),
        }

    def all_versions(self) -> list[ServedModel]:
        """Every version in use."""
        return [one for versions in self.registry.versions.values() for one in versions]
