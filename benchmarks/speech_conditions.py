"""Accuracy of a model of spoken words under conditions that its training data do not have: level,
silence around the word, noise and sample rate.

    python benchmarks/speech_conditions.py MODEL.safetensors [--split valid] [--json]
    python benchmarks/speech_conditions.py --smoke

Each condition changes every recording of the split in the same way, with one fixed seed, and the
model classifies the changed recording. Levels above full scale are clipped, as a sound card does.
The baseline is the nearest neighbour by dynamic time warping, under the same conditions, with
--baseline (slow). --smoke trains a small model on generated sounds: its figures have no meaning.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import small_data

from memorycell.application import catalogue, modelfile
from memorycell.application.contract import AnyModelFile
from memorycell.applications.speech.audio import Sound, mfcc, resample_sound
from memorycell.applications.speech.dataset import reopen
from memorycell.signals.dtw import DtwClassifier
from memorycell.signals.recognise import recognise
from memorycell.training import loop

SILENCE_S = 0.5
FAINT = 1e-3
"""Amplitude of faint noise, as a fraction of full scale: -60 dB."""

Condition = Callable[[Sound, np.random.Generator], Sound]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--split", default="test", choices=("valid", "test"))
    parser.add_argument("--baseline", action="store_true", help="also the nearest neighbour")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.smoke:
        with tempfile.TemporaryDirectory() as folder:
            report(small_model(Path(folder)), options)
    elif options.model is None:
        parser.error("name a model of spoken words, or --smoke")
    else:
        report(modelfile.load(options.model), options)


def small_model(folder: Path) -> AnyModelFile:
    application, out = catalogue.load("speech"), folder / "model.safetensors"
    settings = small_data.settings(application, "free-spoken-digits")
    settings = replace(settings, hidden=8, layers=1)
    data = str(small_data.write("free-spoken-digits", folder))
    loop.train(application, data, settings, replace(application.training, epochs=1), out)
    return modelfile.load(out)


def report(file: AnyModelFile, options: argparse.Namespace) -> None:
    dataset = reopen(None, file)
    examples, truth = dataset.splits[options.split], dataset.truth[options.split]
    nearest = None
    if options.baseline:
        train = dataset.splits["train"]
        nearest = DtwClassifier([mfcc(e.raw) for e in train], dataset.truth["train"])
    for name, condition in conditions().items():
        rng = np.random.default_rng(0)
        sounds = [condition(example.raw, rng) for example in examples]
        answers = [int(recognise(file, file.codec.encode(s)).argmax()) for s in sounds]
        result = {"condition": name, "accuracy": round(float((answers == truth).mean()), 4)}
        if nearest is not None:
            at_rate = [mfcc(resample_sound(s, file.codec.rate_hz)) for s in sounds]
            result["nearest"] = round(float((nearest.classify(at_rate) == truth).mean()), 4)
        print(json.dumps(result) if options.json else "  ".join(map(str, result.values())))


def conditions() -> dict[str, Condition]:
    """Name -> how a recording is changed."""
    result: dict[str, Condition] = {"as recorded": lambda sound, rng: sound}
    for factor in (0.05, 0.2, 5, 20):
        result[f"level × {factor:g}"] = lambda sound, rng, factor=factor: level(sound, factor)
    result |= {
        f"{SILENCE_S:g} s of digital silence at both ends": lambda s, rng: surrounded(s, 0, rng),
        f"{SILENCE_S:g} s of faint noise at both ends": lambda s, rng: surrounded(s, FAINT, rng),
        "noise at 20 dB": lambda sound, rng: with_noise(sound, 20, rng),
        "noise at 10 dB": lambda sound, rng: with_noise(sound, 10, rng),
        "level × 0.05, noise at 20 dB, silence": lambda sound, rng: surrounded(
            with_noise(level(sound, 0.05), 20, rng), 0, rng
        ),
    }
    for rate_hz in (16_000, 44_100):
        result[f"at {rate_hz:,} Hz"] = lambda s, rng, rate_hz=rate_hz: resample_sound(s, rate_hz)
    return result


def level(sound: Sound, factor: float) -> Sound:
    return sound._replace(samples=np.clip(sound.samples * np.float32(factor), -1, 1))


def surrounded(sound: Sound, amplitude: float, rng: np.random.Generator) -> Sound:
    count = round(SILENCE_S * sound.rate_hz)
    ends = (amplitude * rng.standard_normal((2, count))).astype(np.float32)
    return sound._replace(samples=np.concatenate([ends[0], sound.samples, ends[1]]))


def with_noise(sound: Sound, snr_db: float, rng: np.random.Generator) -> Sound:
    """White noise, `snr_db` below the power of the recording."""
    scale = np.sqrt((sound.samples.astype(np.float64) ** 2).mean()) * 10 ** (-snr_db / 20)
    noise = (scale * rng.standard_normal(len(sound.samples))).astype(np.float32)
    return sound._replace(samples=sound.samples + noise)


if __name__ == "__main__":
    main()
