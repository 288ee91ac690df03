"""The page with axe-core, at the width of a phone, and under its content security policy."""

from __future__ import annotations

import gzip
import os
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

VIEWS = ("story", "live/text", "live/digits", "inspect/text")
MAX_BYTES_GZIPPED = 150_000
FORBIDDEN = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")


def axe_source() -> str | None:
    """The script of axe-core from AXE_CORE (a file), or from axe-playwright-python."""
    if os.environ.get("AXE_CORE"):
        return Path(os.environ["AXE_CORE"]).read_text()
    spec = find_spec("axe_playwright_python")
    found = sorted(Path(spec.origin or "").parent.glob("**/axe.min.js")) if spec else []
    return found[0].read_text() if found else None


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_nothing_serious(page: Any, theme: str) -> None:
    source = axe_source()
    if source is None:
        pytest.skip("needs axe-playwright-python, or AXE_CORE=axe.min.js")
    page.emulate_media(color_scheme=theme)
    for view in VIEWS:
        page.goto(f"/#{view}")
        page.wait_for_timeout(700)
        # From here, not from the page: its policy allows no other scripts.
        page.evaluate(source + "; undefined")
        result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        serious = [
            (v["id"], [n["html"][:120] for n in v["nodes"]])
            for v in result["violations"]
            if v["impact"] in ("serious", "critical")
        ]
        assert serious == [], view


def test_no_view_is_wider_than_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 375, "height": 700})
    for view in VIEWS:
        page.goto(f"/#{view}")
        page.wait_for_timeout(400)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, view


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

    policy = urllib.request.urlopen(server.url).headers["Content-Security-Policy"]
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
