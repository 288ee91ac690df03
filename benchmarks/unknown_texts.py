"""How often a classifier of film reviews gives a label to a text that is no review.

    python benchmarks/unknown_texts.py [--minutes 3] [--json]
    python benchmarks/unknown_texts.py --smoke

Six kinds of texts of the public translation sets have no label: two are trained on as none of the
labels, two set the threshold, and two, new to both, measure it; see docs/language.md. --smoke
trains a small model on generated data: its figures have no meaning.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import small_data

from memorycell.application import catalogue, modelfile
from memorycell.applications.sentiment.dataset import reopen
from memorycell.applications.sentiment.predict import classify
from memorycell.applications.translation.settings import TranslationSettings
from memorycell.applications.translation.sources import read_sources
from memorycell.setting_fields import parse_settings
from memorycell.training import loop

KINDS = {
    "1 messages in English": ("localisation-en-hi", 0, "trained on"),
    "2 sentences in English": ("tatoeba-en-hi", 0, "threshold"),
    "3 captions in English": ("multi30k-de-en", 1, "test"),
    "4 messages in Hindi": ("localisation-en-hi", 1, "trained on"),
    "5 captions in German": ("multi30k-de-en", 0, "threshold"),
    "6 sentences in Hindi": ("tatoeba-en-hi", 1, "test"),
}
"""Name, in the order in which classes are divided -> (dataset, side, use)."""
MAX_TEXTS = 2000
"""Of each kind."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        run(Path(name), options)


def run(folder: Path, options: argparse.Namespace) -> None:
    files = {kind: write_texts(kind, folder, smoke=options.smoke) for kind in KINDS}
    application, out = catalogue.load("sentiment"), folder / "model.safetensors"
    values = {"unknown": ",".join(map(str, files.values()))}
    settings, data, minutes = application.settings(), "sst", options.minutes
    if options.smoke:
        settings, minutes = small_data.settings(application, "sst"), None
        data = str(small_data.write("sst", folder))
        values |= {"epochs": "1", "hidden": "8", "embedding": "8"}
    settings, training = parse_settings((settings, application.training), values)
    loop.train(application, data, settings, replace(training, seed=0), out, minutes=minutes)
    file = modelfile.load(out)
    below = float(file.arrays["limits"][2])
    test = reopen(None, file).examples["test"]
    rows = [("reviews, test", "", [e.text for e in test])]
    rows += [(kind, KINDS[kind][2], path.read_text().splitlines()) for kind, path in files.items()]
    for kind, use, texts in rows:
        answered = float((classify(file, texts).max(1) >= below).mean())
        result = {"texts": kind, "use": use, "with a label": round(answered, 4)}
        print(json.dumps(result) if options.json else "  ".join(map(str, result.values())))
    print(json.dumps({"threshold": round(below, 4), **file.info["metrics"]}))


def write_texts(kind: str, folder: Path, *, smoke: bool) -> Path:
    """A file with a text of a kind per line."""
    name, side, _ = KINDS[kind]
    settings = TranslationSettings()
    data = str(small_data.write(name, folder)) if smoke else name
    if smoke and name == "multi30k-de-en":
        settings = TranslationSettings(languages="de-en")
    pairs = [pair for part in read_sources(data, settings).pairs.values() for pair in part]
    texts = list(dict.fromkeys(" ".join(pair[side].split()) for pair in pairs))
    chosen = np.random.default_rng(0).permutation(len(texts))[:MAX_TEXTS]
    path = folder / f"{kind.replace(' ', '-')}.txt"
    path.write_text("\n".join(texts[k] for k in chosen) + "\n")
    return path


if __name__ == "__main__":
    main()
