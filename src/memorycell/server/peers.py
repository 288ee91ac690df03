"""What a worker asks of the other workers of its server, over their Unix sockets.

A request for a session of another worker is forwarded once, as it came: its token, its request id
and its body. It is marked (`HOP`), so that it is answered where it arrives.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response
from starlette.types import Scope

from memorycell.server.hops import HOP, Answer, HopClient
from memorycell.server.placement import Place
from memorycell.server.problems import Problem

STEPS = "x-memorycell-steps"
"""With `HOP`: the number of items that a session to open has read."""
SESSION = re.compile(r"/v1/models/([^/]+)/sessions/([A-Za-z0-9_.:-]{1,64})(/.*)?")
PATIENCE_S = 10.0
"""How long a request waits for a worker that is being restarted."""
PAUSE_S = 0.05
NOT_FORWARDED = (
    *(b"connection", b"content-length", b"transfer-encoding", b"expect"),
    STEPS.encode(),
)
NOT_RETURNED = (b"content-length", b"x-request-id", b"x-content-type-options")


class Peers:
    """The other workers, seen from one."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._clients = {
            worker: HopClient(place.path(worker), place.secret) for worker in range(place.workers)
        }

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()

    def is_hop(self, scope: Scope) -> bool:
        """Whether a request comes from a peer."""
        return HOP in scope.get("extensions", {})

    def of_path(self, path: str) -> int | None:
        """The other worker that a request's path belongs to."""
        match = SESSION.fullmatch(path)
        return None if match is None else self.place.elsewhere(match[1], match[2])

    # ---- one ---------------------------------------------------------------------------------

    async def forward(
        self,
        worker: int,
        scope: Scope,
        body: bytes,
        *,
        path: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Another worker's answer to a request. Raises `Problem` 503 where it does not answer."""
        if path is None:
            query = scope["query_string"]
            path = scope["raw_path"].decode() + ("?" + query.decode() if query else "")
        sent = [(name, value) for name, value in scope["headers"] if name not in NOT_FORWARDED]
        sent = [(name, value) for name, value in sent if name != b"x-request-id"]
        sent.append((b"x-request-id", scope["state"]["request_id"].encode()))
        sent += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        answer = await self.ask(worker, scope["method"], path, sent, body)
        response = Response(answer.body, answer.status)
        response.raw_headers = [one for one in answer.headers if one[0] not in NOT_RETURNED]
        response.raw_headers.append((b"content-length", str(len(answer.body)).encode()))
        return response

    async def ask(
        self,
        worker: int,
        method: str,
        path: str,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes = b"",
        patience_s: float = PATIENCE_S,
    ) -> Answer:
        """A worker's answer. Raises `Problem` 503."""
        until = time.monotonic() + patience_s
        while True:
            try:
                return await self._clients[worker].ask(method, path, headers, body)
            except OSError:  # nothing was sent
                if time.monotonic() > until:
                    raise _absent(worker) from None
                await asyncio.sleep(PAUSE_S)
            except EOFError:
                raise Problem(
                    "not-ready",
                    f"worker {worker} ended during the request, which it may have read: look at"
                    " the session, or repeat a step with ?after",
                    retry_after=1,
                ) from None

    # ---- all -------------------------------------------------------------------------------------

    async def ask_others(self, scope: Scope, body: bytes = b"") -> dict[int, Answer]:
        """The answers of the other workers to a request; without those that do not answer."""
        query = scope["query_string"].decode()
        path = scope["raw_path"].decode() + ("?" + query if query else "")
        headers = [(name, value) for name, value in scope["headers"] if name not in NOT_FORWARDED]

        async def one(worker: int) -> Answer | None:
            try:
                return await self.ask(worker, scope["method"], path, headers, body, patience_s=0.0)
            except Problem:
                return None

        others = [worker for worker in range(self.place.workers) if worker != self.place.worker]
        answers = await asyncio.gather(*(one(worker) for worker in others))
        return {
            worker: answer
            for worker, answer in zip(others, answers, strict=True)
            if answer is not None
        }


def _absent(worker: int) -> Problem:
    return Problem("not-ready", f"worker {worker} is being started again", retry_after=1)


def merged_sessions(pages: Sequence[Mapping[str, Any]], limit: int) -> dict[str, Any]:
    """One page of the workers' lists of sessions."""
    found = {session["id"]: session for page in pages for session in page["sessions"]}
    ids = sorted(found)
    more = len(ids) > limit or any(page["next"] is not None for page in pages)
    ids = ids[:limit]
    return {"sessions": [found[id] for id in ids], "next": ids[-1] if more and ids else None}


def merged_metrics(texts: Mapping[int, str], workers: int) -> bytes:
    """Prometheus' text of all workers, with the label `worker` in every sample."""
    families: dict[str, list[str]] = {}
    for worker, text in sorted(texts.items()):
        lines: list[str] = []
        for line in text.splitlines():
            if line.startswith("# HELP "):
                lines = families.setdefault(line, [])
            elif line.startswith("#"):
                if line not in lines:
                    lines.append(line)
            else:
                lines.append(_labelled(line, worker))
    out = [line for head, lines in families.items() for line in (head, *lines)]
    out += [
        "# HELP memorycell_worker_up Whether a worker answers",
        "# TYPE memorycell_worker_up gauge",
    ]
    out += [f'memorycell_worker_up{{worker="{k}"}} {int(k in texts)}' for k in range(workers)]
    return ("\n".join(out) + "\n").encode()


def _labelled(line: str, worker: int) -> str:
    name, brace, rest = line.partition("{")
    if brace:
        return f'{name}{{worker="{worker}",{rest}'
    name, _, value = line.partition(" ")
    return f'{name}{{worker="{worker}"}} {value}'
