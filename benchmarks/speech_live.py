"""How much of one core it takes to hear: seconds of work for a second of sound, features, steps and
letters together.

    python benchmarks/speech_live.py [--hidden 192] [--layers 2] [--chunk-ms 100]

Runs an untrained model of text (work does not depend on the weights) on a minute of noise that
comes in chunks, after it was checked that the chunks give what the whole gives. Medians of five
runs, one thread.
"""

import argparse
import json
import statistics
import time

import numpy as np
import torch

from memorycell.application.modelfile import ModelFile
from memorycell.applications.speech.audio import AudioCodec, Sound
from memorycell.applications.speech.live import LiveSpeech
from memorycell.language.codec import fit
from memorycell.models.classifier import Classifier, ClassifierConfig
from memorycell.signals import ctc
from memorycell.signals.recognise import recognise
from memorycell.signals.transcriber import Transcriber, TranscriberConfig

SECONDS = 60


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rate", type=int, default=16000)
    parser.add_argument("--chunk-ms", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    samples = (0.1 * rng.standard_normal(SECONDS * options.rate)).astype(np.float32)
    scaling = {"rate_hz": options.rate, "mean": (0.0,) * 40, "std": (1.0,) * 40}
    sizes = {"hidden_size": options.hidden, "num_layers": options.layers, "bidirectional": False}
    text = AudioCodec(
        text=fit(["abcdefghijklmnopqrstuvwxyz '"], "char", vocabulary=60), stack=2, **scaling
    )
    words = AudioCodec(labels=tuple("0123456789"), stack=2, **scaling)
    models = {
        "text": ModelFile(
            Transcriber(TranscriberConfig(input_size=80, vocabulary=text.outputs_size, **sizes)),
            text,
            {},
        ),
        "classes": ModelFile(
            Classifier(ClassifierConfig(vocabulary=0, input_size=80, classes=10, **sizes)),
            words,
            {},
        ),
    }
    for name, file in models.items():
        heard = in_chunks(file, samples, options.rate, options.chunk_ms)
        whole = recognise(file, file.codec.encode(Sound(samples, options.rate)))
        if name == "text":
            assert heard[-1]["text"] == ctc.text(file.codec, ctc.greedy(whole)), (
                "chunks and whole differ"
            )
        times = []
        for _ in range(5):
            began = time.perf_counter()
            in_chunks(file, samples, options.rate, options.chunk_ms)
            times.append(time.perf_counter() - began)
        factor = statistics.median(times) / SECONDS
        print(json.dumps({"model": name, **vars(options), "real_time_factor": round(factor, 5)}))


def in_chunks(file: ModelFile, samples: np.ndarray, rate: int, chunk_ms: int) -> list[dict]:
    live = LiveSpeech(file)
    step = rate * chunk_ms // 1000
    told = [
        event
        for begin in range(0, len(samples), step)
        for event in live.hear(samples[begin : begin + step], rate)
    ]
    return told + live.close()


if __name__ == "__main__":
    main()
