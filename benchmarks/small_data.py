"""Small generated data in the file format of every public dataset, for --smoke.

The content has no meaning; it only has to be read, split and trained on in seconds.
"""

from __future__ import annotations

import gzip
import itertools
import json
import zipfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from memorycell.application.datasets import with_dataset_settings
from memorycell.setting_fields import parse_settings

SAMPLE_RATE_HZ = 8000
SHORT = {"horizon": "4", "context": "24", "window": "6", "season": "6"}
SETTINGS = {
    "glucose": SHORT,
    "weather": SHORT,
    "ETTh1": {**SHORT, "split": "300,100,100"},
    "skab": {"bptt": "20"},
    "multi30k-de-en": {"languages": "de-en"},
    "free-spoken-digits": {"test_share": "0.2"},
    "asterisk-en": {"test_share": "0.2"},
}
"""Settings that the small data need in addition to those of the public dataset."""


@cache
def write(name: str, folder: Path) -> Path:
    """Write the small form of a public dataset into a folder, once; return its path there."""
    return WRITERS[name](folder, np.random.default_rng(0))


def write_joined(names: str, folder: Path) -> str:
    """The paths of `write` for names joined by +, joined in the same way."""
    return "+".join(str(write(name, folder)) for name in names.split("+"))


def settings(application: Any, name: str) -> Any:
    """The application's settings for the small form of one of its public datasets."""
    dataset = next(d for d in application.datasets if d.name == name.split("+")[0])
    own = with_dataset_settings(application.settings(), dataset)
    return parse_settings([own], SETTINGS.get(name, {}))[0]


# ---- tables --------------------------------------------------------------------------------------


def glucose(folder: Path, rng: np.random.Generator) -> Path:
    values = 120 + _wave(rng, 1000, period=288, scale=20)
    rows = zip(_times(1000, "5m"), values, strict=True)
    return _csv(folder / "glucose.csv", ("datetime", "glucose"), rows)


def weather(folder: Path, rng: np.random.Generator) -> Path:
    columns = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")
    rows: list[tuple] = []
    for origin in ("EWR", "JFK"):
        values = [50 + _wave(rng, 500, period=24, scale=10) for _ in columns]
        rows += [(origin, *row) for row in zip(_times(500, "1h"), *values, strict=True)]
    return _csv(folder / "weather.csv", ("origin", "time_hour", *columns), rows)


def etth1(folder: Path, rng: np.random.Generator) -> Path:
    columns = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
    values = [5 + _wave(rng, 500, period=24, scale=2) for _ in columns]
    rows = zip(_times(500, "1h"), *values, strict=True)
    return _csv(folder / "ETTh1.csv", ("date", *columns), rows)


def stocks(folder: Path, rng: np.random.Generator) -> Path:
    rows: list[tuple] = []
    for ticker in ("AAPL", "IBM"):
        prices = 100 * np.exp(np.cumsum(0.02 * rng.standard_normal(450)))
        rows += [
            (ticker, t[:10], p) for t, p in zip(_times(450, "1d"), prices.tolist(), strict=True)
        ]
    return _csv(folder / "stocks.csv", ("Ticker", "Date", "Adj Close"), rows)


def skab(folder: Path, rng: np.random.Generator) -> Path:
    columns = (
        "Accelerometer1RMS",
        "Accelerometer2RMS",
        "Current",
        "Pressure",
        "Temperature",
        "Thermocouple",
        "Voltage",
        "Volume Flow RateRMS",
    )
    path = folder / "skab"
    path.mkdir()
    for k in range(2):
        values = np.stack([_wave(rng, 600, period=60, scale=1) for _ in columns])
        labels = np.zeros(600)
        labels[500:550] = 1
        values[:, 500:550] += 5
        rows = zip(_times(600, "1s"), *values, labels, strict=True)
        _csv(path / f"{k}.csv", ("datetime", *columns, "anomaly"), rows, separator=";")
    return path


def _wave(rng: np.random.Generator, size: int, period: int, scale: float) -> np.ndarray:
    noise = 0.3 * rng.standard_normal(size)
    return scale * (np.sin(2 * np.pi * np.arange(size) / period) + noise)


def _times(size: int, step: str) -> list[str]:
    unit = np.timedelta64(int(step[:-1]), {"d": "D"}.get(step[-1], step[-1]))
    moments = np.datetime64("2020-01-01T00:00:00") + np.arange(size) * unit
    return [str(moment).replace("T", " ") for moment in moments]


def _csv(path: Path, header: Iterable[str], rows: Iterable[tuple], separator: str = ",") -> Path:
    lines = [separator.join(header)]
    lines += [
        separator.join(f"{v:.5g}" if isinstance(v, float) else str(v) for v in row) for row in rows
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


# ---- text ----------------------------------------------------------------------------------------


def tinyshakespeare(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / "tinyshakespeare.txt"
    path.write_text("\n".join(_sentences(rng, 150)) + "\n")
    return path


def sst(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / "sst"
    path.mkdir()
    for split, size in (("train", 60), ("dev", 20), ("test", 20)):
        lines = []
        for k in range(size):
            label, word = ((4, "good"), (0, "bad"))[k % 2]
            subject = f"(2 (2 The) (2 {rng.choice(NOUNS)}))"
            count = f"(2 {split}{k})"  # every sentence is in one split only
            lines.append(f"({label} {subject} ({label} (2 is) ({label} {count} ({label} {word}))))")
        (path / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return path


def multi30k(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / "multi30k"
    path.mkdir()
    for split, size in (("train", 210), ("val", 8), ("test_2016_flickr", 8)):
        for language, lines in zip(("de", "en"), _translations(rng, size), strict=True):
            text = "\n".join(lines) + "\n"
            (path / f"{split}.{language}.gz").write_bytes(gzip.compress(text.encode()))
    return path


def localisation(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / "localisation-en-hi.tsv.gz"
    path.write_bytes(gzip.compress(_tsv(rng, 270).encode()))
    return path


def tatoeba(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / "tatoeba-en-hi.txt"
    path.write_text(_tsv(rng, 270))
    return path


def chatterbot(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / "chatterbot"
    path.mkdir()
    questions, answers = _translations(rng, 120)
    turns = "".join(f"- - {q}\n  - {a}\n" for q, a in zip(questions, answers, strict=True))
    (path / "small.yml").write_text(f"conversations:\n{turns}")
    return path


def chitchat(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / "chitchat.json"
    sides = zip(*_translations(rng, 200), strict=True)
    talks = {
        f"id-{k}": {"messages": [[{"text": text, "sender": s}] for s, text in enumerate(pair)]}
        for k, pair in enumerate(sides)
    }
    path.write_text(json.dumps(talks))
    return path


NOUNS = ("cat", "dog", "crane", "panda", "river", "hill", "roof", "garden")
VERBS = ("sees", "likes", "finds", "wants")
ADJECTIVES = ("old", "small", "red", "quiet", "happy")


def _sentences(rng: np.random.Generator, size: int) -> list[str]:
    return [
        f"The {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)} {rng.choice(VERBS)} the"
        f" {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}."
        for _ in range(size)
    ]


def _translations(rng: np.random.Generator, size: int) -> tuple[list[str], list[str]]:
    """Sentences, and the same with every word reversed."""
    source = _sentences(rng, size)
    return source, [" ".join(word[::-1] for word in line.rstrip(".").split()) for line in source]


def _tsv(rng: np.random.Generator, size: int) -> str:
    return "".join(f"{a}\t{b}\n" for a, b in zip(*_translations(rng, size), strict=True))


# ---- sound ---------------------------------------------------------------------------------------


def spoken_digits(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / "free-spoken-digits"
    path.mkdir()
    speakers = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
    for digit, speaker, index in itertools.product(range(2), speakers, range(4, 8)):
        _wav(path / f"{digit}_{speaker}_{index}.wav", rng, [500 + 600 * digit] * 3)
    return path


def asterisk(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / "asterisk-en"
    path.mkdir()
    lines = []
    for k, words in enumerate(itertools.product(ADJECTIVES, NOUNS)):
        text = " ".join(words)
        _wav(path / f"prompt{k}.wav", rng, [300 + 50 * (ord(c) % 32) for c in text])
        lines.append(f"prompt{k}: {text}")
    (path / "transcripts.txt").write_text("\n".join(lines) + "\n")
    return path


def _wav(path: Path, rng: np.random.Generator, tones_hz: list[int]) -> None:
    """A file with 0.05 s of every tone."""
    import soundfile

    time_s = np.arange(SAMPLE_RATE_HZ // 20) / SAMPLE_RATE_HZ
    samples = np.concatenate([0.3 * np.sin(2 * np.pi * tone * time_s) for tone in tones_hz])
    samples = np.pad(samples, SAMPLE_RATE_HZ // 20)
    soundfile.write(path, samples + 0.003 * rng.standard_normal(len(samples)), SAMPLE_RATE_HZ)


# ---- pen and music -------------------------------------------------------------------------------


def omniglot(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / "omniglot-strokes-small1.zip"
    angle = np.linspace(0, 2 * np.pi, 25)
    with zipfile.ZipFile(path, "w") as archive:
        for k, writer in itertools.product(range(1, 6), range(1, 21)):
            x, y = np.sin(angle), np.cos(k * angle)
            points = 50 + 40 * np.stack([x, y], 1) + rng.standard_normal((25, 2))
            lines = [f"{px:.2f},{py:.2f},{20 * t}" for t, (px, py) in enumerate(points)]
            text = "\n".join(["START", *lines, "BREAK"]) + "\n"
            archive.writestr(f"small/Greek/character{k:02}/000{k}_{writer:02}.txt", text)
    return path


def ocr_words(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / "ocr-words.npz"
    words = ["".join(letters) for letters in itertools.permutations("abcde", 3)]
    labels = np.concatenate([[ord(c) - ord("a") for c in word] for word in words])
    shapes = rng.integers(0, 256, (26, 16), dtype=np.uint8)
    lengths = np.array([len(word) for word in words])
    np.savez(path, pixels=shapes[labels], lengths=lengths, labels=labels)
    return path


def jsb(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / "jsb-chorales-quarter.json"
    splits = {
        split: [_chorale(rng) for _ in range(size)]
        for split, size in (("train", 4), ("valid", 2), ("test", 2))
    }
    path.write_text(json.dumps(splits))
    return path


def tunes(folder: Path, rng: np.random.Generator) -> Path:
    """Tunes of one voice in ABC notation."""
    path = folder / "tunes.abc"
    path.write_text("\n\n".join(_tune(rng, number) for number in range(1, 61)))
    return path


def _tune(rng: np.random.Generator, number: int) -> str:
    degrees = np.abs(np.cumsum(rng.integers(-2, 3, 24))) % 8
    notes = [*("CDEFGABc"[degree] for degree in degrees[:-1]), "C"]
    bars = [" ".join(notes[k : k + 3]) for k in range(0, len(notes), 3)]
    lines = [" | ".join(bars[k : k + 4]) + " |" for k in range(0, len(bars), 4)]
    return f"X:{number}\nM:3/4\nL:1/4\nK:{'CGDF'[number % 4]}\n" + "\n".join(lines) + "\n"


def _chorale(rng: np.random.Generator) -> list[list[int]]:
    """Frames of four-part chords, as MIDI note numbers."""
    steps = np.cumsum(rng.integers(-2, 3, 24)) % 12
    return [[48 + int(s), 55 + int(s), 60 + int(s), 64 + int(s)] for s in steps]


# ---- sequences -----------------------------------------------------------------------------------


def archive(name: str) -> Callable[[Path, np.random.Generator], Path]:
    """The writer of a set of the UCR/UEA archive: two classes, two channels, 9 to 14 steps."""

    def write_pair(folder: Path, rng: np.random.Generator) -> Path:
        path = folder / name
        path.mkdir()
        for part, size in (("TRAIN", 24), ("TEST", 12)):
            lines = [
                f"@problemName {name}",
                "@timestamps false",
                "@missing false",
                "@univariate false",
                "@dimensions 2",
                "@equalLength false",
                "@classLabel true a b",
                "@data",
            ]
            for k in range(size):
                values = rng.standard_normal((2, int(rng.integers(9, 15)))) + k % 2
                channels = [",".join(f"{v:.4f}" for v in channel) for channel in values]
                lines.append(":".join([*channels, "ab"[k % 2]]))
            (path / f"{name}_{part}.ts").write_text("\n".join(lines) + "\n")
        return path

    return write_pair


def hydrology(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / "hydrology"
    path.mkdir()
    rows: list[tuple] = []
    for basin in ("1", "2"):
        rain = np.maximum(rng.standard_normal(200), 0)
        runoff = np.convolve(rain, 0.8 ** np.arange(20))[:200]
        rows += zip([basin] * 200, _times(200, "1d"), rain, runoff, strict=True)
    _csv(path / "attributes.csv", ("basin", "area"), [("1", 2.5), ("2", 7.5)])
    rows = [(basin, time[:10], *values) for basin, time, *values in rows]
    return _csv(path / "camels-four.csv", ("basin", "date", "rain", "runoff_mm_day"), rows)


ARCHIVE = (
    *("JapaneseVowels", "BasicMotions", "GunPoint", "ArrowHead"),
    *("ItalyPowerDemand", "PLAID", "pendigits"),
)
WRITERS: dict[str, Callable[[Path, np.random.Generator], Path]] = {
    "glucose": glucose,
    "weather": weather,
    "ETTh1": etth1,
    "stocks": stocks,
    "skab": skab,
    "tinyshakespeare": tinyshakespeare,
    "sst": sst,
    "multi30k-de-en": multi30k,
    "localisation-en-hi": localisation,
    "tatoeba-en-hi": tatoeba,
    "chatterbot": chatterbot,
    "chitchat": chitchat,
    "free-spoken-digits": spoken_digits,
    "asterisk-en": asterisk,
    "omniglot": omniglot,
    "ocr-words": ocr_words,
    "jsb": jsb,
    "jsb-16th": jsb,
    "chorales": tunes,
    "essen": tunes,
    **{name: archive(name) for name in ARCHIVE},
    "hydrology": hydrology,
}
