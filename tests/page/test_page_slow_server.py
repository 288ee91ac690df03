"""Controls of the page while answers of the server are still awaited, and after it has refused."""

from __future__ import annotations

from typing import Any

import pytest
from page_keys import read_items
from page_traffic import held_answers, hold_answers, release_answers

from memorycell.lab.stories import ARTICLE_STORY
from memorycell.server.story import MAX_WORDS

WORDS = ARTICLE_STORY.split()


@pytest.fixture
def story(page: Any) -> Any:
    """The page with the article's story read to its end."""
    held_answers(page)
    page.goto("/")
    page.get_by_role("heading", name="After “is”").wait_for()
    return page


@pytest.fixture
def typed(page: Any) -> Any:
    """The page with the text model, after eight characters."""
    held_answers(page)
    page.goto("/#live/text")
    page.get_by_label("Text", exact=True).type("the cat ")
    read_items(page, 8)
    return page


def story_is_at(page: Any, count: int) -> None:
    """The story, its slider and its words are after `count` words."""
    after = f"After “{WORDS[count - 1]}”" if count else "Before the first word"
    page.wait_for_function(
        "(n) => document.querySelectorAll('.chips .chip.future').length === n",
        arg=len(WORDS) - count,
    )
    assert page.locator("h2.now").inner_text() == after
    assert page.get_by_label("Word of the story").input_value() == str(count)


def test_keys_of_the_story_s_slider_count_before_their_answers(story: Any) -> None:
    slider = story.get_by_label("Word of the story")
    hold_answers(story)
    for _ in range(5):
        slider.press("ArrowLeft")
    assert slider.input_value() == str(len(WORDS) - 5)
    assert story.locator(".chip.future").count() == 0  # nothing is answered
    release_answers(story)
    story_is_at(story, len(WORDS) - 5)


def test_the_story_s_slider_stays_where_later_keys_moved_it(story: Any) -> None:
    """The answer to the first key draws the page again; the second key is still under way."""
    slider = story.get_by_label("Word of the story")
    hold_answers(story)
    slider.press("ArrowLeft")
    story.evaluate("() => new Promise((done) => setTimeout(done))")  # the request is sent
    slider.press("ArrowLeft")
    story.evaluate(
        """() => {
          const slider = document.querySelector(".controls input[type=range]"), seen = [];
          const sheet = document.querySelector("h2.now");
          new MutationObserver(() => seen.push(slider.value)).observe(sheet, { childList: true });
          window.seen = seen;
          releaseAnswers();
        }"""
    )
    story_is_at(story, len(WORDS) - 2)
    assert set(story.evaluate("window.seen")) == {str(len(WORDS) - 2)}


@pytest.mark.parametrize("control", ["button", "key"])
def test_steps_of_the_story_count_from_where_those_before_lead(story: Any, control: str) -> None:
    hold_answers(story)
    back = story.get_by_role("button", name="One word back")
    on = story.get_by_role("button", name="One word forward")
    for _ in range(4):
        back.click() if control == "button" else back.press("ArrowLeft")
    on.click() if control == "button" else on.press("ArrowRight")
    release_answers(story)
    story_is_at(story, len(WORDS) - 3)


def test_keys_of_the_time_slider_count_before_their_answers(typed: Any) -> None:
    slider = typed.get_by_label("Time")
    hold_answers(typed)
    for _ in range(5):
        slider.press("ArrowLeft")
        typed.evaluate("() => new Promise(requestAnimationFrame)")
    release_answers(typed)
    typed.locator(".time output", has_text="3 of 8").wait_for()
    assert slider.input_value() == "3"


def test_the_time_slider_stays_where_later_keys_moved_it(typed: Any) -> None:
    slider = typed.get_by_label("Time")
    hold_answers(typed)
    slider.press("ArrowLeft")
    typed.evaluate("() => new Promise((done) => setTimeout(done))")  # the request is sent
    slider.press("ArrowLeft")
    typed.evaluate(
        """() => {
          const slider = document.querySelector(".time input"), seen = [];
          const place = document.querySelector(".time output");
          new MutationObserver(() => seen.push(slider.value)).observe(place, { childList: true });
          window.seen = seen;
          releaseAnswers();
        }"""
    )
    typed.locator(".time output", has_text="6 of 8").wait_for()
    assert set(typed.evaluate("window.seen")) == {"6"}


def test_undo_pressed_twice_undoes_two(page: Any) -> None:
    held_answers(page)
    page.goto("/#live/music")
    rest, undo = (page.get_by_role("button", name=name) for name in ("Rest", "Undo"))
    for _ in range(5):
        rest.click()
    read_items(page, 5)
    assert page.get_by_label("Time").get_attribute("aria-valuetext") == "after 5 items"
    hold_answers(page)
    undo.click()
    undo.click()
    release_answers(page)
    read_items(page, 3)
    for _ in range(2):
        undo.click()
    read_items(page, 1)
    assert page.get_by_label("Time").get_attribute("aria-valuetext") == "after 1 item"


def test_undo_waits_for_what_is_still_read(page: Any) -> None:
    held_answers(page)
    page.goto("/#live/music")
    rest, undo = (page.get_by_role("button", name=name) for name in ("Rest", "Undo"))
    for _ in range(2):
        rest.click()
    read_items(page, 2)
    hold_answers(page)
    rest.click()
    undo.click()
    release_answers(page)
    page.locator(".time output", has_text="2 of 3").wait_for()


def test_undo_of_a_stroke_that_is_still_read(page: Any) -> None:
    """All of it, and not the stroke before."""
    held_answers(page)
    page.goto("/#live/digits")
    field = page.get_by_label("Drawing field")
    field.focus()
    for key in ("Space", *["ArrowDown"] * 4, "Space"):
        field.press(key)
    read_items(page, 6)
    hold_answers(page)
    for key in ("Space", *["ArrowRight"] * 3, "Space"):
        field.press(key)
    page.get_by_role("button", name="Undo stroke").click()
    release_answers(page)
    page.locator(".time output", has_text="6 of 11").wait_for()


def test_a_story_that_is_refused_changes_nothing(story: Any) -> None:
    """Its slider included; other stories are read after it."""
    story.get_by_role("button", name="One word back").click()
    story_is_at(story, len(WORDS) - 1)
    field = story.get_by_label("Your own story")
    field.fill("the " * (MAX_WORDS + 1))
    story.get_by_role("button", name="Read it").click()
    story.get_by_role("alert").filter(has_text=f"at most {MAX_WORDS:,} words").wait_for()
    story_is_at(story, len(WORDS) - 1)
    assert story.get_by_label("Word of the story").get_attribute("max") == str(len(WORDS))
    story.get_by_role("button", name="One word forward").click()
    story_is_at(story, len(WORDS))
    field.fill("the panda eats bamboo")
    story.get_by_role("button", name="Read it").click()
    story.get_by_role("heading", name="After “bamboo”").wait_for()
    assert story.get_by_label("Word of the story").input_value() == "4"


def test_the_longest_story_can_be_left(story: Any) -> None:
    field = story.get_by_label("Your own story")
    field.fill("the panda eats bamboo . " * (MAX_WORDS // 5))
    story.get_by_role("button", name="Read it").click()
    story.locator(".chip").nth(MAX_WORDS - 1).wait_for()
    story.get_by_role("button", name="First word").click()
    story.get_by_role("heading", name="Before the first word").wait_for()
    story.get_by_role("button", name="The article’s story").click()
    story_is_at(story, len(WORDS))


def test_a_place_that_cannot_be_reached_leaves_the_slider(story: Any) -> None:
    refuse(story)
    slider = story.get_by_label("Word of the story")
    slider.press("ArrowLeft")
    story.get_by_role("alert").filter(has_text="expected one of step").wait_for()
    story_is_at(story, len(WORDS))


def test_a_time_that_cannot_be_reached_leaves_the_slider(typed: Any) -> None:
    refuse(typed)
    slider = typed.get_by_label("Time")
    slider.press("ArrowLeft")
    typed.get_by_role("alert").filter(has_text="expected one of step").wait_for()
    typed.wait_for_function("document.querySelector('.time input').value === '8'")
    assert typed.locator(".time output").inner_text() == "8 of 8"


def refuse(page: Any) -> None:
    """Make the page ask for something that the server does not know instead of going back."""
    page.evaluate(
        """() => {
          const { send } = WebSocket.prototype;
          WebSocket.prototype.send = function (data) {
            const refused = typeof data === "string" && data.includes('"rewind"');
            return send.call(this, refused ? data.replace('"rewind"', '"unknown"') : data);
          };
        }"""
    )
