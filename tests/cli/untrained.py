"""Small data and an untrained model of every task: what command lines can name."""

import json
import random
import wave
from pathlib import Path

import numpy as np

from memorycell.application import catalogue
from memorycell.application.contract import ModelFile
from memorycell.setting_fields import parse_settings

TINY = {"hidden": "4"}
SETTINGS = {
    "forecast": {**TINY, "target": "y", "horizon": "4", "context": "24", "window": "6"},
    "anomaly": {**TINY, "bptt": "20", "columns": "y,x"},
    "text": TINY,
    "sentiment": {**TINY, "embedding": "4"},
    "translation": {**TINY, "embedding": "4", "vocabulary": "60", "languages": "de-en"},
    "chat": {**TINY, "embedding": "4", "unit": "word"},
    "speech": {**TINY, "bins": "23", "bands": "2"},
    "handwriting": TINY,
    "drawing": TINY,
    "music": TINY,
    "video": {**TINY, "context": "3", "horizon": "2"},
    "control": TINY,
    "sequences": {**TINY, "sequence": "id", "target": "label", "encoder": "none"},
}
DATA = {
    "forecast": "rows.csv",
    "anomaly": "rows.csv",
    "text": "tale.txt",
    "sentiment": "reviews.csv",
    "translation": "pairs.tsv",
    "chat": "chats.jsonl",
    "speech": "sounds",
    "handwriting": "pen.jsonl",
    "drawing": "pen.jsonl",
    "music": "chorales.json",
    "video": "clips.npz",
    "control": "log.csv",
    "sequences": "walks.csv",
}


def write_data(folder: Path) -> None:
    """The small data of every task."""
    draw = random.Random(0)
    times = (f"2024-01-{1 + k // 24:02d} {k % 24:02d}:00:00" for k in range(600))
    rows = ["time,y,x"] + [
        f"{time},{k % 24 + draw.random():.3f},{draw.random():.3f}" for k, time in enumerate(times)
    ]
    (folder / "rows.csv").write_text("\n".join(rows) + "\n")
    words = ["the", "a", "cat", "dog", "crane", "sat", "sleeps", "sings", "here", "there", "now"]
    sentences = [" ".join(draw.choice(words) for _ in range(8)) + "." for _ in range(600)]
    (folder / "tale.txt").write_text("\n".join(sentences) + "\n")
    reviews = [f"{s},{('good', 'bad')[k % 2]}" for k, s in enumerate(sentences[:200])]
    (folder / "reviews.csv").write_text("\n".join(["text,label", *reviews]) + "\n")
    pairs = [f"{s.upper()}\t{s}" for s in sentences[:300]]
    (folder / "pairs.tsv").write_text("\n".join(["de\ten", *pairs]) + "\n")
    chats = [
        {"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]}
        for a, b in zip(sentences[:200], sentences[200:400], strict=True)
    ]
    (folder / "chats.jsonl").write_text("\n".join(map(json.dumps, chats)) + "\n")
    _write_sounds(folder / "sounds", draw)
    pen = [
        {
            "strokes": [[[draw.random() * 9, draw.random() * 9] for _ in range(8)]],
            "label": letter,
            "writer": writer,
        }
        for writer in range(6)
        for letter in "abcd"
        for _ in range(3)
    ]
    (folder / "pen.jsonl").write_text("\n".join(map(json.dumps, pen)) + "\n")
    walks = [
        f"{n},{draw.random():.3f},{('run', 'rest')[n % 2]}" for n in range(40) for _ in range(5)
    ]
    (folder / "walks.csv").write_text("\n".join(["id,x,label", *walks]) + "\n")
    clips = np.random.default_rng(0).integers(0, 256, (12, 6, 8, 9), np.uint8)
    np.savez(folder / "clips.npz", clips=clips)
    pieces = [[[48 + k % 7, 60 + (k + n) % 12, 72] for k in range(32)] for n in range(6)]
    log = [f"{k // 9},{draw.random():.3f},{draw.random():.3f},{k % 2}" for k in range(72)]
    (folder / "log.csv").write_text("\n".join(["episode,obs_a,obs_b,action", *log]) + "\n")
    chorales = {"train": pieces, "valid": pieces[:2], "test": pieces[2:4]}
    (folder / "chorales.json").write_text(json.dumps(chorales))


def write_model(task: str, folder: Path) -> Path:
    """An untrained model file of a task, `TASK.safetensors`, for the data in the folder."""
    application = catalogue.load(task)
    (settings,) = parse_settings([application.settings()], SETTINGS[task])
    dataset = application.prepare(str(folder / DATA[task]), settings)
    model = dataset.build().eval()
    dataset.calibrate(model)
    info = {"task": task, "primary": application.metric.name, **dataset.info(), "history": []}
    path = folder / f"{task}.safetensors"
    ModelFile(model, dataset.codec, info, dataset.arrays()).save(path)
    return path


def _write_sounds(folder: Path, draw: random.Random) -> None:
    for pitch_hz in (400, 900):
        (folder / str(pitch_hz)).mkdir(parents=True)
        for k in range(30):
            time_s = np.arange(3200) / 8000
            samples = 0.3 * np.sin(2 * np.pi * (pitch_hz + draw.random() * 50) * time_s)
            with wave.open(str(folder / str(pitch_hz) / f"{k}.wav"), "wb") as file:
                file.setparams((1, 2, 8000, 0, "NONE", ""))
                file.writeframes((samples * 32767).astype("<i2").tobytes())
