"""A view with axe-core, and its width."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

PHONE = {"width": 375, "height": 700}


def axe_source() -> str:
    """The script of axe-core from AXE_CORE (a file), or from axe-playwright-python; else a skip."""
    if os.environ.get("AXE_CORE"):
        return Path(os.environ["AXE_CORE"]).read_text()
    spec = find_spec("axe_playwright_python")
    found = sorted(Path(spec.origin or "").parent.glob("**/axe.min.js")) if spec else []
    if not found:
        pytest.skip("needs axe-playwright-python, or AXE_CORE=axe.min.js")
    return found[0].read_text()


def check_view(page: Any, source: str) -> None:
    """Nothing serious for axe-core, and no wider than a phone."""
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], page.url
    # From here, not from the page: its policy allows no other scripts.
    page.evaluate(source + "; undefined")
    result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [
        (v["id"], [n["html"][:120] for n in v["nodes"]])
        for v in result["violations"]
        if v["impact"] in ("serious", "critical")
    ]
    assert serious == [], page.url
