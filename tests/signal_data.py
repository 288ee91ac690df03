"""Small synthetic data that train in seconds: chirps, tones for letters, and drawn shapes."""

import json
from pathlib import Path

import numpy as np
import pytest

sf = pytest.importorskip("soundfile", reason="pip install 'memorycell[speech]'")
pytest.importorskip("kaldi_native_fbank", reason="pip install 'memorycell[speech]'")
pytest.importorskip("PIL", reason="pip install 'memorycell[handwriting]'")

RATE = 8000
LETTERS = {"a": 400.0, "b": 800.0, "c": 1400.0, "d": 2200.0}
WORDS = ("ab", "cab", "bad", "dab", "add", "cad")
SMALL_SPEECH = {
    "hidden": 24,
    "layers": 1,
    "dropout": 0.0,
    "budget": 400,
    "bins": 23,
    "noise": 0.0,
    "share": 0.0,
    "bands": 2,
}
"""Settings of speech models that train in seconds."""


def chirp(
    kind: str, rng: np.random.Generator, rate: int = RATE, seconds: float | None = None
) -> np.ndarray:
    """A tone with rising, falling or constant frequency, between silences, with noise."""
    length = int((seconds or rng.uniform(0.25, 0.4)) * rate)
    low, high = rng.uniform(300, 500), rng.uniform(1200, 1600)
    ends = {"up": (low, high), "down": (high, low), "flat": (700, 700)}[kind]
    frequency = np.linspace(*ends, length)
    tone = rng.uniform(0.1, 0.5) * np.sin(2 * np.pi * np.cumsum(frequency) / rate)
    quiet = np.zeros(int(0.05 * rate))
    sound = np.concatenate([quiet, tone, quiet])
    return (sound + 0.003 * rng.standard_normal(len(sound))).astype(np.float32)


def letter_tones(text: str, rng: np.random.Generator, rate: int = RATE) -> np.ndarray:
    """One 0.1 s tone per letter, with gaps, and longer gaps between words."""
    parts = [np.zeros(int(0.06 * rate))]
    for letter in text:
        if letter == " ":
            parts.append(np.zeros(int(0.15 * rate)))
            continue
        t = np.arange(int(0.1 * rate)) / rate
        parts += [0.3 * np.sin(2 * np.pi * LETTERS[letter] * t), np.zeros(int(0.04 * rate))]
    sound = np.concatenate(parts)
    return (sound + 0.003 * rng.standard_normal(len(sound))).astype(np.float32)


@pytest.fixture(scope="session")
def chirps(tmp_path_factory) -> Path:
    """One folder per class with 30 recordings each."""
    folder, rng = tmp_path_factory.mktemp("chirps"), np.random.default_rng(0)
    for kind in ("up", "down", "flat"):
        (folder / kind).mkdir()
        for k in range(30):
            sf.write(folder / kind / f"{kind}{k}.wav", chirp(kind, rng), RATE)
    return folder


@pytest.fixture(scope="session")
def spellings(tmp_path_factory) -> Path:
    """Recordings of one to three words, and transcripts.csv."""
    folder, rng = tmp_path_factory.mktemp("spellings"), np.random.default_rng(1)
    rows = ["file,text"]
    transcripts = set()
    while len(transcripts) < 110:
        transcripts.add(" ".join(rng.choice(WORDS, rng.integers(1, 4))))
    for k, text in enumerate(sorted(transcripts)):
        sf.write(folder / f"s{k}.wav", letter_tones(text, rng), RATE)
        rows.append(f"s{k}.wav,{text.title()}!")
    (folder / "transcripts.csv").write_text("\n".join(rows) + "\n")
    return folder


def shape(kind: str, rng: np.random.Generator, size: float = 100.0) -> list[list[list[float]]]:
    """A circle, a cross, a square or a bar with random position, size, rotation and noise."""
    t = np.linspace(0, 1, 30)[:, None]
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]])
    strokes = {
        "circle": [np.hstack([np.cos(2 * np.pi * t), np.sin(2 * np.pi * t)]) / 2],
        "cross": [np.hstack([t, t]), np.hstack([t, 1 - t])],
        "square": [
            np.stack([np.interp(4 * t[:, 0], np.arange(5), corners[:, k]) for k in (0, 1)], 1)
        ],
        "bar": [np.hstack([0 * t, t])],
    }[kind]
    place, scale = rng.uniform(-500, 500, 2), size * rng.uniform(0.5, 2)
    turn = rng.uniform(-0.2, 0.2)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shaky = [scale * (s + 0.01 * rng.standard_normal(s.shape)) @ matrix + place for s in strokes]
    return [np.round(s, 2).tolist() for s in shaky]


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    """JSON lines: four shapes, six writers, five drawings each."""
    rng = np.random.default_rng(2)
    path = tmp_path_factory.mktemp("shapes") / "shapes.jsonl"
    rows = [
        json.dumps({"strokes": shape(kind, rng), "label": kind, "writer": writer})
        for writer in range(1, 7)
        for kind in ("circle", "cross", "square", "bar")
        for _ in range(5)
    ]
    path.write_text("\n".join(rows) + "\n")
    return path
