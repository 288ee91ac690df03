"""The application: routes, tokens, request ids, problems."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memorycell.server import rest
from memorycell.server.auth import EVERYBODY, Caller, Tokens
from memorycell.server.config import ServerConfig
from memorycell.server.durable import Store
from memorycell.server.hops import Messages
from memorycell.server.hub import Hub
from memorycell.server.openapi import openapi
from memorycell.server.peers import Peers, merged_metrics
from memorycell.server.placement import Place
from memorycell.server.problems import Problem, internal_problem, problem_of
from memorycell.server.socket import POLICY, PROTOCOL, Socket
from memorycell.server.stores import open_store
from memorycell.server.wires import HopWire, wire_of

LOG = logging.getLogger("memorycell.server")
SOCKET = "/v1/socket"
API = re.compile(r"/v(?P<door>[12])/(models/(?P<model>[^/]+)(?P<rest>/.*)?|.*)")
PAGE_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;"
        " connect-src 'self' ws: wss:; media-src 'self' blob:; worker-src 'self' blob:; base-uri"
        " 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-cache",
    "referrer-policy": "no-referrer",
}
OPEN_PATHS = ("/v2", "/v2/health/live", "/v2/health/ready")
"""Of the Open Inference Protocol; without a token, as /healthz."""
REQUEST_ID = re.compile(rb"[A-Za-z0-9_.-]{1,64}")


class App:
    """ASGI. `hub` is there from the start of its lifespan.

    tokens     who may call
    sockets    the open ones
    place      of this process among the workers of a server; None: it is the only one
    """

    def __init__(
        self, config: ServerConfig, store: Store | None = None, place: Place | None = None
    ) -> None:
        self.config, self._store, self.place = config, store, place
        self.tokens = Tokens(None if config.token_file is None else Path(config.token_file))
        self.hub: Hub | None = None
        self.sockets: set[Socket] = set()
        self._hop_sockets: set[asyncio.Task[None]] = set()
        self.router = Starlette(lifespan=self._lifespan)
        self._inner: ASGIApp = self.router
        self._api = Router()  # without the page, which matches every path: 405 has the true Allow

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[Hub]:
        """The time in which it answers."""
        place = self.place
        store = self._store
        if store is None:
            store = open_store(self.config, None if place is None else place.worker)
        peers = None if place is None else Peers(place)
        hub = self.hub = Hub(self.config, store, peers)
        hub.on_version = self._announce
        self.router.router.routes[:] = routes = self._routes(hub)
        self._api.routes[:] = [route for route in routes if not isinstance(route, Mount)]
        await hub.start()
        try:
            yield hub
        finally:
            await hub.stop()
            if peers is not None:
                peers.close()

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with self.lifespan():
            yield

    def _announce(self, name: str, version: int) -> None:
        for socket in self.sockets:
            socket.announce(name, version)

    def _routes(self, hub: Hub) -> list[BaseRoute]:
        found: list[BaseRoute] = rest.routes(hub)
        if importlib.util.find_spec("memorycell.server.oip") is not None:
            from memorycell.server import oip

            found += oip.routes(hub)

        async def healthz(request: Request) -> Response:
            return rest.json_response({"status": "ok"})

        async def readyz(request: Request) -> Response:
            hub.check_open()
            if not hub.ready:
                raise Problem("not-ready", "the models are being loaded", retry_after=1)
            return rest.json_response({"status": "ready", "models": list(hub.registry.versions)})

        async def metrics(request: Request) -> Response:
            text = hub.metrics.text()
            if hub.peers is not None and not rest.is_hop(request):
                others = await hub.peers.ask_others(request.scope)
                texts = {worker: answer.body.decode() for worker, answer in others.items()}
                texts[hub.peers.place.worker] = text.decode()
                text = merged_metrics(texts, hub.peers.place.workers)
            return Response(text, 200, media_type="text/plain; version=0.0.4")

        async def document(request: Request) -> Response:
            return rest.json_response(openapi())

        found += [
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route("/openapi.json", document),
        ]
        page = Path(str(files("memorycell.page")))
        if page.is_dir():
            found += [
                Mount("/page", StaticFiles(directory=page)),
                Mount("/", StaticFiles(directory=page, html=True)),
            ]
        return found

    # ---- requests --------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._inner(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        request_id = _request_id(scope)
        path: str = scope["path"]
        method: str = scope["method"]
        status = 0
        hub = self.hub
        assert hub is not None
        page = not path.startswith(("/v1/", "/v2/", "/v2", "/healthz", "/readyz", "/metrics"))

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"] = list(message.get("headers", ()))
                headers.append((b"x-request-id", request_id.encode()))
                headers.append((b"x-content-type-options", b"nosniff"))
                if page:
                    headers += [(k.encode(), v.encode()) for k, v in PAGE_HEADERS.items()]
            await send(message)

        problem: Problem | None = None
        try:
            _check_origin(scope)
            if not scope["query_string"].isascii():
                raise Problem("bad-request", "the query is not ASCII; percent-encode it")
            caller = self._caller(scope, path, method)
            hop = hub.peers is not None and hub.peers.is_hop(scope)
            state = {"request_id": request_id, "caller": caller, "hop": hop}
            scope["state"] = {**scope.get("state", {}), **state}
            worker = None if hub.peers is None or hop else hub.peers.of_path(path)
            if worker is None:
                await self._inner_http(scope, receive, send_with_headers)
            else:
                await self._forward(hub, worker, scope, receive, send_with_headers)
        except HTTPException as error:
            problem = _http_problem(error, path)
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                LOG.error("request %s: unexpected error", request_id, exc_info=error)
                problem = internal_problem()
        if problem is not None and not status:
            hub.metrics.problem(problem.slug)
            body = orjson.dumps(problem.to_json(request_id))
            response = Response(body, problem.status, problem.headers, "application/problem+json")
            await response(scope, receive, send_with_headers)
        hub.metrics.request(method, status)
        if LOG.isEnabledFor(logging.DEBUG) or status >= 500:
            LOG.log(
                logging.WARNING if status >= 500 else logging.DEBUG,
                "%s %s %d",
                method,
                path,
                status,
                extra={
                    "request_id": request_id,
                    "status": status,
                    "ms": round(1000 * (time.perf_counter() - started), 2),
                },
            )

    async def _forward(
        self, hub: Hub, worker: int, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """To the worker of a session."""
        hub.check_open()
        body = await rest.read_body(Request(scope, receive), int(self.config.max_body_mb * 1e6))
        assert hub.peers is not None
        await (await hub.peers.forward(worker, scope, body))(scope, receive, send)

    async def _inner_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The router alone: Starlette's middleware would answer exceptions itself.
        scope["app"] = self.router
        api = scope["path"].startswith(("/v1/", "/v2"))
        await (self._api if api else self.router.router)(scope, receive, send)

    def _caller(self, scope: Scope, path: str, method: str) -> Caller:
        """Who calls, once they may. Raises `Problem` 401, 403."""
        if not self.tokens.required:
            return EVERYBODY
        match = API.fullmatch(path)
        if path in OPEN_PATHS or (match is None and path != "/metrics"):
            return EVERYBODY
        caller = self.tokens.of_headers(scope["headers"])
        if match is None:
            caller.check("read")
            return caller
        caller.check(_scope(method, path, match["rest"] or ""), match["model"])
        return caller

    # ---- sockets ---------------------------------------------------------------------------------

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        try:
            if scope["path"] != SOCKET:
                raise Problem("no-such-route", f"WebSockets are at {SOCKET}")
            _check_origin(scope)
            caller = self._socket_caller(scope)
            assert self.hub is not None
            self.hub.check_open()
        except Problem as problem:
            await _refuse_socket(scope, send, problem)
            return
        offered = scope.get("subprotocols", [])
        chosen = PROTOCOL if PROTOCOL in offered else None
        await send({"type": "websocket.accept", "subprotocol": chosen})
        headers = None if self.hub.peers is None else _token_headers(scope)
        await self._serve(Socket(self.hub, caller, wire_of(scope, receive, send), headers))

    async def _serve(self, socket: Socket) -> None:
        self.sockets.add(socket)
        try:
            await socket.run()
        finally:
            self.sockets.discard(socket)

    def on_hop_socket(self, messages: Messages, headers: dict[str, str]) -> None:
        """Another worker relays sessions of a client, whose token is in the headers."""
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        try:
            assert self.hub is not None
            self.hub.check_open()
            caller = self.tokens.of_headers(raw)
        except Problem:
            messages.transport.close()
            return
        task = asyncio.ensure_future(self._serve(Socket(self.hub, caller, HopWire(messages))))
        self._hop_sockets.add(task)
        task.add_done_callback(self._hop_sockets.discard)

    def _socket_caller(self, scope: Scope) -> Caller:
        for offered in scope.get("subprotocols", []):
            if offered.startswith("bearer."):
                return self.tokens.caller(offered.removeprefix("bearer."))
        return self.tokens.of_headers(scope["headers"])

    async def drain(self) -> None:
        """Refuse new requests, and ask the clients of sockets to connect again."""
        if self.hub is None:
            return
        self.hub.draining = True
        hints = [socket.drain(500 + 50 * (k % 40)) for k, socket in enumerate(self.sockets)]
        if hints:
            await asyncio.wait(
                [asyncio.ensure_future(hint) for hint in hints], timeout=self.config.drain_s
            )
            await asyncio.sleep(0.05)  # the writers send what is left


def build(config: ServerConfig, store: Store | None = None, place: Place | None = None) -> App:
    """The application of a configuration. Raises `UserError`."""
    return App(config, store, place)


def _token_headers(scope: Scope) -> dict[str, str]:
    """The token of a WebSocket, for another worker."""
    for offered in scope.get("subprotocols", []):
        if offered.startswith("bearer."):
            return {"authorization": f"Bearer {offered.removeprefix('bearer.')}"}
    for name, value in scope["headers"]:
        if name == b"authorization":
            return {"authorization": value.decode("latin-1")}
    return {}


def _scope(method: str, path: str, rest_of_path: str) -> str:
    """What a request needs a token for."""
    if rest_of_path == "/reload" or path == "/v1/inspect":
        return "admin"
    if method in ("GET", "HEAD") or rest_of_path == "/inspection":
        return "read"
    return "step"


def _check_origin(scope: Scope) -> None:
    """Raises `Problem` 403 for a request that another site's page sent: browsers let it reach a
    server on this machine.
    """
    origin = host = None
    for name, value in scope["headers"]:
        if name == b"origin":
            origin = value.decode("latin-1")
        elif name == b"host":
            host = value.decode("latin-1")
    if origin is not None and origin != "null" and urlsplit(origin).netloc == host:
        return
    if origin is not None:
        raise Problem("forbidden", f"pages of {origin[:80]!r} may not call this server")


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return value.decode()
    return secrets.token_hex(8)


def _http_problem(error: HTTPException, path: str) -> Problem:
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow")
        return Problem("method-not-allowed", f"{path[:80]}: not with this method", allow=allow)
    if error.status_code == 404:
        return Problem("no-such-route", f"{path[:80]!r}: no such route; see /openapi.json")
    return Problem("bad-request", str(error.detail))


async def _refuse_socket(scope: Scope, send: Send, problem: Problem) -> None:
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": POLICY, "reason": problem.detail[:100]})
        return
    headers: list[Any] = [(b"content-type", b"application/problem+json")]
    headers += [(k.encode(), v.encode()) for k, v in problem.headers.items()]
    await send(
        {"type": "websocket.http.response.start", "status": problem.status, "headers": headers}
    )
    await send({"type": "websocket.http.response.body", "body": orjson.dumps(problem.to_json())})
