"""Calls an ASGI application without a network, quickly enough for many thousand requests."""

import asyncio

PATIENCE_S = 120


async def request(app, method, path, body=b"", headers=(), query=b""):
    """(status, headers, body) of the answer. What the application raises is raised here."""
    sent = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if messages:
            return messages.pop()
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "query_string": query,
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8000"), *headers],
        "client": ("127.0.0.1", 1234),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    await asyncio.wait_for(app(scope, receive, send), PATIENCE_S)
    starts = [message for message in sent if message["type"] == "http.response.start"]
    assert len(starts) == 1, f"{method} {path}: {len(starts)} answers"
    content = b"".join(message.get("body", b"") for message in sent)
    return starts[0]["status"], dict(starts[0]["headers"]), content


class Socket:
    """A WebSocket of the application: `async with Socket(app) as socket`."""

    def __init__(self, app, path="/v1/socket", protocols=("memorycell.v1",), headers=()):
        self.scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"127.0.0.1:8000"), *headers],
            "client": ("127.0.0.1", 1234),
            "server": ("127.0.0.1", 8000),
            "subprotocols": list(protocols),
            "extensions": {"websocket.http.response": {}},
            "state": {},
        }
        self.app = app
        self.inbox, self.outbox = asyncio.Queue(), asyncio.Queue()

    async def __aenter__(self):
        self.inbox.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.ensure_future(self.app(self.scope, self.inbox.get, self.outbox.put))
        self.accepted = await self.receive()
        return self

    async def __aexit__(self, *error):
        self.inbox.put_nowait({"type": "websocket.disconnect", "code": 1006})
        await asyncio.wait_for(self.task, PATIENCE_S)

    def send(self, message):
        key = "bytes" if isinstance(message, bytes) else "text"
        self.inbox.put_nowait({"type": "websocket.receive", key: message})

    async def receive(self):
        """The next message of the application, or a RuntimeError where it has ended."""
        getter = asyncio.ensure_future(self.outbox.get())
        done, _ = await asyncio.wait(
            {getter, self.task}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
        )
        if getter in done:
            return getter.result()
        getter.cancel()
        if self.task in done:
            self.task.result()
            raise RuntimeError("the application has ended the connection")
        raise TimeoutError(f"no message within {PATIENCE_S} s")
