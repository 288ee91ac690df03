"""One-step frames of sockets, the most frequent message: read and answered a batch at a time.

The inputs of a batch are cut out of its messages by one operation on an array, and so are its
answers put together: with many connections, a message has a few microseconds for everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeGuard

import numpy as np

from memorycell.server.direct_websocket import BINARY, frame_head
from memorycell.server.frames import HEADER, ONE, OUTPUTS, outputs_frame


class FrameSocket(Protocol):
    """What a frame came from."""

    def answer(self, data: bytes) -> None:
        """Send the answer to a frame."""

    def answer_frame(self, frame: bytes) -> None:
        """The same, as a complete frame of the WebSocket protocol."""


class FrameStep:
    """A `Work` of one row; raw: the message, whose row begins after `ONE`."""

    __slots__ = ("frame", "raw", "slots", "socket")
    count = 1
    deadline = 0.0

    def __init__(self, slot: int, raw: bytes, frame: int, socket: FrameSocket) -> None:
        self.slots, self.raw, self.frame, self.socket = slot, raw, frame, socket

    @property
    def row(self) -> bytes:
        """The input as bytes."""
        return self.raw[ONE.size :]

    def reply(self, y: bytes, status: np.ndarray | None) -> None:
        """See `Reply`."""
        self.socket.answer(outputs_frame(self.frame, 1, len(y) // 4, y, status))


ONLY = {FrameStep}


def are_frames(works: Iterable[Any]) -> TypeGuard[Sequence[FrameStep]]:
    """Whether all works are one-step frames."""
    return set(map(type, works)) == ONLY


def inputs_of(works: Sequence[FrameStep], size: int) -> np.ndarray:
    """The inputs [n, size] float32 of frames."""
    raw = np.frombuffer(b"".join([work.raw for work in works]), np.uint8)
    rows = np.ascontiguousarray(raw.reshape(len(works), -1)[:, ONE.size :])
    return rows.view(np.float32).reshape(len(works), size)


def answer_frames(works: Sequence[FrameStep], y: np.ndarray) -> None:
    """Answer frames with outputs [n, width] float32, all of them OK."""
    count, width = y.shape
    head = frame_head(BINARY, HEADER.size + 4 * width) + HEADER.pack(OUTPUTS, 0, 0, 0, 1, width)
    number = len(head) - HEADER.size + 4  # where the frame's number is
    frames = np.empty((count, len(head) + 4 * width), np.uint8)
    frames[:, : len(head)] = np.frombuffer(head, np.uint8)
    numbers = np.array([work.frame for work in works], "<u4")
    frames[:, number : number + 4] = numbers.view(np.uint8).reshape(count, 4)
    frames[:, len(head) :] = y.view(np.uint8).reshape(count, 4 * width)
    size, data, begin = frames.shape[1], frames.tobytes(), 0
    for work in works:
        end = begin + size
        work.socket.answer_frame(data[begin:end])
        begin = end
