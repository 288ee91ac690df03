"""Binary WebSocket frames: many steps of many sessions; see docs/serve.md for the layout."""

from __future__ import annotations

import struct

import numpy as np
import orjson

from memorycell.server.problems import Problem

HEADER = struct.Struct("<BBHIII")
"""kind, flags, 0, frame number, count, width."""
ONE = struct.Struct("<BBHIIII")
"""The header and the handle of a frame with one step."""
STEPS, OUTPUTS, PROBLEM, BYTES = 1, 2, 3, 4
SOME_FAILED = 1
"""Flag of an answer: statuses follow the outputs."""
WATCH = 1
"""Flag of a frame of bytes."""


def check_steps(data: bytes, count: int, width: int) -> None:
    """Raises `Problem` where a frame of steps does not have the length that its header says."""
    if not count or not width:
        raise Problem("bad-request", "frame: expected at least one step and one input")
    expected = HEADER.size + 4 * count * (1 + width)
    if len(data) != expected:
        raise Problem(
            "bad-request",
            f"frame: {count} steps of {width} inputs have {expected} bytes, got {len(data)}",
        )


def outputs_frame(frame: int, count: int, width: int, y: bytes, status: np.ndarray | None) -> bytes:
    """The answer to a frame of steps."""
    if status is None:
        return HEADER.pack(OUTPUTS, 0, 0, frame, count, width) + y
    head = HEADER.pack(OUTPUTS, SOME_FAILED, 0, frame, count, width)
    return head + y + status.astype(np.uint8).tobytes()


def problem_frame(frame: int, problem: Problem) -> bytes:
    """The answer to a frame that cannot be read."""
    body = orjson.dumps(problem.to_json())
    return HEADER.pack(PROBLEM, 0, 0, frame, len(body), 0) + body
