"""The page without a mouse: every control is reached with Tab, the focus is seen, and works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from page_keys import press, read_at_least, read_items, tab_to
from page_words import expected_words, wait_for_words


def test_text_and_the_controls_of_a_session(page: Any, model_files: dict[str, Path]) -> None:
    page.goto("/#live/text")
    tab_to(page, "Text$")
    page.keyboard.type("the cat ")
    wait_for_words(page, page, expected_words(model_files["text"], "the cat "))
    tab_to(page, "Time")
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    wait_for_words(page, page, expected_words(model_files["text"], "the"))
    press(page, "Fork")
    page.locator(".column").nth(1).wait_for()
    page.keyboard.press("Shift+Tab")  # the new column has the focus; its other controls follow
    press(page, "Close this column")
    assert page.locator(".column").count() == 1
    assert page.evaluate("document.activeElement.tagName") == "H2"
    tab_to(page, "Another model or precision")
    page.keyboard.press("ArrowDown")
    assert page.locator(".column").count() == 1  # only the button opens it
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.locator(".column").nth(1).get_by_text("int8").first.wait_for()
    press(page, "Cell c")
    assert page.locator("[aria-pressed=true]", has_text="Cell c").count() == 1
    tab_to(page, "Unit")
    page.keyboard.press("ArrowUp")
    assert page.get_by_role("spinbutton", name="Unit").nth(1).input_value() == "2"


def test_a_character_is_drawn_with_the_arrows(page: Any) -> None:
    page.goto("/#live/digits")
    tab_to(page, "Drawing field")
    page.locator(".pen").wait_for()
    page.keyboard.press("Space")
    for _ in range(18):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    read_items(page, 20)  # a point for each key, and the end of the stroke
    assert page.locator(".labels .country").first.inner_text() in "0123456789"
    press(page, "Undo stroke")
    read_items(page, 0)


@pytest.mark.parametrize("name", ["forecast", "anomaly"])
def test_a_table_is_played(page: Any, model_files: dict[str, Path], name: str) -> None:
    page.goto(f"/#live/{name}")
    tab_to(page, "Choose a CSV file")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    folder = Path(__file__).parents[1] / "application" / "old_files"
    chooser.value.set_files(folder / {"forecast": "readings.csv", "anomaly": "payments.csv"}[name])
    page.get_by_text(re.compile(r"row \d+ of")).wait_for()  # it plays at once
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Play", exact=True).wait_for()
    before = page.locator(".time output").inner_text()
    press(page, "One row")
    page.locator(".time output").filter(has_not_text=re.compile(f"^{before}$")).wait_for()


def test_sound_is_chosen_and_the_microphone_stopped(page: Any) -> None:
    page.context.grant_permissions(["microphone"])
    page.goto("/#live/speech")
    press(page, "Use the microphone")
    read_at_least(page, 1)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Use the microphone").wait_for()
    tab_to(page, "Choose a sound file")
    with page.expect_file_chooser():
        page.keyboard.press("Space")


def test_a_piano(page: Any) -> None:
    page.goto("/#live/music")
    press(page, "C4")
    page.locator(".frames li").first.wait_for()
    press(page, "Rest")
    press(page, "Undo")  # also where the rest is still under way
    page.locator(".time output", has_text="1 of 2").wait_for()


def test_vectors(page: Any) -> None:
    page.goto("/#live/layer")
    tab_to(page, "3 numbers")
    page.keyboard.type("1 2 3")
    page.keyboard.press("Enter")
    read_items(page, 1)
    press(page, "Random sequence")
    read_at_least(page, 2)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Random sequence").wait_for()


def test_the_story(page: Any) -> None:
    page.goto("/")
    page.get_by_role("heading", name="After “is”").wait_for()
    press(page, r"the\b")
    page.get_by_role("heading", name="After “the”").wait_for()
    page.keyboard.press("ArrowRight")
    page.get_by_role("heading", name="After “peacock”").wait_for()
    tab_to(page, "Unit")
    before = page.locator(".unit-line").inner_text()
    page.keyboard.press("ArrowDown")
    assert page.locator(".unit-line").inner_text() != before
    press(page, "First word")
    page.get_by_role("heading", name="Before the first word").wait_for()
    tab_to(page, "Your own story")
    page.keyboard.type("the pan")
    press(page, "panda")
    assert page.get_by_label("Your own story").input_value() == "the panda "


def test_inspect(page: Any) -> None:
    page.goto("/#inspect/text")
    page.get_by_role("heading", name="Architecture").wait_for()
    tab_to(page, "Model")
    tab_to(page, "Look into a model file")
    with page.expect_download() as download:
        press(page, "Export to ONNX")
    assert download.value.suggested_filename == "text-onnx.zip"
    press(page, "All metrics")
    assert page.locator("details[open]", has_text="All metrics").count() == 1
