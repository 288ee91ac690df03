"""Opening sessions, and reading them from the store."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from memorycell.face.options import check_precision, typed_options
from memorycell.server.durable import Key, StoredSession
from memorycell.server.item_lane import ItemLane
from memorycell.server.placement import ID_BYTES
from memorycell.server.predicting import check_amounts
from memorycell.server.problems import Problem
from memorycell.server.restoring import restored
from memorycell.server.served import ServedModel
from memorycell.server.sessions import ItemSession, LiveSession, OpenOptions, TensorSession
from memorycell.server.states import kept_options, load_state, options_of_note, stored_answer
from memorycell.server.stores import store_problem
from memorycell.server.tensor_lane import TensorLane

if TYPE_CHECKING:
    from memorycell.server.hub import Hub


class Opener:
    """Opens the sessions of a hub.

    closing    sessions that are being deleted from the store
    spilling   sessions that are being moved to the store
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._opening: set[Key] = set()
        self.closing: set[Key] = set()
        self.spilling: dict[Key, asyncio.Future[None]] = {}
        self._loading: dict[Key, asyncio.Future[None]] = {}

    async def open(self, served: ServedModel, options: OpenOptions) -> LiveSession:
        """A new session. Raises `Problem`."""
        options = self._checked(served, options)
        id = options.id or self._new_id(served.name)
        key = (served.name, id)
        if key in self._opening or (options.id is not None and await self._exists(key)):
            raise Problem("session-exists", f"session {id!r} is open; use another id, or this one")
        self._opening.add(key)
        try:
            session = await self._build(served, id, options)
        finally:
            self._opening.discard(key)
        self._hub.add(session)
        return session

    async def find(self, key: Key) -> LiveSession:
        """A session in memory or in the store. Raises `Problem` 404."""
        while True:
            session = self._hub.sessions.get(key)
            if session is not None:
                session.touch()
                return session
            if key in self.spilling:
                await asyncio.wait([self.spilling[key]])
                continue
            if self._hub.committer is None or key in self._opening or key in self.closing:
                raise gone(key)
            loading = self._loading.get(key)
            if loading is None:
                break
            await asyncio.wait([loading])
        future = self._loading[key] = asyncio.get_running_loop().create_future()
        try:
            session = await self._load(key)
            self._hub.add(session)
            return session
        finally:
            del self._loading[key]
            future.set_result(None)

    def _checked(self, served: ServedModel, options: OpenOptions) -> OpenOptions:
        """The options with the defaults of a model. Raises `Problem`."""
        if not served.live:
            why = served.about.get("not_live", "it has no sessions")
            raise Problem("bad-request", f"{served.name} has no sessions: {why}")
        check_precision(options.precision)
        kind = options.input or ("items" if served.open_item is not None else "tensors")
        if kind == "items" and served.open_item is None:
            raise Problem("bad-request", f"{served.name} reads tensors: open with input=tensors")
        if kind == "tensors" and served.module is None:
            raise Problem("bad-request", f"{served.name} has no steps of tensors")
        if kind == "tensors" and options.options:
            raise Problem("bad-request", "options: a session of tensors has none")
        if options.options and served.trained is not None:
            application = served.trained.application
            typed = typed_options(application.stream_options, options.options, application.name)
            check_amounts(typed, self._hub.config.max_prediction)
        if options.durable != "none" and self._hub.committer is None:
            raise Problem(
                "bad-request", f"durable={options.durable}: the server has no store; serve --state"
            )
        config = self._hub.config
        if len(self._hub.sessions) >= config.max_sessions or (
            options.owner and self._hub.owners[options.owner] >= config.max_sessions_per_token
        ):
            raise Problem(
                "too-many-sessions",
                f"{len(self._hub.sessions):,} sessions are open; close some, or wait for their end",
                retry_after=5,
            )
        return replace(options, input=kind)

    def _new_id(self, model: str) -> str:
        peers = self._hub.peers
        return secrets.token_hex(ID_BYTES) if peers is None else peers.place.new_id(model)

    async def _exists(self, key: Key) -> bool:
        if key in self._hub.sessions or key in self.spilling or key in self._loading:
            return True
        if self._hub.committer is None:
            return False
        with store_problem():
            row = await self._hub.committer.call(lambda store: store.get(*key))
        return row is not None and not _expired(row)

    async def _build(
        self, served: ServedModel, id: str, options: OpenOptions, *, other_weights: bool = False
    ) -> LiveSession:
        ttl_s = self._hub.config.ttl_s if options.ttl_s is None else options.ttl_s
        lane = self._lane(served, options)
        if options.input == "tensors":
            rows = load_state(lane, options.state, other_weights=other_weights)
            session = await lane.exclusive(
                lambda: TensorSession(id, served, kept_options(options), ttl_s, lane)
            )
            if rows is not None:
                await lane.exclusive(lambda: lane.pool.set_rows([session.slot], rows))
            return session
        state = options.state
        if state is None and served.has_prototype(options.precision, options.options):
            own = served.new_session(options.precision, options.options)
        else:
            own = await self._hub.compute.call(
                lambda: restored(served, options, state, other_weights=other_weights)
            )
        return ItemSession(id, served, kept_options(options), ttl_s, lane, own)

    async def _load(self, key: Key) -> LiveSession:
        committer = self._hub.committer
        assert committer is not None
        with store_problem():
            row = await committer.call(lambda store: store.get(*key))
            if row is None or _expired(row):
                raise gone(key)
            row = await committer.call(lambda store: store.take(*key))
        if row is None:
            raise gone(key)
        try:
            options, last = options_of_note(row)
        except ValueError as error:
            raise Problem("state-refused", f"session {row.id!r}: damaged ({error})") from None
        served = self._hub.registry.with_fingerprint(row.model, row.fingerprint, options.precision)
        newest = self._hub.model(row.model)
        if served is None and self._hub.config.carry != "state":
            raise Problem(
                "state-refused",
                f"session {row.id!r} belongs to other weights than version {newest.version} of"
                f" {row.model}; serve the old file, or serve with carry=state",
            )
        session = await self._build(served or newest, row.id, options, other_weights=served is None)
        if last is None and isinstance(session, TensorSession):
            last = stored_answer(session, row.snapshot)
        session.steps, session.last = row.steps, last
        session.epoch, session.saved = row.epoch, row.steps
        if options.durable == "none":  # an older state must not come back after a crash
            with store_problem():
                await committer.call(lambda store: store.delete([key]))
        return session

    def _lane(self, served: ServedModel, options: OpenOptions) -> Any:
        if options.input == "tensors":
            lane = served.tensor_lanes.get(options.precision)
            if lane is None:
                lane = TensorLane(served, options.precision, self._hub.context)
                served.tensor_lanes[options.precision] = lane
            return lane
        items = served.lanes.get(options.precision)
        if items is None:
            items = served.lanes[options.precision] = ItemLane(
                served, options.precision, self._hub.context
            )
        return items


def _expired(row: StoredSession) -> bool:
    return 0 < row.expires_at <= time.time()


def gone(key: Key) -> Problem:
    """There is no such session."""
    return Problem(
        "no-such-session",
        f"session {key[1][:80]!r} of {key[0]} is not open: never opened, closed, or its time has"
        " passed; open a new one",
    )
