"""Valid requests of every door, and mutations of them."""

import json
import random
import struct
from dataclasses import dataclass, field

NASTY = [
    b"NaN", b"Infinity", b"-1", b"1e999", b"9" * 400, b"null", b"true", b'""', b"[]", b"{}",
    b"\x00", b"\xff\xfe", b"\xed\xa0\x80", "\ufeff".encode(), "ﷺ".encode(), b"..", b"%00", b"/",
    b"[" * 2000, b'{"a":' * 500, b"' or 1=1 --", b"\r\nX: y", b"__proto__", b"-0.0", b"4294967296",
]  # fmt: skip
HEADERS = [
    "content-type", "content-length", "content-encoding", "authorization", "accept", "origin",
    "inference-header-content-length", "if-none-match", "x-request-id",
]  # fmt: skip


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: bytes = b""
    query: bytes = b""
    headers: dict = field(default_factory=dict)


def _json(method, path, value, query=b""):
    body = json.dumps(value).encode()
    return Request(method, path, body, query, {"content-type": "application/json"})


def valid_requests(model, width):
    """Of a model of tensors that is served under a name."""
    base = f"/v1/models/{model}"
    session = f"{base}/sessions/fuzzed"
    x = [0.5] * width
    tensor = {"name": "x", "shape": [1, width], "datatype": "FP32", "data": x}
    binary = {**tensor, "parameters": {"binary_data_size": 4 * width}}
    del binary["data"]
    sequence = {"sequence_id": 7, "sequence_start": True}
    head = json.dumps({"id": "1", "parameters": sequence, "inputs": [binary]}).encode()
    return [
        Request("GET", "/v1/models"),
        Request("GET", base),
        Request("GET", f"{base}/sessions", query=b"limit=2&cursor=a"),
        _json("POST", f"{base}/sessions", {"id": "fuzzed", "input": "tensors", "history": 3}),
        _json("POST", f"{base}/sessions", {"input": "tensors", "ttl_s": 1, "durable": "step"}),
        _json("POST", f"{session}/step", x),
        _json("POST", f"{session}/step", [x, x], b"items=many&after=1&deadline_ms=100&watch=1"),
        _json("POST", f"{session}/fork", {"id": "forked", "history": 1}),
        _json("POST", f"{session}/rewind", {"items": 1}),
        _json("POST", f"{session}/end", {}),
        Request("GET", session),
        Request("GET", f"{session}/state"),
        Request("PUT", f"{session}/state", bytes(200)),
        Request("DELETE", f"{base}/sessions/forked"),
        Request("DELETE", session),
        _json("POST", f"{base}/predict", {"input": "a", "options": {}}),
        _json("POST", f"{base}/inspection", {"input": None}),
        Request("POST", "/v1/inspect", bytes(100)),
        Request("GET", "/healthz"),
        Request("GET", "/readyz"),
        Request("GET", "/metrics"),
        Request("GET", "/openapi.json"),
        Request("GET", "/app.js"),
        Request("GET", "/v2"),
        Request("GET", "/v2/health/ready"),
        Request("GET", f"/v2/models/{model}/versions/1"),
        _json("POST", f"/v2/models/{model}/infer", {"parameters": sequence, "inputs": [tensor]}),
        Request(
            "POST",
            f"/v2/models/{model}/infer",
            head + struct.pack(f"<{width}f", *x),
            headers={"inference-header-content-length": str(len(head))},
        ),
    ]


def valid_messages(model, width):
    """Of the WebSocket, text and binary; handle 1 is open."""
    x = [0.5] * width
    texts = [
        {"op": "open", "model": model, "id": "socket", "input": "tensors", "history": 2},
        {"op": "attach", "model": model, "id": "socket", "take": True},
        {"op": "step", "handle": 1, "item": x, "watch": True},
        {"op": "step", "handle": 1, "items": [x, x], "after": 1, "deadline_ms": 100},
        {"op": "fork", "handle": 1, "id": "other"},
        {"op": "rewind", "handle": 1, "items": 1},
        {"op": "state", "handle": 1},
        {"op": "restore", "handle": 1, "state": "AAAA"},
        {"op": "info", "handle": 1},
        {"op": "end", "handle": 1},
        {"op": "close", "handle": 2},
        {"op": "detach", "handle": 1},
        {"op": "models"},
        {"op": "ping"},
    ]
    frame = struct.pack("<BBHIII", 1, 0, 0, 9, 2, width) + struct.pack("<II", 1, 1)
    item = struct.pack("<BBHIII", 4, 1, 0, 9, 4, 1) + bytes(4)
    return [
        *[json.dumps({"ref": k, **each}) for k, each in enumerate(texts)],
        frame + struct.pack(f"<{2 * width}f", *x, *x),
        item,
    ]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, removed, repeated or replaced by something nasty."""
    data = bytearray(data)
    for _ in range(rng.randint(0, 3)):
        at = rng.randint(0, len(data))
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 1:
            del data[at : at + rng.randint(1, 8)]
        elif kind == 2:
            data[at:at] = rng.choice(NASTY)
        elif kind == 3:
            end = at + rng.randint(1, 16)
            data[at:at] = data[at:end]
        elif kind == 4:
            del data[at:]
        else:
            end = at + rng.randint(1, 6)
            data[at:end] = rng.choice(NASTY)
    return bytes(data)


def mutated_request(request: Request, rng: random.Random) -> Request:
    """A request of which one part or several are changed."""
    method, path, body, query = request.method, request.path, request.body, request.query
    headers = dict(request.headers)
    if rng.random() < 0.7:
        body = mutated(body, rng)
    if rng.random() < 0.3:
        path = "/" + mutated(path.encode(), rng).decode("utf-8", "replace").lstrip("/")
    if rng.random() < 0.3:
        query = mutated(query or b"watch=1&after=0&limit=3", rng)
    if rng.random() < 0.1:
        method = rng.choice(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW"])
    if rng.random() < 0.1:
        headers[rng.choice(HEADERS)] = rng.choice(NASTY).decode("latin-1")
    return Request(method, path, body, query, headers)


def mutated_message(message, rng):
    """A WebSocket message, text or bytes."""
    if isinstance(message, bytes):
        return mutated(message, rng)
    text = mutated(message.encode(), rng)
    if rng.random() < 0.05:
        return text  # text where a binary frame is expected
    return text.decode("utf-8", "replace")
