"""An untrained model of every kind, built in well under a second each from data written here, with
an input that it reads. `names` replaces words of the data, for hostile names.
"""

import atexit
import base64
import csv
import functools
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memorycell.application import catalogue
from memorycell.application.contract import AnyModelFile, ModelFile

Names = Mapping[str, str]
RATE = 8000


@dataclass
class Tiny:
    """A model and what it reads.

    data      what the model was made from
    source    for `predict`
    items     for its session, if it has one
    options   of `predict`
    """

    application: Any
    file: AnyModelFile
    data: Path
    source: str
    items: list[Any] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Data:
    """Data to prepare, and an input of the model."""

    data: Path
    settings: dict[str, Any]
    source: str
    items: list[Any] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


def build(kind: str, folder: Path, names: Names | None = None) -> Tiny:
    """The tiny model of a kind of `KINDS`, from files in a new folder."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    application = catalogue.load(kind.split()[0])
    given = KINDS[kind](folder, names or {})
    dataset = application.prepare(str(given.data), application.settings(**given.settings))
    model = dataset.build().eval()
    dataset.calibrate(model)
    info = {"task": application.name, "notes": dataset.notes, **dataset.info()}
    info |= {"history": [{"loss": 2.0, "valid_x": 1.0}, {"loss": 1.0, "valid_x": 0.5}]}
    file = ModelFile(model, dataset.codec, info, dataset.arrays())
    return Tiny(application, file, given.data, given.source, given.items, given.options)


@functools.cache
def built(kind: str) -> Tiny:
    """The tiny model of a kind, built once a process in a temporary folder."""
    return build(kind, temporary_folder())


def temporary_folder() -> Path:
    """A new folder with a short name, in memory where that is possible, removed at the end."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="fz", dir=memory if memory.is_dir() else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


# ---- tables --------------------------------------------------------------------------------------


def write_table(path: Path, rows: list[list[Any]], names: Names) -> Path:
    """A CSV file with its names replaced, quoted as CSV is."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[names.get(str(c), c) for c in row] for row in rows])
    return path


def readings(hours: int, groups: tuple[str, ...] = ("",)) -> list[list[Any]]:
    """Hourly rows with a daily cycle, a covariate with missing values, and a category."""
    rng = np.random.default_rng(0)
    rows: list[list[Any]] = [["time", "load", "wind", "kind", "site"]]
    for group in groups:
        for hour in range(hours):
            moment = np.datetime64("2024-01-01T00:00:00") + np.timedelta64(hour, "h")
            load = 20 + 5 * np.sin(2 * np.pi * hour / 24) + rng.normal()
            wind = "" if hour % 17 == 3 else f"{rng.normal():.4f}"
            rows.append([str(moment), f"{load:.4f}", wind, ("calm", "wild")[hour % 2], group])
    return rows


def _column(names: Names, *words: str) -> str:
    return ",".join(names.get(word, word) for word in words)


def forecast(folder: Path, names: Names) -> Data:
    """One series; column names that a setting cannot hold are left to be inferred."""
    rows = [row[:3] for row in readings(160)]
    table = write_table(folder / "readings.csv", rows, names)
    keys = [names.get(c, c) for c in rows[0]]
    items = [json.dumps(dict(zip(keys, row, strict=True))) for row in rows[1:9]]
    settings = {"target": names.get("load", "load"), "horizon": 3, "hidden": 5, "window": 4}
    return Data(table, settings, str(table), items)


def forecast_panel(folder: Path, names: Names) -> Data:
    """Two sites, one of them static, with a distribution as head."""
    rows = readings(120, ("north", "south"))
    table = write_table(folder / "panel.csv", rows, names)
    settings = {"target": "load", "inputs": "wind", "group": "site", "static": "group"}
    settings |= {"horizon": 2, "hidden": 4, "window": 3, "head": "student", "normal": "level"}
    keys = [names.get(c, c) for c in rows[0]]
    cells = [[names.get(str(c), str(c)) for c in row] for row in rows[1:7]]
    return Data(
        table,
        {k: names.get(v, v) if isinstance(v, str) else v for k, v in settings.items()},
        str(table),
        [json.dumps(dict(zip(keys, row, strict=True))) for row in cells],
    )


def anomaly(folder: Path, names: Names) -> Data:
    """Numbers, a category and the time since the previous row, by site."""
    rows = readings(120, ("north", "south"))
    table = write_table(folder / "readings.csv", rows, names)
    keys = [names.get(c, c) for c in rows[0]]
    cells = [[names.get(str(c), str(c)) for c in row] for row in rows[1:9]]
    items = [json.dumps(dict(zip(keys, row, strict=True))) for row in cells]
    settings = {"group": names.get("site", "site"), "hidden": 5, "bptt": 20, "lanes": 4}
    return Data(table, settings, str(table), items)


# ---- language ------------------------------------------------------------------------------------

ANIMALS, PLACES = ("cat", "dog", "peacock", "panda"), ("mat", "hill", "roof")


def sentences(count: int) -> list[str]:
    """Sentences of a small grammar."""
    draw = random.Random(0)
    return [
        f"The {draw.choice(ANIMALS)} {draw.choice(('sat', 'sings'))} on the {draw.choice(PLACES)}."
        for _ in range(count)
    ]


def phrases(count: int) -> list[list[str]]:
    """Random words, most of them different."""
    draw = random.Random(0)
    return [[draw.choice(ANIMALS + PLACES) for _ in range(6)] for _ in range(count)]


def replaced(text: str, names: Names) -> str:
    """The text with its words replaced."""
    return " ".join(names.get(word, word) for word in text.split(" "))


def text(unit: str) -> Callable[[Path, Names], Data]:
    """A language model."""

    def data(folder: Path, names: Names) -> Data:
        path = folder / "tale.txt"
        lines = [replaced(line, names) for line in sentences(260)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")
        settings = {"unit": unit, "hidden": 6, "vocabulary": 60, "lanes": 2, "bptt": 16}
        source = replaced("The cat sat", names)
        return Data(path, settings, source, [source, "on"], {"length": 5})

    return data


def sentiment(direction: str) -> Callable[[Path, Names], Data]:
    """A text classifier."""

    def data(folder: Path, names: Names) -> Data:
        rows = [["text", "label"]]
        for k, words in enumerate(phrases(200)):
            rows.append([replaced(" ".join(words), names), ("good", "bad")[k % 2]])
        table = write_table(folder / "reviews.csv", rows, names)
        settings = {"hidden": 5, "embedding": 4, "direction": direction, "pairs": False}
        live = direction == "forward"
        if live:
            settings |= {"pooling": "max"}
        items = ["The cat", "sat on the mat"] if live else []
        return Data(table, settings, "The cat sat on the hill", items)

    return data


def translation(folder: Path, names: Names) -> Data:
    """Pairs of sentences."""
    path = folder / "en-xx.tsv"
    rows = [f"{' '.join(words)}\t{' '.join(reversed(words))}" for words in phrases(400)]
    path.write_text("\n".join(rows) + "\n")
    settings = {"unit": "word", "hidden": 6, "embedding": 5, "vocabulary": 80, "budget": 300}
    return Data(path, settings, "cat mat dog hill", options={"beam": 2})


def chat(folder: Path, names: Names) -> Data:
    """Dialogues of four turns."""
    path = folder / "talks.jsonl"
    lines = []
    for k, line in enumerate(sentences(300)):
        turns = [f"{line} {k}", f"I like the {k % 7}", "why", f"the {line}"]
        roles = ("user", "assistant") * 2
        messages = [{"role": r, "content": t} for r, t in zip(roles, turns, strict=True)]
        lines.append(json.dumps({"messages": messages}))
    path.write_text("\n".join(lines) + "\n")
    settings = {"unit": "word", "hidden": 6, "embedding": 5, "budget": 300}
    return Data(path, settings, "The cat sat", ["The cat sat", "why"], {"length": 4, "beam": 2})


# ---- signals -------------------------------------------------------------------------------------


def letter_texts(count: int) -> list[str]:
    """Distinct texts of the letters a and b."""
    return [f"{k + 8:b}"[1:].replace("0", "a").replace("1", "b") for k in range(count)]


def sound(seconds: float, frequency: float) -> np.ndarray:
    """A tone with noise."""
    t = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(0).normal(size=len(t))
    return (0.3 * np.sin(2 * np.pi * frequency * t) + 0.003 * noise).astype(np.float32)


def speech(head: str) -> Callable[[Path, Names], Data]:
    """Tones, as classes or as transcripts of letters."""

    def data(folder: Path, names: Names) -> Data:
        import soundfile

        rows = [["file", "text"]]
        texts = letter_texts(100) if head == "text" else ["up", "down"] * 50
        for k, spoken in enumerate(texts):
            soundfile.write(folder / f"s{k}.wav", sound(0.3, 300 + 200 * (k % 2)), RATE)
            rows.append([f"s{k}.wav", spoken])
        write_table(folder / "transcripts.csv", rows, {} if head == "text" else names)
        settings = {"hidden": 5, "layers": 1, "budget": 200, "bins": 12, "bands": 2, "head": head}
        wav = (folder / "s0.wav").read_bytes()
        return Data(folder, settings, str(folder / "s0.wav"), [wav[:3000], wav[3000:]])

    return data


def drawing_lines(names: Names) -> list[str]:
    """Shapes by three writers, as JSON lines."""
    rng = np.random.default_rng(0)
    t = np.linspace(0, 1, 12)[:, None]
    shapes = {
        "circle": [np.hstack([np.cos(6.28 * t), np.sin(6.28 * t)])],
        "cross": [np.hstack([t, t]), np.hstack([t, 1 - t])],
    }
    return [
        json.dumps(
            {
                "strokes": [(50 * s + rng.normal(size=s.shape)).round(1).tolist() for s in strokes],
                "label": names.get(kind, kind),
                "writer": writer,
            }
        )
        for writer in range(1, 6)
        for _ in range(4)
        for kind, strokes in shapes.items()
    ]


def strokes(folder: Path, names: Names) -> Data:
    """A classifier of shapes."""
    path = folder / "shapes.jsonl"
    path.write_text("\n".join(drawing_lines(names)) + "\n")
    settings = {"hidden": 5, "layers": 1, "budget": 200}
    settings |= {"held_out": "writer>4", "checked": "writer=4", "head": "classes"}
    items = ["[0, 0]", "[10, 5]", "[20, 9]", "up", "[5, 5]", "[9, 20]", ""]
    return Data(path, settings, str(path), items)


def lines(folder: Path, names: Names) -> Data:
    """A transcriber of pictures of lines."""
    from PIL import Image, ImageDraw

    rows = [["file", "text"]]
    for k, word in enumerate(letter_texts(100)):
        image = Image.new("L", (44, 18), 255)
        ImageDraw.Draw(image).text((3, 2), word, fill=0)
        image.save(folder / f"w{k}.png")
        rows.append([f"w{k}.png", word])
    write_table(folder / "transcripts.csv", rows, {})
    settings = {"hidden": 5, "layers": 1, "budget": 200, "height": 8, "head": "text"}
    return Data(folder, settings, str(folder / "w0.png"))


def drawing(folder: Path, names: Names) -> Data:
    """A model that draws shapes."""
    path = folder / "shapes.jsonl"
    path.write_text("\n".join(drawing_lines(names)) + "\n")
    settings = {"hidden": 5, "mixtures": 2, "budget": 300, "signs": "names"}
    settings |= {"held_out": "writer>4", "checked": "writer=4"}
    return Data(path, settings, names.get("cross", "cross"), options={"count": 1, "longest": 12})


CHORDS = [[48, 64, 67, 72], [53, 65, 69, 72], [55, 62, 67, 71], [48, 64, 67, 72]]


def music(folder: Path, names: Names) -> Data:
    """Four voices in frames."""
    path = folder / "tunes.json"
    tune = [chord for chord in CHORDS * 3 for _ in range(2)]
    path.write_text(json.dumps({"train": [tune] * 4, "valid": [tune] * 3, "test": [tune[:9]] * 3}))
    settings = {"hidden": 5, "transpose": 0, "budget": 60}
    items = [" ".join(map(str, chord)) for chord in CHORDS]
    source = _midi_file(folder / "tune.mid")
    return Data(path, settings, source, items, {"bars": 1})


def events(folder: Path, names: Names) -> Data:
    """Music as events, from MIDI files."""
    for k in range(60):
        _midi_file(folder / f"tune{k}.mid", k)
    settings = {"view": "events", "hidden": 5, "transpose": 0, "lanes": 2, "bptt": 16, "frames": 2}
    return Data(folder, settings, str(folder / "tune0.mid"), [], {"bars": 1})


def _midi_file(path: Path, seed: int = 0) -> str:
    import symusic

    draw = random.Random(seed)

    score: Any = symusic.Score(480)
    track: Any = symusic.Track("piano", 0, False)
    for k in range(12):
        for pitch in draw.choice(CHORDS):
            track.notes.append(symusic.Note(960 * k, 960, pitch, 80))
    score.tracks.append(track)
    score.dump_midi(path)
    return str(path)


def control(folder: Path, names: Names) -> Data:
    """A policy cloned from logged trajectories."""
    rng = np.random.default_rng(0)
    rows: list[list[Any]] = [["episode", "step", "place", "speed", "turn"]]
    for episode in range(8):
        for step in range(6):
            numbers = [f"{v:.3f}" for v in rng.normal(size=2)]
            rows.append([f"run {episode}", step, *numbers, ("left", "right")[step % 2]])
    table = write_table(folder / "log.csv", rows, names)
    settings = {"hidden": 5, "observations": _column(names, "place", "speed")}
    settings |= {key: names.get(key, key) for key in ("episode", "step")}
    settings |= {"actions": names.get("turn", "turn")}
    items = ["0.5,-0.1", "[0.2, 0.3]", '{"observation": [1, 2]}', "", "0.1 0.2", "reset"]
    return Data(table, settings, str(table), items)


def video(goal: str) -> Callable[[Path, Names], Data]:
    """A model of frames or a classifier of clips, in a folder of pictures per clip."""

    def data(folder: Path, names: Names) -> Data:
        from PIL import Image

        rng = np.random.default_rng(0)
        classes = [names.get(word, word) for word in ("run", "jump")]
        frames = rng.integers(0, 256, (12, 5, 8, 9), np.uint8)
        labels = np.array([classes[k % 2] for k in range(12)])
        extra = {"labels": labels} if goal == "class" else {}
        np.savez(folder / "clips.npz", clips=frames, **extra)
        for k, frame in enumerate(frames[0]):
            Image.fromarray(frame).save(folder / f"f{k}.png")
        settings = {"hidden": 3, "context": 3, "horizon": 2, "lanes": 2, "goal": goal}
        raw = base64.b64encode(frames[1, 0].tobytes()).decode()
        items = [str(folder / "f0.png"), f"raw:{raw}", str(folder / "f2.png"), f"raw:{raw}"]
        return Data(folder / "clips.npz", settings, str(folder / "clips.npz"), items)

    return data


KINDS: dict[str, Callable[[Path, Names], Data]] = {
    "forecast": forecast,
    "forecast panel": forecast_panel,
    "anomaly": anomaly,
    "text char": text("char"),
    "text word": text("word"),
    "text piece": text("piece"),
    "sentiment": sentiment("both"),
    "sentiment live": sentiment("forward"),
    "translation": translation,
    "chat": chat,
    "speech classes": speech("classes"),
    "speech text": speech("text"),
    "handwriting strokes": strokes,
    "handwriting lines": lines,
    "drawing": drawing,
    "music": music,
    "music events": events,
    "video": video("frames"),
    "video class": video("class"),
    "control": control,
}
