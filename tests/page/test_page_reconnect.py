"""The page when its server is killed and started again."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from page_server import Server
from page_words import expected_words, wait_for_words

PATIENCE_MS = 120_000


@pytest.fixture
def own_server(model_files: dict[str, Path], tmp_path: Path) -> Any:
    """A server for this test alone."""
    server = Server(tmp_path, [model_files["text"]])
    server.start()
    yield server
    server.stop()


def test_state_is_there_again_after_the_server_was_killed(
    browser: Any, own_server: Server, model_files: dict[str, Path]
) -> None:
    file = model_files["text"]
    page, story = (browser.new_page(base_url=own_server.url) for _ in range(2))
    errors: list[str] = []
    for each in (page, story):
        each.set_default_timeout(PATIENCE_MS)
        each.on("pageerror", lambda error: errors.append(str(error)))
    story.goto("/")
    story.get_by_role("heading", name="After “is”").wait_for()
    page.goto("/#live/text")
    area = page.get_by_label("Text", exact=True)
    area.type("the cat ")
    wait_for_words(page, page, expected_words(file, "the cat "))
    own_server.stop(signal.SIGKILL)
    page.get_by_text("connection lost, trying again").wait_for()
    area.type("sa")  # kept by the page until the server is back
    own_server.start()
    page.get_by_text("connected", exact=True).wait_for()
    area.type("t")
    wait_for_words(page, page, expected_words(file, "the cat sat"))
    page.get_by_label("Time").fill("3")  # the history of the killed server is read again
    wait_for_words(page, page, expected_words(file, "the"))
    story.get_by_role("button", name="One word back").click()
    story.get_by_role("heading", name="After “country”").wait_for()
    for each in (page, story):
        each.close()
    assert errors == []
