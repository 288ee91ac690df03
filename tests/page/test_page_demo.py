"""`serve --demo` with an empty cache: the page shows the training, then the model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from page_server import Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It trains the first of the models, and is stopped before the others."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(folder))
        environment.delenv("MEMORYCELL_DATA", raising=False)
        server = Server(folder, [], ["--demo"])
        server.start()
    yield server
    server.stop()


def test_progress_then_the_model(page: Any) -> None:
    page.goto("/#live/glucose")
    page.get_by_text("It is being trained on this machine, once").wait_for()
    glucose = page.locator(".models li", has_text="glucose")
    glucose.get_by_text(re.compile(r"^training [1-9]\d?%$")).wait_for(timeout=600_000)
    assert page.locator(".models li").count() == 5
    assert page.locator(".models .state", has_text="waiting").count() == 4
    page.get_by_role("button", name="Use two sample days").wait_for(timeout=1_800_000)
    page.get_by_role("button", name="Use two sample days").click()
    page.locator(".time output", has_text=re.compile(r"^[1-9]\d* of")).wait_for()
