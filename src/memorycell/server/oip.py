"""The Open Inference Protocol v2 over HTTP, so that clients written for Triton and KServe work.

A recurrent model has the input `x` [T, I] float32, T consecutive steps, and the output `y`
[T, ...]. A leading axis of 1 is allowed, so [1, I] is one step of a sequence as Triton batches it,
and [1, T, I] are T steps. A model of an application also has the input `items` [n] BYTES, each what
its session reads (text, or a JSON object), and the output `answers` [n] BYTES, each a JSON list.

With the parameter `sequence_id` the steps belong to a session: `sequence_start` opens it,
`sequence_end` closes it after the step. Without it, or with 0, a request is a sequence of its own.

Source: Open Inference Protocol, version 2 (KServe, 2023); the parameters are those of Triton's
sequence extension.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any, TypeAlias

import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from memorycell.server.bodies import parse_opening
from memorycell.server.hub import Hub
from memorycell.server.oip_tensors import (
    LENGTH_HEADER,
    InferRequest,
    TensorError,
    build_response,
    decompressed,
    parse_request,
)
from memorycell.server.problems import Problem, problem_of
from memorycell.server.rest import caller_of, is_hop, read_body
from memorycell.server.served import ServedModel
from memorycell.server.sessions import LiveSession

EXTENSIONS = ["binary_tensor_data", "sequence"]
Run: TypeAlias = Callable[[LiveSession], Awaitable[dict[str, np.ndarray]]]
"""Reads an input in a session; gives the outputs by name."""
OPENING = ("durable", "ttl_s", "precision", "options")
"""Parameters of a request that say how its sequence is opened; see POST sessions."""
MAX_STEPS = 10_000
"""Steps of one request."""


def routes(hub: Hub) -> list[BaseRoute]:
    """The routes of the protocol."""
    doors = _Doors(hub)
    found: list[BaseRoute] = [
        Route("/v2", _answering(doors.server)),
        Route("/v2/health/live", _answering(doors.live)),
        Route("/v2/health/ready", _answering(doors.ready)),
    ]
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        found += [
            Route(path, _answering(doors.model)),
            Route(f"{path}/ready", _answering(doors.model_ready)),
            Route(f"{path}/infer", _answering(doors.infer), methods=["POST"]),
        ]
    return found


def _answering(
    door: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """A door whose problems have the protocol's field `error`, too."""

    async def answer(request: Request) -> Response:
        try:
            return await door(request)
        except TensorError as error:
            problem = Problem("bad-request", str(error))
        except Exception as error:
            known = problem_of(error)
            if known is None:
                raise
            problem = known
        request_id = request.scope.get("state", {}).get("request_id", "")
        content = {**problem.to_json(request_id), "error": problem.detail}
        body = orjson.dumps(content)
        return Response(body, problem.status, problem.headers, "application/problem+json")

    return answer


class _Doors:
    """The handlers, one per route."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.max_body_bytes = int(hub.config.max_body_mb * 1e6)

    async def server(self, request: Request) -> Response:
        return _json(
            {"name": "memorycell", "version": version("memorycell"), "extensions": EXTENSIONS}
        )

    async def live(self, request: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        return _json({"ready": bool(self.hub.models())}, 200 if self.hub.models() else 503)

    async def model_ready(self, request: Request) -> Response:
        return _json({"name": self._model(request).name, "ready": True})

    async def model(self, request: Request) -> Response:
        model = self._model(request)
        inputs, outputs = [], []
        if model.module is not None:
            inputs.append({"name": "x", "datatype": "FP32", "shape": [-1, model.input_size]})
            outputs.append({"name": "y", "datatype": "FP32", "shape": [-1, *model.output_shape]})
        if model.open_item is not None:
            inputs.append({"name": "items", "datatype": "BYTES", "shape": [-1]})
            outputs.append({"name": "answers", "datatype": "BYTES", "shape": [-1]})
        return _json(
            {
                "name": model.name,
                "versions": [str(model.version)],
                "platform": "memorycell",
                "inputs": inputs,
                "outputs": outputs,
            }
        )

    async def infer(self, request: Request) -> Response:
        model = self._model(request)
        raw = await read_body(request, self.max_body_bytes)
        body = decompressed(
            raw,
            request.headers.get("content-encoding", ""),
            self.max_body_bytes,
        )
        asked = parse_request(body, request.headers.get(LENGTH_HEADER))
        if self.hub.peers is not None and asked.sequence_id and not is_hop(request):
            worker = self.hub.peers.place.elsewhere(model.name, asked.sequence_id)
            if worker is not None:
                return await self.hub.peers.forward(worker, request.scope, raw)
        outputs = await self._steps(model, asked, caller_of(request).name)
        parameters = {}
        if asked.sequence_id:
            parameters = {
                name: asked.parameters[name]
                for name in ("sequence_id", "sequence_start", "sequence_end")
                if name in asked.parameters
            }
        content, length = build_response(asked, model.name, str(model.version), outputs, parameters)
        if length is None:
            return Response(content, 200, media_type="application/json")
        return Response(content, 200, {LENGTH_HEADER: str(length)}, "application/octet-stream")

    async def _steps(
        self, model: ServedModel, asked: InferRequest, owner: str
    ) -> dict[str, np.ndarray]:
        """Read the input: in the session of its sequence, or in one of its own."""
        (name, value), *others = asked.inputs.items() or [("", np.empty(0))]
        if others or name not in ("x", "items"):
            raise TensorError(f"inputs: expected x or items, got {list(asked.inputs)}")
        run = self._tensors(model, value) if name == "x" else self._items(model, value)
        sequence = asked.sequence_id
        start, end = asked.flag("sequence_start"), asked.flag("sequence_end")
        opening = {
            "id": sequence or f"oip-{uuid.uuid4().hex}",
            "input": "tensors" if name == "x" else "items",
            **{key: asked.parameters[key] for key in OPENING if key in asked.parameters},
        }
        options = parse_opening(opening, owner)
        if not sequence:
            start = end = True
        elif start:
            await self._close_existing(model.name, sequence)
        session = (
            await self.hub.open(model.name, options)
            if start
            else await self._find(model.name, sequence)
        )
        try:
            return await run(session)
        finally:
            if end:
                await self.hub.close(session)

    async def _find(self, model: str, sequence: str) -> LiveSession:
        try:
            return await self.hub.find(model, sequence)
        except Problem as problem:
            if problem.status != 404:
                raise
            raise Problem(
                "no-such-session",
                f"sequence {sequence} of model {model} is not open: its first request needs"
                " sequence_start",
            ) from None

    async def _close_existing(self, model: str, sequence: str) -> None:
        """A sequence that starts again loses its state."""
        try:
            existing = await self.hub.find(model, sequence)
        except Problem as problem:
            if problem.status != 404:
                raise
        else:
            await self.hub.close(existing)

    def _tensors(self, model: ServedModel, value: np.ndarray) -> Run:
        if model.module is None:
            raise TensorError("x: this model reads items")
        size = model.input_size
        if value.dtype == object or value.dtype == bool:
            raise TensorError("x: expected numbers, FP32 at best")
        if (
            not 1 <= value.ndim <= 3
            or value.shape[-1] != size
            or (value.ndim == 3 and value.shape[0] != 1)
        ):
            raise TensorError(
                f"x: expected [T, {size}], or [1, T, {size}], got {list(value.shape)}; one sequence"
                " per request"
            )
        if not 1 <= value.size // size <= MAX_STEPS:
            raise TensorError(f"x: expected 1 to {MAX_STEPS} steps, got {value.size // size}")
        with np.errstate(over="ignore"):  # infinity is refused by the session
            x = np.array(value.reshape(-1, size), np.float32)  # a copy: bytes may not be aligned

        async def run(session: LiveSession) -> dict[str, np.ndarray]:
            y = await self.hub.step_tensors(session, x)
            return {"y": y.reshape(*value.shape[:-1], *model.output_shape)}

        return run

    def _items(self, model: ServedModel, value: np.ndarray) -> Run:
        if model.open_item is None:
            raise TensorError("items: this model reads the tensor x")
        if value.dtype != object or not 1 <= value.size <= MAX_STEPS:
            raise TensorError(f"items: expected 1 to {MAX_STEPS} elements of BYTES")
        items = [_item(part, model) for part in value.ravel()]

        async def run(session: LiveSession) -> dict[str, np.ndarray]:
            result = await self.hub.step(session, items)
            answers = np.empty(len(items), object)
            answers[:] = [orjson.dumps(answer) for answer in result.answers]
            return {"answers": answers.reshape(value.shape)}

        return run

    def _model(self, request: Request) -> ServedModel:
        text = request.path_params.get("version")
        if text is not None and not (text.isascii() and text.isdigit() and len(text) < 10):
            raise Problem("no-such-model", f"version {text[:20]!r}: expected a number")
        return self.hub.model(request.path_params["name"], None if text is None else int(text))


def _item(part: bytes, model: ServedModel) -> str | bytes:
    """What the session reads: sound as bytes, everything else as text."""
    if model.stream_reads == "bytes":
        return part
    try:
        return part.decode()
    except UnicodeDecodeError:
        raise TensorError("items: an element is not UTF-8") from None


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
