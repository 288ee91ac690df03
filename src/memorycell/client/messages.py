"""The messages of the WebSocket protocol memorycell.v1, without a socket.

A text message is a JSON object. A binary message has a header of 16 bytes, little-endian

    kind u8, flags u8, 0 u16, frame u32, count u32, width u32

and, of kind 1, `count` handles u32 and `count` rows of `width` float32; of kind 2, the rows of the
output and, with flag 1, a status byte per row. Kind 4 carries `count` bytes for one session, whose
handle is in `width`.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memorycell.client.problems import ProblemError

HEADER = struct.Struct("<BBHIII")
STEPS, OUTPUTS, PROBLEM, BYTES = 1, 2, 3, 4
FLAG_STATUS = FLAG_WATCH = 1
SUBPROTOCOL = "memorycell.v1"


@dataclass(frozen=True)
class Gates:
    """The gates and states of every unit at the steps of an answer.

    layers     name, units and names ("i", "f", "g", "o", "c", "h") of every layer
    labels     what each step read, where that is known
    complete   whether these are all steps of the session, not those of the answer alone
    data       [T, n] float32, all values of a step in the order of `layers` and their names
    """

    layers: Sequence[Mapping[str, Any]]
    labels: Sequence[str | None]
    complete: bool
    data: np.ndarray

    def values(self, layer: int, name: str) -> np.ndarray:
        """A gate or state by name, [T, units]. Raises KeyError."""
        begin = sum(len(each["names"]) * each["units"] for each in self.layers[:layer])
        names, units = list(self.layers[layer]["names"]), self.layers[layer]["units"]
        if name not in names:
            raise KeyError(f"gates: expected one of {', '.join(names)}, got {name!r}")
        begin += names.index(name) * units
        return self.data[:, begin : begin + units]


@dataclass(frozen=True)
class Answer:
    """The answer to one item or several.

    answers   what `Session.feed` of the application gives, a list for one item; for several, a list
              per item
    steps     number of items that the session has read
    gates     of the steps, if they are watched
    """

    answers: list[Any]
    steps: int
    gates: Gates | None = None


def as_gates(data: Mapping[str, Any]) -> Gates:
    """From the JSON of the server."""
    values = np.frombuffer(base64.b64decode(data["data"]), "<f4")
    steps = int(data["steps"])
    labels = data.get("labels") or [None] * steps
    rows = values.reshape(steps, -1) if steps else values.reshape(0, 0)
    return Gates(data["layers"], labels, bool(data.get("complete", False)), rows)


def as_answer(message: Mapping[str, Any]) -> Answer:
    """From the JSON of the server; numbers of tensor sessions are in `answers`, too."""
    gates = message.get("gates")
    answers = message["answers"] if "answers" in message else message["y"]
    return Answer(answers, int(message["steps"]), None if gates is None else as_gates(gates))


def as_json(item: Any) -> Any:
    """An item as JSON: bytes in base64, arrays as lists."""
    if isinstance(item, (bytes, bytearray, memoryview)):
        return {"base64": base64.b64encode(item).decode()}
    if isinstance(item, (np.ndarray, np.generic)):
        return item.tolist()
    if isinstance(item, Mapping):
        return {str(key): as_json(value) for key, value in item.items()}
    return item


def text_message(ref: int, request: Mapping[str, Any]) -> str:
    """A JSON request."""
    return json.dumps({"ref": ref, **request}, ensure_ascii=False, default=str, allow_nan=False)


def steps_message(frame: int, handles: Sequence[int], x: np.ndarray) -> bytes:
    """One step per handle, x [n, I]; a handle that occurs repeatedly takes its rows in order."""
    rows = np.ascontiguousarray(x, "<f4")
    header = HEADER.pack(STEPS, 0, 0, frame, len(handles), rows.shape[1])
    return header + np.array(handles, "<u4").tobytes() + rows.tobytes()


def bytes_message(frame: int, handle: int, item: bytes, *, watch: bool) -> bytes:
    """One item of bytes for one session."""
    flags = FLAG_WATCH if watch else 0
    return HEADER.pack(BYTES, flags, 0, frame, len(item), handle) + item


def read_outputs(message: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The rows y [n, width] float32 of a binary answer and their status [n] uint8, 0 where the step
    was taken. Raises `ProblemError`.
    """
    kind, flags, _, _, count, width = HEADER.unpack_from(message)
    if kind == PROBLEM:
        raise ProblemError(json.loads(message[HEADER.size : HEADER.size + count]))
    y = np.frombuffer(message, "<f4", count * width, HEADER.size).reshape(count, width)
    if not flags & FLAG_STATUS:
        return y, np.zeros(count, np.uint8)
    return y, np.frombuffer(message, np.uint8, count, HEADER.size + y.nbytes)
