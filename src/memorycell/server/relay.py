"""The sessions of a socket that live in other workers: a client sees one socket with handles.

Messages about such a session go through a `Link` to its worker, with the handle that it has there.
A frame of steps of sessions of several workers is split, and the answers are joined.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from memorycell.server.bodies import ID
from memorycell.server.frames import HEADER, OUTPUTS, check_steps, outputs_frame, problem_frame
from memorycell.server.links import Answer, Link
from memorycell.server.peers import Peers
from memorycell.server.problems import Problem
from memorycell.server.tensor_work import NO_HANDLE

Send = Callable[[bytes], None]
StepLocal = Callable[[bytes, int, int, int, Send], None]


@dataclass(frozen=True)
class _Far:
    """A session of another worker, and its handle there."""

    link: Link
    worker: int
    handle: int
    key: tuple[str, str]


class Relay:
    """Of one socket.

    headers      of the client's handshake that say who it is
    new_handle   gives the next handle of the socket
    post         sends an event to the client
    lost         called when a worker with sessions of the client has ended
    """

    def __init__(
        self,
        peers: Peers,
        headers: Mapping[str, str],
        new_handle: Callable[[], int],
        post: Callable[[Answer], None],
        lost: Callable[[], None],
    ) -> None:
        self._peers, self._headers = peers, headers
        self._new_handle, self._post, self._lost = new_handle, post, lost
        self._links: dict[int, asyncio.Task[Link]] = {}
        self._far: dict[int, _Far] = {}
        self._near: dict[tuple[Link, int], int] = {}

    def __bool__(self) -> bool:
        return bool(self._far)

    def close(self) -> None:
        """The socket has ended."""
        for task in self._links.values():
            if not task.done():
                task.cancel()
            elif not task.cancelled() and task.exception() is None:
                task.result().close()
        self._links.clear()
        self._far.clear()

    # ---- JSON ------------------------------------------------------------------------------------

    async def answer(
        self, message: dict[str, Any], items: list[Any] | None, key: tuple[str, str] | None
    ) -> Answer | None:
        """Another worker's answer to a message; None: the session is here. `key` is the session of
        the message's handle where it is here. Raises `Problem`.
        """
        op = message.get("op")
        if op in ("open", "attach"):
            return await self._open(message)
        handle = message.get("handle")
        far = self._far.get(handle) if isinstance(handle, int) else None
        if op == "fork" and "id" in message:
            at = self._peers.place.worker if far is None else far.worker
            found = key if far is None else far.key
            answer = None if found is None else await self._fork_elsewhere(message, at, found)
            if answer is not None or message["op"] == "attach":  # attach: the copy is here
                return answer
        if far is None:
            return None
        if items is not None:
            return await far.link.item(far.handle, items[0], watch=bool(message.get("watch")))
        answer = await far.link.ask({**message, "handle": far.handle})
        if op in ("close", "detach") and answer["ok"]:
            self._drop(far.link, far.handle)
        return self._opened(far.worker, far.link, answer) if op == "fork" else answer

    async def _open(self, message: dict[str, Any]) -> Answer | None:
        model, id = message.get("model"), message.get("id")
        if not isinstance(model, str) or not isinstance(id, str) or not ID.fullmatch(id):
            return None
        worker = self._peers.place.elsewhere(model, id)
        if worker is None:
            return None
        link = await self._link(worker)
        return self._opened(worker, link, await link.ask(message))

    async def _fork_elsewhere(
        self, message: dict[str, Any], at: int, key: tuple[str, str]
    ) -> Answer | None:
        """A fork whose id belongs to another worker than the session: over REST, then attached."""
        id = message["id"]
        place = self._peers.place
        if not isinstance(id, str) or not ID.fullmatch(id):
            return None
        owner = place.elsewhere(key[0], id)
        if (place.worker if owner is None else owner) == at:
            return None
        ignored = ("op", "ref", "model", "handle", "watch")
        body = orjson.dumps({name: v for name, v in message.items() if name not in ignored})
        headers = [(name.encode(), value.encode()) for name, value in self._headers.items()]
        path = f"/v1/models/{key[0]}/sessions/{key[1]}/fork"
        answer = await self._peers.ask(at, "POST", path, headers, body)
        content = orjson.loads(answer.body)
        if answer.status != 201:
            return {"ok": False, "problem": content}
        message.clear()  # the copy is open: attach it
        message.update({"op": "attach", "model": key[0], "id": id})
        return await self._open(message)

    def _opened(self, worker: int, link: Link, answer: Answer) -> Answer:
        if not answer["ok"]:
            return answer
        session, there = answer["session"], answer["handle"]
        handle = self._near.get((link, there))
        if handle is None:
            handle = self._near[link, there] = self._new_handle()
            self._far[handle] = _Far(link, worker, there, (session["model"], session["id"]))
        return {**answer, "handle": handle}

    def _drop(self, link: Link, there: int) -> int | None:
        handle = self._near.pop((link, there), None)
        if handle is not None:
            self._far.pop(handle, None)
        return handle

    # ---- links -----------------------------------------------------------------------------------

    async def _link(self, worker: int) -> Link:
        task = self._links.get(worker)
        if task is None or (task.done() and task.exception() is not None):
            task = self._links[worker] = asyncio.create_task(self._connected(worker))
        return await asyncio.shield(task)

    async def _connected(self, worker: int) -> Link:
        link = Link(self._on_event, self._lost)
        await link.connect(self._peers.place, worker, self._headers)
        return link

    def _on_event(self, link: Link, event: Answer) -> None:
        if event["event"] != "closed":
            return  # this worker sends the other events itself
        handle = self._drop(link, event["handle"])
        if handle is not None:
            self._post({**event, "handle": handle})

    # ---- frames ----------------------------------------------------------------------------------

    def step(
        self, data: bytes, frame: int, count: int, width: int, send: Send, local: StepLocal
    ) -> None:
        """A frame of steps. Raises `Problem` for one that cannot be read."""
        check_steps(data, count, width)
        handles = np.frombuffer(data, np.uint32, count, HEADER.size)
        x = np.frombuffer(data, np.uint8, 4 * count * width, HEADER.size + 4 * count)
        x = x.reshape(count, 4 * width)
        rows: dict[Link | None, list[int]] = {}
        there = handles.copy()
        for row, handle in enumerate(handles.tolist()):
            far = self._far.get(handle)
            rows.setdefault(None if far is None else far.link, []).append(row)
            if far is not None:
                there[row] = far.handle
        if len(rows) == 1 and None in rows:
            local(data, frame, count, width, send)
            return
        joined = _Joined(frame, count, len(rows), send)
        for link in sorted(rows, key=lambda link: link is not None):  # local ones may be refused
            chosen = rows[link]
            body = there[chosen].tobytes() + x[chosen].tobytes()
            done = joined.part(chosen)
            if link is None:
                head = HEADER.pack(data[0], 0, 0, frame, len(chosen), width)
                local(head + body, frame, len(chosen), width, done)
            else:
                link.step(len(chosen), width, body, done)


class _Joined:
    """The answers to the parts of a frame, sent as one."""

    def __init__(self, frame: int, count: int, parts: int, send: Send) -> None:
        self._frame, self._count, self._left, self._send = frame, count, parts, send
        self._answers: list[tuple[list[int], bytes]] = []

    def part(self, rows: list[int]) -> Send:
        """What takes the answer to some rows."""

        def done(data: bytes) -> None:
            self._answers.append((rows, data))
            self._left -= 1
            if not self._left:
                self._send(self._answer())

        return done

    def _answer(self) -> bytes:
        status = np.full(self._count, NO_HANDLE, np.uint8)
        read = [(rows, data) for rows, data in self._answers if data[0] == OUTPUTS]
        if not read:  # all parts are problems
            _, _, _, _, count, _ = HEADER.unpack_from(self._answers[0][1])
            body = self._answers[0][1][HEADER.size :]
            return HEADER.pack(3, 0, 0, self._frame, count, 0) + body
        known = {HEADER.unpack_from(data)[5] for _, data in read if not _all_unknown(data)} or {1}
        if len(known) > 1:
            text = "frame: its sessions have outputs of different sizes"
            return problem_frame(self._frame, Problem("bad-request", text))
        width = known.pop()
        y = np.full((self._count, width), np.nan, np.float32)
        for rows, data in read:
            _, flags, _, _, count, size = HEADER.unpack_from(data)
            if size == width:
                y[rows] = np.frombuffer(data, np.float32, count * size, 16).reshape(count, size)
            status[rows] = _statuses(data) if flags else 0
        return outputs_frame(
            self._frame, self._count, width, y.tobytes(), status if status.any() else None
        )


def _statuses(data: bytes) -> np.ndarray:
    _, _, _, _, count, size = HEADER.unpack_from(data)
    return np.frombuffer(data, np.uint8, count, 16 + 4 * count * size)


def _all_unknown(data: bytes) -> bool:
    """No session of a part was found, so the width of its answer says nothing."""
    return bool(data[1]) and bool((_statuses(data) == NO_HANDLE).all())
