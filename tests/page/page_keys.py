"""Using the page with the keyboard alone."""

from __future__ import annotations

import re
from typing import Any

MAX_TABS = 60
FOCUSED = """() => {
  const element = document.activeElement;
  if (element === document.body) return { name: "", seen: false };
  const name = element.getAttribute("aria-label") ?? element.labels?.[0]?.textContent
    ?? element.textContent;
  const marked = element.classList.contains("visually-hidden") ? element.nextSibling : element;
  const { outlineStyle, outlineWidth } = getComputedStyle(marked);
  const seen = outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
  return { name: name.trim() || element.tagName, seen };
}"""


AVAILABLE = """(name) => {
  const tags = "a, button, input, select, summary, textarea, [tabindex]";
  return [...document.querySelectorAll(tags)].some((each) => {
    const named = each.getAttribute("aria-label") ?? each.labels?.[0]?.textContent
      ?? each.textContent;
    const text = named.trim() || each.tagName;
    return !each.disabled && each.getClientRects().length && new RegExp(`^(?:${name})`).test(text);
  });
}"""


def tab_to(page: Any, name: str) -> None:
    """Press Tab until a control has the focus, which must be visible on the way. A control that is
    not there yet is waited for.
    """
    page.wait_for_function(AVAILABLE, arg=name)
    passed = []
    for _ in range(MAX_TABS):
        page.keyboard.press("Tab")
        found = page.evaluate(FOCUSED)
        passed.append(found["name"][:40])
        if passed[-1]:  # the browser's own controls are not of the page
            assert found["seen"], passed
        if re.match(name, found["name"]):
            return
    raise AssertionError(f"no {name!r} in {passed}")


def press(page: Any, name: str, key: str = "Enter") -> None:
    """Go to a control and use it."""
    tab_to(page, name)
    page.keyboard.press(key)


def read_items(page: Any, count: int) -> None:
    """Wait until `count` items were read."""
    page.locator(".time output", has_text=re.compile(f"^{count} of")).first.wait_for()


def read_at_least(page: Any, count: int) -> None:
    """The same while more are read, so that the page shows each number for a moment only."""
    page.wait_for_function(
        """(count) => {
          const text = document.querySelector(".time output")?.textContent ?? "";
          return parseInt(text.replaceAll(",", "")) >= count;
        }""",
        arg=count,
    )
