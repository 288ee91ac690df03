"""Sound and music in a browser: a file, a microphone, a piano."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_keys import read_at_least, read_items
from page_tones import RATE_HZ, empty_sound, tone
from page_traffic import Traffic, slow_answers

import memorycell


def test_a_sound_file_is_recognised(page: Any, model_files: dict[str, Path]) -> None:
    traffic = Traffic(page)
    page.goto("/#live/speech")
    page.locator("input[type=file]").set_input_files(
        {"name": "tone.wav", "mimeType": "audio/wav", "buffer": tone(1500, 0.6)}
    )
    # To its end: 1.6 s in parts of a tenth of a second.
    traffic.wait_for(page, lambda: len(traffic.items) == 16)
    page.locator(".words .chip.blue").first.wait_for()
    session = memorycell.load(model_files["speech"]).session()
    answers = [a for a in session.feed(tone(1500, 0.6)) if a["final"]]
    assert page.locator(".words .chip.blue").first.inner_text().split()[0] == answers[0]["label"]
    ours = [a for records in traffic.answers for a in records if a["final"]]
    words = (f"rate={RATE_HZ}", "format=s16le")
    assert [a for a in traffic.command_line(model_files["speech"], *words) if a["final"]] == ours


def test_a_sound_through_the_microphone(page: Any, model_files: dict[str, Path]) -> None:
    """Chromium's microphone plays the file of conftest.py: a tone of 1,500 Hz and silence."""
    page.context.grant_permissions(["microphone"])
    traffic = Traffic(page)
    page.goto("/#live/speech")
    page.get_by_role("button", name="Use the microphone").click()
    page.locator(".words .chip.blue").first.wait_for()
    page.get_by_role("button", name="Stop").click()
    traffic.wait_for(page, lambda: True)
    parts = [base64.b64decode(item["base64"]) for item in traffic.items]
    assert main_frequency(parts) == pytest.approx(1500, abs=5)
    final = [a for records in traffic.answers for a in records if a["final"]]
    words = (f"rate={RATE_HZ}", "format=s16le")
    expected = traffic.command_line(model_files["speech"], *words)
    assert [a for a in expected if a["final"]][: len(final)] == final


def main_frequency(parts: list[bytes]) -> float:
    """The median of the louder parts, in Hz: a busy machine may lose some of the sound between
    them.
    """
    sounds = [np.frombuffer(part, "<i2").astype(float) for part in parts]
    sounds = [sound for sound in sounds if sound.std() > 1000]
    size = 2**15  # with zeros
    peaks = [np.abs(np.fft.rfft(sound * np.hanning(len(sound)), size)).argmax() for sound in sounds]
    return float(np.median(peaks)) * RATE_HZ / size


def test_a_file_that_is_no_sound_is_named(page: Any) -> None:
    page.goto("/#live/speech")
    page.locator("input[type=file]").set_input_files(
        {"name": "x.wav", "mimeType": "audio/wav", "buffer": b"no sound"}
    )
    assert "x.wav cannot be read as sound" in page.get_by_role("alert").inner_text()
    for content in (b"", empty_sound()):
        page.locator("input[type=file]").set_input_files(
            {"name": "silent.wav", "mimeType": "audio/wav", "buffer": content}
        )
        page.get_by_text("silent.wav cannot be read as sound").wait_for()


def test_a_long_file_can_be_stopped(page: Any) -> None:
    slow_answers(page, 50)  # the two minutes take at least one, however late the test is
    traffic = Traffic(page)
    page.goto("/#live/speech")
    page.locator("input[type=file]").set_input_files(
        {"name": "long.wav", "mimeType": "audio/wav", "buffer": tone(700, 120)}
    )
    read_at_least(page, 1)
    page.get_by_role("button", name="Fork").press("Escape")
    sent = len(traffic.items)
    page.wait_for_timeout(1000)
    traffic.wait_for(page, lambda: True)
    assert len(traffic.items) <= sent + 1  # a step that was under way
    assert len(traffic.items) < 1200  # tenths of a second
    read_items(page, len(traffic.items))


@pytest.fixture
def piano(page: Any) -> Any:
    """The page with the music model."""
    page.traffic = Traffic(page)
    page.goto("/#live/music")
    page.get_by_text("Play some keys; those that may follow light up.").wait_for()
    return page


def test_a_chord_is_one_frame_and_what_may_follow_is_shown(
    piano: Any, model_files: dict[str, Path]
) -> None:
    traffic = piano.traffic
    # From the page itself: they are together within 70 ms, however slow the test is.
    piano.evaluate(
        """(names) => names.forEach((name) => document.querySelector(`[aria-label=${name}]`)
          .dispatchEvent(new PointerEvent("pointerdown", { bubbles: true, cancelable: true })))""",
        ["C3", "E4", "G4"],
    )
    piano.locator(".hint", has_text="May follow:").wait_for()
    answer = memorycell.load(model_files["music"]).session().feed("C3 E4 G4")[0]
    expected = [f"{e['key']} {int(100 * e['p'] + 0.5)}%" for e in answer["next"] if e["p"] >= 0.03]
    text = piano.locator(".hint", has_text="May follow:").inner_text()
    assert text == f"May follow: {', '.join(expected)}"
    assert piano.locator(".key.likely").count() > 0
    traffic.check(model_files["music"])
    piano.get_by_role("button", name="Undo").click()
    piano.get_by_text("Play some keys; those that may follow light up.").wait_for()


def test_the_computer_keyboard_plays(piano: Any) -> None:
    piano.get_by_role("button", name="C4", exact=True).focus()
    piano.keyboard.press("a")
    piano.locator(".hint", has_text="May follow:").wait_for()
    assert piano.locator(".frames li").inner_text() == "C4"
    piano.keyboard.press("ArrowRight")
    piano.keyboard.press("Enter")
    piano.locator(".frames li").nth(1).wait_for()
    assert piano.locator(".frames li").nth(1).inner_text() == "C#4"


def test_it_continues_by_itself(piano: Any) -> None:
    piano.get_by_role("button", name="Continue for me").click()
    piano.locator(".frames li").nth(2).wait_for()
    piano.get_by_role("button", name="Stop").click()


def test_a_midi_keyboard_plays(page: Any) -> None:
    """A note that begins is a key; one that ends, or of velocity 0, is not."""
    page.add_init_script(
        "window.midi = {}; navigator.requestMIDIAccess = async () =>"
        " ({ inputs: new Map([['one', window.midi]]) });"
    )
    page.goto("/#live/music")
    page.get_by_role("button", name="Use a MIDI keyboard").click()
    page.wait_for_function("Boolean(window.midi.onmidimessage)")
    notes = [[0x90, 60, 80], [0x93, 64, 90], [0x80, 60, 0], [0x90, 67, 0], [0xF8]]
    play = "(all) => all.forEach((one) => midi.onmidimessage({ data: Uint8Array.from(one) }))"
    page.evaluate(play, notes)  # at once, as one chord
    page.locator(".frames li").wait_for()
    assert page.locator(".frames li").inner_text().split() == ["E4", "C4"]
