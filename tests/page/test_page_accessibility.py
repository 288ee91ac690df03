"""The page with axe-core, at the width of a phone, and under its content security policy."""

from __future__ import annotations

import gzip
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from page_axe import PHONE, axe_source, check_view

VIEWS = (
    *("story", "live/text", "live/forecast", "live/anomaly", "live/digits", "live/music"),
    *("live/speech", "live/layer", "inspect/text"),
)
TABLES = {"live/forecast": "readings.csv", "live/anomaly": "payments.csv"}
OLD_FILES = Path(__file__).parents[1] / "application" / "old_files"
MAX_BYTES_GZIPPED = 150_000
FORBIDDEN = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")


def use(page: Any, view: str) -> None:
    """Give a panel something to show."""
    if view == "story":
        page.get_by_role("heading", name="After “is”").wait_for()
        return
    if view.startswith("inspect"):
        page.get_by_role("heading", name="Architecture").wait_for()
        return
    page.get_by_role("button", name="Fork").wait_for()
    if view == "live/text":
        page.get_by_label("Text", exact=True).type("the c")
        page.locator(".word").first.wait_for()
    elif view in TABLES:
        page.get_by_label("Speed", exact=True).select_option("Infinity")
        page.locator("input[type=file]").set_input_files(OLD_FILES / TABLES[view])
        page.locator("canvas.heat[aria-label*='units over the last']").wait_for()
    elif view == "live/digits":
        page.get_by_label("Drawing field").press("Space")
        page.locator(".labels").wait_for()
    elif view == "live/music":
        page.get_by_role("button", name="C4", exact=True).press("Enter")
        page.locator(".key.likely").first.wait_for()


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_nothing_serious_on_a_phone(page: Any, theme: str) -> None:
    source = axe_source()
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size(PHONE)
    for view in VIEWS:
        page.goto("about:blank")  # else the controls of the view before may still be there
        page.goto(f"/#{view}")
        use(page, view)
        check_view(page, source)


def test_every_control_is_reached_with_the_keyboard(page: Any) -> None:
    page.goto("/#live/text")
    page.get_by_role("button", name="Fork").wait_for()
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.textContent.trim().slice(0, 20)"))
    assert {"Skip to the content", "Story", "Fork", "Start again", "Save state"} <= reached


def test_the_policy_allows_no_inline_script(page: Any, server: Any) -> None:
    import urllib.request

    policy = urllib.request.urlopen(server.url, timeout=120).headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    page.goto("/")
    page.expected += ["Content Security Policy", "inline script"]
    ran = page.evaluate(
        """() => { const s = document.createElement("script"); s.textContent = "window.ran = 1";
        document.head.append(s); return window.ran }"""
    )
    assert ran is None


def test_the_page_is_small_and_plain() -> None:
    folder = files("memorycell.page")
    shipped = [
        path
        for path in Path(str(folder)).rglob("*")
        if path.suffix in (".html", ".js", ".css", ".svg", ".csv")
    ]
    assert sum(len(gzip.compress(path.read_bytes())) for path in shipped) <= MAX_BYTES_GZIPPED
    for path in shipped:
        text = path.read_text(encoding="utf-8")
        for forbidden in FORBIDDEN:
            assert forbidden not in text, path
        if path.suffix == ".html":
            assert "style=" not in text
            assert " on" not in text.replace(" one", "")
