"""Frames per second and memory of the page, in a headless Chromium.

    python benchmarks/page.py [--units 256] [--rate 100] [--seconds 10] [--steps 100000]

frames   a bare LSTM streams `--rate` steps per second with all its gates, in the page's panel of
         vectors; the times between animation frames are taken inside the page
memory   `--steps` steps with all gates through the page's classes; the heap of JavaScript after
         forced collections, at every tenth of them
paint    first contentful paint, and the bytes of the page with gzip

`--seconds 0` and `--steps 0` leave out the first and the second. The browser draws in software
where the machine has no GPU: `renderer` says how.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from playwright.sync_api import sync_playwright
from safetensors.torch import save_file

CHROMIUM = "/usr/bin/chromium"
START_S = 60
BATCH = 50

COUNT_FRAMES = """(seconds) => new Promise((done) => {
  const times = [], from = performance.now();
  const next = (now) => {
    times.push(now);
    if (now - from < 1000 * seconds) requestAnimationFrame(next);
    else done(times);
  };
  requestAnimationFrame(next);
})"""
OPEN_COLUMN = """async () => {
  const { Column } = await import("/column.js");
  const { Client } = await import("/client.js");
  const client = new Client();
  const model = (await client.models()).find((m) => m.name === "layer");
  window.column = await new Column(client, model).open();
  window.run = async (steps, batch) => {
    for (let k = 0; k < steps; k += batch) {
      const items = Array.from({ length: Math.min(batch, steps - k) }, () =>
        [Math.random(), Math.random(), Math.random(), Math.random()]);
      await column.feed(items);
      column.gates.draw();
    }
    return column.dropped + column.position;
  };
}"""
RENDERER = """() => {
  const gl = document.createElement("canvas").getContext("webgl");
  const info = gl && gl.getExtension("WEBGL_debug_renderer_info");
  return info ? gl.getParameter(info.UNMASKED_RENDERER_WEBGL) : "no WebGL";
}"""


def start_server(folder: Path, units: int) -> tuple[subprocess.Popen[bytes], str]:
    """A server with one LSTM of 4 inputs; returns (process, URL)."""
    torch.manual_seed(0)
    layer = folder / "layer.safetensors"
    save_file(torch.nn.LSTM(4, units).state_dict(), layer)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "memorycell", "serve", "--module", f"layer={layer}"]
    process = subprocess.Popen(
        [*command, "--port", str(port)], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    url = f"http://127.0.0.1:{port}"
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=5).close()
            return process, url
        except OSError:
            time.sleep(0.2)
    process.kill()
    raise SystemExit("the server did not start")


def measure_frames(page: Any, rate: int, seconds: float) -> dict[str, Any]:
    """Frames and steps per second while the panel of vectors streams."""
    page.goto("/#live/layer")
    page.get_by_label("Steps per second").select_option(str(rate))
    page.get_by_role("button", name="Random sequence").click()
    page.wait_for_timeout(5000)  # until the map is full
    count = (
        "Number(document.querySelector('.time output').textContent.split(' ')[0].replace(/,/g, ''))"
    )
    before, from_s = page.evaluate(count), time.monotonic()
    times = page.evaluate(COUNT_FRAMES, seconds)
    steps, took_s = page.evaluate(count) - before, time.monotonic() - from_s
    page.get_by_role("button", name="Stop").click()
    gaps = sorted(b - a for a, b in pairwise(times))
    return {
        "frames_per_s": round(1000 * len(gaps) / (times[-1] - times[0]), 1),
        "frame_ms_p50": round(gaps[len(gaps) // 2], 1),
        "frame_ms_p99": round(gaps[int(0.99 * len(gaps))], 1),
        "share_above_20_ms": round(sum(gap > 20 for gap in gaps) / len(gaps), 4),
        "steps_per_s": round(steps / took_s, 1),
    }


def measure_memory(page: Any, steps: int) -> dict[str, Any]:
    """The heap after each tenth of the steps; `growth` of the last from the second."""
    devtools = page.context.new_cdp_session(page)
    page.goto("/#inspect")
    page.evaluate(OPEN_COLUMN)
    heap = []
    for _ in range(10):
        done = page.evaluate("([steps, batch]) => run(steps, batch)", [steps // 10, BATCH])
        devtools.send("HeapProfiler.collectGarbage")
        heap.append(devtools.send("Runtime.getHeapUsage")["usedSize"])
    return {
        "steps": done,
        "heap_mb": [round(size / 1e6, 2) for size in heap],
        "growth": round(heap[-1] / heap[1] - 1, 4),
    }


def measure_paint(page: Any) -> dict[str, Any]:
    """First paint, and the size of the page."""
    page.goto("/")
    page.locator(".chip").first.wait_for()
    paints = page.evaluate("performance.getEntriesByType('paint').map(e => [e.name, e.startTime])")
    folder = files("memorycell") / "page"
    parts = [p for p in folder.iterdir() if p.name.endswith((".js", ".css", ".html", ".svg"))]
    return {
        "first_contentful_paint_ms": round(dict(paints)["first-contentful-paint"]),
        "gzip_kb": round(sum(len(gzip.compress(p.read_bytes())) for p in parts) / 1000, 1),
    }


def main() -> None:
    """Measure, and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--rate", type=int, default=100, choices=(20, 100))
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--steps", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        process, url = start_server(Path(folder), given.units)
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=CHROMIUM, args=["--no-sandbox"]
                )
                page = browser.new_page(base_url=url, viewport={"width": 1280, "height": 900})
                about = {"renderer": page.evaluate(RENDERER), "cores": os.cpu_count()}
                print(json.dumps({**about, "units": given.units, "rate": given.rate}))
                print(json.dumps({"paint": measure_paint(page)}))
                if given.seconds:
                    print(json.dumps({"frames": measure_frames(page, given.rate, given.seconds)}))
                page.close()
                page = browser.new_page(base_url=url, viewport={"width": 1280, "height": 900})
                if given.steps:
                    print(json.dumps({"memory": measure_memory(page, given.steps)}))
                browser.close()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


if __name__ == "__main__":
    main()
