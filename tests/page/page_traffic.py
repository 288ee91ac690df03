"""What the page sends to sessions and gets back, and the command line's answers to the same."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE_S = 60


class Traffic:
    """Of the pages of a test: the items of steps, and their answers.

    items     in the order of sending; in the form of JSON
    answers   the records of each item that was answered, in the order of sending
    """

    def __init__(self, page: Any) -> None:
        self.items: list[Any] = []
        self._steps: list[_Step] = []
        page.on("websocket", self._watch)

    def _watch(self, socket: Any) -> None:
        socket.on("framesent", self._sent)
        socket.on("framereceived", self._received)

    def _sent(self, text: Any) -> None:
        message = json.loads(text) if isinstance(text, str) else {}
        if message.get("op") == "step":
            several = "items" in message
            self._steps.append(_Step(message["ref"], several))
            self.items += message["items"] if several else [message["item"]]

    def _received(self, text: Any) -> None:
        message = json.loads(text) if isinstance(text, str) else {}
        for step in self._steps:
            if message.get("ref") == step.ref and step.answers is None and message["ok"]:
                step.answers = message["answers"] if step.several else [message["answers"]]

    @property
    def answers(self) -> list[list[dict[str, Any]]]:
        return [records for step in self._steps for records in step.answers or []]

    def wait_for(self, page: Any, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds and everything that was sent is answered."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition() or len(self.answers) < len(self.items):
            assert time.monotonic() < deadline, (self.items[-3:], self.answers[-3:])
            page.wait_for_timeout(20)

    def check(self, file: Path, *settings: str) -> None:
        """The answers are those of the command line. At the end of its input it may answer once
        more.
        """
        ours = [record for records in self.answers for record in records]
        assert ours
        assert len(self.answers) == len(self.items)
        assert self.command_line(file, *settings)[: len(ours)] == ours

    def command_line(self, file: Path, *settings: str) -> list[dict[str, Any]]:
        """What `memorycell stream` prints for the items."""
        data = b"".join(map(_line, self.items))
        lines = run_cli(data, "stream", str(file), *(w for s in settings for w in ("--set", s)))
        return [json.loads(line) for line in lines]


def slow_answers(page: Any, delay_ms: int) -> None:
    """Of the server of the pages that are opened from now on."""
    page.add_init_script(
        f"""const Real = WebSocket;
        window.WebSocket = class extends Real {{
          set onmessage(read) {{
            super.onmessage = (event) => setTimeout(() => read(event), {delay_ms});
          }}
        }};"""
    )


def held_answers(page: Any) -> None:
    """The pages that are opened from now on can keep the answers of the server waiting: those that
    arrive after `hold_answers` are given to the page by `release_answers`.
    """
    page.add_init_script(
        """const Real = WebSocket;
        let held = null;
        window.holdAnswers = () => { held = []; };
        window.releaseAnswers = () => {
          const waiting = held;
          held = null;
          for (const give of waiting) give();
        };
        window.WebSocket = class extends Real {
          set onmessage(read) {
            super.onmessage = (event) => (held ? held.push(() => read(event)) : read(event));
          }
        };"""
    )


def hold_answers(page: Any) -> None:
    page.evaluate("holdAnswers()")


def release_answers(page: Any) -> None:
    page.evaluate("releaseAnswers()")


@dataclass
class _Step:
    """A request of one or several items; `answers` has a list for each, None before."""

    ref: int
    several: bool
    answers: list[list[dict[str, Any]]] | None = None


def _line(item: Any) -> bytes:
    """An item as standard input has it."""
    if isinstance(item, dict) and "base64" in item:
        return base64.b64decode(item["base64"])
    return (item if isinstance(item, str) else json.dumps(item)).encode() + b"\n"


def run_cli(data: bytes, *words: str) -> list[str]:
    """The lines that a command prints for some standard input, in this process."""
    from memorycell.cli.verbs import app

    printed, before = io.StringIO(), sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(data))
    status: Any = 0
    try:
        with contextlib.redirect_stdout(printed):
            app(list(words), prog_name="memorycell")
    except SystemExit as end:
        status = end.code
    finally:
        sys.stdin = before
    assert not status, words
    return printed.getvalue().splitlines()
