"""Durable steps that arrive while a commit is being written, and answers that are given again."""

import asyncio
import threading

import numpy as np
import pytest
from serving import NUM_INPUTS, PATIENCE_S, answer, connected, frame, lstm, outputs, serving, until

from memorycell.server.durable import SqliteStore

X = np.random.default_rng(0).normal(size=(4, NUM_INPUTS)).astype(np.float32)
SESSIONS = 70
"""More than a statement of the store holds."""


@pytest.fixture
def layer_file(tmp_path):
    return lstm(tmp_path / "lstm.pt"), str(tmp_path / "lstm.pt")


class Slow:
    """A store that writes when it is allowed to, and notes how many rows each call has."""

    def __init__(self, store):
        self.store, self.allowed, self.rows = store, threading.Event(), []
        self.allowed.set()

    def put(self, rows):
        self.rows.append(len(rows))
        assert self.allowed.wait(PATIENCE_S)
        return self.store.put(rows)

    def __getattr__(self, name):
        return getattr(self.store, name)


def test_steps_that_arrive_during_a_commit_are_written_together(layer_file, tmp_path):
    layer, path = layer_file
    truth = outputs(layer, X)

    async def main():
        store = Slow(SqliteStore(tmp_path / "x.sqlite"))
        async with serving(store, modules=(path,)) as (_, _, app), connected(app) as socket:
            handles = []
            for k in range(SESSIONS + 1):
                durable = "step" if k < SESSIONS else "none"
                opened = await socket.ask(op="open", model="lstm", id=f"s{k}", durable=durable)
                handles.append(opened["handle"])
            store.rows.clear()
            store.allowed.clear()
            for k in range(SESSIONS):
                socket.post(frame([handles[k]], X[0], k))
                await until(lambda: store.rows)  # the first one is being written
                await asyncio.sleep(0.001)  # so that they arrive one by one
            socket.post(frame([handles[0]], X[1], 1000))  # the second step of a session
            socket.post(frame([handles[-1]], X[0], 2000))  # not durable: it does not wait
            number, y, _ = answer(await asyncio.wait_for(socket.get(), PATIENCE_S))
            assert number == 2000
            np.testing.assert_allclose(y[0], truth[0], atol=1e-6)
            store.allowed.set()
            found = {}
            for _ in range(SESSIONS + 1):
                number, y, status = answer(await asyncio.wait_for(socket.get(), PATIENCE_S))
                assert not status.any()
                found[number] = y[0]
            for k in range(SESSIONS):
                np.testing.assert_allclose(found[k], truth[0], atol=1e-6)
            np.testing.assert_allclose(found[1000], truth[1], atol=1e-6)
            # The first step alone, all others of the others, and the second step of the first.
            assert store.rows == [1, SESSIONS]

    asyncio.run(main())


def test_a_session_that_is_spilled_while_it_is_opened_is_read_back(layer_file, tmp_path):
    layer, path = layer_file

    async def main():
        store = Slow(SqliteStore(tmp_path / "x.sqlite"))
        async with serving(store, modules=(path,)) as (_, hub, app), connected(app) as socket:
            store.allowed.clear()
            opening = asyncio.create_task(
                socket.ask(op="open", model="lstm", id="a", durable="step")
            )
            while not store.rows:
                await asyncio.sleep(0.001)
            spilling = asyncio.create_task(hub.spill([hub.sessions["lstm", "a"]]))
            await asyncio.sleep(0.01)
            store.allowed.set()
            handle = (await opening)["handle"]
            assert await spilling == 1
            socket.post(frame([handle], X[0]))
            _, y, status = answer(await asyncio.wait_for(socket.get(), PATIENCE_S))
            assert not status.any()
            np.testing.assert_allclose(y[0], outputs(layer, X)[0], atol=1e-6)

    asyncio.run(main())


@pytest.mark.parametrize("items", [1, 2])
def test_an_answer_is_given_again_by_another_server(layer_file, tmp_path, items):
    settings = {"modules": (layer_file[1],), "state": str(tmp_path / "state")}
    body = X[0].tolist() if items == 1 else X[:items].tolist()
    step = f"/v1/models/lstm/sessions/a/step?after=0&items={'one' if items == 1 else 'many'}"

    async def main():
        async with serving(**settings) as (client, _, _), serving(**settings) as (other, _, _):
            opening = {"id": "a", "durable": "step"}
            await client.post("/v1/models/lstm/sessions", json=opening)
            first = (await client.post(step, json=body)).json()
            again = (await other.post(step, json=body)).json()  # read from the store
            assert again == first
            assert first["steps"] == items

    asyncio.run(main())
