"""Whether drawn characters can be read: a classifier that was trained on real ones reads what a
drawing model draws.

    python benchmarks/legibility.py [--minutes 5] [--reader-minutes 5] [--count 4] [--json]
    python benchmarks/legibility.py --reader r.safetensors --model d.safetensors --out drawn.svg
    python benchmarks/legibility.py --smoke

Both models are trained on the training split of omniglot. The classifier reads the test split,
characters of other writers, and then `count` drawings of each character. Durations are for two
cores. --smoke trains small models on generated data: its figures have no meaning.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import small_data
import torch

from memorycell.application import catalogue, modelfile
from memorycell.applications.drawing.figures import rows_svg
from memorycell.applications.drawing.predict import PredictOptions, predict
from memorycell.applications.handwriting.dataset import reopen
from memorycell.setting_fields import parse_settings
from memorycell.signals.recognise import recognise
from memorycell.training import loop

READER_SETTINGS = {"direction": "both", "patience": "99"}
SHOWN_SIGNS = 12
"""In the picture."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="training of the drawing model")
    parser.add_argument("--reader-minutes", type=float, default=5.0)
    parser.add_argument("--model", type=Path, help="a drawing model to measure, instead")
    parser.add_argument("--reader", type=Path, help="a classifier to read with, instead")
    parser.add_argument("--count", type=int, default=4, help="drawings of each character")
    parser.add_argument("--seed", type=int, default=0, help="of the training and the drawings")
    parser.add_argument(
        "--set", action="append", default=[], help="predict's settings, such as bias=1"
    )
    parser.add_argument(
        "--train-set", action="append", default=[], help="training's settings, such as jitter=0"
    )
    parser.add_argument("--out", type=Path, help="an SVG of real and drawn characters")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reader = options.reader or train("handwriting", READER_SETTINGS, folder, options)
        values = {"patience": "99", **pairs(options.train_set)}
        model = options.model or train("drawing", values, folder, options)
        measure(reader, model, options)


def train(task: str, values: dict[str, str], folder: Path, options: argparse.Namespace) -> Path:
    application, out = catalogue.load(task), folder / f"{task}.safetensors"
    settings, data = application.settings(), "omniglot"
    minutes = options.minutes if task == "drawing" else options.reader_minutes
    if options.smoke:
        settings, minutes = small_data.settings(application, data), None
        data = str(small_data.write(data, folder))
        values = {**values, "epochs": "1", "hidden": "8"}
    settings, training = parse_settings((settings, application.training), values)
    loop.train(
        application, data, settings, replace(training, seed=options.seed), out, minutes=minutes
    )
    return out


def measure(reader_path: Path, model_path: Path, options: argparse.Namespace) -> None:
    reader, model = modelfile.load(reader_path), modelfile.load(model_path)
    test = reopen(None, reader)
    accuracy = 1 - test.evaluate(reader.model, "test")["error"]
    values = pairs(options.set)
    (predict_options,) = parse_settings(
        (PredictOptions(count=options.count, seed=options.seed),), values
    )
    labels = model.codec.signs
    drawings = predict(model, "\n".join(labels), predict_options)["drawings"]
    read = [read_label(reader, drawing["strokes"]) for drawing in drawings]
    right = np.array([a == d["text"] for a, d in zip(read, drawings, strict=True)])
    deviation = right.reshape(len(labels), -1).mean(1).std() / len(labels) ** 0.5
    result = {
        "characters": len(labels),
        "read of real ones": round(accuracy, 4),
        "read of drawn ones": round(float(right.mean()), 4),
        "standard error": round(float(deviation), 4),
        "unfinished": sum(not d["finished"] for d in drawings),
        "drawings": len(drawings),
        "nats": round(model.info["metrics"]["nats"], 4),
        "settings": pairs(options.train_set) | values,
    }
    print(json.dumps(result) if options.json else "\n".join(f"{k}: {v}" for k, v in result.items()))
    if options.out is not None:
        options.out.write_text(picture(test, labels, drawings, options.seed))


def pairs(values: list[str]) -> dict[str, str]:
    return dict(value.split("=", 1) for value in values)


def read_label(reader, strokes: list) -> str:
    features = reader.codec.encode([np.array(s, float).reshape(-1, 2) for s in strokes])
    return reader.codec.labels[int(recognise(reader, features).argmax())]


def picture(test, labels, drawings, seed: int) -> str:
    """A row per character: two real ones, then the drawn ones."""
    chosen = np.random.default_rng(seed).permutation(len(labels))[:SHOWN_SIGNS]
    rows = {}
    for label in (labels[k] for k in sorted(chosen)):
        real = [e.raw for e in test.splits["test"] if e.label == label][:2]
        drawn = [d["strokes"] for d in drawings if d["text"] == label]
        rows[f"{label}: {len(real)} real, then drawn"] = [
            *real, *([np.array(s, float).reshape(-1, 2) for s in one] for one in drawn)
        ]  # fmt: skip
    return rows_svg(rows)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
