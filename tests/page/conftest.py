"""A server with small models in a process of its own, and a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import panel_models
import pytest
import torch
from page_server import Server
from page_tones import tone
from panel_models import Panels
from safetensors.torch import save_file

import memorycell
from memorycell.server.demo_digits import digit_lines

PATIENCE_MS = 60_000
"""What a page may take on a machine that is busy."""
ABORTED = "net::ERR_ABORTED"
CHROMIUM = Path("/usr/bin/chromium")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small models of four tasks."""
    folder = tmp_path_factory.mktemp("models")
    old = ROOT / "tests" / "application" / "old_files"
    files = {name: folder / f"{name}.safetensors" for name in ("text", "forecast", "anomaly")}
    for name, path in files.items():
        path.write_bytes((old / f"{name}.safetensors").read_bytes())
    data = folder / "digits.jsonl"
    data.write_text("\n".join(digit_lines(12)))
    files["digits"] = folder / "digits.safetensors"
    small = {"hidden": 16, "layers": 1, "epochs": 1, "progress": False}
    memorycell.train("handwriting", data, out=files["digits"], **small)
    files["speech"] = folder / "speech.safetensors"
    memorycell.train("speech", tones(), out=files["speech"], **small)
    files["music"] = folder / "music.safetensors"
    data = folder / "pieces.json"
    chords = [[48 + k % 5, 60 + k % 7, 64 + k % 4, 67 + k % 6] for k in range(16)]
    data.write_text(json.dumps(dict.fromkeys(("train", "valid", "test"), [chords] * 2)))
    memorycell.train("music", data, out=files["music"], **small)
    return files


def tones() -> list[tuple[tuple[np.ndarray, int], str]]:
    """Half a second each of low and high tones at 8 kHz."""
    t = np.arange(4000) / 8000
    return [
        (((0.3 * np.sin(2 * np.pi * hz * (1 + 0.01 * k) * t)).astype(np.float32), 8000), label)
        for k in range(30)
        for label, hz in (("low", 300), ("high", 1500))
    ]


@pytest.fixture(scope="session")
def server(
    model_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A running server."""
    folder = tmp_path_factory.mktemp("server")
    layer = folder / "layer.safetensors"
    save_file(torch.nn.LSTM(3, 16).state_dict(), layer)
    options = ["--module", f"layer={layer}"]
    server = Server(folder, list(model_files.values()), options)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def panels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Panels]:
    """For modules that override `server` with it."""
    pytest.importorskip("gymnasium")
    folder = tmp_path_factory.mktemp("panels")
    names = ("video", "cartpole", "maze", "sequences", "sentiment", "translation", "chat")
    files = {name: folder / f"{name}.safetensors" for name in names}
    panel_models.video(files["video"])
    panel_models.control("CartPole-v1", files["cartpole"], hide="velocity")
    panel_models.control("t-maze", files["maze"], gap=3)
    rows = panel_models.sequences(files["sequences"])
    panel_models.sentiment(files["sentiment"])
    panel_models.translation(files["translation"])
    panel_models.chat(files["chat"])
    server = Server(folder, [*files.values(), f"twin={files['video']}"])
    server.start()
    yield Panels(server, files, rows)
    server.stop()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Debian's Chromium; its microphone plays a high tone and silence, again and again. For a
    module only: meanwhile playwright's event loop counts as running, and tests elsewhere could not
    start their own.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM}")
    arguments = ["--no-sandbox", "--use-fake-device-for-media-stream"]
    sound = tmp_path_factory.mktemp("sound") / "tone.wav"
    sound.write_bytes(tone(1500, 0.6))
    arguments += [f"--use-file-for-fake-audio-capture={sound}"]
    arguments += ["--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=arguments, timeout=4 * PATIENCE_MS
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(browser: Any, server: Server | Panels) -> Iterator[Any]:
    """One for all tests of a module: a new one costs up to a second per test. An empty page keeps
    its process.
    """
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, reduced_motion="reduce", base_url=server.url
    )
    context.new_page()
    yield context
    context.close()


@pytest.fixture
def page(context: Any) -> Iterator[Any]:
    """A page whose console and requests are clean at the end; `page.expected` holds parts of
    messages that a test causes itself. Nothing is left of it for the next test.
    """
    page = context.new_page()
    found: list[str] = []
    page.expected = []
    page.on("console", lambda m: m.type in ("error", "warning") and found.append(m.text))
    page.on("pageerror", lambda error: found.append(f"uncaught: {error}"))
    # A request that is under way when a test leaves the page is aborted, which is no failure.
    page.on("requestfailed", lambda r: r.failure != ABORTED and found.append(f"failed: {r.url}"))
    page.on("response", lambda r: r.status >= 400 and found.append(f"{r.status}: {r.url}"))
    # Choosers are expected from now on: if only when a key is pressed, Chromium may open a dialog.
    page.on("filechooser", lambda _: None)
    page.set_default_timeout(PATIENCE_MS)
    yield page
    if page.url != "about:blank":
        page.evaluate("localStorage.clear()")
    page.close()
    context.clear_permissions()
    assert [line for line in found if not any(part in line for part in page.expected)] == []
