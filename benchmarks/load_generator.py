"""A cheap load generator: WebSocket clients with binary frames of fixed size on one epoll loop.

A message costs it a few microseconds, so that one core can saturate a server on another. Requests
are prepared before the clock starts; replies are counted by their size, and their headers are
checked.
"""

import base64
import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

BINARY, TEXT, PING, PONG = 0x82, 0x81, 0x89, 0x8A
TIMEOUT_S = 60.0


def connect(port: int, path: str, headers: Sequence[str] = ()) -> socket.socket:
    """A WebSocket on the loopback interface, after its handshake."""
    link = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        *headers,
    ]
    link.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    reply = b""
    while b"\r\n\r\n" not in reply:
        part = link.recv(4096)  # the server waits for a message before it says more
        if not part:
            raise ConnectionError(f"{path}: closed during the handshake: {reply!r}")
        reply += part
    if b" 101 " not in reply.split(b"\r\n")[0]:
        raise ConnectionError(f"{path}: {reply.decode(errors='replace')}")
    return link


def client_frame(payload: bytes, kind: int = BINARY) -> bytes:
    """A frame as clients send it. The mask is zero: the server unmasks it like any other, and the
    client saves the work.
    """
    return header(len(payload), kind, mask=0x80) + bytes(4) + payload


def header(length: int, kind: int = BINARY, mask: int = 0) -> bytes:
    if length < 126:
        return struct.pack("!BB", kind, mask | length)
    if length < 1 << 16:
        return struct.pack("!BBH", kind, mask | 126, length)
    return struct.pack("!BBQ", kind, mask | 127, length)


def receive_frame(link: socket.socket) -> tuple[int, bytes]:
    """The next message of a blocking socket: its first byte and its payload. Pings are answered."""
    while True:
        first, length = _exactly(link, 2)
        if length == 126:
            (length,) = struct.unpack("!H", _exactly(link, 2))
        elif length == 127:
            (length,) = struct.unpack("!Q", _exactly(link, 8))
        payload = _exactly(link, length)
        if first != PING:
            return first, payload
        link.sendall(client_frame(payload, PONG))


def _exactly(link: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = link.recv(count - len(parts))
        if not part:
            raise ConnectionError("the server closed the connection")
        parts += part
    return bytes(parts)


@dataclass
class Client:
    """One connection with the requests that it sends in turn.

    requests      complete frames
    reply_bytes   payload size of every reply
    prefix        the first bytes of every reply; another frame is an error
    """

    link: socket.socket
    requests: list[bytes]
    reply_bytes: int
    prefix: bytes = b""
    sent: int = 0
    received: int = 0
    pending: bytes = b""
    began: list[float] = field(default_factory=list)
    reply_header: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.reply_header = header(self.reply_bytes) + self.prefix

    def send(self) -> None:
        """Send the next request; one that does not fit into the socket's buffer is an error."""
        request = self.requests[self.sent % len(self.requests)]
        self.sent += 1
        if self.link.send(request) != len(request):
            raise BlockingIOError("the socket's buffer is full: use smaller frames")

    def receive(self) -> int:
        """Read what has arrived; returns the number of complete replies."""
        data = self.link.recv(1 << 18)
        if not data:
            raise ConnectionError("the server closed the connection")
        if self.pending:
            data = self.pending + data
        head = len(self.reply_header)
        size, at, count = head + self.reply_bytes - len(self.prefix), 0, 0
        while at + head <= len(data):
            if data[at : at + head] != self.reply_header:
                at += self._other(data[at:])
                continue
            if at + size > len(data):
                break
            at += size
            count += 1
        self.pending = data[at:]
        self.received += count
        return count

    def _other(self, data: bytes) -> int:
        """The size of a frame that is no reply: a ping, which is answered, or a notice, such as of
        a new version of the model.
        """
        payload = data[2 : 2 + data[1]]
        if data[0] == PING:
            self.link.send(client_frame(payload, PONG))
        elif data[0] != TEXT or not payload.startswith(b'{"event"'):
            raise ConnectionError(f"unexpected frame: {data[:300]!r}")
        return 2 + data[1]


@dataclass
class Load:
    """What a run measured.

    messages      replies received
    seconds       of wall time
    latencies_s   of every reply, from the time at which its request was due
    client_s      processor seconds of the load generator
    """

    messages: int
    seconds: float
    latencies_s: np.ndarray
    client_s: float

    def quantile_ms(self, q: float) -> float:
        """A quantile of the latencies."""
        return float(np.quantile(self.latencies_s, q)) * 1e3


def closed_loop(clients: Sequence[Client], seconds: float, depth: int = 1) -> Load:
    """Every client has `depth` requests under way at any time."""
    by_descriptor, poll = _registered(clients)
    latencies: list[float] = []
    cpu, began = time.process_time(), time.perf_counter()
    for client in clients:
        for _ in range(depth):
            client.began.append(time.perf_counter())
            client.send()
    open_requests, messages, end = depth * len(clients), 0, began + seconds
    while open_requests:
        events = poll.poll(TIMEOUT_S)
        if not events:
            raise TimeoutError(f"no reply within {TIMEOUT_S:.0f} s; {open_requests} are missing")
        now = time.perf_counter()
        for descriptor, _ in events:
            client = by_descriptor[descriptor]
            for _ in range(client.receive()):
                latencies.append(now - client.began.pop(0))
                open_requests -= 1
                if now < end:
                    messages += 1
                    client.began.append(now)
                    client.send()
                    open_requests += 1
    return Load(messages, seconds, np.array(latencies), time.process_time() - cpu)


def paced(clients: Sequence[Client], rate: float, seconds: float, seed: int = 0) -> Load:
    """Every client sends `rate` requests a second at even distances from a random start, however
    long the replies take. A latency counts from the time at which the request was due.
    """
    by_descriptor, poll = _registered(clients)
    count = max(1, round(rate * seconds))
    offsets = np.random.default_rng(seed).random(len(clients)) / rate
    due = (offsets[:, None] + np.arange(count) / rate).ravel()
    order = np.argsort(due, kind="stable")
    senders = (order // count).tolist()
    times = (due[order] + time.perf_counter() + 0.05).tolist()
    latencies: list[float] = []
    cpu, began, position, missing = time.process_time(), time.perf_counter(), 0, len(times)
    while missing:
        now = time.perf_counter()
        while position < len(times) and times[position] <= now:
            client = clients[senders[position]]
            client.began.append(times[position])
            client.send()
            position += 1
        wait = TIMEOUT_S if position == len(times) else max(0.0, times[position] - now)
        events = poll.poll(wait)
        if not events and position == len(times):
            raise TimeoutError(f"no reply within {TIMEOUT_S:.0f} s; {missing} are missing")
        now = time.perf_counter()
        for descriptor, _ in events:
            client = by_descriptor[descriptor]
            for _ in range(client.receive()):
                latencies.append(now - client.began.pop(0))
                missing -= 1
    wall = time.perf_counter() - began
    return Load(len(times), wall, np.array(latencies), time.process_time() - cpu)


def _registered(clients: Sequence[Client]) -> tuple[dict[int, Client], select.epoll]:
    poll = select.epoll()
    for client in clients:
        client.link.setblocking(False)
        poll.register(client.link.fileno(), select.EPOLLIN)
    return {client.link.fileno(): client for client in clients}, poll
