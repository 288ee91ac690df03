"""Live music: the keys that sound in, the keys that may follow out."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch

from memorycell.application.contract import Item, NoOptions, Record
from memorycell.applications.music.model_files import (
    MusicFile,
    frame_file,
    is_scores,
    score_file,
)
from memorycell.applications.music.pieces import frame_pitches
from memorycell.applications.music.pitches import (
    LOWEST_PITCH,
    NUM_KEYS,
    parse_pitch,
    pitch_name,
)
from memorycell.applications.music.score.session import ScoreSession
from memorycell.errors import DataError, StateError
from memorycell.setting_fields import from_json
from memorycell.state import State
from memorycell.streaming.stepwise import StreamSteps, run
from memorycell.streaming.stream import Stream

NUM_SAMPLES = 400
"""Frames sampled to estimate the probabilities of the next keys."""
MAX_SHOWN_KEYS = 8
MAX_HIDDEN = 1e6
"""Of the values of a saved hidden state; those of every cell are far smaller."""


@dataclass(frozen=True)
class _Saved:
    """What a snapshot holds apart from the state: the hidden state [H] after the last frame."""

    hidden: tuple[float, ...]


def open_session(
    file: MusicFile, precision: str = "float32", options: NoOptions | None = None
) -> MusicSession | ScoreSession:
    """See `Application`. Raises `UserError` for a model of events."""
    if is_scores(file):
        return ScoreSession(score_file(file), precision)
    return MusicSession(file, precision, options)


class MusicSession:
    """One frame per line in, the most probable keys of the next frame out. Raises `UserError` for a
    model of events.

    precision   of the recurrent part: "float32", "bfloat16" or "int8"
    """

    def __init__(
        self, file: MusicFile, precision: str = "float32", options: NoOptions | None = None
    ) -> None:
        frames = frame_file(file)
        self.model, self.voices = frames.model, frames.codec.voices
        self._stream = Stream(self.model, precision, history=0)
        self._hidden = self._stream.step(np.zeros(NUM_KEYS, np.float32))
        self._line = 0

    def feed(self, item: Item) -> list[Record]:
        """See `Session`; a line of keys by name or number, separated by spaces or commas, such as
        "C3 E4 G4 C5"; "-" or an empty line is a rest.
        """
        return run(self.steps(item))

    def steps(self, item: Item) -> StreamSteps[list[Record]]:
        """See `Stepwise`."""
        self._line += 1
        where = f"stdin, line {self._line}"
        if not isinstance(item, (str, bytes)):
            raise DataError(f"{where}: expected a line of keys, such as C3 E4 G4")
        text = item.decode(errors="replace") if isinstance(item, bytes) else item
        frame = self._parse_frame(text, where)
        with torch.inference_mode():
            nats = self.model.head.nats(torch.from_numpy(self._hidden), torch.from_numpy(frame))
        self._hidden = yield self._stream, frame
        return [
            {
                "heard": [pitch_name(pitch) for pitch in frame_pitches(frame)],
                "nats": round(float(nats), 3),
                "next": self.next_keys(),
            }
        ]

    def _parse_frame(self, text: str, where: str) -> np.ndarray:
        """[88] float32."""
        frame = np.zeros(NUM_KEYS, np.float32)
        try:
            for word in text.replace(",", " ").split():
                if word != "-":
                    frame[parse_pitch(word) - LOWEST_PITCH] = 1
        except ValueError as error:
            raise DataError(f"{where}: {error}") from None
        if frame.sum() > self.voices:
            raise DataError(
                f"{where}: {int(frame.sum())} keys; the model has at most {self.voices} at once"
            )
        return frame

    @torch.inference_mode()
    def next_keys(self, count: int = MAX_SHOWN_KEYS) -> list[Record]:
        """The most probable keys of the next frame, estimated from samples with a fixed seed."""
        generator = torch.Generator().manual_seed(0)
        hidden = torch.from_numpy(self._hidden)
        samples = self.model.head.sample_many(hidden, generator, NUM_SAMPLES)
        p = samples.float().mean(0).numpy()
        return [
            {"key": pitch_name(int(k) + LOWEST_PITCH), "p": round(float(p[k]), 3)}
            for k in np.argsort(-p, kind="stable")[:count]
        ]

    def close(self) -> list[Record]:
        """See `Session`; no answer is pending."""
        return []

    def fork(self) -> MusicSession:
        """See `Forkable`."""
        other = copy.copy(self)
        other._stream = self._stream.fork()
        return other

    def snapshot(self) -> bytes:
        """See `Session`."""
        return self._stream.snapshot(hidden=self._hidden.tolist())

    def restore(self, data: bytes) -> None:
        """See `Session`."""
        _, extra = State.from_bytes(data, fingerprint=self._stream.fingerprint)
        try:
            hidden = np.array(from_json(_Saved, extra).hidden)
        except ValueError:
            hidden = np.zeros(0)
        if hidden.shape != self._hidden.shape or not (np.abs(hidden) <= MAX_HIDDEN).all():
            raise StateError("not the state of a music session; start without it")
        self._stream.restore(data)
        self._hidden = hidden.astype(np.float32)
