"""The short way for WebSocket messages delivers what `websockets` says was sent, however the bytes
are split, and answers errors as uvicorn's own protocol does.
"""

import asyncio
import random

import pytest
import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from memorycell.server.direct_websocket import EXTENSION, DirectWebSocket

MAX_SIZE = 200_000


class Transport:
    """What the server has written, and whether it reads."""

    def __init__(self):
        self.written, self.closed, self.reading = bytearray(), False, True

    def get_extra_info(self, name, default=None):
        return default

    def write(self, data):
        self.written += data

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True


class Connection:
    """A server protocol and a client protocol, without a network."""

    def __init__(self, kind, direct=True):
        self.received, self.ended, self.accept = [], None, asyncio.Event()
        self.accept.set()
        config = uvicorn.Config(
            self.app,
            interface="asgi3",
            log_config=None,
            ws_max_size=MAX_SIZE,
            ws_per_message_deflate=False,
        )
        config.load()
        self.protocol = kind(config, ServerState(), {}, _loop=asyncio.get_running_loop())
        self.transport = Transport()
        self.protocol.connection_made(self.transport)
        self.client = ClientProtocol(parse_uri("ws://localhost/v1/socket"), max_size=None)
        self.direct = direct

    async def app(self, scope, receive, send):
        await receive()
        await self.accept.wait()
        await send({"type": "websocket.accept"})
        direct = scope["extensions"].get(EXTENSION)
        if direct is not None and self.direct:
            direct.on_message = self.received.append
        while (message := await receive())["type"] == "websocket.receive":
            data = message.get("bytes")
            self.received.append(data if data is not None else message["text"])
        self.ended = message["code"]

    async def open(self):
        self.client.send_request(self.client.connect())
        self.protocol.data_received(b"".join(self.client.data_to_send()))
        await settle()
        self.read()

    def read(self):
        """Let the client read what the server has written; its events."""
        self.client.receive_data(bytes(self.transport.written))
        self.transport.written.clear()
        return self.client.events_received()

    async def send(self, data, cuts=()):
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            if not self.transport.closed:
                self.protocol.data_received(bytes(data[begin:end]))
            await settle()

    def sent(self):
        return b"".join(self.client.data_to_send())


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


def messages(rng, count):
    sizes = [0, 1, 5, 125, 126, 127, 300, 65535, 65536, 70_000]
    found = []
    for _ in range(count):
        size = rng.choice(sizes)
        found.append(rng.randbytes(size) if rng.random() < 0.7 else "é" * (size // 2))
    return found


def write(client, message, rng):
    """In one frame, or in fragments with a ping between them."""
    binary = isinstance(message, bytes)
    data = message if binary else message.encode()
    if rng.random() < 0.7:
        (client.send_binary if binary else client.send_text)(data)
        return
    cut = rng.randint(0, len(data))
    (client.send_binary if binary else client.send_text)(data[:cut], fin=False)
    client.send_ping(b"in between")
    client.send_continuation(data[cut:], fin=True)


@pytest.mark.parametrize("seed", range(4))
def test_messages_arrive_however_they_are_split(seed):
    async def run():
        rng = random.Random(seed)
        connection = Connection(DirectWebSocket)
        await connection.open()
        expected = messages(rng, 40)
        for message in expected:
            write(connection.client, message, rng)
        data = connection.sent()
        cuts = sorted(rng.sample(range(len(data)), 60))
        await connection.send(data, cuts)
        assert connection.received == expected
        pings = [event for event in connection.read() if event.opcode is Opcode.PONG]
        assert all(bytes(event.data) == b"in between" for event in pings)
        connection.client.send_close()
        await connection.send(connection.sent())
        assert connection.transport.closed
        assert connection.ended is not None

    asyncio.run(run())


def test_every_single_cut():
    async def run():
        rng = random.Random(0)
        expected = [b"x" * 3, "é", b"y" * 130]
        client = Connection(DirectWebSocket)
        await client.open()
        for message in expected:
            write(client.client, message, rng)
        data = client.sent()
        for cut in range(1, len(data)):
            connection = Connection(DirectWebSocket)
            await connection.open()
            await connection.send(data, [cut])
            assert connection.received == expected, cut

    asyncio.run(run())


def test_bytes_before_the_handshake_is_complete():
    async def run():
        connection = Connection(DirectWebSocket)
        connection.accept.clear()
        await connection.open()
        other = Connection(DirectWebSocket)
        await other.open()
        other.client.send_binary(b"early")
        data = other.sent()
        await connection.send(data, [4])
        connection.accept.set()
        await settle()
        assert connection.received == [b"early"]

    asyncio.run(run())


def test_what_is_written_is_read_by_the_client():
    async def run():
        connection = Connection(DirectWebSocket)
        await connection.open()
        expected = messages(random.Random(3), 30)
        for message in expected:
            connection.protocol.write(message)
        events = [event for event in connection.read() if isinstance(event, Frame)]
        found = [
            event.data.decode() if event.opcode is Opcode.TEXT else bytes(event.data)
            for event in events
        ]
        assert found == expected

    asyncio.run(run())


WRONG = {
    "no mask": bytes([0x82, 3]) + b"abc",
    "reserved bit": bytes([0xC2, 0x83, 0, 0, 0, 0]) + b"abc",
    "unknown opcode": bytes([0x83, 0x83, 0, 0, 0, 0]) + b"abc",
    "too long": bytes([0x82, 0xFF]) + (MAX_SIZE + 1).to_bytes(8, "big") + bytes(4),
    "enormous": bytes([0x82, 0xFF]) + b"\xff" * 8 + bytes(4),
    "not UTF-8": bytes([0x81, 0x82, 0, 0, 0, 0]) + b"\xff\xff",
    "continuation of nothing": bytes([0x80, 0x81, 0, 0, 0, 0]) + b"a",
    "a message within fragments": bytes([0x02, 0x81, 0, 0, 0, 0, 97, 0x82, 0x81, 0, 0, 0, 0, 97]),
    "a long ping": bytes([0x89, 0xFE, 0, 126, 0, 0, 0, 0]) + bytes(126),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_frames_close_as_uvicorn_does(name):
    async def outcome(kind, cuts):
        connection = Connection(kind)
        await connection.open()
        await connection.send(WRONG[name], cuts)
        connection.read()
        return connection.transport.closed, connection.ended, connection.client.close_rcvd

    async def run():
        expected = await outcome(WebSocketsSansIOProtocol, ())
        assert expected[0]
        size = len(WRONG[name])
        for cuts in ((), (1,), (2,), (size // 2,), tuple(range(1, size))):
            assert await outcome(DirectWebSocket, sorted(set(cuts))) == expected, cuts

    asyncio.run(run())


def test_a_client_that_does_not_read_is_not_read():
    async def run():
        connection = Connection(DirectWebSocket)
        await connection.open()
        connection.protocol.pause_writing()
        connection.protocol.hold()
        assert not connection.transport.reading
        connection.protocol.resume_writing()
        assert not connection.transport.reading
        connection.protocol.release()
        assert connection.transport.reading

    asyncio.run(run())


def test_a_vanished_client():
    async def run():
        connection = Connection(DirectWebSocket)
        await connection.open()
        connection.client.send_binary(bytes(1000))
        await connection.send(connection.sent()[:500])
        connection.protocol.connection_lost(ConnectionResetError())
        await settle()
        assert connection.ended is not None
        assert connection.received == []
        connection.protocol.write(b"late")
        assert not connection.transport.written

    asyncio.run(run())


def test_without_the_short_way_it_is_uvicorns_protocol():
    async def run():
        connection = Connection(DirectWebSocket, direct=False)
        await connection.open()
        expected = messages(random.Random(5), 20)
        for message in expected:
            write(connection.client, message, random.Random(5))
        data = connection.sent()
        await connection.send(data, range(1000, len(data), 1000))
        assert connection.received == expected

    asyncio.run(run())
