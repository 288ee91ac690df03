"""The WebSocket door: many sessions over one socket; see docs/serve.md for the messages."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from memorycell.server import bodies, predicting
from memorycell.server.auth import Caller
from memorycell.server.describe import session_description
from memorycell.server.frame_steps import FrameStep
from memorycell.server.frames import BYTES, HEADER, ONE, STEPS, WATCH, problem_frame
from memorycell.server.hub import Hub
from memorycell.server.problems import Problem, internal_problem, problem_of
from memorycell.server.relay import Relay
from memorycell.server.rest import model_list, step_json
from memorycell.server.sessions import LiveSession, TensorSession
from memorycell.server.socket_steps import Handles
from memorycell.server.wires import Wire

PROTOCOL = "memorycell.v1"
MAX_IN_FLIGHT = 1024
"""Messages of one socket that wait for their answers; more are not read."""
MAX_HANDLES = 1 << 20
RESTARTING = 1012
POLICY = 1008

JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


class Socket:
    """One connection. It ends its hold on sessions when it closes; the sessions live on."""

    def __init__(
        self, hub: Hub, caller: Caller, wire: Wire, headers: dict[str, str] | None = None
    ) -> None:
        """With headers, those of the client's token, sessions of other workers are relayed."""
        self.hub, self.caller, self._wire = hub, caller, wire
        self._post_frame = wire.post_frame
        self._sessions: dict[int, LiveSession] = {}
        self._handles, self._next_handle = Handles(), 1
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._held = self._ended = False
        self._relay: Relay | None = None
        if headers is not None and hub.peers is not None:
            self._relay = Relay(
                hub.peers, headers, self._new_handle, self._post_json, self._lost_worker
            )

    async def run(self) -> None:
        """Serve until the client or the server closes the connection."""
        try:
            await self._wire.run(self._on_message)
        finally:
            self._ended = True
            if self._relay is not None:
                self._relay.close()
            for session in self._sessions.values():
                session.socket = None
            self._sessions.clear()
            for task in self._tasks:
                task.cancel()

    def _on_message(self, data: bytes | str) -> None:
        self.hub.metrics.messages += 1
        self._in_flight += 1
        if self._in_flight >= MAX_IN_FLIGHT and not self._held:
            self._held = True
            self._wire.hold()
        if isinstance(data, str):
            self._on_text(data)
        elif len(data) < ONE.size or not self._is_one(data):
            self._on_bytes(data)

    # ---- sending ---------------------------------------------------------------------------------

    def answer(self, data: bytes) -> None:
        """Send the answer to a frame."""
        if not self._ended:
            self._wire.post(data)
        self._landed()

    def answer_frame(self, frame: bytes) -> None:
        """The same, as a complete frame of the WebSocket protocol."""
        if not self._ended:
            self._post_frame(frame)
        if self._held:
            self._landed()
        else:
            self._in_flight -= 1

    def _post_json(self, content: dict[str, Any]) -> None:
        if not self._ended:
            text = orjson.dumps(content, option=JSON_OPTIONS)
            self._wire.post(text.decode())

    def _landed(self) -> None:
        self._in_flight -= 1
        if self._held and self._in_flight < MAX_IN_FLIGHT // 2:
            self._held = False
            self._wire.release()

    async def drain(self, reconnect_ms: int) -> None:
        """Ask the client to connect again, let answers out, and close."""
        self._post_json({"event": "drain", "reconnect_ms": reconnect_ms})
        while self._in_flight and not self._ended:
            await asyncio.sleep(0.005)
        if not self._ended:
            self._wire.close(RESTARTING, "restarting")

    def _lost_worker(self) -> None:
        """A worker with sessions of this socket has ended: the client attaches them again, and
        repeats what was not answered.
        """
        if not self._ended:
            self._post_json({"event": "drain", "reconnect_ms": 100})
            self._wire.close(RESTARTING, "restarting")

    def announce(self, name: str, version: int) -> None:
        """A model has a new version."""
        self._post_json({"event": "model", "name": name, "version": version})

    # ---- binary ----------------------------------------------------------------------------------

    def _on_bytes(self, data: bytes) -> None:
        frame = 0
        try:
            if len(data) < HEADER.size:
                raise Problem("bad-request", "frame: shorter than its header of 16 bytes")
            kind, flags, zero, frame, count, width = HEADER.unpack_from(data)
            self.hub.check_open()
            if kind == STEPS and not flags and not zero:
                step, send = self._handles.step, self.answer
                if self._relay:
                    self._relay.step(data, frame, count, width, send, step)
                else:
                    step(data, frame, count, width, send)
            elif kind == BYTES and not zero:
                self._on_item(data, flags, frame, count, width)
            else:
                raise Problem("bad-request", f"frame: unknown kind {kind} or flags {flags}")
        except Problem as problem:
            self.hub.metrics.problem(problem.slug)
            self.answer(problem_frame(frame, problem))
        except Exception as error:
            self.hub.context.defect(error)
            self.answer(problem_frame(frame, internal_problem()))

    def _is_one(self, data: bytes) -> bool:
        """Submit the most frequent message: one step of a session that is here; False: another."""
        kind, flags, zero, frame, count, width, handle = ONE.unpack_from(data)
        if kind != STEPS or count != 1 or flags or zero or len(data) != ONE.size + 4 * width:
            return False
        session = self._sessions.get(handle)
        if type(session) is not TensorSession or width != session.lane.input_size:
            return False
        if self.hub.draining:
            return False
        session.lane.submit(FrameStep(session.slot, data, frame, self))
        return True

    def _on_item(self, data: bytes, flags: int, frame: int, count: int, handle: int) -> None:
        if len(data) != HEADER.size + count:
            raise Problem("bad-request", f"frame: expected {count} bytes after the header")
        message = {"handle": handle, "op": "step", "watch": bool(flags & WATCH), "ref": frame}
        self._spawn(message, [bytes(data[HEADER.size :])])

    # ---- JSON ------------------------------------------------------------------------------------

    def _on_text(self, text: str) -> None:
        try:
            message = orjson.loads(text)
            if not isinstance(message, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError):
            self._refuse(None, Problem("bad-request", "expected a JSON object per message"))
            return
        self._spawn(message, None)

    def _spawn(self, message: dict[str, Any], items: list[Any] | None) -> None:
        task = asyncio.create_task(self._answer(message, items))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, message: dict[str, Any], items: list[Any] | None) -> None:
        ref = message.get("ref")
        try:
            if self._relay is not None:
                relayed = await self._relay.answer(message, items, self._key(message))
                if relayed is not None:
                    self._post_json({**relayed, "ref": ref})
                    self._landed()
                    return
            op = message.get("op")
            if op == "step":
                answer = await self._step(message, items)
            else:
                function = _OPERATIONS.get(op) if isinstance(op, str) else None
                if function is None:
                    raise Problem(
                        "bad-request", f"op: expected one of step, {', '.join(_OPERATIONS)}"
                    )
                answer = await function(self, message)
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                self.hub.context.defect(error)
                problem = internal_problem()
            self._refuse(ref, problem)
            return
        self._post_json({"ref": ref, "ok": True, **answer})
        self._landed()

    def _refuse(self, ref: Any, problem: Problem) -> None:
        self.hub.metrics.problem(problem.slug)
        self._post_json({"ref": ref, "ok": False, "problem": problem.to_json()})
        self._landed()

    def _key(self, message: dict[str, Any]) -> tuple[str, str] | None:
        handle = message.get("handle")
        session = self._sessions.get(handle) if isinstance(handle, int) else None
        return None if session is None else session.key

    def _new_handle(self) -> int:
        if self._next_handle > MAX_HANDLES * 1024:
            raise Problem("too-many-sessions", "too many sessions on this socket; open another")
        handle, self._next_handle = self._next_handle, self._next_handle + 1
        return handle

    def _session(self, message: dict[str, Any]) -> LiveSession:
        session = self._sessions.get(message.get("handle", 0))
        if session is None:
            raise Problem(
                "no-such-session", "handle: open or attach a session on this socket first"
            )
        return session

    async def _step(self, message: dict[str, Any], given: list[Any] | None) -> dict[str, Any]:
        session = self._session(message)
        tensors = isinstance(session, TensorSession)
        many = "items" in message and given is None
        if given is not None:
            items = given
        else:
            values = message.get("items") if many else [message.get("item")]
            items = bodies.parse_items(values, tensors=tensors)
        after = message.get("after")
        result = await self.hub.step(
            session,
            items,
            watch=bodies.flag(message.get("watch")),
            after=None if after is None else bodies.whole_number(after, "after"),
            deadline_s=bodies.seconds_of(message.get("deadline_ms")),
        )
        return step_json(result, tensors=tensors, many=many)

    # ---- sessions --------------------------------------------------------------------------------

    def _attach(self, session: LiveSession, *, take: bool = False) -> dict[str, Any]:
        """Hold a session: only this socket steps it."""
        if session.socket is self:
            return self._attached(session)
        if session.socket is not None:
            if not take:
                raise Problem(
                    "session-in-use",
                    f"session {session.id!r} is attached to another socket; attach with take: true",
                )
            session.socket.released(session, "taken")
        if len(self._sessions) >= MAX_HANDLES:
            raise Problem("too-many-sessions", "too many sessions on this socket; open another")
        handle, self._next_handle = self._next_handle, self._next_handle + 1
        self._sessions[handle] = session
        if isinstance(session, TensorSession):
            self._handles.put(handle, session)
        session.socket, session.handle = self, handle
        return self._attached(session)

    def _attached(self, session: LiveSession) -> dict[str, Any]:
        description = session_description(session, time.monotonic())
        return {"session": description, "handle": session.handle}

    def released(self, session: LiveSession, reason: str) -> None:
        """See `Holder`."""
        self._drop(session)
        self._post_json({"event": "closed", "handle": session.handle, "reason": reason})

    def _drop(self, session: LiveSession) -> None:
        session.socket = None
        self._sessions.pop(session.handle, None)
        self._handles.drop(session.handle)

    def _opening(self, message: dict[str, Any]) -> Any:
        ignored = ("op", "ref", "model", "handle", "watch")
        values = {key: value for key, value in message.items() if key not in ignored}
        return bodies.parse_opening(values, self.caller.name)

    def _model_name(self, message: dict[str, Any], scope: str = "step") -> str:
        name = message.get("model")
        if not isinstance(name, str):
            raise Problem("bad-request", "model: expected the name of a model")
        self.caller.check(scope, name)
        return name

    async def _open(self, message: dict[str, Any]) -> dict[str, Any]:
        name = self._model_name(message)
        return self._attach(await self.hub.open(name, self._opening(message)))

    async def _attach_op(self, message: dict[str, Any]) -> dict[str, Any]:
        name, id = self._model_name(message), message.get("id")
        if not isinstance(id, str):
            raise Problem("bad-request", "id: expected the id of a session")
        session = await self.hub.find(name, bodies.check_id(id))
        return self._attach(session, take=bodies.flag(message.get("take")))

    async def _detach(self, message: dict[str, Any]) -> dict[str, Any]:
        self._drop(self._session(message))
        return {}

    async def _info(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"session": session_description(self._session(message), time.monotonic())}

    async def _fork(self, message: dict[str, Any]) -> dict[str, Any]:
        session = self._session(message)
        return self._attach(await self.hub.fork(session, self._opening(message)))

    async def _rewind(self, message: dict[str, Any]) -> dict[str, Any]:
        session = self._session(message)
        await self.hub.rewind(session, bodies.whole_number(message.get("items"), "items"))
        return await self._info(message)

    async def _state(self, message: dict[str, Any]) -> dict[str, Any]:
        session = self._session(message)
        snapshot = await self.hub.snapshot(session)
        return {"state": base64.b64encode(snapshot).decode(), "steps": session.steps}

    async def _restore(self, message: dict[str, Any]) -> dict[str, Any]:
        session = self._session(message)
        await self.hub.restore(session, bodies.decode_base64(message.get("state"), "state"))
        return await self._info(message)

    async def _end(self, message: dict[str, Any]) -> dict[str, Any]:
        result = await self.hub.end(self._session(message))
        return {"answers": result.answers, "steps": result.steps}

    async def _close(self, message: dict[str, Any]) -> dict[str, Any]:
        session = self._session(message)
        await self._detach(message)
        await self.hub.close(session)
        return {}

    async def _predict(self, message: dict[str, Any]) -> dict[str, Any]:
        served, most = self.hub.model(self._model_name(message)), self.hub.config.max_prediction
        compute = self.hub.compute
        return {"prediction": await compute.call(lambda: predicting.predict(served, message, most))}

    async def _models(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"models": model_list(self.hub, self.caller)}

    async def _ping(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"time": time.time()}


_OPERATIONS: dict[str, Callable[[Socket, dict[str, Any]], Awaitable[dict[str, Any]]]] = {
    "open": Socket._open,
    "attach": Socket._attach_op,
    "detach": Socket._detach,
    "info": Socket._info,
    "fork": Socket._fork,
    "rewind": Socket._rewind,
    "state": Socket._state,
    "restore": Socket._restore,
    "end": Socket._end,
    "close": Socket._close,
    "predict": Socket._predict,
    "models": Socket._models,
    "ping": Socket._ping,
}
