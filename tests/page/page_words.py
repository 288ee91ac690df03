"""The next words that the page shows, and those of a session of one's own."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import memorycell

PATIENCE_S = 60


def words_of(view: Any) -> list[tuple[str, str]]:
    """The next words and their probabilities on the page."""
    return [
        tuple(word.locator("span:not(.track):not(.bar)").all_inner_texts())
        for word in view.locator(".word").all()
    ]


def expected_words(file: Path, text: str) -> list[tuple[str, str]]:
    """The same from a session of one's own."""
    answer = memorycell.load(file).session().feed(json.dumps(text))[0]
    return [(e["word"], f"{int(100 * e['p'] + 0.5)}%") for e in answer["next"]]


def wait_for_words(page: Any, view: Any, expected: list[tuple[str, str]]) -> None:
    """Wait until the next words are the expected ones."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := words_of(view)) != expected:
        assert time.monotonic() < deadline, (found, expected)
        page.wait_for_timeout(50)
