"""An episode as an animated GIF: the environment's picture, and the gates up to that step."""

from __future__ import annotations

import io
import os
import tempfile
import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from memorycell.application.contract import Record
from memorycell.applications.control.episodes import FIRST_SEEDS
from memorycell.applications.control.predict import (
    gate_trace,
    open_environment,
    read_observations,
)
from memorycell.applications.control.prepare import PolicyFile

WIDTH, PANEL, MARGIN, TITLE = 400, 64, 8, 14
"""In pixels: of the figure, the height of a panel, around it, of its title."""
MAX_FRAMES = 120
FRAME_MS = 80
INK, PAPER = (35, 39, 47), (255, 255, 255)
COLD, MIDDLE, WARM = (np.array(c, float) for c in ((44, 90, 160), (247, 247, 247), (190, 50, 50)))


def episode_gif(file: PolicyFile, record: Record) -> bytes:
    """The GIF of an episode that `predict` played, or of the first one in the file that it read; at
    most 120 frames of it.
    """
    trace: Any = record["trace"] if "trace" in record else _logged(file, record)
    values = np.array([step["observation"] for step in trace], np.float32)
    gates = gate_trace(file, file.codec.inputs(values))
    chosen = np.unique(np.linspace(0, len(trace) - 1, MAX_FRAMES).round().astype(int))
    pictures = _pictures(file, record, set(chosen.tolist()))
    panels = {"observation": _scaled(values[:, file.codec.seen]), **_shown(gates)}
    frames = [_frame(pictures.get(int(t)), panels, int(t), trace[int(t)], record) for t in chosen]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0)
    return out.getvalue()


def _logged(file: PolicyFile, record: Record) -> list[Record]:
    """The steps of the first episode in a file."""
    first = read_observations(file, str(record["source"]))[0]
    episodes: Any = record["episodes"]
    return [
        {"observation": values.tolist(), "action": action}
        for values, action in zip(first.values, episodes[0]["actions"], strict=True)
    ]


def _shown(gates: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gates as they are, in 0 … 1, and states scaled from ±1, each [T, H]."""
    names = {"i": "input gate", "f": "forget gate", "o": "output gate", "c": "cell state"}
    names |= {"h": "hidden state", "r": "reset gate", "z": "update gate"}
    shown = [name for name in ("f", "i", "o", "z", "r", "c", "h") if name in gates][:4]
    return {
        names[name]: (np.tanh(gates[name]) + 1) / 2 if name in "ch" else gates[name]
        for name in shown
    }


def _scaled(values: np.ndarray) -> np.ndarray:
    low, high = values.min(0), values.max(0)
    return np.asarray((values - low) / np.maximum(high - low, 1e-9))


def _pictures(file: PolicyFile, record: Record, steps: set[int]) -> dict[int, Image.Image]:
    """Step -> the environment's picture before it, by playing the recorded actions again; empty
    where the environment draws none.
    """
    if "trace" not in record:
        return {}
    pictures: dict[int, Image.Image] = {}
    name = str(record["environment"])
    trace: Any = record["trace"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws without a screen
        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
        try:
            environments = open_environment(file, name, render_mode="rgb_array")
            environments.reset([FIRST_SEEDS["test"] + int(str(record["episode"]))])
            for t, step in enumerate(trace):
                if t in steps:
                    picture = environments.render()
                    if picture is None:
                        return {}
                    pictures[t] = _fitted(picture)
                action = np.atleast_1d(np.array(step["action"], np.float32))[None]
                environments.step(action, restart=False)
            environments.close()
        except Exception:  # of whatever draws: a missing display, another renderer
            return {}
    return pictures


def _fitted(picture: np.ndarray) -> Image.Image:
    image = Image.fromarray(picture[..., :3].astype(np.uint8))
    height = round(image.height * (WIDTH - 2 * MARGIN) / image.width)
    return image.resize((WIDTH - 2 * MARGIN, height))


def _frame(
    picture: Image.Image | None,
    panels: dict[str, np.ndarray],
    t: int,
    step: dict[str, Any],
    record: Record,
) -> Image.Image:
    top = 2 * MARGIN + TITLE + (picture.height if picture else 0)
    height = top + len(panels) * (TITLE + PANEL + MARGIN)
    image = Image.new("RGB", (WIDTH, height), PAPER)
    draw = ImageDraw.Draw(image)
    name = record.get("environment") or "logged episode"
    title = ascii(f"{name}  step {t + 1}  action {step['action']}")[1:-1]
    draw.text((MARGIN, 4), title[:60], INK)
    if picture is not None:
        image.paste(picture, (MARGIN, MARGIN + TITLE))
    width = WIDTH - 2 * MARGIN
    for name, values in panels.items():
        draw.text((MARGIN, top), name, INK)
        top += TITLE
        seen = np.ones_like(values)
        seen[: t + 1] = values[: t + 1]
        heat = Image.fromarray(_coloured(seen.T, t + 1))
        image.paste(heat.resize((width, PANEL), Image.Resampling.NEAREST), (MARGIN, top))
        draw.rectangle((MARGIN, top, MARGIN + width - 1, top + PANEL - 1), outline=(200, 204, 212))
        top += PANEL + MARGIN
    return image.quantize(32)


def _coloured(values: np.ndarray, seen: int) -> np.ndarray:
    """Values [H, T] of 0 … 1 from blue over white to red, [H, T, 3] uint8; white after `seen`."""
    v = values[..., None].clip(0, 1)
    warm = np.where(v < 0.5, COLD + (MIDDLE - COLD) * 2 * v, MIDDLE + (WARM - MIDDLE) * (2 * v - 1))
    colours = np.asarray(warm)
    colours[:, seen:] = 255
    return colours.astype(np.uint8)
