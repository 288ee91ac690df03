"""Damaged requests at every door: no answer of 5xx but those of a server that is busy or has no
space, no crash, no growth of memory.
"""

import asyncio
import json
import os
import random
import resource
from pathlib import Path

import mutated_requests as requests
import numpy as np
import pytest
from asgi import Socket, request

import memorycell
from memorycell.server.app import build
from memorycell.server.config import ServerConfig

ALLOWED_5XX = {503, 504, 507}
WIDTH = 3
MODEL = "tiny"
SMALL = int(os.environ.get("MEMORYCELL_FUZZ_REQUESTS", "600"))
PAGE_BYTES = resource.getpagesize()


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    import safetensors.torch

    folder = tmp_path_factory.mktemp("fuzz")
    layer = memorycell.LSTM(WIDTH, 4, batch_first=True)
    safetensors.torch.save_file(layer.state_dict(), folder / "tiny.safetensors")
    return ServerConfig(
        modules=(f"{MODEL}={folder / 'tiny.safetensors'}",),
        state=str(folder / "state"),
        max_body_mb=1.0,
        max_message_mb=1.0,
        max_sessions=1000,
    )


def memory_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


async def fuzz_http(app, count, seed):
    """Statuses by number of answers."""
    rng = random.Random(seed)
    seen = {}
    valid = requests.valid_requests(MODEL, WIDTH)
    for k in range(count):
        case = valid[k % len(valid)]
        if k >= len(valid):  # first each of them as it is
            case = requests.mutated_request(case, rng)
        headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in case.headers.items()]
        status, reply_headers, body = await request(
            app, case.method, case.path, case.body, headers, case.query
        )
        assert status < 500 or status in ALLOWED_5XX, (k, case, body[:500])
        if status >= 400 and case.method != "HEAD" and b"json" in reply_headers[b"content-type"]:
            problem = json.loads(body)
            assert problem["detail"] or problem["title"], case
        seen[status] = seen.get(status, 0) + 1
        if k % 500 == 0:
            await asyncio.sleep(0)
    return seen


async def fuzz_socket(app, count, seed):
    """Send messages, a few per connection; the number of answers."""
    rng = random.Random(seed)
    valid = requests.valid_messages(MODEL, WIDTH)
    answers = sent = 0
    while sent < count:
        async with Socket(app) as socket:
            assert socket.accepted["type"] == "websocket.accept"
            opening = {"op": "open", "model": MODEL, "input": "tensors", "history": 2, "ttl_s": 5}
            socket.send(json.dumps({"ref": "first", **opening}))
            opened = json.loads((await socket.receive())["text"])
            assert opened["ok"], opened
            for _ in range(20):
                socket.send(requests.mutated_message(rng.choice(valid), rng))
                sent += 1
            socket.send(json.dumps({"ref": "last", "op": "ping"}))
            while True:
                try:
                    message = await socket.receive()
                except RuntimeError:
                    break
                if message["type"] == "websocket.close":
                    assert message["code"] != 1011, message
                    break
                answers += 1
                if message.get("text"):
                    answer = json.loads(message["text"])
                    if answer.get("ref") == "last":
                        break
                    status = (answer.get("problem") or {}).get("status", 200)
                    assert status < 500 or status in ALLOWED_5XX, answer
            await close_session(app, opened["session"]["id"])
    return answers


async def close_session(app, name):
    await request(app, "DELETE", f"/v1/models/{MODEL}/sessions/{name}")


def run(config, work):
    async def inside():
        app = build(config)
        async with app.lifespan():
            result = await work(app)
            status, _, body = await request(app, "GET", f"/v1/models/{MODEL}")
            assert status == 200, body  # it still answers
            return result

    return asyncio.run(inside())


def test_damaged_requests(config):
    seen = run(config, lambda app: fuzz_http(app, SMALL, seed=1))
    assert seen[200] > 10
    assert sum(seen.values()) == SMALL


def test_damaged_messages(config):
    assert run(config, lambda app: fuzz_socket(app, SMALL // 2, seed=2)) > 20


def test_a_query_that_is_not_ascii_is_refused(config):
    """Also where a router would answer with a redirection to the path without the last slash."""

    async def statuses(app):
        paths = ("/v1/models", "/v1/models/", "/v2/", "/page/x/")
        return [(await request(app, "GET", path, query=b"a=\xed"))[0] for path in paths]

    assert run(config, statuses) == [400] * 4


@pytest.mark.slow
def test_many_damaged_requests(config):
    count = int(os.environ.get("MEMORYCELL_FUZZ_REQUESTS", "100000"))

    async def work(app):
        await fuzz_http(app, count // 10, seed=3)
        await fuzz_socket(app, count // 10, seed=4)
        before = memory_bytes()
        seen = await fuzz_http(app, int(0.6 * count), seed=5)
        await fuzz_socket(app, count // 5, seed=6)
        return seen, before, memory_bytes()

    seen, before, after = run(config, work)
    print(seen, before, after)
    assert after < 1.05 * before + 8e6


def test_a_session_is_unharmed_by_damaged_steps(config):
    """Between damaged steps, the outputs are those of an undisturbed layer."""

    async def work(app):
        base = f"/v1/models/{MODEL}/sessions"
        json_header = [(b"content-type", b"application/json")]
        opening = json.dumps({"id": "watched", "input": "tensors"}).encode()
        status, _, _ = await request(app, "POST", base, opening, json_header)
        assert status == 201
        rng, found, inputs = random.Random(7), [], []
        for k in range(40):
            x = [0.1 * k, -0.5, rng.random()]
            for _ in range(5):
                bad = requests.mutated(rng.choice([b"[1, 2]", b"[1, NaN, 2]", b'{"a": 1}']), rng)
                status, _, body = await request(
                    app, "POST", f"{base}/watched/step", bad, json_header
                )
                assert status in (200, 400, 413, 415, 422), body
                if status == 200:
                    inputs.append(json.loads(bad))
                    found.append(json.loads(body)["y"])
            status, _, body = await request(
                app, "POST", f"{base}/watched/step", json.dumps(x).encode(), json_header
            )
            assert status == 200, body
            inputs.append(x)
            found.append(json.loads(body)["y"])
        return inputs, found

    inputs, found = run(config, work)
    import safetensors.torch

    layer = memorycell.LSTM(WIDTH, 4, batch_first=True)
    path = config.modules[0].partition("=")[2]
    layer.load_state_dict(safetensors.torch.load_file(path))
    stream = memorycell.stream(layer)
    for x, y in zip(inputs, found, strict=True):
        np.testing.assert_allclose(stream.step(np.array(x, np.float32)), y, atol=1e-6)
