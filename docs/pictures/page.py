"""Make the pictures of docs/page.md: python docs/pictures/page.py [FOLDER]. Needs chromium, the
packages playwright and pillow, and the models of `memorycell serve --demo`, which are trained in a
few minutes where they are not in the cache.
"""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import time
import urllib.request
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

CHROMIUM = "/usr/bin/chromium"
PORT = 8765
URL = f"http://127.0.0.1:{PORT}"
TRAIN_S = 1800
MAX_BYTES = 150_000
PEN = [(64, 78), (80, 52), (118, 38), (160, 50), (174, 86), (150, 126), (108, 168), (66, 206)]
PEN_END = [(66, 206), (110, 200), (150, 206), (192, 204)]


def wait_for_models() -> None:
    """Until every model of a picture is ready."""
    needed = {view.split("/")[-1] for view, *_ in PICTURES.values()}
    for _ in range(TRAIN_S):
        try:
            with urllib.request.urlopen(f"{URL}/v1/models", timeout=5) as reply:
                models = json.load(reply)["models"]
            if needed <= {m["name"] for m in models if m["status"] == "ready"}:
                return
        except OSError:
            pass
        time.sleep(1)
    raise SystemExit("the models are not ready")


def story(page: Any) -> None:
    """At the panda, where the peacock is forgotten."""
    page.get_by_role("heading", name="After “is”").wait_for()
    page.get_by_label("Word of the story").fill("10")
    page.get_by_role("heading", name="After “panda”").wait_for()


def digits(page: Any) -> None:
    """A digit drawn with the mouse."""
    box = page.locator("canvas.drawing").bounding_box()
    points = [*PEN, *PEN_END]
    page.mouse.move(box["x"] + points[0][0], box["y"] + points[0][1])
    page.mouse.down()
    for (x0, y0), (x1, y1) in pairwise(points):
        steps = max(1, math.ceil(math.hypot(x1 - x0, y1 - y0) / 6))
        page.mouse.move(box["x"] + x1, box["y"] + y1, steps=steps)
    page.mouse.up()
    page.locator(".labels").wait_for()
    page.wait_for_timeout(1500)


def glucose(page: Any) -> None:
    """Two days of readings played through."""
    page.get_by_label("Speed", exact=True).select_option("Infinity")
    page.get_by_role("button", name="Use two sample days").click()
    page.get_by_text("row 573 of 573").wait_for()
    page.get_by_label("Time").fill("330")
    page.wait_for_timeout(800)


def fork(page: Any) -> None:
    """A text, and a fork of it that continues differently."""
    page.get_by_label("Text", exact=True).type("The value of the ", delay=20)
    page.locator(".time output", has_text="17 of 17").wait_for()
    page.get_by_role("button", name="Fork").click()
    page.get_by_label("Every column reads the same input").uncheck()
    page.get_by_label("Text", exact=True).nth(1).type("function is ", delay=20)
    page.wait_for_timeout(1500)


def control(page: Any) -> None:
    """A pole that is balanced, after a push."""
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_timeout(2500)
    page.get_by_role("button", name="Push it →").click()
    page.wait_for_timeout(400)
    page.get_by_role("button", name="Pause").click()
    page.wait_for_timeout(300)


PICTURES = {  # name -> view, width, theme, what to do
    "page-story": ("story", 1280, "light", story),
    "page-digits": ("live/digits", 1100, "light", digits),
    "page-control": ("live/cartpole", 1100, "light", control),
    "page-glucose": ("live/glucose", 1100, "dark", glucose),
    "page-fork": ("live/text", 1100, "light", fork),
}


def main() -> None:
    """Start a server, take the pictures, stop it."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "memorycell", "serve", "--demo", "--port", str(PORT)]
    server = subprocess.Popen(command)
    try:
        wait_for_models()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            for name, (view, width, theme, prepare) in PICTURES.items():
                page = browser.new_page(
                    viewport={"width": width, "height": 800},
                    color_scheme=theme,
                    reduced_motion="reduce",
                )
                page.goto(f"{URL}/#{view}")
                prepare(page)
                page.evaluate("document.activeElement.blur()")
                page.wait_for_timeout(300)
                save(page.screenshot(full_page=True), folder / f"{name}.png")
                page.close()
            browser.close()
    finally:
        server.terminate()
        server.wait(30)


def save(png: bytes, path: Path) -> None:
    """With 256 colours, which is enough for a page."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path}: {picture.width} × {picture.height}, {size:,} bytes")
    if size > MAX_BYTES:
        raise SystemExit(f"{path}: more than {MAX_BYTES:,} bytes")


if __name__ == "__main__":
    main()
