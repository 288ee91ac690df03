"""The Python client against a server on the loopback interface."""

import asyncio
import hashlib
import json
import time

import numpy as np
import pytest
import safetensors.torch
import torch
from free_ports import free_port
from proxy import Proxy
from served import served

import memorycell
from memorycell.client import AnswerLostError, AsyncClient, Client, ProblemError, StepError
from memorycell.server.config import ServerConfig

HIDDEN, WIDTH = 5, 3


@pytest.fixture(scope="module")
def layer():
    torch.manual_seed(0)
    return torch.nn.LSTM(WIDTH, HIDDEN, batch_first=True)


@pytest.fixture(scope="module")
def weights(layer, tmp_path_factory):
    path = tmp_path_factory.mktemp("client") / "lstm.safetensors"
    safetensors.torch.save_file(layer.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def address(weights, tmp_path_factory):
    config = ServerConfig(modules=(f"lstm={weights}",), state=str(tmp_path_factory.mktemp("state")))
    with served(config) as base:
        yield base


@pytest.fixture
def client(address):
    with Client(address) as made:
        yield made


@pytest.fixture
def broken(address):
    """A client behind a proxy that can cut its connections."""
    with (
        Proxy(int(address.rpartition(":")[2])) as proxy,
        Client(f"http://127.0.0.1:{proxy.port}", timeout_s=120, reconnect_s=120) as made,
    ):
        yield made, proxy


def inputs(steps, seed=0):
    return np.random.default_rng(seed).standard_normal((steps, WIDTH), np.float32)


def expected(layer, x):
    with torch.no_grad():
        return layer(torch.from_numpy(x)[None])[0][0].numpy()


def close_to(found, truth):
    np.testing.assert_allclose(found, truth, atol=1e-6, rtol=1e-5)


def test_models(client):
    assert "lstm" in [model["name"] for model in client.models()]
    assert client.model("lstm")["input_size"] == WIDTH


def test_steps_as_arrays_and_as_items(client, layer):
    x = inputs(6)
    truth = expected(layer, x)
    session = client.open("lstm", input="tensors")
    close_to(session.step(x[0]), truth[0])
    close_to(session.step(x[1:3]), truth[1:3])
    answer = session.feed(x[3])
    close_to(answer.answers, truth[3])
    assert answer.steps == session.steps == 4
    close_to(session.feed_many(list(x[4:])).answers, truth[4:])
    session.close()


def test_many_sessions_in_one_message(client, layer):
    xs = [inputs(4, seed) for seed in range(9)]
    sessions = [client.open("lstm", input="tensors") for _ in xs]
    for t in range(4):
        y = client.step(sessions, np.stack([x[t] for x in xs]))
        close_to(y, np.stack([expected(layer, x)[t] for x in xs]))
    assert {session.id for session in sessions} <= {each["id"] for each in client.sessions("lstm")}
    for session in sessions:
        session.close()


def test_fork_and_rewind(client, layer):
    x = inputs(6)
    session = client.open("lstm", input="tensors", history=3)
    session.step(x[:3])
    other = session.fork(id="fork-1")
    assert (other.id, other.steps) == ("fork-1", 3)
    session.step(x[3:])
    session.rewind(3)
    assert session.steps == 3
    close_to(session.step(x[3:]), expected(layer, x)[3:])
    close_to(other.step(x[3:]), expected(layer, x)[3:])
    with pytest.raises(ProblemError) as caught:
        session.rewind(4)
    assert caught.value.status == 422


def test_snapshots(client, layer):
    x = inputs(5)
    session = client.open("lstm", input="tensors")
    session.step(x[:3])
    data = session.snapshot()
    stream = memorycell.stream(layer)
    stream.restore(data)  # the same format as in a program
    close_to(stream.step(x[3]), expected(layer, x)[3])
    again = client.open("lstm", input="tensors", state=data)
    close_to(again.step(x[3:]), expected(layer, x)[3:])
    session.restore(data)
    close_to(session.step(x[3:]), expected(layer, x)[3:])
    with pytest.raises(ProblemError) as caught:
        session.restore(data[:-1] + b"\x00")
    assert caught.value.slug == "state-refused"


def test_gates(client, layer):
    x = inputs(1)
    session = client.open("lstm", input="tensors")
    gates = session.feed(x[0], watch=True).gates
    w, b = layer.weight_ih_l0.detach(), (layer.bias_ih_l0 + layer.bias_hh_l0).detach()
    i, f, g, o = (w @ torch.from_numpy(x[0]) + b).chunk(4)
    c = i.sigmoid() * g.tanh()
    truth = {"i": i.sigmoid(), "f": f.sigmoid(), "g": g.tanh(), "o": o.sigmoid(), "c": c}
    truth["h"] = truth["o"] * c.tanh()
    for name, values in truth.items():
        close_to(gates.values(0, name)[0], values.numpy())
    with pytest.raises(KeyError, match="expected one of"):
        gates.values(0, "z")


def test_refused_steps_are_named(client):
    sessions = [client.open("lstm", input="tensors") for _ in range(3)]
    x = np.zeros((3, WIDTH), np.float32)
    x[1, 2] = np.nan
    with pytest.raises(StepError, match=f"session {sessions[1].id}.*NaN") as caught:
        client.step(sessions, x)
    assert caught.value.status.tolist() == [0, 2, 0]
    assert np.isnan(caught.value.y).all(1).tolist() == [False, True, False]
    assert [session.steps for session in sessions] == [1, 0, 1]
    client.step(sessions, np.zeros((3, WIDTH), np.float32))
    assert [session.steps for session in sessions] == [2, 1, 2]


def test_problems_are_exceptions(client):
    with pytest.raises(ProblemError, match="lstm") as caught:
        client.open("other")
    assert (caught.value.status, caught.value.slug) == (404, "no-such-model")
    with pytest.raises(ProblemError, match="lstm"):
        client.model("other")
    with pytest.raises(ProblemError) as caught:
        client.attach("lstm", "nobody")
    assert caught.value.slug == "no-such-session"
    session = client.open("lstm", id="twice", input="tensors")
    with pytest.raises(ProblemError) as caught:
        client.open("lstm", id="twice", input="tensors")
    assert caught.value.slug == "session-exists"
    with pytest.raises(ProblemError):
        session.feed([1.0])
    with pytest.raises(ProblemError):
        session.step(np.zeros(WIDTH + 1))
    with pytest.raises(ValueError, match="x: expected"):
        client.step([session], np.zeros((2, WIDTH)))
    session.close()
    with pytest.raises(ConnectionError, match="closed"):
        session.feed([0.0] * WIDTH)


def test_a_session_in_use_is_refused_unless_taken(address):
    with Client(address) as first, Client(address) as second:
        session = first.open("lstm", input="tensors")
        with pytest.raises(ProblemError) as caught:
            second.attach("lstm", session.id)
        assert caught.value.slug == "session-in-use"
        taken = second.attach("lstm", session.id, take=True)
        taken.step(np.zeros(WIDTH))
        deadline = time.monotonic() + 120
        while session.session.ended is None and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(ConnectionError, match="taken"):
            session.step(np.zeros(WIDTH))
        taken.detach()
        assert first.attach("lstm", session.id).steps == 1


def test_a_lost_connection_is_not_noticed(broken, layer):
    client, proxy = broken
    x = inputs(30)
    session = client.open("lstm", input="tensors")
    found = []
    for t in range(30):
        if t % 4 == 3:
            proxy.cut()
        found.append(session.feed(x[t]).answers if t % 2 else session.step(x[t]))
    close_to(found, expected(layer, x))


def test_a_step_whose_answer_was_lost_is_not_read_twice(broken, layer):
    client, proxy = broken
    x = inputs(10)
    session = client.open("lstm", input="tensors")
    found = []
    for t in range(10):
        if t % 3 == 1:
            proxy.lose_answer = True
        found.append(session.feed(x[t]).answers)
    close_to(found, expected(layer, x))
    proxy.lose_answer = True
    with pytest.raises(AnswerLostError):
        session.step(x[0])  # a binary frame is not answered again
    assert session.steps == 11


def test_an_open_whose_answer_was_lost_is_not_repeated(broken, client):
    behind, proxy = broken
    behind.open("lstm", input="tensors")
    before = len(client.sessions("lstm"))
    proxy.lose_answer = True
    session = behind.open("lstm", input="tensors")
    assert len(client.sessions("lstm")) == before + 1
    session.step(np.zeros(WIDTH))


def test_sessions_outlive_a_restart_of_the_server(weights, layer, tmp_path):
    """Durable ones continue; the others end with an error that says so."""
    x = inputs(8)
    config = ServerConfig(modules=(f"lstm={weights}",), state=str(tmp_path), drain_s=1.0)
    port = free_port()
    with served(config, port) as base:
        client = Client(base, reconnect_s=120)
        session = client.open("lstm", input="tensors", durable="step")
        found = [session.step(x[t]) for t in range(4)]
    with served(config, port):
        found += [session.step(x[t]) for t in range(4, 8)]
        client.close()
    close_to(np.stack(found), expected(layer, x))


def test_no_server():
    base = f"http://127.0.0.1:{free_port()}"
    with Client(base, reconnect_s=1) as client, pytest.raises(ConnectionError):
        client.open("lstm")


def test_tokens(weights, tmp_path):
    line = {"name": "a", "sha256": hashlib.sha256(b"secret").hexdigest(), "scopes": ["step"]}
    (tmp_path / "tokens").write_text(json.dumps(line) + "\n")
    config = ServerConfig(modules=(f"lstm={weights}",), token_file=str(tmp_path / "tokens"))
    with served(config) as base:
        with Client(base, token="secret") as client:
            client.open("lstm", input="tensors").step(np.zeros(WIDTH))
            with pytest.raises(ProblemError) as caught:
                client.models()
            assert caught.value.status == 403
        for token in (None, "wrong"):
            with Client(base, token=token) as client:
                with pytest.raises(ProblemError) as caught:
                    client.open("lstm", input="tensors")
                assert caught.value.status == 401


def test_the_asynchronous_client(address, layer):
    xs = [inputs(5, seed) for seed in range(20)]

    async def feed(client, x):
        session = await client.open("lstm", input="tensors")
        answers = [(await session.feed(row)).answers for row in x]
        await session.close()
        return answers

    async def run():
        async with AsyncClient(address) as client:
            return await asyncio.gather(*(feed(client, x) for x in xs))

    for x, found in zip(xs, asyncio.run(run()), strict=True):
        close_to(found, expected(layer, x))


def test_requests_of_one_session_at_once_keep_their_order(address, layer):
    x = inputs(40)

    async def run():
        async with AsyncClient(address) as client:
            session = await client.open("lstm", input="tensors")
            answers = await asyncio.gather(*(session.feed(row) for row in x))
            return [answer.answers for answer in answers]

    close_to(asyncio.run(run()), expected(layer, x))


def test_a_closed_client_refuses(address):
    client = Client(address)
    session = client.open("lstm", input="tensors")
    client.close()
    client.close()
    with pytest.raises(ConnectionError, match="closed"):
        session.step(np.zeros(WIDTH))
