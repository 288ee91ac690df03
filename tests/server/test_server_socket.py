"""The WebSocket: frames of many steps, order, handles, sessions that outlive their socket."""

import asyncio
import base64
import contextlib
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import (
    HEADER,
    NUM_INPUTS,
    OLD,
    PATIENCE_S,
    H,
    answer,
    connected,
    frame,
    lstm,
    outputs,
    serving,
)

import memorycell
from memorycell.server.socket_steps import _turns

X = np.random.default_rng(0).normal(size=(60, NUM_INPUTS)).astype(np.float32)


def run(coroutine):
    return asyncio.run(coroutine)


@pytest.fixture
def layer_file(tmp_path):
    return lstm(tmp_path / "lstm.pt"), str(tmp_path / "lstm.pt")


def test_frames_of_one_of_many_and_of_repeated_sessions(layer_file):
    layer, path = layer_file
    truth = outputs(layer, X)

    async def main():
        async with serving(modules=(path,)) as (_, _, app), connected(app) as one:
            a, b, c = [(await one.ask(op="open", model="lstm"))["handle"] for _ in range(3)]
            one.post(frame([a], X[0], 9))
            number, y, status = answer(await one.get())
            assert number == 9
            assert not status.any()
            np.testing.assert_allclose(y[0], truth[0], atol=1e-6)
            # a reads steps 1, 2, 3; b its steps 0, 1; in one frame, mixed
            one.post(frame([a, b, a, a, b], X[[1, 0, 2, 3, 1]]))
            _, y, status = answer(await one.get())
            np.testing.assert_allclose(y, truth[[1, 0, 2, 3, 1]], atol=1e-6)
            one.post(frame([c, b, a], X[[0, 2, 4]]))
            np.testing.assert_allclose(answer(await one.get())[1], truth[[0, 2, 4]], atol=1e-6)

    run(main())


def test_rows_that_cannot_be_read_fail_alone(layer_file):
    layer, path = layer_file
    truth = outputs(layer, X)

    async def main():
        async with serving(modules=(path,)) as (_, _, app), connected(app) as one:
            a, b = [(await one.ask(op="open", model="lstm"))["handle"] for _ in range(2)]
            x = X[:3].copy()
            x[1, 2] = np.nan
            one.post(frame([a, b, 77], x))
            _, y, status = answer(await one.get())
            assert status.tolist() == [0, 2, 1]
            assert np.isnan(y[1:]).all()
            one.post(frame([a, b], X[[1, 0]]))
            np.testing.assert_allclose(answer(await one.get())[1], truth[[1, 0]], atol=1e-6)
            one.post(frame([78], X[0]))
            assert answer(await one.get())[2].tolist() == [1]

    run(main())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        HEADER.pack(1, 0, 0, 5, 1, NUM_INPUTS),
        HEADER.pack(1, 0, 0, 5, 0, 0),
        HEADER.pack(1, 0, 0, 5, 0xFFFFFFFF, 0xFFFFFFFF),
        HEADER.pack(9, 0, 0, 5, 1, NUM_INPUTS) + bytes(4 + 4 * NUM_INPUTS),
        HEADER.pack(1, 3, 0, 5, 1, NUM_INPUTS) + bytes(4 + 4 * NUM_INPUTS),
        HEADER.pack(4, 0, 0, 5, 10, 1) + bytes(3),
    ],
)
def test_a_wrong_frame_is_answered_and_the_socket_goes_on(layer_file, data):
    async def main():
        async with serving(modules=(layer_file[1],)) as (_, _, app), connected(app) as one:
            handle = (await one.ask(op="open", model="lstm"))["handle"]
            one.post(data)
            found = await one.get()
            assert HEADER.unpack_from(found)[0] == 3
            assert b"problems/bad-request" in found
            one.post(frame([handle], X[0]))
            assert not answer(await one.get())[2].any()

    run(main())


def test_a_wrong_width_is_said(layer_file):
    async def main():
        async with serving(modules=(layer_file[1],)) as (_, _, app), connected(app) as one:
            handle = (await one.ask(op="open", model="lstm"))["handle"]
            for count in (1, 2):
                one.post(frame([handle] * count, np.zeros((count, NUM_INPUTS + 1))))
                assert b"reads 5 inputs per step, got 6" in await one.get()

    run(main())


def test_frames_that_are_sent_without_waiting_are_answered_in_order(layer_file):
    layer, path = layer_file
    truth = outputs(layer, X)

    async def main():
        async with serving(modules=(path,)) as (_, _, app), connected(app) as one:
            handles = [(await one.ask(op="open", model="lstm"))["handle"] for _ in range(3)]
            for k in range(len(X)):
                one.post(frame(handles, np.repeat(X[k : k + 1], 3, 0), k))
            for k in range(len(X)):
                number, y, _ = answer(await one.get())
                assert number == k
                np.testing.assert_allclose(y, np.repeat(truth[k : k + 1], 3, 0), atol=1e-6)

    run(main())


def test_many_sockets_fill_batches(layer_file):
    async def main():
        async with (
            serving(modules=(layer_file[1],)) as (_, hub, app),
            many_sockets(app, 32) as sockets,
        ):
            handles = [(await s.ask(op="open", model="lstm"))["handle"] for s in sockets]
            before = sum(hub.metrics.batches._counts)
            for k in range(20):
                for socket, handle in zip(sockets, handles, strict=True):
                    socket.post(frame([handle], X[k]))
                for socket in sockets:
                    await socket.get()
            batches = sum(hub.metrics.batches._counts) - before
            assert batches <= 3 * 20  # 640 steps

    run(main())


@contextlib.asynccontextmanager
async def many_sockets(app, count):
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(connected(app)) for _ in range(count)]


def test_a_session_outlives_its_socket_and_belongs_to_one_at_a_time(layer_file):
    layer, path = layer_file
    truth = outputs(layer, X)

    async def main():
        async with serving(modules=(path,)) as (client, _, app):
            async with connected(app) as first:
                handle = (await first.ask(op="open", model="lstm", id="a"))["handle"]
                first.post(frame([handle], X[0]))
                await first.get()
                async with connected(app) as second:
                    refused = await second.ask(op="attach", model="lstm", id="a")
                    assert refused["problem"]["type"] == "/problems/session-in-use"
                    taken = await second.ask(op="attach", model="lstm", id="a", take=True)
                    assert (await first.get())["reason"] == "taken"
                    second.post(frame([taken["handle"]], X[1]))
                    np.testing.assert_allclose(
                        answer(await second.get())[1][0], truth[1], atol=1e-6
                    )
                    first.post(frame([handle], X[2]))
                    assert answer(await first.get())[2].tolist() == [1]
            found = (await client.get("/v1/models/lstm/sessions/a")).json()
            assert (found["steps"], found["attached"]) == (2, False)
            async with connected(app) as third:
                again = await third.ask(op="attach", model="lstm", id="a")
                third.post(frame([again["handle"]], X[2]))
                np.testing.assert_allclose(answer(await third.get())[1][0], truth[2], atol=1e-6)

    run(main())


def test_a_slot_is_not_shared_after_a_client_vanished_in_the_middle(layer_file):
    layer, path = layer_file
    truth = outputs(layer, X)

    async def main():
        async with serving(modules=(path,)) as (client, hub, app):
            for k in range(5):  # each leaves with an unanswered step, and its session is deleted
                async with connected(app) as one:
                    handle = (await one.ask(op="open", model="lstm", id=f"a{k}"))["handle"]
                    one.post(frame([handle], X[k]))
                await client.delete(f"/v1/models/lstm/sessions/a{k}")
            lane = hub.model("lstm").tensor_lanes["float32"]
            assert len(lane.pool) == 0
            assert not hub.sessions
            async with connected(app) as one:
                handles = [(await one.ask(op="open", model="lstm"))["handle"] for _ in range(4)]
                one.post(frame(handles, X[:4]))
                expected = [outputs(layer, X[k : k + 1])[0] for k in range(4)]
                np.testing.assert_allclose(answer(await one.get())[1], expected, atol=1e-6)
            assert truth is not None

    run(main())


def test_operations_over_json(layer_file):
    layer, path = layer_file
    truth = outputs(layer, X)

    async def main():
        async with (
            serving(modules=(path,), files=(str(OLD / "text.safetensors"),)) as (_, _, app),
            connected(app) as one,
        ):
            opened = await one.ask(op="open", model="lstm", history=4)
            handle = opened["handle"]
            many = await one.ask(op="step", handle=handle, items=X[:3].tolist())
            np.testing.assert_allclose(many["y"], truth[:3], atol=1e-6)
            assert (await one.ask(op="rewind", handle=handle, items=1))["session"]["steps"] == 2
            fork = await one.ask(op="fork", handle=handle)
            assert fork["handle"] != handle
            y = (await one.ask(op="step", handle=fork["handle"], item=X[2].tolist()))["y"]
            np.testing.assert_allclose(y, truth[2], atol=1e-6)
            state = (await one.ask(op="state", handle=fork["handle"]))["state"]
            base64.b64decode(state)
            await one.ask(op="restore", handle=handle, state=state)
            y = (await one.ask(op="step", handle=handle, item=X[3].tolist()))["y"]
            np.testing.assert_allclose(y, truth[3], atol=1e-6)
            assert (await one.ask(op="close", handle=handle))["ok"]
            assert (await one.ask(op="info", handle=handle))["problem"]["status"] == 404
            assert (await one.ask(op="nothing"))["problem"]["status"] == 400
            text = await one.ask(op="open", model="text")
            found = await one.ask(op="step", handle=text["handle"], items=["to", "be"], watch=True)
            assert len(found["answers"]) == 2
            assert found["gates"]["steps"] > 2
            data = b"some text"
            one.post(HEADER.pack(4, 0, 0, 77, len(data), text["handle"]) + data)
            assert (await one.get())["ref"] == 77
            assert (await one.ask(op="predict", model="text", input="to"))["prediction"]["text"]
            assert "time" in await one.ask(op="ping")

    run(main())


def test_a_slow_session_does_not_delay_others(layer_file):
    """A model file's session that computes long runs in the thread; frames are answered before."""

    allowed = threading.Event()
    allowed.set()

    class Slow:
        def feed(self, item):
            time.sleep(0.05)
            assert allowed.wait(PATIENCE_S)
            return [{"slow": True}]

        def close(self):
            return []

        def snapshot(self):
            return b""

        def restore(self, data):
            pass

    async def main():
        from memorycell.server.served import served_entry

        async with serving(modules=(layer_file[1],)) as (_, hub, app), connected(app) as one:
            hub.registry.add_entry(served_entry("slow", "slow", lambda *_: Slow(), {}))
            slow = (await one.ask(op="open", model="slow"))["handle"]
            await one.ask(op="step", handle=slow, item="a")  # its cost is known now
            allowed.clear()
            quick = (await one.ask(op="open", model="lstm"))["handle"]
            one.post({"op": "step", "handle": slow, "item": "b", "ref": "slow"})
            await asyncio.sleep(0.05)
            for k in range(20):
                one.post(frame([quick], X[k]))
                assert isinstance(await one.get(), bytes)
            allowed.set()
            assert (await one.get())["ref"] == "slow"

    run(main())


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=30))
def test_turns_count_earlier_rows_of_the_same_session(rows):
    lanes, slots = (np.array(part) for part in zip(*rows, strict=True))
    expected = [sum(other == row for other in rows[:k]) for k, row in enumerate(rows)]
    assert _turns(lanes, slots).tolist() == expected


def test_the_package_does_not_import_the_server():
    import subprocess
    import sys

    code = "import memorycell, sys; assert 'memorycell.server' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert memorycell.serve.__module__ == "memorycell.server.running"
    assert H == 7
