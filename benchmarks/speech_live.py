"""Processor time per second of sound of live speech recognition: features, recurrent steps and
greedy decoding together.

    python benchmarks/speech_live.py [--hidden 192] [--layers 2] [--chunk-ms 100] [--smoke]

A transcriber and a classifier, untrained, which does not change the work, read a minute of noise in
chunks. Their results are first compared with those of the full recording. Medians of five runs on
one thread.
"""

import argparse
import json
import statistics
import time

import numpy as np
import torch

from memorycell.application import catalogue
from memorycell.application.contract import ModelFile
from memorycell.applications.speech.audio import Sound
from memorycell.applications.speech.codec import AudioCodec
from memorycell.language.codec import fit_text_codec
from memorycell.models.classifier import Classifier, ClassifierConfig
from memorycell.signals import ctc
from memorycell.signals.recognise import label_record, recognise
from memorycell.signals.transcriber import Transcriber, TranscriberConfig


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rate", type=int, default=16000, help="in Hz")
    parser.add_argument("--chunk-ms", type=int, default=100)
    parser.add_argument("--smoke", action="store_true", help="two seconds of sound, one run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seconds, runs = (2, 1) if options.smoke else (60, 5)
    rng = np.random.default_rng(0)
    samples = (0.1 * rng.standard_normal(seconds * options.rate)).astype(np.float32)
    for name, file in untrained_models(options.rate, options.hidden, options.layers).items():
        live = in_chunks(file, samples, options.rate, options.chunk_ms)[-1]
        full = full_recording(file, samples, options.rate)
        if not agree(live, full):
            raise SystemExit(f"{name}: chunks give {live}, the full recording {full}: not timed")
        times = []
        for _ in range(runs):
            began = time.perf_counter()
            in_chunks(file, samples, options.rate, options.chunk_ms)
            times.append(time.perf_counter() - began)
        result = {
            "model": name,
            "hidden": options.hidden,
            "layers": options.layers,
            "rate": options.rate,
            "chunk_ms": options.chunk_ms,
            "real_time_factor": round(statistics.median(times) / seconds, 5),
        }
        print(json.dumps(result))


def untrained_models(rate_hz: int, hidden: int, layers: int) -> dict[str, ModelFile]:
    torch.manual_seed(0)
    scaling = {"rate_hz": rate_hz, "mean": (0.0,) * 40, "std": (1.0,) * 40, "stack": 2}
    letters = fit_text_codec(["abcdefghijklmnopqrstuvwxyz '"], "char", vocabulary=60)
    text = AudioCodec(text=letters, **scaling)
    classes = AudioCodec(labels=tuple("0123456789"), **scaling)
    sizes = {
        "input_size": text.input_size,
        "hidden_size": hidden,
        "num_layers": layers,
        "bidirectional": False,
    }
    transcriber = Transcriber(TranscriberConfig(vocabulary=text.output_size, **sizes))
    classifier = Classifier(ClassifierConfig(vocabulary=0, classes=10, **sizes))
    return {
        "text": ModelFile(transcriber, text, {}),
        "classes": ModelFile(classifier, classes, {}),
    }


def in_chunks(file: ModelFile, samples: np.ndarray, rate_hz: int, chunk_ms: int) -> list[dict]:
    speech = catalogue.load("speech")
    session = speech.session(file, "float32", speech.stream_options(rate=rate_hz, format="f32le"))
    size = rate_hz * chunk_ms // 1000
    records = []
    for begin in range(0, len(samples), size):
        records += session.feed(samples[begin : begin + size].tobytes())
    return records + session.close()


def full_recording(file: ModelFile, samples: np.ndarray, rate_hz: int) -> dict:
    log_p = recognise(file, file.codec.encode(Sound(samples, rate_hz)))
    if file.codec.text is not None:
        return {"text": ctc.letters_to_text(file.codec, ctc.greedy_letters(log_p))}
    record = label_record(file.codec.labels, np.exp(log_p))
    return {"label": record["label"], "p": record["p"]}


def agree(live: dict, full: dict) -> bool:
    """Whether the values are equal; probabilities, which are rounded, to 0.001."""
    return all(
        abs(live[key] - value) <= 0.001 if key == "p" else live[key] == value
        for key, value in full.items()
    )


if __name__ == "__main__":
    main()
