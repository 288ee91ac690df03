"""Sessions that survive: stores, restarts, kill -9, full disks, spilling, expiry."""

import asyncio
import random
import sqlite3
import threading
import time

import httpx
import numpy as np
import orjson
import pytest
from serving import (
    NUM_INPUTS,
    OLD,
    PATIENCE_S,
    Process,
    answer,
    connect,
    connected,
    frame,
    lstm,
    outputs,
    serving,
    until,
)

import memorycell
from memorycell.nn.adopt import view
from memorycell.server.durable import (
    SqliteStore,
    StoreDamaged,
    StoredSession,
    StoreFull,
    StoreUnavailable,
)
from memorycell.server.problems import Problem
from memorycell.server.sessions import OpenOptions

X = np.random.default_rng(0).normal(size=(400, NUM_INPUTS)).astype(np.float32)


def run(coroutine):
    return asyncio.run(coroutine)


@pytest.fixture
def layer_file(tmp_path):
    return lstm(tmp_path / "lstm.pt"), str(tmp_path / "lstm.pt")


def row(name="a", **changes):
    values = {"snapshot": b"s", "note": b"{}", "steps": 1, "fingerprint": "f", "epoch": 0}
    return StoredSession("m", name, **{**values, **changes})


def test_the_local_store(tmp_path):
    store = SqliteStore(tmp_path / "s" / "x.sqlite")
    assert store.put([row("a"), row("b", expires_at=5.0), row("c")]) == []
    assert store.get("m", "a") == row("a")
    assert store.get("m", "z") is None
    taken = store.take("m", "a")
    assert taken.epoch == 1
    assert store.put([row("a", steps=2), row("b", steps=2, expires_at=5.0)]) == [("m", "a")]
    assert store.get("m", "a").steps == 1
    assert store.put([row("a", steps=3, epoch=1)]) == []
    assert store.keys("m") == ["a", "b", "c"]
    assert store.keys("m", "a", 1) == ["b"]
    assert store.expire(5.0) == 1
    store.delete([("m", "c"), ("m", "zz")])
    assert store.keys("m") == ["a"]
    store.close()
    database = sqlite3.connect(tmp_path / "s" / "x.sqlite")
    database.execute("update sessions set snapshot = x'00'")
    database.commit()
    database.close()
    with pytest.raises(StoreDamaged, match="checksum"):
        SqliteStore(tmp_path / "s" / "x.sqlite").get("m", "a")


def test_sessions_continue_after_an_orderly_restart_whatever_their_kind(layer_file, tmp_path):
    layer, path = layer_file
    truth = outputs(layer, X)
    settings = {
        "modules": (path,),
        "files": (str(OLD / "text.safetensors"),),
        "state": str(tmp_path / "state"),
    }
    expected = memorycell.load(OLD / "text.safetensors").session()
    expected.feed("to be")

    async def main():
        async with serving(**settings) as (_, hub, _):
            for durable in ("none", "step", "interval"):
                session = await hub.open("lstm", OpenOptions(id=durable, durable=durable))
                await hub.step(session, X[:3])
                session = await hub.open("text", OpenOptions(id=durable, durable=durable))
                await hub.step(session, ["to be"])
        async with serving(**settings) as (client, hub, _):
            page = (await client.get("/v1/models/lstm/sessions")).json()["sessions"]
            assert [one["id"] for one in page] == ["interval", "none", "step"]
            own = expected.feed("or not")
            for durable in ("none", "step", "interval"):
                session = await hub.find("lstm", durable)
                assert session.steps == 3
                y = await hub.step_tensors(session, X[3:4])
                np.testing.assert_allclose(y, truth[3:4], atol=1e-6)
                session = await hub.find("text", durable)
                assert (await hub.step(session, ["or not"])).answers == [own]

    run(main())


class Failing:
    """A store that fails on demand."""

    def __init__(self, store):
        self.store, self.error = store, None

    def put(self, rows):
        if self.error is not None:
            raise self.error
        return self.store.put(rows)

    def __getattr__(self, name):
        return getattr(self.store, name)


@pytest.mark.parametrize(
    ("error", "status", "code"), [(StoreFull("full"), 507, 6), (StoreUnavailable("gone"), 503, 7)]
)
def test_a_step_that_cannot_be_stored_changes_nothing(layer_file, tmp_path, error, status, code):
    layer, path = layer_file
    truth = outputs(layer, X)
    text = memorycell.load(OLD / "text.safetensors").session()

    async def main():
        store = Failing(SqliteStore(tmp_path / "x.sqlite"))
        async with serving(store, modules=(path,), files=(str(OLD / "text.safetensors"),)) as (
            client,
            _,
            app,
        ):
            for model in ("lstm", "text"):
                await client.post(
                    f"/v1/models/{model}/sessions", json={"id": "a", "durable": "step"}
                )
            one = "/v1/models/lstm/sessions/a/step"
            await client.post(one, json=X[0].tolist())
            store.error = error
            for body, where in ((X[1].tolist(), one), (X[1:3].tolist(), f"{one}?items=many")):
                found = await client.post(where, json=body)
                assert found.status_code == status
            found = await client.post("/v1/models/text/sessions/a/step", json="a")
            assert found.status_code == status
            async with connected(app) as socket:
                handle = (await socket.ask(op="attach", model="lstm", id="a"))["handle"]
                socket.post(frame([handle], X[1]))
                assert answer(await socket.get())[2].tolist() == [code]
                store.error = None
                socket.post(frame([handle], X[1]))
                np.testing.assert_allclose(answer(await socket.get())[1][0], truth[1], atol=1e-6)
            found = await client.post("/v1/models/text/sessions/a/step", json="a")
            assert found.json()["answers"] == text.feed("a")

    run(main())


def test_a_session_that_another_server_took_is_gone_here(layer_file, tmp_path):
    settings = {"modules": (layer_file[1],), "state": str(tmp_path)}
    truth = outputs(layer_file[0], X)

    async def main():
        async with serving(**settings) as (_, first, _), serving(**settings) as (_, second, _):
            session = await first.open("lstm", OpenOptions(id="a", durable="step"))
            await first.step(session, X[:2])
            other = await second.find("lstm", "a")
            y = await second.step_tensors(other, X[2:3])
            np.testing.assert_allclose(y, truth[2:3], atol=1e-6)
            with pytest.raises(Problem, match="another server"):
                await first.step(session, X[2:3])
            assert session.closed
            y = await second.step_tensors(other, X[3:4])
            np.testing.assert_allclose(y, truth[3:4], atol=1e-6)

    run(main())


def test_idle_sessions_are_spilled_and_read_back(layer_file, tmp_path):
    truth = outputs(layer_file[0], X)

    async def main():
        async with serving(
            modules=(layer_file[1],), state=str(tmp_path), max_resident=8, ttl_s=1000
        ) as (_, hub, _):
            hub._upkeep._shortest_ttl_s = 0.2
            for k in range(30):
                session = await hub.open("lstm", OpenOptions(id=f"s{k}"))
                await hub.step(session, X[: k % 3 + 1])
            pool = hub.model("lstm").tensor_lanes["float32"].pool
            await until(lambda: len(hub.sessions) == len(pool) <= 8)
            for k in range(30):
                session = await hub.find("lstm", f"s{k}")
                assert session.steps == k % 3 + 1
                y = await hub.step_tensors(session, X[k % 3 + 1 : k % 3 + 2])
                np.testing.assert_allclose(y[0], truth[k % 3 + 1], atol=1e-6)

    run(main())


def test_the_state_of_a_session_is_freed_at_the_end_of_its_time(layer_file, tmp_path):
    async def main():
        async with serving(
            modules=(layer_file[1],), state=str(tmp_path), files=(str(OLD / "text.safetensors"),)
        ) as (client, hub, app):
            async with connected(app) as socket:
                opened = await socket.ask(
                    op="open", model="lstm", id="a", ttl_s=0.2, durable="step"
                )
                await hub.open("text", OpenOptions(ttl_s=0.2))
                await hub.open("lstm", OpenOptions(id="b"))
                event = await socket.get()
                assert event == {"event": "closed", "handle": opened["handle"], "reason": "ttl"}
            pool = hub.model("lstm").tensor_lanes["float32"].pool
            await until(lambda: len(hub.sessions) == len(pool) == 1)
            assert list(hub.sessions) == [("lstm", "b")]
            assert (await client.get("/v1/models/lstm/sessions/a")).status_code == 404
            await until(lambda: hub.model("text").sessions == 0)  # freed by its lane's thread

    run(main())


@pytest.mark.parametrize("jump_s", [-86_400, 86_400])
def test_a_clock_that_is_set_ends_no_open_session(layer_file, tmp_path, monkeypatch, jump_s):
    """Neither in memory nor in the store, where it would be missing after a crash."""
    layer, path = layer_file
    truth, real = outputs(layer, X), time.time

    async def main():
        async with serving(modules=(path,), state=str(tmp_path)) as (client, hub, _):
            session = await hub.open("lstm", OpenOptions(id="a", durable="step", ttl_s=3600.0))
            await hub.open("lstm", OpenOptions(id="short", ttl_s=0.4))  # frequent sweeps
            await hub.step(session, X[:1])
            monkeypatch.setattr(time, "time", lambda: real() + jump_s)
            while ("lstm", "short") in hub.sessions:
                await asyncio.sleep(0.05)
            deadline, ends_at = time.monotonic() + PATIENCE_S, 0.0
            while ends_at != pytest.approx(real() + jump_s + 3600, abs=600):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
                stored = await hub.committer.call(lambda store: store.get("lstm", "a"))
                assert stored is not None
                assert stored.steps == 1
                ends_at = stored.expires_at
            result = await hub.step(session, X[1:2])
            np.testing.assert_allclose(result.answers[0], truth[1], atol=1e-6)
            assert (await client.get("/v1/models/lstm/sessions/a")).json()["steps"] == 2
        async with serving(modules=(path,), state=str(tmp_path)) as (_, hub, _):
            session = await hub.find("lstm", "a")
            result = await hub.step(session, X[2:3])
            np.testing.assert_allclose(result.answers[0], truth[2], atol=1e-6)

    run(main())


def test_interval_sessions_are_on_disk_soon(layer_file, tmp_path):
    async def main():
        async with serving(modules=(layer_file[1],), state=str(tmp_path), interval_s=0.05) as (
            _,
            hub,
            _,
        ):
            session = await hub.open("lstm", OpenOptions(id="a", durable="interval"))
            await hub.step(session, X[:5])
            await until(lambda: session.saved == 5)
            stored = await hub.committer.call(lambda store: store.get("lstm", "a"))
            assert stored.steps == 5

    run(main())


def kill_and_compare(layer, server, kills, seed):
    """Kill a server at random moments while four sockets step durable sessions."""
    sessions, per_socket = 8, 2
    pool = memorycell.Pool(view(layer), sessions)
    slots = pool.open_many(sessions)
    truth = np.stack([pool.step(slots, np.repeat(x[None], sessions, 0))[0] for x in X])
    acknowledged = np.zeros(sessions, int)
    rng = random.Random(seed)
    for k in range(sessions):
        body = {"id": f"s{k}", "durable": "step"}
        url = f"{server.url}/v1/models/lstm/sessions"
        httpx.post(url, json=body, timeout=PATIENCE_S).raise_for_status()
    wrong = []

    def client(first):
        own = list(range(first, first + per_socket))
        try:
            with connect(f"ws://127.0.0.1:{server.port}/v1/socket") as socket:
                handles, at = [], []
                for k in own:
                    socket.send(
                        orjson.dumps({"op": "attach", "model": "lstm", "id": f"s{k}"}).decode()
                    )
                    found = orjson.loads(socket.recv())
                    handles.append(found["handle"])
                    at.append(found["session"]["steps"])
                    if at[-1] < acknowledged[k] or at[-1] > acknowledged[k] + 1:
                        wrong.append((k, at[-1], acknowledged[k]))
                at = np.array(at)
                while at.max() < len(X) - 1:
                    socket.send(frame(handles, X[at]))
                    _, y, status = answer(socket.recv())
                    if status.any() or not np.array_equal(y, truth[at]):
                        wrong.append((own, status, np.abs(y - truth[at]).max()))
                    at += 1
                    acknowledged[own] = at
        except Exception as error:
            if not server.dying:
                wrong.append(error)

    for _ in range(kills):
        server.dying, before = False, acknowledged.copy()
        threads = [
            threading.Thread(target=client, args=(k,)) for k in range(0, sessions, per_socket)
        ]
        for thread in threads:
            thread.start()
        for k, thread in enumerate(threads):  # each of them steps, or has read everything
            while acknowledged[per_socket * k] == before[per_socket * k] and thread.is_alive():
                time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.4))
        server.dying = True
        server.kill()
        for thread in threads:
            thread.join()
        server.start()
    return wrong, acknowledged


@pytest.mark.parametrize(
    "kills", [1, pytest.param(20, marks=pytest.mark.slow)], ids=["once", "often"]
)
def test_kill_9_loses_no_acknowledged_step(layer_file, tmp_path, kills):
    server = Process(
        "--module", layer_file[1], "--state", str(tmp_path / "state"), log=tmp_path / "log"
    )
    try:
        wrong, acknowledged = kill_and_compare(layer_file[0], server, kills, kills)
        assert not wrong
        assert acknowledged.min() > 0
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        server.kill()
