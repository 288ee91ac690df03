"""A policy live: an observation in, an action out. This is how a robot uses it."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from memorycell.application.contract import Item, NoOptions, Record
from memorycell.applications.control.codec import ControlCodec
from memorycell.applications.control.prepare import PolicyFile
from memorycell.errors import DataError, StateError, quote
from memorycell.setting_fields import from_json, parse_json
from memorycell.state import State
from memorycell.streaming.finite import check_bounded
from memorycell.streaming.stepwise import StreamSteps, run
from memorycell.streaming.stream import Stream
from memorycell.tables.cells import is_missing

RESET, OBSERVATION = "reset", "observation"
MAX_LINE_CHARS = 4_000_000


@dataclass(frozen=True)
class _Saved:
    """What a snapshot holds apart from the state."""

    step: Annotated[int, Meta(ge=0)]


class ControlSession:
    """See `Session`. An observation is a line of numbers, separated by commas or spaces, a JSON
    list, or an object with "observation" or with a number per name; a blank line, `reset` or
    `{"reset": true}` begins a new episode.

    precision   of the recurrent part: "float32", "bfloat16" or "int8"
    """

    def __init__(
        self, file: PolicyFile, precision: str = "float32", options: NoOptions | None = None
    ) -> None:
        self.codec: ControlCodec = file.codec
        self._stream = Stream(file.model, precision, history=0)
        self._line = self._step = 0

    def act(self, inputs: np.ndarray) -> np.ndarray:
        """The action [A] for the inputs [I] float32 of an observation, without reading text: the
        quick way from Python. Raises as `Stream.step`.
        """
        y: np.ndarray = self._stream.step(inputs)
        self._step += 1
        return self.codec.best_action(y)

    def reset(self) -> None:
        """Begin a new episode."""
        self._stream.reset()
        self._step = 0

    def feed(self, item: Item) -> list[Record]:
        """See `Session`: `{"step", "action"}`, of choices with the probability `p` of each."""
        return run(self.steps(item))

    def steps(self, item: Item) -> StreamSteps[list[Record]]:
        """See `Stepwise`."""
        self._line += 1
        where = "row" if isinstance(item, Mapping) else f"stdin, line {self._line}"
        values = _parse(item, self.codec, where)
        if values is None:
            self.reset()
            return []
        y = yield self._stream, self.codec.read(values, where)
        self._step += 1
        action = self.codec.best_action(y)
        record: Record = {"step": self._step, "action": self.codec.action_json(action)}
        if self.codec.choices:
            shares = probabilities(y, self.codec.choices, action)
            record["p"] = shares[0] if len(shares) == 1 else shares
        return [record]

    def close(self) -> list[Record]:
        """See `Session`; no answer is pending."""
        return []

    def fork(self) -> ControlSession:
        """See `Forkable`."""
        other = copy.copy(self)
        other._stream = self._stream.fork()
        return other

    def snapshot(self) -> bytes:
        """See `Session`."""
        return self._stream.snapshot(step=self._step)

    def restore(self, data: bytes) -> None:
        """See `Session`."""
        state, extra = State.from_bytes(data, fingerprint=self._stream.fingerprint)
        try:
            saved = from_json(_Saved, extra)
            check_bounded(state)
            self._stream.state = state
        except (ValueError, StateError) as error:
            raise StateError(
                f"not the state of a policy ({quote(str(error))[1:-1]}); start without it"
            ) from None
        self._step = saved.step


def _parse(item: Item, codec: ControlCodec, where: str) -> Sequence[float] | None:
    """The values of an observation; None for a line that begins a new episode."""
    if isinstance(item, Mapping):
        return _from_object(item, codec, where)
    try:
        text = (item.decode() if isinstance(item, bytes) else item).strip("\ufeff \t\r\n")
    except UnicodeDecodeError:
        raise DataError(f"{where}: not UTF-8 text") from None
    if not text or text.lower() == RESET:
        return None
    if len(text) > MAX_LINE_CHARS:
        raise DataError(f"{where}: {len(text):,} characters; expected one observation")
    if text[0] in "{[":
        try:
            found = parse_json(text)
        except ValueError as error:
            raise DataError(f"{where}: {quote(str(error))[1:-1]}") from None
        if isinstance(found, Mapping):
            return _from_object(found, codec, where)
        return _floats(found, where)
    return _floats(text.replace(",", " ").split(), where)


def _from_object(row: Mapping[str, Any], codec: ControlCodec, where: str) -> Sequence[float] | None:
    if row.get(RESET) is True:
        return None
    if OBSERVATION in row:
        found = row[OBSERVATION]
        single = isinstance(found, (int, float)) and not isinstance(found, bool)
        return _floats([found] if single else found, where)
    names = [codec.names[k] for k in codec.seen]
    missing = [name for name in names if name not in row]
    if missing:
        raise DataError(
            f"{where}: no {quote(missing[0])}; expected {OBSERVATION} with {len(names)} numbers, or"
            f" a number for each of {quote(', '.join(names))[1:-1]}"
        )
    return _floats([row[name] for name in names], where)


def _floats(values: object, where: str) -> list[float]:
    if not isinstance(values, (list, tuple)):
        raise DataError(f"{where}: expected an observation as a list of numbers")
    result = []
    for value in values:
        try:
            if isinstance(value, (bool, list, dict)) or is_missing(value):
                raise ValueError
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"{where}: {quote(value)} is not a number of an observation") from None
        if not math.isfinite(number):
            raise DataError(f"{where}: {quote(value)} is not a finite number")
        result.append(number)
    return result


def probabilities(y: np.ndarray, choices: Sequence[int], action: np.ndarray) -> list[float]:
    """The probability of each chosen action [A] under the scores y [sum of choices]."""
    parts = np.split(np.asarray(y, np.float64), np.cumsum(choices)[:-1])
    result = []
    for scores, chosen in zip(parts, action, strict=True):
        powers = np.exp(scores - scores.max())
        result.append(round(float(powers[int(chosen)] / powers.sum()), 4))
    return result
