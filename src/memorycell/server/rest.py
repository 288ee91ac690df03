"""The REST door; see docs/serve.md."""

from __future__ import annotations

import base64
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from memorycell.server import bodies, predicting
from memorycell.server.auth import Caller
from memorycell.server.describe import model_description, model_summary, session_description
from memorycell.server.hub import Hub
from memorycell.server.peers import STEPS, Peers, merged_sessions
from memorycell.server.problems import Problem
from memorycell.server.sessions import LiveSession, OpenOptions, StepResult, TensorSession

JSON = "application/json"
OCTETS = "application/octet-stream"
MAX_SMALL_BODY = 1 << 20
MAX_PAGE = 1000

Handler = Callable[[Request], Awaitable[Response]]


def json_response(
    content: Any, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """JSON, with NaN as null."""
    return Response(
        orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS),
        status,
        headers,
        JSON,
    )


def routes(hub: Hub) -> list[BaseRoute]:
    """The routes under /v1, the most frequent first."""
    door = _Rest(hub)
    one = "/v1/models/{model}/sessions/{id}"
    table: list[tuple[str, str, Handler]] = [
        ("POST", f"{one}/step", door.step),
        ("POST", "/v1/models/{model}/sessions", door.open),
        ("GET", "/v1/models/{model}/sessions", door.list_sessions),
        ("GET", one, door.info),
        ("DELETE", one, door.close),
        ("POST", f"{one}/end", door.end),
        ("POST", f"{one}/fork", door.fork),
        ("POST", f"{one}/rewind", door.rewind),
        ("GET", f"{one}/state", door.state),
        ("PUT", f"{one}/state", door.restore),
        ("GET", "/v1/models", door.models),
        ("GET", "/v1/models/{model}", door.model),
        ("POST", "/v1/models/{model}/predict", door.predict),
        ("POST", "/v1/models/{model}/inspection", door.inspection),
        ("GET", "/v1/models/{model}/inspection", door.inspection),
        ("GET", "/v1/models/{model}/exports/{format}", door.export),
        ("POST", "/v1/models/{model}/reload", door.reload),
        ("POST", "/v1/inspect", door.describe),
        ("GET", "/v1/demo", door.demo),
    ]
    paths: dict[str, dict[str, Handler]] = {}
    for method, path, handler in table:
        paths.setdefault(path, {})[method] = handler
    return [Route(path, _by_method(methods), methods=[*methods]) for path, methods in paths.items()]


def _by_method(methods: dict[str, Handler]) -> Handler:
    async def endpoint(request: Request) -> Response:
        handler = methods.get(request.method) or methods["GET"]  # HEAD
        return await handler(request)

    return endpoint


def caller_of(request: Request) -> Caller:
    """Who sent a request."""
    caller: Caller = request.scope["state"]["caller"]
    return caller


def is_hop(request: Request) -> bool:
    """Whether another worker of this server sent a request."""
    return bool(request.scope["state"].get("hop"))


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request. Raises `Problem` 413."""
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            parts.append(part)
    except ClientDisconnect:
        raise Problem("bad-request", "the client closed the connection") from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limit: int) -> Problem:
    return Problem("too-large", f"the body has more than {limit:,} bytes; send less at a time")


class _Rest:
    """The handlers, one per route."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.limit = int(hub.config.max_body_mb * 1e6)

    async def _session(self, request: Request) -> LiveSession:
        parameters = request.path_params
        return await self.hub.find(parameters["model"], bodies.check_id(parameters["id"]))

    def _describe(self, session: LiveSession) -> dict[str, Any]:
        return session_description(session, time.monotonic())

    async def _object(self, request: Request, limit: int = MAX_SMALL_BODY) -> dict[str, Any]:
        return bodies.parse_object(await read_body(request, limit))

    # ---- sessions --------------------------------------------------------------------------------

    async def open(self, request: Request) -> Response:
        body = await self._object(request, self.limit)
        options = bodies.parse_opening(body, caller_of(request).name)
        model, peers = request.path_params["model"], self._peers(request)
        if peers is not None and options.id is not None:
            worker = peers.place.elsewhere(model, options.id)
            if worker is not None:
                return await peers.forward(worker, request.scope, orjson.dumps(body))
        steps = request.headers.get(STEPS, "0") if is_hop(request) else "0"
        return self._created(await self.hub.open(model, options, steps=int(steps)))

    def _peers(self, request: Request) -> Peers | None:
        """The other workers; None where there are none, or one of them asks."""
        return None if is_hop(request) else self.hub.peers

    def _created(self, session: LiveSession) -> Response:
        path = f"/v1/models/{session.served.name}/sessions/{session.id}"
        return json_response(self._describe(session), 201, {"location": path})

    async def list_sessions(self, request: Request) -> Response:
        page = await self._page(request)
        if self._peers(request) is not None:
            limit = int(request.query_params.get("limit", "100"))
            page = merged_sessions([*await self._elsewhere(request), page], limit)
        return json_response(page)

    async def _page(self, request: Request) -> dict[str, Any]:
        model = self.hub.model(request.path_params["model"]).name
        query = request.query_params
        limit = bodies.whole_number(query.get("limit", "100"), "limit", 1, MAX_PAGE)
        after = query.get("cursor", "")
        resident = {id for name, id in self.hub.sessions if name == model and id > after}
        stored: list[str] = []
        if self.hub.committer is not None:
            stored = await self.hub.committer.call(lambda store: store.keys(model, after, limit))
        ids = sorted(resident | set(stored))
        page = []
        for id in ids[:limit]:
            session = self.hub.sessions.get((model, id))
            if isinstance(session, LiveSession) and hasattr(session, "served"):
                page.append(self._describe(session))
            else:
                page.append({"id": id, "model": model, "resident": False})
        cursor = ids[limit - 1] if len(ids) > limit or len(stored) == limit else None
        return {"sessions": page, "next": cursor}

    async def info(self, request: Request) -> Response:
        return json_response(self._describe(await self._session(request)))

    async def step(self, request: Request) -> Response:
        session = await self._session(request)
        body = await read_body(request, self.limit)
        query = request.query_params
        tensors = isinstance(session, TensorSession)
        many = query.get("items") == "many"
        items: list[Any]
        if request.headers.get("content-type", "").startswith(OCTETS):
            if tensors or many:
                raise Problem("bad-media-type", "bytes are one item of a session of items")
            items = [body]
        else:
            value = bodies.parse_json(body)
            items = bodies.parse_items(value if many else [value], tensors=tensors)
        after = query.get("after")
        result = await self.hub.step(
            session,
            items,
            watch=bodies.flag(query.get("watch")),
            after=None if after is None else bodies.whole_number(after, "after"),
            deadline_s=bodies.seconds_of(query.get("deadline_ms")),
        )
        return json_response(step_json(result, tensors=tensors, many=many))

    async def end(self, request: Request) -> Response:
        result = await self.hub.end(await self._session(request))
        return json_response({"answers": result.answers, "steps": result.steps})

    async def fork(self, request: Request) -> Response:
        body = await self._object(request)
        options = bodies.parse_opening(body, caller_of(request).name)
        session = await self._session(request)
        if self.hub.peers is not None and options.id is not None:
            worker = self.hub.peers.place.elsewhere(session.served.name, options.id)
            if worker is not None:
                return await self._fork_to(worker, session, options, request)
        return self._created(await self.hub.fork(session, options))

    async def _fork_to(
        self, worker: int, session: LiveSession, options: OpenOptions, request: Request
    ) -> Response:
        """A copy whose id belongs to another worker."""
        snapshot, old = await self.hub.snapshot(session), session.options
        body = {
            "id": options.id,
            "input": old.input,
            "precision": old.precision,
            "durable": options.durable,
            "ttl_s": options.ttl_s,
            "history": options.history,
            "options": old.options,
            "state": base64.b64encode(snapshot).decode(),
        }
        path = f"/v1/models/{session.served.name}/sessions"
        peers, headers = self.hub.peers, {STEPS: str(session.steps)}
        assert peers is not None
        return await peers.forward(
            worker, request.scope, orjson.dumps(body), path=path, headers=headers
        )

    async def rewind(self, request: Request) -> Response:
        body = await self._object(request)
        session = await self._session(request)
        await self.hub.rewind(session, bodies.whole_number(body.get("items"), "items"))
        return json_response(self._describe(session))

    async def state(self, request: Request) -> Response:
        session = await self._session(request)
        snapshot = await self.hub.snapshot(session)
        headers = {
            "x-steps": str(session.steps),
            "x-fingerprint": session.served.fingerprint_of(session.precision),
        }
        return Response(snapshot, 200, headers, OCTETS)

    async def restore(self, request: Request) -> Response:
        session = await self._session(request)
        await self.hub.restore(session, await read_body(request, self.limit))
        return json_response(self._describe(session))

    async def close(self, request: Request) -> Response:
        await self.hub.close(await self._session(request))
        return Response(status_code=204)

    # ---- models ----------------------------------------------------------------------------------

    async def models(self, request: Request) -> Response:
        models = model_list(self.hub, caller_of(request))
        for other in await self._elsewhere(request):
            sessions = {one["name"]: one["sessions"] for one in other["models"]}
            for one in models:
                one["sessions"] += sessions.get(one["name"], 0)
        return json_response({"models": models})

    async def _elsewhere(self, request: Request) -> list[dict[str, Any]]:
        """The answers of the other workers that have one."""
        peers = self._peers(request)
        if peers is None:
            return []
        others = await peers.ask_others(request.scope)
        return [orjson.loads(one.body) for one in others.values() if one.status == 200]

    async def model(self, request: Request) -> Response:
        version = request.query_params.get("version")
        number = None if version is None else bodies.whole_number(version, "version")
        description = model_description(self.hub.model(request.path_params["model"], number))
        for other in await self._elsewhere(request):
            description["sessions"] += other["sessions"]
        return json_response(description)

    async def predict(self, request: Request) -> Response:
        served = self.hub.model(request.path_params["model"])
        body = await self._object(request, self.limit)
        most = self.hub.config.max_prediction
        prediction = await self.hub.compute.call(lambda: predicting.predict(served, body, most))
        return json_response(prediction)

    async def inspection(self, request: Request) -> Response:
        served = self.hub.model(request.path_params["model"])
        body = await self._object(request, self.limit)
        return json_response(await self.hub.compute.call(lambda: predicting.inspect(served, body)))

    async def export(self, request: Request) -> Response:
        served = self.hub.model(request.path_params["model"])
        to = request.path_params["format"]
        data = await self.hub.compute.call(lambda: predicting.export(served, to))
        name = f'attachment; filename="{served.name}-{to}.zip"'
        return Response(data, 200, {"content-disposition": name}, "application/zip")

    async def reload(self, request: Request) -> Response:
        served = await self.hub.registry.reload(request.path_params["model"])
        peers = self._peers(request)
        if peers is not None:
            await peers.ask_others(request.scope)
        return json_response(model_summary(served))

    async def describe(self, request: Request) -> Response:
        data = await read_body(request, self.limit)
        return json_response(await self.hub.compute.call(lambda: predicting.describe_upload(data)))

    async def demo(self, request: Request) -> Response:
        return json_response(self.hub.registry.progress)  # empty without --demo


def model_list(hub: Hub, caller: Caller) -> list[dict[str, Any]]:
    """The models that a caller may see."""
    return [model_summary(served) for served in hub.models() if caller.may("read", served.name)]


def step_json(result: StepResult, *, tensors: bool, many: bool) -> dict[str, Any]:
    """A `StepResult` as JSON: of one item its answers, of many a list of answers."""
    answers = result.answers if many else result.answers[0]
    content: dict[str, Any] = {"y" if tensors else "answers": answers, "steps": result.steps}
    if result.gates is not None:
        content["gates"] = result.gates
    return content
