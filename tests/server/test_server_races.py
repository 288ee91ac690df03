"""Many clients at once that step, rewind, fork, spill, close and reopen: every answer is that of a
session that nobody else touched, to the bit.
"""

import asyncio
import random

import numpy as np
import pytest
from serving import NUM_INPUTS, OLD, answer, connected, frame, lstm, serving

import memorycell
from memorycell.nn.adopt import view
from memorycell.server.problems import Problem
from memorycell.server.sessions import OpenOptions

DURABLE = ("none", "step", "interval")


async def one_session(hub, base, rng, name):
    """Random operations on a tensor session, compared with a stream."""
    numbers = np.random.default_rng(rng.randrange(2**32))
    options = OpenOptions(id=name, durable=rng.choice(DURABLE), history=rng.choice([0, 4]))
    await hub.open("lstm", options)
    expected, steps = base.fork(), 0
    for _ in range(rng.randrange(1, 25)):
        session = await hub.find("lstm", name)
        assert session.steps == steps
        x = numbers.normal(size=(rng.choice([1, 1, 1, 5]), NUM_INPUTS)).astype(np.float32)
        chance = rng.random()
        if chance < 0.6:
            y = await hub.step_tensors(session, x)
            np.testing.assert_array_equal(y, expected.step(x))
            steps += len(x)
        elif chance < 0.7:
            with pytest.raises(Problem):
                await hub.step(session, [[float("nan")] * NUM_INPUTS])
        elif chance < 0.8:
            count = rng.randrange(min(3, session.rewindable) + 1)
            await hub.rewind(session, count)
            expected.rewind(count)
            steps -= count
        elif chance < 0.9:
            fork = await hub.fork(session, OpenOptions(durable=rng.choice(DURABLE)))
            y = await hub.step_tensors(fork, x)
            np.testing.assert_array_equal(y, expected.fork().step(x))
            await hub.close(fork)
        else:
            await hub.spill([session])
    await hub.close(await hub.find("lstm", name))


async def one_text(hub, base, rng, name):
    await hub.open("text", OpenOptions(id=name, durable=rng.choice(DURABLE)))
    expected = base.fork()
    for _ in range(rng.randrange(1, 6)):
        session = await hub.find("text", name)
        item = rng.choice(["the cat", "a", "", "to be or not"])
        result = await hub.step(session, [item])
        assert result.answers == [expected.feed(item)]
        if rng.random() < 0.3:
            await hub.spill([session])
    await hub.close(await hub.find("text", name))


async def one_socket(app, base, rng):
    numbers = np.random.default_rng(rng.randrange(2**32))
    async with connected(app) as socket:
        opened = [
            await socket.ask(op="open", model="lstm", durable=rng.choice(["none", "step"]))
            for _ in range(4)
        ]
        expected = [base.fork() for _ in opened]
        for _ in range(6):
            picked = [rng.randrange(4) for _ in range(rng.randrange(1, 10))]
            x = numbers.normal(size=(len(picked), NUM_INPUTS)).astype(np.float32)
            socket.post(frame([opened[p]["handle"] for p in picked], x))
            _, y, status = answer(await socket.get())
            assert not status.any()
            for p, row, own in zip(picked, x, y, strict=True):
                np.testing.assert_array_equal(expected[p].step(row), own)
        for one in opened:
            await socket.ask(op="close", handle=one["handle"])


@pytest.mark.parametrize(
    ("seed", "rounds"), [(0, 2), pytest.param(1, 30, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_nobody_notices_the_others(tmp_path, seed, rounds):
    layer = view(lstm(tmp_path / "lstm.pt"))
    stream = memorycell.Stream(layer, history=32)
    text = memorycell.load(OLD / "text.safetensors").session()

    async def many(k, one):
        for turn in range(rounds):
            await one(random.Random(f"{seed} {k} {turn}"), f"s{k}-{turn}")

    async def main():
        async with serving(
            modules=(str(tmp_path / "lstm.pt"),),
            files=(str(OLD / "text.safetensors"),),
            state=str(tmp_path / "state"),
            interval_s=0.02,
            max_resident=10,
        ) as (_, hub, app):
            hub._upkeep._shortest_ttl_s = 0.2  # look for idle sessions often
            tensors = [many(k, lambda rng, n: one_session(hub, stream, rng, n)) for k in range(8)]
            texts = [many(k, lambda rng, n: one_text(hub, text, rng, n)) for k in range(3)]
            sockets = [many(k, lambda rng, n: one_socket(app, stream, rng)) for k in range(3)]
            await asyncio.gather(*tensors, *texts, *sockets)
            assert not hub.sessions
            assert all(served.sessions == 0 for served in hub.models())
            lane = hub.model("lstm").tensor_lanes["float32"]
            assert (len(lane.pool), lane._blocked, lane.rows) == (0, 0, 0)
            keys = await hub.committer.call(lambda store: store.keys("lstm"))
            assert keys == []

    asyncio.run(main())
