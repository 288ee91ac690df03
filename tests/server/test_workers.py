"""`memorycell serve --workers 2`: clients see one server, and a worker that dies loses nothing."""

import asyncio
import os
import re
import signal
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import httpx
import numpy as np
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import NUM_INPUTS, PATIENCE_S, Process, answer, frame, lstm, serving
from serving import connect as connect_to
from websockets.exceptions import ConnectionClosed

from memorycell.client import Client
from memorycell.errors import UserError
from memorycell.server.auth import new_token
from memorycell.server.config import ServerConfig, read_config
from memorycell.server.durable import SqliteStore, StoredSession
from memorycell.server.peers import merged_sessions
from memorycell.server.placement import Place, owner
from memorycell.server.redistributing import distribute

SESSIONS, T = 20, 6
DRAIN_S = 100
X = np.random.default_rng(1).normal(size=(SESSIONS, T, NUM_INPUTS)).astype(np.float32)
IDS = [f"s{k}" for k in range(SESSIONS)]
PATH = "/v1/models/lstm/sessions"
TOKEN, LINE = new_token("plant")
LINE = LINE.replace('"read"', '"read","admin"')
TOKENS = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def server(folder):
    lstm(folder / "lstm.pt")
    (folder / "tokens").write_text(LINE + "\n")
    arguments = ["--module", str(folder / "lstm.pt"), "--state", str(folder / "state")]
    arguments += ["--token-file", str(folder / "tokens")]
    arguments += ["--set", f"drain_s={DRAIN_S}"]
    found = Process(*arguments, "--workers", "2", log=folder / "log")
    yield found
    found.kill()


def one_process(folder, sequences):
    """Outputs [N, T, H] of a server that is one process, one session per sequence."""

    async def run():
        async with serving(modules=(str(folder / "lstm.pt"),)) as (client, _, _):
            outputs = []
            for k, sequence in enumerate(sequences):
                await client.post(PATH, json={"id": str(k)})
                answer = await client.post(f"{PATH}/{k}/step?items=many", json=sequence)
                outputs.append(answer.json()["y"])
            return np.array(outputs, np.float32)

    return asyncio.run(run())


@pytest.fixture(scope="module")
def truth(folder, server):
    return one_process(folder, X.tolist())


@contextmanager
def new_connections(server, number):
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                httpx.Client(base_url=server.url, timeout=PATIENCE_S, headers=TOKENS)
            )
            for _ in range(number)
        ]


def connect(server):
    protocols = ["memorycell.v1", f"bearer.{TOKEN}"]
    return connect_to(server.url.replace("http", "ws") + "/v1/socket", subprotocols=protocols)


def request(server, method, path, **options):
    """Over a connection of its own."""
    return httpx.request(method, server.url + path, headers=TOKENS, timeout=PATIENCE_S, **options)


def ask(socket, **message):
    socket.send(orjson.dumps({"ref": 1, **message}).decode())
    return orjson.loads(socket.recv())


def worker_ids(server):
    """The process ids of the workers, by number."""
    children = f"/proc/{server.process.pid}/task/{server.process.pid}/children"
    with open(children) as file:
        return [int(part) for part in file.read().split()]


def test_an_id_belongs_to_one_worker_and_few_move_with_another_worker():
    ids = [str(k) for k in range(3000)]
    before = np.array([owner("m", name, 3) for name in ids])
    after = np.array([owner("m", name, 4) for name in ids])
    assert np.abs(np.bincount(before) / len(ids) - 1 / 3).max() < 0.04
    moved = before != after
    assert (after[moved] == 3).all()
    assert abs(moved.mean() - 1 / 4) < 0.04
    place = Place(2, 3, "", "")
    assert all(place.elsewhere("m", place.new_id("m")) is None for _ in range(20))
    assert {owner("m", name, 1) for name in ids[:10]} == {0}


@pytest.fixture(scope="module")
def outputs(server, truth):
    """Those of the sessions `IDS`, opened and stepped by REST through any connection."""
    outputs = np.empty_like(truth)
    with new_connections(server, 4) as clients:
        for k, name in enumerate(IDS):
            opened = clients[k % 4].post(PATH, json={"id": name, "durable": "step"})
            assert opened.status_code == 201
            assert opened.headers["location"] == f"{PATH}/{name}"
            for t in range(T):
                url = f"{PATH}/{name}/step?after={t}"
                sent = {"x-request-id": f"{name}.{t}"}
                found = clients[(k + t) % 4].post(url, json=X[k, t].tolist(), headers=sent)
                assert found.headers.get_list("x-request-id") == [f"{name}.{t}"]
                outputs[k, t] = found.json()["y"]
    return outputs


def test_steps_of_rest_through_any_connection_equal_those_of_one_process(server, truth, outputs):
    assert np.array_equal(outputs, truth)
    with new_connections(server, 4) as clients:
        client = clients[0]
        # a page is of all workers
        pages, cursor = [], ""
        while cursor is not None:
            page = client.get(f"{PATH}?limit=7&cursor={cursor}").json()
            pages += [session["id"] for session in page["sessions"]]
            cursor = page["next"]
        assert pages == sorted(IDS)
        # problems are those of one process; a forged mark of a hop changes nothing
        assert client.post(PATH, json={"id": "s1"}).json()["type"] == "/problems/session-exists"
        assert client.get(f"{PATH}/nobody").status_code == 404
        for forged in clients:
            headers = {"x-memorycell-hop": "0" * 64, "x-memorycell-steps": "5"}
            assert forged.get(f"{PATH}/s3", headers=headers).json()["steps"] == T
        for name in IDS:  # wherever they are
            url = f"{server.url}{PATH}/{name}"
            assert httpx.get(url, timeout=PATIENCE_S).status_code == 401
        # forks to any id continue from the same state
        for name in ("a", "b", "c", "d"):
            forked = client.post(f"{PATH}/s0/fork", json={"id": f"fork-{name}"}).json()
            assert (forked["id"], forked["steps"]) == (f"fork-{name}", T)
        states = {client.get(f"{PATH}/fork-{name}/state").content for name in "abcd"}
        assert len(states) == 1
        for name in "abcd":
            assert client.delete(f"{PATH}/fork-{name}").status_code == 204


def test_sequences_of_the_open_inference_protocol_are_found(server, truth):
    with new_connections(server, 4) as clients:
        for k in range(4):
            for t in range(2):
                infer = {
                    "parameters": {"sequence_id": 100 + k, "sequence_start": t == 0},
                    "inputs": [
                        {
                            "name": "x",
                            "datatype": "FP32",
                            "shape": [1, NUM_INPUTS],
                            "data": X[k, t].tolist(),
                        }
                    ],
                }
                found = clients[(k + t) % 4].post("/v2/models/lstm/infer", json=infer).json()
                y = np.array(found["outputs"][0]["data"], np.float32)
                assert np.array_equal(y, truth[k, t])


def test_one_socket_has_sessions_of_all_workers(server, truth):
    outputs = np.empty_like(truth)
    with connect(server) as socket:
        handles = []
        for name in IDS:
            found = ask(socket, op="open", model="lstm", id=f"w-{name}")
            assert found["ok"], found
            handles.append(found["handle"])
        assert len(set(handles)) == SESSIONS
        for t in range(T - 1):
            order = np.random.default_rng(t).permutation(SESSIONS)
            socket.send(frame([handles[k] for k in order], X[order, t], number=t + 5))
            number, y, status = answer(socket.recv())
            assert number == t + 5
            assert not status.any()
            outputs[order, t] = y
        for k, handle in enumerate(handles):  # JSON, and an unknown handle among known ones
            found = ask(socket, op="step", handle=handle, item=X[k, T - 1].tolist(), ref=k)
            assert found["ref"] == k
            outputs[k, T - 1] = found["y"]
        socket.send(frame([handles[0], 999_999, handles[1]], np.zeros((3, NUM_INPUTS))))
        assert answer(socket.recv())[2].tolist() == [0, 1, 0]
        for name in "abcd":
            found = ask(socket, op="fork", handle=handles[2], id=f"w-fork-{name}")
            assert (found["session"]["steps"], found["session"]["id"]) == (T, f"w-fork-{name}")
            assert ask(socket, op="info", handle=found["handle"])["session"]["attached"]
            assert ask(socket, op="close", handle=found["handle"])["ok"]
        with connect(server) as other:  # of whichever worker
            refused = ask(other, op="attach", model="lstm", id="w-s4")
            assert refused["problem"]["type"] == "/problems/session-in-use"
            assert ask(other, op="attach", model="lstm", id="w-s4", take=True)["ok"]
            assert orjson.loads(socket.recv())["handle"] == handles[4]
        assert ask(socket, op="step", handle=handles[4], item=[0] * NUM_INPUTS)["ok"] is False
    assert np.array_equal(outputs, truth)


def test_sessions_without_an_id_are_spread_over_the_workers(server):
    found = []
    for k in range(24):
        if k % 2:
            found.append(request(server, "POST", PATH, json={}).json()["id"])
        else:
            with connect(server) as socket:
                found.append(ask(socket, op="open", model="lstm")["session"]["id"])
    counts = np.bincount([owner("lstm", name, 2) for name in found], minlength=2)
    assert counts.min() > 2  # the chance of fewer is 3e-5
    text = request(server, "GET", "/metrics").text
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    assert {s.labels["worker"] for s in samples} == {"0", "1"}
    assert sum(s.value for s in samples if s.name == "memorycell_worker_up") == 2


def test_a_new_version_reaches_all_workers(server, folder):
    lstm(folder / "lstm.pt", seed=1)
    assert request(server, "POST", "/v1/models/lstm/reload").json()["version"] == 2
    with new_connections(server, 8) as clients:
        assert {c.get("/v1/models/lstm").json()["version"] for c in clients} == {2}
        lstm(folder / "lstm.pt")  # as before, for the sessions that are open
        clients[0].post("/v1/models/lstm/reload")


def test_no_acknowledged_step_is_lost_when_a_worker_is_killed_under_load(server, folder, outputs):
    """Clients attach their sessions again and repeat what was not answered."""
    names = [f"k{k}" for k in range(4)]
    names += [next(f"j{k}" for k in range(99) if owner("lstm", f"j{k}", 2) == w) for w in (0, 1)]
    read, failed, stop = {name: [] for name in names}, [], threading.Event()
    patient = {"timeout_s": 2 * PATIENCE_S, "reconnect_s": 2 * PATIENCE_S}

    def feed(name):
        try:
            with Client(server.url, token=TOKEN, **patient) as client:
                session = client.open("lstm", id=name, durable="step")
                out = read[name]
                while not stop.is_set() or len(out) < T:
                    x = X[len(out) % SESSIONS, 0].tolist()
                    answer = session.feed(x)
                    assert answer.steps == len(out) + 1
                    out.append(answer.answers)
                    time.sleep(0.01)
        except Exception as error:
            failed.append((name, error))

    threads = [threading.Thread(target=feed, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    while not failed and min(map(len, read.values())) < 3:  # all of them step
        time.sleep(0.01)
    killed = worker_ids(server)[0]
    os.kill(killed, signal.SIGKILL)
    deadline = time.monotonic() + 2 * PATIENCE_S
    while "is back" not in server.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join(2 * PATIENCE_S)
        assert not thread.is_alive()
    assert not failed
    turns = 1 + max(map(len, read.values())) // SESSIONS
    longest = one_process(folder, [[x[0].tolist() for x in X] * turns])[0]
    for name in names:
        session = request(server, "GET", f"{PATH}/{name}").json()
        assert session["steps"] == len(read[name])
        found = np.array(read[name], np.float32).reshape(len(read[name]), -1)
        assert np.array_equal(found, longest[: len(found)])
    for k, name in enumerate(IDS):  # opened before, by REST
        found = request(server, "GET", f"{PATH}/{name}").json()
        assert found["steps"] == T, (k, found)


def test_workers_drain_within_their_time(server, folder, outputs):
    with connect(server) as socket:
        ask(socket, op="open", model="lstm", id="w-last")
        workers, began = worker_ids(server), time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - began < DRAIN_S
        with suppress(ConnectionClosed):
            while True:
                assert orjson.loads(socket.recv())["event"] == "drain"
        assert socket.close_code == 1012
    assert not any(os.path.exists(f"/proc/{worker}") for worker in workers)
    assert "Traceback" not in server.log.read_text()
    # Saved in the files of their workers, and found when the number of workers changes.
    keys = {}
    for workers in (2, 3, 1):
        distribute(ServerConfig(state=str(folder / "state"), workers=workers))
        for k in range(workers):
            name = "sessions.sqlite" if workers == 1 else f"sessions-{k}.sqlite"
            store = SqliteStore(folder / "state" / name)
            found = store.every_key()
            store.close()
            assert all(owner(*key, workers) == k for key in found)
            keys.setdefault(workers, []).extend(found)
        assert sorted(keys[workers]) == sorted(keys[2])
    assert {("lstm", name) for name in (*IDS, "w-last")} <= set(keys[1])


def test_an_interrupted_move_of_sessions_is_done_again(tmp_path):
    settings = {"state": str(tmp_path)}
    store = SqliteStore(tmp_path / "sessions.sqlite")
    rows = [StoredSession("m", str(k), "f", k, b"x", b"{}", 0, 0.0, 0.0) for k in range(20)]
    store.put(rows)
    store.close()
    distribute(ServerConfig(workers=2, **settings))
    (tmp_path / "workers").write_text("moving\n")
    distribute(ServerConfig(workers=1, **settings))
    store = SqliteStore(tmp_path / "sessions.sqlite")
    assert [store.get("m", row.id) for row in rows] == rows
    store.close()


def test_pages_of_workers_are_merged():
    one = {"sessions": [{"id": "a"}, {"id": "d"}], "next": "d"}
    two = {"sessions": [{"id": "b"}, {"id": "e"}], "next": None}
    page = merged_sessions([one, two], 2)
    assert ([s["id"] for s in page["sessions"]], page["next"]) == (["a", "b"], "b")
    assert merged_sessions([two], 2)["next"] is None


def test_settings_of_workers_are_checked():
    with pytest.raises(UserError, match="workers"):
        read_config({"workers": 0}, None, {})


@pytest.mark.slow
def test_workers_that_cannot_start_are_said_once(tmp_path, memorycell):
    (tmp_path / "x.safetensors").write_bytes(b"x")
    status, _, err = memorycell(
        "serve", str(tmp_path / "x.safetensors"), "--workers", "2", "--port", "0"
    )
    assert status == 2
    assert len(re.findall(r"x\.safetensors", err)) == 1
