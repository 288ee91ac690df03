"""The tensor sessions of a socket by handle, and frames of steps for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from memorycell.server.frames import ONE, check_steps, outputs_frame
from memorycell.server.problems import Problem
from memorycell.server.sessions import TensorSession
from memorycell.server.tensor_lane import TensorLane
from memorycell.server.tensor_work import NO_HANDLE, Work

Send = Callable[[bytes], None]


class Handles:
    """Handle -> slot and lane, as arrays, so that a frame is looked up in one go."""

    def __init__(self) -> None:
        self._slot = np.full(16, -1, np.int64)
        self._lane = np.full(16, -1, np.int64)
        self._lanes: list[TensorLane] = []

    def put(self, handle: int, session: TensorSession) -> None:
        """A session has a handle."""
        if handle >= len(self._slot):
            more = np.full(max(handle + 1, 2 * len(self._slot)) - len(self._slot), -1)
            self._slot = np.concatenate([self._slot, more])
            self._lane = np.concatenate([self._lane, more])
        if session.lane not in self._lanes:
            self._lanes.append(session.lane)
        self._slot[handle] = session.slot
        self._lane[handle] = self._lanes.index(session.lane)

    def drop(self, handle: int) -> None:
        """The handle is free."""
        if handle < len(self._slot):
            self._slot[handle] = self._lane[handle] = -1

    # ---- frames ----------------------------------------------------------------------------------

    def step(self, data: bytes, frame: int, count: int, width: int, send: Send) -> None:
        """Step the sessions of a frame; the answer is sent once, later. Raises `Problem` for a
        frame that cannot be read.
        """
        check_steps(data, count, width)
        if count == 1:
            self._step_one(data, frame, width, send)
            return
        handles = np.frombuffer(data, np.uint32, count, 16).astype(np.int64)
        raw = memoryview(data)[16 + 4 * count :]
        known = handles < len(self._slot)
        if not known.all():
            handles = np.where(known, handles, 0)
        lanes = self._lane[handles]
        lanes[~known] = -1
        slots = self._slot[handles]
        first = int(lanes[0])
        if first >= 0 and bool((lanes == first).all()) and len(np.unique(slots)) == count:
            lane = self._lanes[first]
            _check_width(lane, width)
            size = lane.width
            lane.submit(
                Work(
                    slots,
                    raw,
                    count,
                    lambda y, status: send(outputs_frame(frame, count, size, y, status)),
                )
            )
            return
        self._step_parts(lanes, slots, raw, frame, width, send)

    def _step_one(self, data: bytes, frame: int, width: int, send: Send) -> None:
        handle = ONE.unpack_from(data)[6]
        slot = int(self._slot[handle]) if handle < len(self._slot) else -1
        if slot < 0:
            missing = np.full(1, np.nan, np.float32).tobytes()
            send(outputs_frame(frame, 1, 1, missing, np.full(1, NO_HANDLE, np.uint8)))
            return
        lane = self._lanes[self._lane[handle]]
        if width != lane.input_size:
            _check_width(lane, width)
        size = lane.width
        lane.submit(
            Work(
                slot,
                data[20:],
                1,
                lambda y, status: send(outputs_frame(frame, 1, size, y, status)),
            )
        )

    def _step_parts(
        self,
        lanes: np.ndarray,
        slots: np.ndarray,
        raw: memoryview,
        frame: int,
        width: int,
        send: Send,
    ) -> None:
        """A frame with unknown handles, several models, or several steps of one session: parts in
        which each session occurs once.
        """
        count = len(lanes)
        x = np.frombuffer(raw, np.float32).reshape(count, width)
        used = [self._lanes[k] for k in np.unique(lanes[lanes >= 0]).tolist()]
        for lane in used:
            _check_width(lane, width)
        sizes = {lane.width for lane in used} or {1}
        if len(sizes) > 1:
            raise Problem("bad-request", "frame: its sessions have outputs of different sizes")
        size = sizes.pop()
        y = np.full((count, size), np.nan, np.float32)
        status = np.where(lanes < 0, NO_HANDLE, 0).astype(np.uint8)
        parts = [
            np.flatnonzero((lanes == k) & (turns == turn))
            for turns in [_turns(lanes, slots)]
            for turn in range(int(turns.max()) + 1)
            for k in np.unique(lanes[lanes >= 0]).tolist()
        ]
        parts = [part for part in parts if len(part)]
        left = len(parts)

        def answer() -> None:
            failed = status if status.any() else None
            send(outputs_frame(frame, count, size, y.tobytes(), failed))

        if not left:
            answer()
            return

        def reply(part: np.ndarray, out: bytes, failed: np.ndarray | None) -> None:
            nonlocal left
            y[part] = np.frombuffer(out, np.float32).reshape(len(part), size)
            if failed is not None:
                status[part] = failed
            left -= 1
            if not left:
                answer()

        for part in parts:
            lane = self._lanes[lanes[part[0]]]
            lane.submit(
                Work(
                    int(slots[part[0]]) if len(part) == 1 else slots[part],
                    x[part].tobytes(),
                    len(part),
                    lambda out, failed, part=part: reply(part, out, failed),
                )
            )


def _turns(lanes: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """For every row, how many rows of the same session are before it."""
    order = np.lexsort((np.arange(len(slots)), slots, lanes))
    new = np.ones(len(slots), bool)
    new[1:] = (np.diff(slots[order]) != 0) | (np.diff(lanes[order]) != 0)
    begin = np.maximum.accumulate(np.where(new, np.arange(len(slots)), 0))
    turns = np.empty(len(slots), np.int64)
    turns[order] = np.arange(len(slots)) - begin
    return turns


def _check_width(lane: TensorLane, width: int) -> None:
    if width != lane.input_size:
        raise Problem(
            "unusable-input",
            f"frame: {lane.served.name} reads {lane.input_size} inputs per step, got {width}",
        )
