"""Figures of docs/page.md: from a key press to the picture, first paint, memory over many steps."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow

KEYS = 60
MAX_MEDIAN_MS = 50
ROUNDS, STEPS_PER_ROUND = 10, 2000
MAX_GROWTH_BYTES = 3e6

WATCH_KEYS = """() => {
  window.times = [];
  let pressed = 0;
  addEventListener("keydown", () => { pressed = performance.now(); }, true);
  new MutationObserver(() => {
    if (!pressed) return;
    const from = pressed;
    pressed = 0;
    requestAnimationFrame(() => times.push(performance.now() - from));
  }).observe(document.querySelector(".next"), { childList: true });
}"""


def test_from_key_press_to_picture(page: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """At the frame after the words changed, the picture is on the screen."""
    page.goto("/#live/text")
    area = page.get_by_label("Text", exact=True)
    area.type("the ")
    page.locator(".word").first.wait_for()
    page.evaluate(WATCH_KEYS)
    for key in "the cat sat on the mat and then the dog came back again to it"[:KEYS]:
        area.press(key)
        page.wait_for_timeout(120)
    times = sorted(page.evaluate("times"))
    median = times[len(times) // 2]
    with capsys.disabled():
        print(f"\nkey press to picture: median {median:.0f} ms of {len(times)},"
              f" 90th percentile {times[int(0.9 * len(times))]:.0f} ms")  # fmt: skip
    assert len(times) > KEYS // 2
    assert median <= MAX_MEDIAN_MS


def test_first_paint(page: Any, capsys: pytest.CaptureFixture[str]) -> None:
    page.goto("/")
    page.locator(".chip").first.wait_for()
    paints = page.evaluate("performance.getEntriesByType('paint').map(e => [e.name, e.startTime])")
    with capsys.disabled():
        print("\n" + ", ".join(f"{name} {ms:.0f} ms" for name, ms in paints))
    assert dict(paints)["first-contentful-paint"] <= 1000


def test_memory_stays_flat(page: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Steps of a live session with all its gates, in the page's own classes."""
    page.goto("/#live/text")
    page.locator(".time").wait_for()
    devtools = page.context.new_cdp_session(page)
    page.evaluate(
        """async () => {
          const { Column } = await import("/column.js");
          const { Client } = await import("/client.js");
          const client = new Client();
          const model = (await client.models()).find((m) => m.name === "text");
          window.column = await new Column(client, model).open();
          window.run = async (steps) => {
            for (let k = 0; k < steps; k += 40) {
              const items = Array.from({ length: 40 }, (_, j) => JSON.stringify("abc "[j % 4]));
              await column.feed(items);
              column.gates.draw();
            }
          };
        }"""
    )

    def used() -> int:
        devtools.send("HeapProfiler.collectGarbage")
        return int(devtools.send("Runtime.getHeapUsage")["usedSize"])

    sizes = []
    for _ in range(ROUNDS):
        page.evaluate(f"run({STEPS_PER_ROUND})")
        sizes.append(used())
    with capsys.disabled():
        print(f"\nheap after {STEPS_PER_ROUND:,} … {ROUNDS * STEPS_PER_ROUND:,} steps: "
              + ", ".join(f"{size / 1e6:.1f}" for size in sizes) + " MB")  # fmt: skip
    assert sizes[-1] - sizes[1] <= MAX_GROWTH_BYTES
