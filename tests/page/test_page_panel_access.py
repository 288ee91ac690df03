"""The panels of further tasks without a mouse, and with axe-core at the width of a phone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from page_axe import PHONE, axe_source, check_view
from page_keys import press, read_at_least, read_items, tab_to
from panel_models import Panels


@pytest.fixture(scope="module")
def server(panels: Panels) -> Panels:
    """In place of the server of the other tests."""
    return panels


def test_video(page: Any) -> None:
    page.goto("/#live/video")
    tab_to(page, "Frames$")
    page.keyboard.press("ArrowDown")
    tab_to(page, "Drawing field")
    page.keyboard.press("Space")
    for _ in range(6):
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    press(page, "One frame")
    read_items(page, 1)
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")  # Play
    read_at_least(page, 2)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Play").wait_for()


def test_control(page: Any) -> None:
    page.goto("/#live/cartpole")
    press(page, "Run")
    read_at_least(page, 3)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Run", exact=True).wait_for()
    press(page, "Push it →")
    press(page, "Fork")
    page.locator(".column").nth(1).wait_for()


def test_sequences(page: Any, server: Panels) -> None:
    page.goto("/#live/sequences")
    tab_to(page, "Choose a CSV file")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    rows = {"name": "rows.csv", "mimeType": "text/csv", "buffer": server.rows.encode()}
    chooser.value.set_files(rows)
    read_at_least(page, 1)
    page.keyboard.press("Escape")
    press(page, "End sequence")
    page.locator(".verdict", has_text="ended after").wait_for()


def test_sentiment_and_chat(page: Any) -> None:
    page.goto("/#live/sentiment")
    tab_to(page, "Text$")
    page.keyboard.type("a great film")
    page.keyboard.press("Enter")
    page.locator(".weighted mark").first.wait_for()
    page.goto("/#live/chat")
    page.get_by_label("Message").wait_for()
    tab_to(page, "Message")
    page.keyboard.type("hello")
    press(page, "Send")
    page.locator(".theirs").wait_for()


def test_translation(page: Any) -> None:
    page.goto("/#live/translation")
    tab_to(page, "Text to translate")
    page.keyboard.type("the red cat sees the dog")
    tab_to(page, "Use its translation memory")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.locator(".attention").wait_for()
    tab_to(page, ".*most attention to")
    page.locator(".chip.chosen").wait_for()


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_nothing_serious_in_a_panel(page: Any, server: Panels, theme: str) -> None:
    source = axe_source()
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size(PHONE)
    for name in server.files:
        page.goto("about:blank")  # else the column of the model before may still be there
        page.goto(f"/#live/{name}")
        page.locator(".column").wait_for()
        step = page.get_by_role("button", name=re.compile("^One (frame|step)$"))
        if name in ("video", "cartpole", "maze"):
            step.click()
            read_items(page, 1)
        elif name == "sentiment":
            page.get_by_label("Text", exact=True).fill("a dull and lovely film")
            page.keyboard.press("Enter")
            page.locator(".weighted").wait_for()
        elif name == "translation":
            page.get_by_label("Use its translation memory").uncheck()
            page.get_by_label("Text to translate").fill("the red cat sees the dog")
            page.get_by_role("button", name="Translate").click()
            page.locator(".attention").wait_for()
        elif name == "chat":
            page.get_by_label("Message").fill("hello")
            page.keyboard.press("Enter")
            page.locator(".theirs").wait_for()
        check_view(page, source)
