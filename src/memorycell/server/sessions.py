"""A session of a server: how it was opened, where it runs, who holds it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

import orjson

from memorycell.server.problems import Problem

if TYPE_CHECKING:
    import numpy as np

    from memorycell.application.contract import Session
    from memorycell.server.item_lane import ItemLane
    from memorycell.server.served import ServedModel
    from memorycell.server.tensor_lane import TensorLane

Durable = Literal["none", "step", "interval"]
Input = Literal["items", "tensors"]


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How a session is opened.

    id        None: a random one
    input     what it reads: items of the application, or the model's encoded inputs; None: items
              where the model has them
    durable   none: it ends with the process, unless that ends orderly; step: on disk before each
              answer; interval: on disk at most the server's interval later
    ttl_s     seconds without a request after which it is closed; None: the server's default
    history   number of items that can be rewound
    options   of the application's stream
    owner     name of the token that opened it
    state     a snapshot to begin with
    """

    id: str | None = None
    input: Input | None = None
    precision: str = "float32"
    durable: Durable = "none"
    ttl_s: float | None = None
    history: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    owner: str = ""
    state: bytes | None = None


@dataclass
class StepResult:
    """The answers of a request, one list per item; `steps` is the number of items read so far."""

    answers: list[Any]
    steps: int
    gates: dict[str, Any] | None = None


class Holder(Protocol):
    """What a session is attached to."""

    def released(self, session: LiveSession, reason: str) -> None:
        """The session was taken from the holder."""


def _options_note(
    input: Input | None,
    precision: str,
    durable: Durable,
    ttl_s: float | None,
    history: int,
    owner: str,
    options: Mapping[str, Any] | None = None,
) -> bytes:
    """How a session was opened, as JSON."""
    note = {
        "input": input,
        "precision": precision,
        "durable": durable,
        "ttl_s": ttl_s,
        "history": history,
        "options": options or {},
        "owner": owner,
    }
    return orjson.dumps(note, option=orjson.OPT_SERIALIZE_NUMPY)


_shared_note = lru_cache(1024)(_options_note)
"""Written with every durable step, it is made once."""


class LiveSession:
    """What tensor sessions and item sessions have in common.

    last     number of items and the answers of the last request, to answer it again
    socket   what it is attached to, where it has a handle
    closed   requests are refused; spilled: because it is, or is being, moved to the store
    saved    the number of items at which it was last written to the store
    """

    __slots__ = (
        *(
            "closed",
            "epoch",
            "handle",
            "id",
            "last",
            "opened",
            "options",
            "precision",
            "saved",
            "served",
        ),
        *("served", "socket", "spilled", "ttl_s"),
    )

    def __init__(self, id: str, served: ServedModel, options: OpenOptions, ttl_s: float) -> None:
        self.id, self.served, self.options, self.ttl_s = id, served, options, ttl_s
        self.precision = options.precision
        self.closed = self.spilled = False
        self.epoch = 0
        self.last: tuple[int, Any] | None = None
        self.socket: Holder | None = None
        self.handle = 0
        self.saved = -1
        self.opened = time.time()
        served.sessions += 1

    @property
    def key(self) -> tuple[str, str]:
        """What identifies it."""
        return self.served.name, self.id

    @property
    def durable(self) -> Durable:
        """See `OpenOptions`."""
        return self.options.durable

    def note(self, *, last: bool = True) -> bytes:
        """What its row in a store says apart from the state, with or without its last answer."""
        o = self.options
        given = (o.input, o.precision, o.durable, o.ttl_s, o.history, o.owner)
        note = _options_note(*given, o.options) if o.options else _shared_note(*given)
        if self.last is None or not last:
            return note
        answer = orjson.dumps(self.last, option=orjson.OPT_SERIALIZE_NUMPY)
        return note[:-1] + b',"last":' + answer + b"}"

    def touch(self) -> None:
        """Note that it was used."""
        self.used = time.monotonic()

    lane: Any
    """Where it runs: a `TensorLane` or an `ItemLane`."""
    steps: int
    used: float
    """`time.monotonic()` of its last use."""

    @property
    def alive(self) -> bool:
        """Whether its state is in memory."""
        raise NotImplementedError

    def rewind(self, items: int) -> None:
        """Undo items. Raises `Problem` 422. Called in its lane, as `free`."""
        raise NotImplementedError

    def free(self) -> None:
        """Free its memory."""
        raise NotImplementedError


class TensorSession(LiveSession):
    """A session that reads a model's encoded inputs; its state is a row of a pool.

    past   rows of the state before the last items, for rewinding
    """

    __slots__ = ("_lock", "lane", "past", "slot")

    def __init__(
        self, id: str, served: ServedModel, options: OpenOptions, ttl_s: float, lane: TensorLane
    ) -> None:
        super().__init__(id, served, options, ttl_s)
        self.lane = lane
        self.slot = lane.open(self)
        self.past: deque[Any] | None = deque(maxlen=options.history) if options.history else None
        self._lock: asyncio.Lock | None = None
        self.touch()

    @property
    def lock(self) -> asyncio.Lock:
        """Held by a door that waits for the answer to its steps."""
        if self._lock is None:
            self._lock = asyncio.Lock()
        return self._lock

    @property
    def alive(self) -> bool:
        """See `LiveSession`."""
        return self.lane.sessions[self.slot] is self

    @property
    def rewindable(self) -> int:
        """Items that can be rewound."""
        return len(self.past or ())

    def rewind(self, items: int) -> None:
        """See `LiveSession`."""
        _check_rewind(items, self.rewindable)
        if items:
            assert self.past is not None
            row = [self.past.pop() for _ in range(items)][-1]
            self.lane.pool.set_rows([self.slot], row[None])
            self.steps -= items
            self.last = None

    def set_rows(self, rows: np.ndarray) -> None:
        """Set the state [1, width]."""
        self.lane.pool.set_rows([self.slot], rows)
        self.last = None
        if self.past is not None:
            self.past.clear()

    def free(self) -> None:
        """See `LiveSession`."""
        self.served.sessions -= 1
        self.lane.close(self.slot)

    @property
    def steps(self) -> int:  # kept in an array
        """Items read."""
        return int(self.lane.stepped[self.slot])

    @steps.setter
    def steps(self, value: int) -> None:
        self.lane.stepped[self.slot] = value

    @property
    def used(self) -> float:
        """See `LiveSession`."""
        return float(self.lane.used[self.slot])

    @used.setter
    def used(self, value: float) -> None:
        self.lane.used[self.slot] = value


class ItemSession(LiveSession):
    """A session that reads what people have: the `Session` of its application.

    past      copies of the session before the last items
    queued    requests that wait
    blocked   its last answer is being written to the store
    """

    __slots__ = ("blocked", "lane", "past", "queued", "session", "steps", "used")

    def __init__(
        self,
        id: str,
        served: ServedModel,
        options: OpenOptions,
        ttl_s: float,
        lane: ItemLane,
        session: Session,
    ) -> None:
        super().__init__(id, served, options, ttl_s)
        self.lane, self.session = lane, session
        lane.sessions.add(self)
        self.steps = self.queued = 0
        self.blocked = False
        self.past: deque[Any] = deque(maxlen=options.history)
        self.touch()

    @property
    def alive(self) -> bool:
        """See `LiveSession`."""
        return self in self.lane.sessions

    @property
    def rewindable(self) -> int:
        """Items that can be rewound."""
        return len(self.past)

    def rewind(self, items: int) -> None:
        """See `LiveSession`."""
        _check_rewind(items, self.rewindable)
        if items:
            self.session = [self.past.pop() for _ in range(items)][-1]
            self.steps -= items
            self.last = None

    def set_session(self, session: Session) -> None:
        """Replace what it runs."""
        self.session, self.last = session, None
        self.past.clear()

    def free(self) -> None:
        """See `LiveSession`."""
        self.served.sessions -= 1
        self.lane.sessions.discard(self)
        self.past.clear()


def call_alive(session: LiveSession, function: Callable[[], Any]) -> Any:
    """Call a function for a session. Raises `Problem` 404 where it was freed before."""
    if not session.alive:
        raise Problem("no-such-session", f"session {session.id!r} was closed")
    return function()


def _check_rewind(items: int, available: int) -> None:
    if not 0 <= items <= available:
        raise Problem(
            "unusable-input",
            f"items: expected 0 to {available}, got {items}; open with a larger history",
        )
