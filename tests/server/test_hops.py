"""Connections between workers: answers find their requests, and a stranger gets none."""

import asyncio

import orjson
import pytest

from memorycell.server.hops import REQUESTS, HopClient, HopServer, open_messages
from memorycell.server.wires import HopWire, payload_of

SECRET = "s" * 64


async def echo(scope, receive, send):
    """Answers with what it was asked, the later the shorter the body."""
    body = (await receive())["body"]
    await asyncio.sleep(0.02 if len(body) < 100 else 0)
    about = [scope["method"], scope["path"], scope["query_string"].decode(), len(scope["headers"])]
    await send(
        {"type": "http.response.start", "status": 207, "headers": [(b"x-a", "é".encode("latin-1"))]}
    )
    for part in (orjson.dumps(about), body):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


def run(tmp_path, work, app=echo, on_socket=None):
    async def main():
        server = HopServer(app, on_socket, SECRET)
        await server.start(str(tmp_path / "hop"))
        try:
            return await work(server, str(tmp_path / "hop"))
        finally:
            await server.close(1.0)

    return asyncio.run(asyncio.wait_for(main(), 120))


def test_many_requests_at_once_get_their_own_answers(tmp_path):
    async def work(server, path):
        client = HopClient(path, SECRET)
        bodies = [bytes([k]) * (3 if k % 2 else 300_000) for k in range(20)]
        asked = [
            client.ask("PUT", f"/a%20b/{k}?q={k}", [(b"n", b"v")] * k, body)
            for k, body in enumerate(bodies)
        ]
        for k, answer in enumerate(await asyncio.gather(*asked)):
            about = orjson.dumps(["PUT", f"/a b/{k}", f"q={k}", k])
            assert answer.body == about + bodies[k]
            assert answer.status == 207
            assert list(answer.headers) == [(b"x-a", "é".encode("latin-1"))]
        client.close()

    run(tmp_path, work)


def test_a_wrong_secret_gets_no_answer(tmp_path):
    async def work(server, path):
        client = HopClient(path, "x" * 64)
        with pytest.raises(EOFError):
            await client.ask("GET", "/", [], b"")
        lost = asyncio.Event()
        messages = await open_messages(path, "é", "x", lambda kind, data: None, lost.set)
        messages.send(0, b"no JSON")
        await lost.wait()
        with pytest.raises(OSError, match="No such file"):
            await HopClient(path + "-nowhere", SECRET).ask("GET", "/", [], b"")

    run(tmp_path, work)


def test_a_request_ends_with_its_worker_and_the_next_one_connects_again(tmp_path):
    asked = asyncio.Event()

    async def never(scope, receive, send):
        if scope["path"] == "/stuck":
            asked.set()
            await asyncio.sleep(1000)
        await echo(scope, receive, send)

    async def work(server, path):
        client = HopClient(path, SECRET)
        stuck = asyncio.ensure_future(client.ask("GET", "/stuck", [], b""))
        await asked.wait()
        await server.close(0.05)
        with pytest.raises(EOFError):
            await stuck
        again = HopServer(never, None, SECRET)
        await again.start(path)
        assert (await client.ask("GET", "/", [], b"")).status == 207
        await again.close(1.0)

    run(tmp_path, work, never)


def test_messages_of_a_socket_arrive_in_order_also_those_before_it_is_served(tmp_path):
    taken = []

    def on_socket(messages, headers):
        wire = HopWire(messages)

        async def serve():
            await asyncio.sleep(0.05)
            await wire.run(
                lambda data: (taken.append(data), wire.post(data), wire.post_frame(b"\x82\x01z"))
            )
            taken.append("end")

        taken.append(headers)
        taken.append(asyncio.ensure_future(serve()))

    async def work(server, path):
        got = []
        messages = await open_messages(
            path, SECRET, {"a": "b"}, lambda kind, data: got.append((kind, data)), lambda: None
        )
        messages.send(1, "é".encode())
        messages.send(2, b"\0")
        while len(got) < 4:
            await asyncio.sleep(0.01)
        assert got == [(1, "é".encode()), (2, b"z"), (2, b"\0"), (2, b"z")]
        messages.transport.close()
        await taken[1]
        assert [taken[0], *taken[2:]] == [{"a": "b"}, "é", b"\0", "end"]

    run(tmp_path, work, on_socket=on_socket)
    assert REQUESTS == "requests"
    assert payload_of(b"\x82\x7e\x00\xc8" + b"q" * 200) == b"q" * 200
