"""uvicorn's WebSocket protocol with a short way for messages: no queue, no task, no frame objects.

A message costs a fraction of what it costs through ASGI's `receive` and `send`. Handshake, pings,
fragments, closing and errors stay uvicorn's. Bytes are split into frames here, and only complete
frames are passed on, so that its parser is always between two frames.

An application finds the protocol at `scope["extensions"]["memorycell.direct"]` and sets
`on_message`; then `receive` gives only the disconnect. Messages before that are queued as usual.

Source: The WebSocket Protocol, RFC 6455 (2011), section 5.2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # no wheel for this platform
    from websockets.utils import apply_mask

EXTENSION = "memorycell.direct"
TEXT, BINARY = 0x81, 0x82
"""First bytes of a message in one frame: FIN, no extension, and the opcode."""
MASKED, LENGTH_16, LENGTH_64 = 0x80, 126, 127
MAX_EARLY = 1 << 16
"""Bytes of a client that sends before the handshake is complete."""
MAX_JOINED = 1 << 16
"""Payloads up to this size are sent in one piece with their header."""


def frame_head(first: int, size: int) -> bytes:
    """What is before a payload of `size` bytes from a server."""
    if size < LENGTH_16:
        return bytes((first, size))
    if size < 1 << 16:
        return struct.pack("!BBH", first, LENGTH_16, size)
    return struct.pack("!BBQ", first, LENGTH_64, size)


class DirectWebSocket(WebSocketsSansIOProtocol):
    """See the module's text; `uvicorn.Config(ws=DirectWebSocket)`, without permessage-deflate."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.on_message: Callable[[bytes | str], None] | None = None
        self._partial = bytearray()  # of a frame that is not complete
        self._holds = 0

    # ---- for the application ---------------------------------------------------------------------

    def write(self, message: bytes | str) -> None:
        """Send a message; nothing where the connection is closing."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        if isinstance(message, str):
            first, payload = TEXT, message.encode()
        else:
            first, payload = BINARY, message
        head = frame_head(first, len(payload))
        if len(payload) <= MAX_JOINED:
            self.transport.write(head + payload)
        else:
            self.transport.write(head)
            self.transport.write(payload)

    def write_frame(self, frame: bytes) -> None:
        """Send a complete frame; see `write`."""
        if not (self.close_sent or self.disconnected or self.transport.is_closing()):
            self.transport.write(frame)

    def hold(self) -> None:
        """Read no more until `release`."""
        self._holds += 1
        if self._holds == 1 and not self.transport.is_closing():
            self.transport.pause_reading()

    def release(self) -> None:
        """See `hold`."""
        self._holds -= 1
        if self._holds == 0 and not self.transport.is_closing():
            self.transport.resume_reading()

    # ---- uvicorn's callbacks ---------------------------------------------------------------------

    def handle_connect(self, event: Any) -> None:
        """The handshake: put the protocol in the scope."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions: Any = self.scope["extensions"]
            extensions[EXTENSION] = self

    def data_received(self, data: bytes) -> None:
        """Split into frames; deliver those that are complete messages."""
        size, on_message = len(data), self.on_message
        if on_message is not None and size > 8 and data[0] == BINARY and not self._partial:
            # Most often the bytes are one message: the same as below, in fewer steps.
            second, whole = data[1], 0
            if second == MASKED | LENGTH_16:
                body = 8
                whole = body + (data[2] << 8 | data[3])
            elif MASKED <= second < MASKED | LENGTH_16:
                body = 6
                whole = body + second - MASKED
            if whole == size and not (self.frames or self.close_sent or self.disconnected):
                on_message(apply_mask(data[body:], data[body - 4 : body]))
                return
        if not self.handshake_initiated or self.close_sent or self.disconnected:
            super().data_received(data)
            return
        if not self.handshake_complete:  # a client that does not wait for the answer
            self._partial += data
            if len(self._partial) > MAX_EARLY:
                self.transport.close()
            return
        if self._partial:
            self._partial += data
            data = bytes(self._partial) if self._is_complete() else b""
            if not data:
                return
            self._partial.clear()
        at, end = 0, len(data)
        while end - at >= 2:
            first, length = data[at], data[at + 1] ^ MASKED
            body = at + 6
            if length == LENGTH_16:
                body = at + 8
                if end < body:
                    break
                length = data[at + 2] << 8 | data[at + 3]
            elif length >= LENGTH_64:  # long, or without a mask: let the parser look at its size
                if length > LENGTH_64 or self._too_long(data, at):
                    super().data_received(data[at:])
                    return
                body = at + 14
                if end < body:
                    break
                length = int.from_bytes(data[at + 2 : at + 10], "big")
            stop = body + length
            if stop > end:
                break
            if first == BINARY and self.on_message is not None and not self.frames:
                self.on_message(apply_mask(data[body:stop], data[body - 4 : body]))
            else:
                super().data_received(data[at:stop])
                if self.close_sent or self.transport.is_closing():
                    return
            at = stop
        if at < end:
            self._partial += data[at:]

    async def send(self, message: Any) -> None:
        """Of ASGI; what came before the handshake was complete is read after it."""
        await super().send(message)
        if self._partial and message["type"] == "websocket.accept":
            self.loop.call_soon(self.data_received, b"")

    def send_receive_event_to_app(self) -> None:
        """A message that the parser has put together."""
        if self.on_message is None or self.close_sent:
            super().send_receive_event_to_app()
            return
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.curr_msg_data_type == "bytes":
            self.on_message(bytes(data))
            return
        try:
            text = bytes(data).decode()
        except UnicodeDecodeError:
            self.conn.send_close(1007)
            self.handle_parser_exception()
            return
        self.on_message(text)

    def pause_writing(self) -> None:
        """The client reads too slowly: take no more requests from it."""
        super().pause_writing()
        self.hold()

    def resume_writing(self) -> None:
        """See `pause_writing`."""
        super().resume_writing()
        self.release()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self.on_message = None
        self._partial.clear()
        super().connection_lost(exc)

    # ---- frames that are not complete ------------------------------------------------------------

    def _is_complete(self) -> bool:
        """Whether the first frame of what was kept is complete, or must be refused."""
        partial = self._partial
        if len(partial) < 2:
            return False
        length = partial[1] ^ MASKED
        if length > LENGTH_64 or (length == LENGTH_64 and self._too_long(partial, 0)):
            return True
        head = {LENGTH_16: 8, LENGTH_64: 14}.get(length, 6)
        if len(partial) < head:
            return False
        if length >= LENGTH_16:
            length = int.from_bytes(partial[2 : head - 4], "big")
        return len(partial) >= head + length

    def _too_long(self, data: bytes | bytearray, at: int) -> bool:
        size = int.from_bytes(data[at + 2 : at + 10], "big")
        return len(data) - at >= 10 and size > self.config.ws_max_size
