"""The story in a browser: the same numbers as the session, forwards and backwards."""

from __future__ import annotations

from typing import Any

import pytest

from memorycell.lab.stories import ARTICLE_STORY
from memorycell.server.story import open_story

WORDS = ARTICLE_STORY.split()


@pytest.fixture
def story(page: Any) -> Any:
    """The page with the article's story read to its end."""
    page.goto("/")
    page.get_by_role("heading", name="After “is”").wait_for()
    return page


def shown(page: Any) -> dict[str, Any]:
    """What the page says about the current word."""
    meters = page.locator(".meter b").all_inner_texts()
    lstm, rnn = page.locator(".answer").all()
    return {
        "gates": meters,
        "lstm": first_of(lstm),
        "rnn": first_of(rnn),
    }


def first_of(answer: Any) -> tuple[str, str]:
    """The most probable country and its probability."""
    country, p = (answer.locator(part).first.inner_text() for part in (".country", ".value"))
    return country, p


def expected(words: list[str], countries: list[str]) -> dict[str, Any]:
    """The same from a session."""
    record = open_story().feed(" ".join(words))[-1]

    def best(reader: str) -> tuple[str, str]:
        p = record["belief"][reader]
        k = p.index(max(p))
        return countries[k].capitalize(), f"{p[k]:.0%}"

    gates = [f"{record[key]:.0%}" for key in ("dropped", "written", "let_out")]
    return {"gates": gates, "lstm": best("lstm"), "rnn": best("rnn")}


def test_the_article_s_story_forwards_and_backwards(story: Any, server: Any) -> None:
    countries = server.get("/v1/models/story")["story"]["countries"]
    assert shown(story) == expected(WORDS, countries)
    assert shown(story)["lstm"][0] == "China"
    panda = WORDS.index("panda")
    for back in range(len(WORDS) - panda - 1):
        story.get_by_role("button", name="One word back").click()
        if back in (0, 5):
            word = WORDS[len(WORDS) - 2 - back]
            story.locator(".chip.future").nth(back).wait_for()
            story.get_by_role("heading", name=f"After “{word}”", exact=True).wait_for()
            assert shown(story) == expected(WORDS[: -1 - back], countries)
    story.get_by_role("heading", name="After “panda”").wait_for()
    assert story.locator(".what").inner_text() == "The answer changes from India to China."
    assert shown(story) == expected(WORDS[: panda + 1], countries)
    assert story.locator(".chip.future").count() == len(WORDS) - panda - 1
    story.get_by_role("button", name="One word forward").click()
    story.get_by_role("heading", name="After “eats”").wait_for()
    assert shown(story) == expected(WORDS[: panda + 2], countries)


def test_slider_keys_and_words_go_to_a_place(story: Any) -> None:
    story.get_by_label("Word of the story").fill("2")
    story.get_by_role("heading", name="After “peacock”").wait_for()
    assert story.locator(".answer .country").first.inner_text() == "India"
    story.locator(".chip").nth(2).focus()
    story.keyboard.press("ArrowLeft")
    story.get_by_role("heading", name="After “the”").wait_for()
    story.locator(".chips .chip").nth(4).click()
    story.get_by_role("heading", name="After “the”").wait_for()
    assert story.locator(".chips .chip[aria-current]").inner_text() == "the"
    story.get_by_role("button", name="First word").click()
    story.get_by_role("heading", name="Before the first word").wait_for()


def test_play_reads_to_the_end(story: Any) -> None:
    story.get_by_label("Word of the story").fill("21")
    story.get_by_role("button", name="Play").click()
    story.get_by_role("heading", name="After “is”").wait_for()
    story.get_by_role("button", name="Play").wait_for()


def test_a_story_of_one_s_own(story: Any, server: Any) -> None:
    countries = server.get("/v1/models/story")["story"]["countries"]
    words = "the tiger sleeps under a tree . the emu is loved by all . so this country is"
    field = story.get_by_label("Your own story")
    field.fill("the tig")
    story.get_by_role("button", name="tiger", exact=True).click()
    assert field.input_value() == "the tiger "
    field.fill(words)
    story.get_by_role("button", name="Read it").click()
    story.get_by_role("button", name="emu, answer").wait_for()
    assert shown(story) == expected(words.split(), countries)
    assert shown(story)["lstm"][0] == "Australia"
    field.fill("the unicorn")
    field.press("Enter")
    assert "do not know “unicorn”" in story.get_by_role("alert").inner_text()
    field.fill("<b>the</b>")
    field.press("Enter")
    assert "“<b>the</b>”" in story.get_by_role("alert").inner_text()


def test_the_plain_rnn_can_be_the_one_that_was_trained_longer(story: Any) -> None:
    story.get_by_label("Plain RNN after").select_option("rnn_long")
    assert story.locator(".answer .country").nth(3).inner_text() == "China"


def test_a_gate_s_row_chooses_its_unit(story: Any) -> None:
    before = story.locator(".unit-line").inner_text()
    story.wait_for_function("document.querySelector('canvas.sheet').clientHeight > 400")  # drawn
    box = story.locator("canvas.sheet").bounding_box()
    story.mouse.click(box["x"] + 300, box["y"] + 104 + 2 * 84 + 22 + 40)
    assert story.locator(".unit-line").inner_text() != before
