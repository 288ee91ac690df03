"""Small models for the panels of the page: trained in seconds, or hardly at all."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from page_server import Server

import memorycell

FEW = {"epochs": 1, "progress": False}
FRAME = (16, 16)


class Panels:
    """A server with models of the other tasks, and the rows of some sequences."""

    def __init__(self, server: Server, files: dict[str, Path], rows: str) -> None:
        self.server, self.files, self.rows = server, files, rows
        self.url = server.url


def video(out: Path) -> None:
    """A predictor of frames of 16 × 16 pixels."""
    rng = np.random.default_rng(0)
    wide = rng.random((16, FRAME[0], FRAME[1] + 12))
    clips = np.stack([wide[:, :, t : t + FRAME[1]] for t in range(12)], 1)
    data = out.with_suffix(".npz")
    np.savez(data, clips=(255 * clips).astype(np.uint8))
    small = {"hidden": 4, "patch": 4, "context": 4, "horizon": 3, "lanes": 4}
    memorycell.train("video", data, out=out, **small, **FEW)


def control(environment: str, out: Path, **settings: Any) -> None:
    """A policy of an environment, after one short epoch."""
    small = {"hidden": 16, "environments": 8, "rollout": 8, "rollouts": 1, "episodes": 2}
    more = {"checked": 2, "baseline_share": 0.0, **settings}
    memorycell.train("control", environment, out=out, **(small | more), **FEW)


def sequences(out: Path) -> str:
    """A classifier of sequences of two columns; returns rows of three more sequences as CSV."""
    rng = np.random.default_rng(0)
    rows = [
        [f"r{k}", t, round(float(rng.normal() + 3 * (k % 2)), 3), ["low", "high"][k % 2]]
        for k in range(40)
        for t in range(12)
    ]
    data = out.with_suffix(".csv")
    with data.open("w", newline="") as file:
        csv.writer(file).writerows([["recording", "time", "x", "level"], *rows])
    small = {"sequence": "recording", "target": "level", "members": 1, "hidden": 8, "lr": 0.03}
    fixed = {"encoder": "none", "augment": "none"}
    memorycell.train("sequences", data, out=out, **small, **fixed, epochs=4, progress=False)
    played = [row[:3] for row in rows if row[0] in ("r0", "r1")]
    return "\n".join(["recording,time,x", *(",".join(map(str, row)) for row in played)])


def sentiment(out: Path) -> None:
    """A classifier of short texts that reads forwards."""
    good, bad = ["good", "great", "lovely"], ["bad", "awful", "dull"]
    things = ["film", "book", "song", "story", "play"]
    data = out.with_suffix(".csv")
    with data.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for words, label in ((good, "positive"), (bad, "negative")):
            rows.writerows([[f"a {a} and {b} {c}", label] for a in words for b in words
                            for c in things])  # fmt: skip
    small = {"direction": "forward", "hidden": 8}
    memorycell.train("sentiment", data, out=out, **small, epochs=3, progress=False)


def translation(out: Path) -> None:
    """A translator of short sentences."""
    nouns = {"cat": "chat", "dog": "chien", "horse": "cheval", "bird": "oiseau"}
    colours = {"red": "rouge", "blue": "bleu", "green": "vert", "black": "noir"}
    pairs = [
        f"the {c} {a} sees the {d} {b}\tle {nouns[a]} {colours[c]} voit le {nouns[b]} {colours[d]}"
        for c, a, d, b in itertools.product(colours, nouns, colours, nouns)
    ]
    data = out.parent / "en-fr.tsv"
    data.write_text("\n".join(pairs))
    small = {"hidden": 32, "budget": 256, "lr": 0.01, "epochs": 10}
    memorycell.train("translation", data, out=out, **small, progress=False)


def chat(out: Path) -> None:
    """A partner of short dialogues."""
    colours = ("red", "green", "blue", "black", "white")
    turns = "I like {0} number {1}\t{0} is nice\twhat do I like?\tyou like {0}"
    data = out.parent / "talks.tsv"
    data.write_text("\n".join(turns.format(colours[k % 5], k) for k in range(100)))
    memorycell.train("chat", data, out=out, unit="word", hidden=16, embedding=8, **FEW)
