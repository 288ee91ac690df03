"""Many live sessions of a trained model, which read what people have and step together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from memorycell.application.contract import (
    AnyModelFile,
    Forkable,
    Item,
    Record,
    Session,
    Stepwise,
)
from memorycell.application.live import open_session
from memorycell.errors import StateError, UserError, counted
from memorycell.streaming.stepwise import run_together


class SessionPool:
    """Live sessions of a trained model: `slot = pool.open()`, `answers = pool.feed(slots, items)`,
    `pool.close(slot)`.

    An item is what `Trained.session` reads: a row as a mapping, text, sound. Sessions whose task
    allows it (`steps_together`) are stepped in one call of the engine, which reads the weights once
    for all of them, with the answers of sessions that are fed one by one, to the bit on the native
    engine. The others share the model and are fed one by one. Not thread-safe.

    file        of the model
    precision   of the recurrent layers' products: "float32", "bfloat16" or "int8"
    options     the task's options of `stream`, as their type

    Raises `UserError` for a model that needs its complete input.
    """

    def __init__(
        self, file: AnyModelFile, precision: str = "float32", options: object = None
    ) -> None:
        self._file, self._precision, self._options = file, precision, options
        self._initial = open_session(file, precision, options)
        # of all sessions; asked once, because isinstance of a protocol takes ten microseconds
        self._fork = self._initial.fork if isinstance(self._initial, Forkable) else None
        self._steps_together = isinstance(self._initial, Stepwise)
        self._sessions: dict[int, Session] = {}
        self._next_slot = 0

    @property
    def slots(self) -> np.ndarray:
        """The open sessions, [n] int64, in the order in which they were opened."""
        return np.fromiter(self._sessions, np.int64, len(self._sessions))

    @property
    def steps_together(self) -> bool:
        """Whether one call of the engine steps all sessions of a call."""
        return self._steps_together

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, slot: object) -> bool:
        return slot in self._sessions

    def open(self) -> int:
        """Open a session; its slot, a number that is not used again."""
        return self._add(self._new())

    def open_many(self, count: int) -> np.ndarray:
        """Open sessions; their slots, [count] int64."""
        return np.array([self.open() for _ in range(count)], np.int64)

    def fork(self, slot: int) -> int:
        """A new session with the state of another; its slot."""
        return self._add(self._copy(self[slot]))

    def __getitem__(self, slot: int) -> Session:
        """The session of a slot. Raises `StateError` for one that is not open."""
        session = self._sessions.get(int(slot))
        if session is None:
            raise StateError(f"slot {slot} is not open; open() gives a new one")
        return session

    def feed(self, slots: Iterable[int], items: Sequence[Item]) -> list[list[Record]]:
        """Feed one item to each of some sessions; the answers of each, as of `Session.feed`.

        Raises `UserError` that names the first slot whose item cannot be read, and `StateError` for
        a slot that is not open or given twice; then no session has changed.
        """
        numbers = [int(slot) for slot in slots]
        if len(numbers) != len(items) or isinstance(items, (str, bytes)):
            raise UserError(
                f"pool: {counted(len(numbers), 'slots')} and {counted(len(items), 'items')}; give a"
                " list, an item per slot"
            )
        if len(set(numbers)) != len(numbers):
            raise StateError("pool: a slot is given twice; feed its items one after the other")
        own = [self[slot] for slot in numbers]
        copies = [self._copy(session) for session in own]  # replace the sessions if all succeed
        outcomes = (_stepped if self._steps_together else _fed)(copies, items)
        for slot, outcome in zip(numbers, outcomes, strict=True):
            if isinstance(outcome, UserError):
                raise type(outcome)(f"slot {slot}: {outcome}") from None
            if isinstance(outcome, Exception):
                raise outcome
        self._sessions.update(zip(numbers, copies, strict=True))
        return [outcome for outcome in outcomes if not isinstance(outcome, Exception)]

    def close(self, slot: int) -> list[Record]:
        """End a session; the answers that were waiting for more."""
        answers = self[slot].close()
        del self._sessions[int(slot)]
        return answers

    def snapshot(self, slot: int) -> bytes:
        """The state of a session, for `restore`, also of another pool of the same weights."""
        return self[slot].snapshot()

    def restore(self, data: bytes) -> int:
        """Open a session with a state; its slot. Raises `StateError`."""
        session = self._new()
        session.restore(data)
        return self._add(session)

    def _add(self, session: Session) -> int:
        slot = self._next_slot
        self._next_slot += 1
        self._sessions[slot] = session
        return slot

    def _new(self) -> Session:
        if self._fork is not None:
            return self._fork()
        return open_session(self._file, self._precision, self._options)

    def _copy(self, session: Any) -> Session:
        if self._fork is not None:
            forked: Session = session.fork()
            return forked
        copy = self._new()
        copy.restore(session.snapshot())
        return copy


def _stepped(sessions: Sequence[Any], items: Sequence[Item]) -> list[list[Record] | Exception]:
    """The answers of each session, or the exception that it raised, in steps of all."""
    return run_together([s.steps(item) for s, item in zip(sessions, items, strict=True)])


def _fed(sessions: Sequence[Session], items: Sequence[Item]) -> list[list[Record] | Exception]:
    """As `_stepped`, one by one."""
    outcomes: list[list[Record] | Exception] = []
    for session, item in zip(sessions, items, strict=True):
        try:
            outcomes.append(session.feed(item))
        except UserError as error:
            outcomes.append(error)
    return outcomes
