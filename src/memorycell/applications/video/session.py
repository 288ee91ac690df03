"""Video live: a frame in, the next frame and the surprise of this one out."""

from __future__ import annotations

import base64
import binascii
import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta

from memorycell.application.contract import Item, Record
from memorycell.applications.video.codec import FrameCodec
from memorycell.applications.video.pictures import read_picture
from memorycell.applications.video.preparing import VideoFile
from memorycell.errors import DataError, StateError, quote
from memorycell.setting_fields import check_choices, from_json
from memorycell.state import State
from memorycell.streaming.finite import check_bounded
from memorycell.streaming.stepwise import StreamSteps, run
from memorycell.streaming.stream import Stream

RAW = "raw:"
"""Before a frame as base64 text in a line."""
MAX_VALUE = 1e6
"""Of a predicted pixel in a snapshot."""


@dataclass(frozen=True)
class StreamOptions:
    """Options of `stream`.

    next   raw: the next frame as base64 text of height·width bytes of brightness; no: only the
           surprise
    """

    next: str = "raw"

    def __post_init__(self) -> None:
        check_choices(self, next=("raw", "no"))


@dataclass(frozen=True)
class _Saved:
    """What a snapshot holds apart from the state: the number of frames, and the predicted one."""

    frames: Annotated[int, Meta(ge=0, le=1 << 53)]
    predicted: tuple[float, ...]


class VideoSession:
    """See `Session`. An item is a line with the path of a PNG or JPEG file, a line `raw:` and the
    base64 text of height·width bytes of brightness, row by row, or these bytes themselves.

    A model of frames answers `{"frame", "surprise", "alarm", "next"}`, the surprise being the mean
    squared error of the prediction of this frame (null for the first), a classifier `{"frame",
    "label", "p"}`.

    paths   whether lines may name files
    """

    def __init__(
        self,
        file: VideoFile,
        precision: str = "float32",
        options: StreamOptions | None = None,
        *,
        paths: bool = True,
    ) -> None:
        self._paths = paths
        self.codec: FrameCodec = file.codec
        self.options = options or StreamOptions()
        self._stream = Stream(file.model, precision, history=0)
        self._frames = 0
        self._predicted: np.ndarray | None = None

    def feed(self, item: Item) -> list[Record]:
        """See `Session`."""
        return run(self.steps(item))

    def steps(self, item: Item) -> StreamSteps[list[Record]]:
        """See `Stepwise`."""
        frame = self._frame(item)
        x = self.codec.encode(frame, self._where()).ravel()
        y = yield self._stream, x
        self._frames += 1
        if self.codec.labels:
            best = int(y.argmax())
            p = round(float(np.exp(y[best])), 4)
            return [{"frame": self._frames, "label": self.codec.labels[best], "p": p}]
        surprise = None
        if self._predicted is not None:
            surprise = float(np.square(self._predicted.ravel() - x).mean())
        self._predicted = y
        record: Record = {
            "frame": self._frames,
            "surprise": surprise,
            "alarm": surprise is not None and self.codec.is_alarm(surprise),
        }
        if self.options.next == "raw":
            record["next"] = base64.b64encode(self.codec.decode(y).tobytes()).decode()
        return [record]

    def _where(self) -> str:
        return f"stdin, line {self._frames + 1}"

    def _frame(self, item: Item) -> np.ndarray:
        """[height, width] uint8. Raises `DataError`."""
        size = (self.codec.height, self.codec.width)
        expected = f"expected {'the path of a picture, or ' if self._paths else ''}{RAW}base64"
        if isinstance(item, Mapping):
            raise DataError(f"{self._where()}: {expected}")
        if isinstance(item, bytes):
            return self._raw(item)
        line = item.strip()
        if not line.startswith(RAW):
            if not line or "\0" in line or not self._paths:
                raise DataError(f"{self._where()}: {expected}")
            try:
                return read_picture(Path(line), size)
            except DataError as error:
                raise DataError(f"{self._where()}: {_short(str(error), line)}") from None
        try:
            return self._raw(base64.b64decode(line.removeprefix(RAW), validate=True))
        except (binascii.Error, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{self._where()}: not base64 text ({quote(str(error))})") from None

    def _raw(self, data: bytes) -> np.ndarray:
        size = (self.codec.height, self.codec.width)
        if len(data) != size[0] * size[1]:
            raise DataError(
                f"{self._where()}: {len(data):,} bytes; a frame of {size[1]} x {size[0]} pixels has"
                f" {size[0] * size[1]:,}"
            )
        return np.frombuffer(data, np.uint8).reshape(size)

    def fork(self) -> VideoSession:
        """See `Forkable`."""
        other = copy.copy(self)
        other._stream = self._stream.fork()
        return other

    def close(self) -> list[Record]:
        """See `Session`; no answer is pending."""
        return []

    def snapshot(self) -> bytes:
        """See `Session`."""
        predicted = [] if self._predicted is None else self._predicted.ravel().tolist()
        return self._stream.snapshot(frames=self._frames, predicted=predicted)

    def restore(self, data: bytes) -> None:
        """See `Session`."""
        state, extra = State.from_bytes(data, fingerprint=self._stream.fingerprint)
        check_bounded(state)
        size = (self.codec.height, self.codec.width)
        try:
            saved = from_json(_Saved, extra)
            predicted = np.array(saved.predicted, np.float32)
            if len(predicted):
                predicted = predicted.reshape(size)
        except (ValueError, OverflowError):
            raise StateError("not the state of a video session; start without it") from None
        if not (np.abs(predicted) <= MAX_VALUE).all():
            raise StateError("not the state of a video session; start without it")
        self._stream.restore(data)
        self._frames = saved.frames
        self._predicted = predicted if predicted.size else None


def remote_session(file: VideoFile, precision: str, options: StreamOptions) -> VideoSession:
    """See `Application.remote_session`."""
    return VideoSession(file, precision, options, paths=False)


def _short(text: str, path: str) -> str:
    """A message with a quoted path, which in a line may be anything."""
    return text.replace(path, quote(path), 1)
