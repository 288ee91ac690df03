"""Two servers that share a Redis: one continues the sessions of another that was killed."""

import contextlib
import os
import signal

import numpy as np
import pytest
import safetensors.torch
import torch
from served import served
from serving import Process
from test_redis_store import Redis, needs_redis

from memorycell.client import Client, ProblemError, StepError
from memorycell.server.config import ServerConfig


@contextlib.contextmanager
def server(weights, redis, log):
    """A process of `memorycell serve`; gives it and its address."""
    made = Process("--module", f"lstm={weights}", "--store", redis.url, log=log)
    try:
        yield made.process, made.url
    finally:
        made.kill()


@pytest.fixture
def redis(tmp_path):
    made = Redis(tmp_path)
    yield made
    made.kill()


@pytest.fixture
def layer(tmp_path):
    torch.manual_seed(0)
    layer = torch.nn.LSTM(3, 5, batch_first=True)
    safetensors.torch.save_file(layer.state_dict(), tmp_path / "lstm.safetensors")
    return layer


def config(folder, redis):
    return ServerConfig(modules=(f"lstm={folder / 'lstm.safetensors'}",), store=redis.url)


def expected(layer, x):
    with torch.no_grad():
        return layer(torch.from_numpy(x)[None])[0][0].numpy()


@needs_redis
def test_another_server_continues_after_kill_9(redis, layer, tmp_path):
    x = np.random.default_rng(0).standard_normal((12, 3), np.float32)
    weights = tmp_path / "lstm.safetensors"
    with (
        server(weights, redis, tmp_path / "log") as (first, near),
        served(config(tmp_path, redis)) as far,
    ):
        with Client(near, reconnect_s=0) as client:
            sessions = [
                client.open("lstm", id=f"s{k}", input="tensors", durable="step") for k in range(5)
            ]
            found = [client.step(sessions, np.stack([x[t]] * 5)) for t in range(6)]
            os.kill(first.pid, signal.SIGKILL)
            with pytest.raises((ConnectionError, OSError)):
                client.step(sessions, np.stack([x[6]] * 5))
        with Client(far) as client:
            sessions = [client.attach("lstm", f"s{k}") for k in range(5)]
            assert [session.steps for session in sessions] == [6] * 5
            found += [client.step(sessions, np.stack([x[t]] * 5)) for t in range(6, 12)]
    for k in range(5):
        y = np.stack([rows[k] for rows in found])
        np.testing.assert_allclose(y, expected(layer, x), atol=1e-6, rtol=1e-5)


@needs_redis
def test_a_server_whose_session_was_taken_refuses_its_steps(redis, layer, tmp_path):
    """As when a server was believed dead: its writes have an older epoch."""
    x = np.random.default_rng(1).standard_normal((6, 3), np.float32)
    with (
        served(config(tmp_path, redis)) as near,
        served(config(tmp_path, redis)) as far,
        Client(near) as first,
        Client(far) as second,
    ):
        old = first.open("lstm", id="s", input="tensors", durable="step")
        found = [old.step(x[t]) for t in range(3)]
        new = second.attach("lstm", "s")
        found += [new.step(x[3])]
        with pytest.raises((ProblemError, StepError, ConnectionError)):
            old.step(x[0])
        found += [new.step(x[4]), new.step(x[5])]
    np.testing.assert_allclose(np.stack(found), expected(layer, x), atol=1e-6, rtol=1e-5)


@needs_redis
def test_redis_gone_and_back_under_a_server(redis, layer, tmp_path):
    """Durable steps are refused meanwhile and change nothing; others continue."""
    x = np.random.default_rng(2).standard_normal((4, 3), np.float32)
    with served(config(tmp_path, redis)) as base, Client(base) as client:
        durable = client.open("lstm", id="d", input="tensors", durable="step")
        passing = client.open("lstm", id="p", input="tensors")
        found = [durable.step(x[0])]
        redis.kill()
        with pytest.raises(Exception, match="store"):
            durable.step(x[1])
        with pytest.raises(ProblemError) as caught:
            durable.feed(x[1])
        assert caught.value.status == 503
        passing.step(x[0])
        redis.start()
        found += [durable.step(x[t]) for t in range(1, 4)]
        assert durable.steps == 4
    np.testing.assert_allclose(np.stack(found), expected(layer, x), atol=1e-6, rtol=1e-5)
