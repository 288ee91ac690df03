"""More than two workers, workers with Redis, and --demo with workers."""

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import time

import httpx
import numpy as np
import orjson
import pytest
from serving import NUM_INPUTS, OLD, PATIENCE_S, Process, answer, connect, frame, lstm, outputs
from test_redis_store import Redis, needs_redis

from memorycell.server.demo import DEMOS, cache_folder, demo_path
from memorycell.server.placement import owner

SESSIONS, T = 20, 6
X = np.random.default_rng(2).normal(size=(SESSIONS, T, NUM_INPUTS)).astype(np.float32)
IDS = [f"s{k}" for k in range(SESSIONS)]
PATH = "/v1/models/lstm/sessions"
get = functools.partial(httpx.get, timeout=PATIENCE_S)
post = functools.partial(httpx.post, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def truth(folder):
    layer = lstm(folder / "lstm.pt")
    return np.stack([outputs(layer, x) for x in X])


def ask(socket, **message):
    socket.send(orjson.dumps({"ref": 1, **message}).decode())
    return orjson.loads(socket.recv())


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(part) for part in file.read().split()]


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 4])
def test_three_and_four_workers_are_one_server(folder, truth, count):
    """Every session is reached over every connection, and the listing counts those of all."""
    server = Process(
        *("--module", str(folder / "lstm.pt"), "--workers", str(count)), log=folder / f"log{count}"
    )
    try:
        found, x = np.empty_like(truth), X
        with connect(server.url.replace("http", "ws") + "/v1/socket") as socket:
            opened = [ask(socket, op="open", model="lstm", id=name) for name in IDS]
            handles = [one["handle"] for one in opened]
            for t in range(T - 2):
                socket.send(frame(handles, x[:, t]))
                found[:, t] = answer(socket.recv())[1]
            # A frame of one step, of whichever worker.
            for k, handle in enumerate(handles):
                socket.send(frame([handle], x[k, T - 2], number=k))
                number, y, _ = answer(socket.recv())
                assert number == k
                found[k, T - 2] = y[0]
        for k, name in enumerate(IDS):
            url = f"{server.url}{PATH}/{name}/step"
            found[k, T - 1] = post(url, json=x[k, T - 1].tolist()).json()["y"]
        np.testing.assert_allclose(found, truth, atol=1e-6)
        workers = {owner("lstm", name, count) for name in IDS}
        assert len(workers) == count
        for _ in range(4):  # whichever worker answers
            models = get(f"{server.url}/v1/models").json()["models"]
            assert next(m for m in models if m["name"] == "lstm")["sessions"] == SESSIONS
            assert get(f"{server.url}/v1/models/lstm").json()["sessions"] == SESSIONS
    finally:
        server.kill()


def test_large_bodies_and_many_requests_at_once_are_forwarded(folder, truth):
    server = Process(*("--module", str(folder / "lstm.pt"), "--workers", "2"), log=folder / "logx")
    far = [f"f{k}" for k in range(30)]
    x = np.random.default_rng(3).normal(size=(20_000, NUM_INPUTS)).astype(np.float32)
    try:
        with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
            found = []
            for name in far[:2]:  # one of them in the other worker, probably
                client.post(PATH, json={"id": name})
                step = f"{PATH}/{name}/step?items=many"
                found.append(client.post(step, content=orjson.dumps(x.tolist())).json()["y"])
            assert found[0] == found[1]
            assert len(found[0]) == len(x)
            assert client.get(f"{PATH}/nö").status_code in (400, 404)
            assert client.get(f"{PATH}/{far[0]}/nothing").status_code == 404
            assert client.put(f"{PATH}/{far[0]}/step").status_code == 405

        async def many():
            async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client:
                opened = [client.post(PATH, json={"id": name}) for name in far[2:]]
                assert {one.status_code for one in await asyncio.gather(*opened)} == {201}
                for t in range(3):
                    steps = [client.post(f"{PATH}/{n}/step", json=x[t].tolist()) for n in far[2:]]
                    ys = {str(one.json()["y"]) for one in await asyncio.gather(*steps)}
                    assert len(ys) == 1
                    np.testing.assert_allclose(orjson.loads(ys.pop()), found[0][t], atol=1e-6)

        asyncio.run(many())
    finally:
        server.kill()


@pytest.mark.slow
def test_demo_models_are_served_by_every_worker(tmp_path, monkeypatch):
    """They are trained before the workers start; here they are in the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    files = ("forecast", "anomaly", "text", "text", "text")
    for demo, name in zip(DEMOS, files, strict=True):
        path = demo_path(demo, cache_folder())
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(OLD / f"{name}.safetensors", path)
    server = Process("--demo", "--workers", "2", log=tmp_path / "log")
    try:
        names = {demo.name for demo in DEMOS} | {"story"}
        deadline = time.monotonic() + 2 * PATIENCE_S
        served = [set()]
        while not all(one == names for one in served):
            assert time.monotonic() < deadline, served
            served = []
            for _ in range(12):  # connections reach both workers
                models = get(f"{server.url}/v1/models").json()["models"]
                served.append({model["name"] for model in models})
        assert server.terminate() == 0
    finally:
        server.kill()
    assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
@needs_redis
def test_workers_with_redis_lose_no_session_when_one_or_all_are_killed(folder, truth, tmp_path):
    """A killed worker is started again and continues its sessions; after all were killed, other
    servers do, whatever their number of workers.
    """
    redis = Redis(tmp_path)
    arguments = ["--module", str(folder / "lstm.pt"), "--store", redis.url]
    first = Process(*arguments, "--workers", "2", log=tmp_path / "first")
    found = np.empty_like(truth)

    def step(server, t):
        for k, name in enumerate(IDS):
            url = f"{server.url}{PATH}/{name}/step?after={t}"
            answer = post(url, json=X[k, t].tolist())
            assert answer.status_code == 200, answer.text
            found[k, t] = answer.json()["y"]

    second = None
    try:
        for name in IDS:
            body = {"id": name, "durable": "step"}
            assert post(f"{first.url}{PATH}", json=body).status_code == 201
        step(first, 0)
        step(first, 1)
        os.kill(children(first.process.pid)[0], signal.SIGKILL)
        time.sleep(0.1)
        step(first, 2)
        workers = children(first.process.pid)
        first.kill()
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):  # they end with their supervisor
                os.kill(worker, signal.SIGKILL)
        second = Process(*arguments, "--workers", "3", log=tmp_path / "second")
        for t in range(3, T):
            step(second, t)
    finally:
        first.kill()
        if second is not None:
            second.kill()
        redis.kill()
    np.testing.assert_allclose(found, truth, atol=1e-6)
