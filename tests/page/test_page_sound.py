"""Sound and music in a browser: a file, a microphone, a piano."""

from __future__ import annotations

import io
import re
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memorycell

RATE_HZ = 8000


def tone(hz: float, seconds: float) -> bytes:
    """A WAV file."""
    t = np.arange(int(RATE_HZ * seconds)) / RATE_HZ
    samples = (0.3 * 32767 * np.sin(2 * np.pi * hz * t)).astype("<i2")
    silence = np.zeros(RATE_HZ, "<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        sound.writeframes(np.concatenate([samples, silence]).tobytes())
    return file.getvalue()


def test_a_sound_file_is_recognised(page: Any, model_files: dict[str, Path]) -> None:
    page.goto("/#live/speech")
    page.locator("input[type=file]").set_input_files(
        {"name": "tone.wav", "mimeType": "audio/wav", "buffer": tone(1500, 0.6)}
    )
    page.locator(".words .chip.blue").first.wait_for()
    session = memorycell.load(model_files["speech"]).session()
    answers = [a for a in session.feed(tone(1500, 0.6)) if a["final"]]
    assert page.locator(".words .chip.blue").first.inner_text().split()[0] == answers[0]["label"]


def test_the_microphone_is_read(page: Any) -> None:
    page.context.grant_permissions(["microphone"])
    page.goto("/#live/speech")
    page.get_by_role("button", name="Use the microphone").click()
    # Tenths of a second.
    page.locator(".time output", has_text=re.compile(r"^([5-9]|\d\d)")).wait_for()
    page.get_by_role("button", name="Stop").click()


def test_a_file_that_is_no_sound_is_named(page: Any) -> None:
    page.goto("/#live/speech")
    page.locator("input[type=file]").set_input_files(
        {"name": "x.wav", "mimeType": "audio/wav", "buffer": b"no sound"}
    )
    assert "x.wav cannot be read as sound" in page.get_by_role("alert").inner_text()


@pytest.fixture
def piano(page: Any) -> Any:
    """The page with the music model."""
    page.goto("/#live/music")
    page.get_by_text("Play some keys; those that may follow light up.").wait_for()
    return page


def test_a_chord_is_one_frame_and_what_may_follow_is_shown(
    piano: Any, model_files: dict[str, Path]
) -> None:
    for name in ("C3", "E4", "G4"):
        piano.get_by_role("button", name=name, exact=True).dispatch_event("pointerdown")
    piano.locator(".hint", has_text="May follow:").wait_for()
    answer = memorycell.load(model_files["music"]).session().feed("C3 E4 G4")[0]
    expected = [f"{e['key']} {int(100 * e['p'] + 0.5)}%" for e in answer["next"] if e["p"] >= 0.03]
    text = piano.locator(".hint", has_text="May follow:").inner_text()
    assert text == f"May follow: {', '.join(expected)}"
    assert piano.locator(".key.likely").count() > 0
    piano.get_by_role("button", name="Undo").click()
    piano.get_by_text("Play some keys; those that may follow light up.").wait_for()


def test_the_computer_keyboard_plays(piano: Any) -> None:
    piano.get_by_role("button", name="C4", exact=True).focus()
    piano.keyboard.press("a")
    piano.locator(".hint", has_text="May follow:").wait_for()
    assert piano.locator(".frames li").inner_text() == "C4"
    piano.wait_for_timeout(100)
    piano.keyboard.press("ArrowRight")
    piano.keyboard.press("Enter")
    piano.locator(".frames li").nth(1).wait_for()
    assert piano.locator(".frames li").nth(1).inner_text() == "C#4"


def test_it_continues_by_itself(piano: Any) -> None:
    piano.get_by_role("button", name="Continue for me").click()
    piano.locator(".frames li").nth(2).wait_for()
    piano.get_by_role("button", name="Stop").click()
