"""Sessions in a real Redis, started here on a free port of the loopback interface."""

import os
import shutil
import signal
import socket
import subprocess
import time

import pytest
from free_ports import free_port

from memorycell.server.durable import (
    SqliteStore,
    StoreDamaged,
    StoredSession,
    StoreFull,
    StoreUnavailable,
)
from memorycell.server.redis_store import RedisStore

SERVER = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(SERVER is None, reason="redis-server is not installed")
START_S = 60.0
ROW = StoredSession("glucose", "s1", "f" * 8, 7, bytes(range(256)) * 8, b'{"ttl_s": null}')


class Redis:
    """A redis-server with its files in a folder; append only, flushed before every answer."""

    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self):
        words = ["--port", self.port, "--bind", "127.0.0.1", "--dir", self.folder, "--save", ""]
        words += ["--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no"]
        self.process = subprocess.Popen(
            [SERVER, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self.process.poll() is None, "redis-server did not start"
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _answers(self):
        """Whether it has also read its log; before, it refuses commands."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=START_S) as probe:
                probe.sendall(b"PING\r\n")
                return probe.recv(100).startswith(b"+PONG")
        except OSError:
            return False

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=needs_redis)])
def store(request, tmp_path):
    """Both stores, so that they are interchangeable."""
    if request.param == "sqlite":
        made = SqliteStore(tmp_path / "sessions.sqlite")
    else:
        server = request.getfixturevalue("redis_server")
        made = RedisStore(server.url, prefix=f"{tmp_path.name}:")
    yield made
    made.close()


def test_what_is_put_is_got(store):
    assert store.get("glucose", "s1") is None
    assert store.put([]) == []
    assert store.put([ROW, ROW._replace(id="s2", snapshot=b"", note=b"{}")]) == []
    assert store.get("glucose", "s1") == ROW
    assert store.get("glucose", "s2").snapshot == b""
    assert store.put([ROW._replace(steps=8, saved_at=12.25)]) == []
    assert store.get("glucose", "s1") == ROW._replace(steps=8, saved_at=12.25)
    assert store.get("other", "s1") is None


def test_a_row_written_twice_is_the_same(store):
    store.put([ROW])
    assert store.put([ROW]) == []
    assert store.get("glucose", "s1") == ROW


def test_the_previous_owner_cannot_overwrite(store):
    store.put([ROW, ROW._replace(id="s2")])
    taken = store.take("glucose", "s1")
    assert taken == ROW._replace(epoch=1)
    old = [ROW._replace(steps=8), ROW._replace(id="s2", steps=9)]
    assert store.put(old) == [("glucose", "s1")]
    assert store.get("glucose", "s1").steps == 7
    assert store.get("glucose", "s2").steps == 9
    assert store.put([taken._replace(steps=8)]) == []
    assert store.take("glucose", "s1").epoch == 2
    assert store.take("glucose", "nobody") is None


def test_keys_are_in_order_and_paged(store):
    names = [f"s{k:03d}" for k in range(25)]
    store.put([ROW._replace(id=name) for name in reversed(names)])
    assert store.keys("glucose") == names
    assert store.keys("glucose", limit=10) == names[:10]
    assert store.keys("glucose", after="s009", limit=10) == names[10:20]
    assert store.keys("glucose", after="s024") == []
    store.delete([("glucose", name) for name in names[:24]] + [("glucose", "nobody")])
    assert store.keys("glucose") == ["s024"]
    assert store.keys("other") == []


def test_sessions_expire(store):
    now = time.time()
    store.put([ROW._replace(expires_at=now + 0.2), ROW._replace(id="s2", expires_at=now + 1000)])
    before = store.get("glucose", "s1")
    assert before is not None or time.time() > now + 0.19
    while time.time() < now + 0.25:
        time.sleep(0.05)
    store.expire(time.time())
    assert store.get("glucose", "s1") is None
    assert store.keys("glucose", limit=1) == ["s2"]
    store.put([ROW._replace(id="s2", expires_at=0.0)])  # never
    assert store.get("glucose", "s2").expires_at == 0.0


@needs_redis
def test_expiry_is_lifted_by_a_later_put(redis_server, tmp_path):
    store = RedisStore(redis_server.url, f"{tmp_path.name}:")
    store.put([ROW._replace(expires_at=time.time() + 0.1)])
    store.put([ROW._replace(steps=8)])
    time.sleep(0.15)
    assert store.get("glucose", "s1").steps == 8
    store.close()


@needs_redis
def test_a_damaged_row_is_refused(redis_server, tmp_path):
    store = RedisStore(redis_server.url, f"{tmp_path.name}:")
    store.put([ROW])
    name = f"{tmp_path.name}:session:glucose/s1"
    store._redis.hset(name, "snapshot", b"other")
    with pytest.raises(StoreDamaged, match="s1"):
        store.get("glucose", "s1")
    store._redis.hdel(name, "steps")
    with pytest.raises(StoreDamaged, match="s1"):
        store.take("glucose", "s1")
    store.close()


@needs_redis
def test_redis_without_memory_is_full(redis_server, tmp_path):
    store = RedisStore(redis_server.url, f"{tmp_path.name}:")
    store.put([ROW])
    store._redis.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(StoreFull):
            store.put([ROW._replace(steps=8)])
        assert store.get("glucose", "s1") == ROW
    finally:
        store._redis.config_set("maxmemory", "0")
    assert store.put([ROW._replace(steps=8)]) == []
    store.close()


@needs_redis
def test_redis_gone_and_back(tmp_path):
    server = Redis(tmp_path)
    store = RedisStore(server.url)
    try:
        store.put([ROW])
        server.kill()
        for call in (
            lambda: store.put([ROW]),
            lambda: store.get("glucose", "s1"),
            lambda: store.take("glucose", "s1"),
            lambda: store.keys("glucose"),
            store.ping,
        ):
            with pytest.raises(StoreUnavailable):
                call()
        server.start()
        store.ping()
        assert store.get("glucose", "s1") == ROW  # flushed before it was answered
        assert store.put([ROW._replace(steps=8)]) == []  # the scripts are loaded again
        assert store.take("glucose", "s1").steps == 8
    finally:
        store.close()
        server.kill()
