"""What a row costs a detector that runs live: eight columns, a layer of 64, one core.

    python benchmarks/anomaly_live.py [--rows 20000]

The rows are drawn; the model is not trained, which changes nothing about the work. First it is
compared with the whole recording; then rows are timed as arrays (`Watch.step`), and as the dicts
that `stream` reads, text and times included, in turns.
"""

import argparse
import time

import numpy as np
import torch

from memorycell.application.modelfile import ModelFile
from memorycell.applications.anomaly.codec import Readings, ReadingsCodec, fit_scaling
from memorycell.applications.anomaly.live import LiveAnomaly, Watch, watch
from memorycell.applications.anomaly.model import Detector, DetectorConfig
from memorycell.streaming.stream import Stream
from memorycell.tables.clock import iso_time

COLUMNS = 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    rows = parser.parse_args().rows
    torch.set_num_threads(1)
    torch.manual_seed(0)
    values = np.random.default_rng(0).normal(size=(rows, COLUMNS))
    moments = np.arange(rows) * 1_000_000
    readings = Readings("", moments, values, np.zeros((rows, 0), np.int64), None, np.arange(rows))
    codec = ReadingsCodec(
        columns=tuple(f"sensor {k}" for k in range(COLUMNS)), categories={}, time="time"
    )
    codec = fit_scaling(codec, [readings])
    model = Detector(
        DetectorConfig(input_size=codec.input_size, columns=COLUMNS, hidden_size=64, smooth=10)
    ).eval()
    torch.nn.init.normal_(model.head.recurrent.weight, std=0.1)
    model.threshold.fill_(1e9)
    file = ModelFile(model, codec, {"task": "anomaly"})

    whole = watch(model, codec, readings).scores
    one, live = Watch(model, codec, Stream(model, history=0)), LiveAnomaly(file)
    dicts = [
        {"time": iso_time(int(now)), **{c: f"{v:.6g}" for c, v in zip(codec.columns, row, strict=True)}}
        for now, row in zip(moments, values, strict=True)
    ]
    block, arrays, texts, worst = 500, [], [], 0.0
    for begin in range(0, rows - block + 1, block):
        started = time.perf_counter()
        answers = [
            one.step(values[k], readings.choices[k], int(moments[k]))
            for k in range(begin, begin + block)
        ]
        arrays.append((time.perf_counter() - started) / block * 1e6)
        started = time.perf_counter()
        for k in range(begin, begin + block):
            live.step(dicts[k])
        texts.append((time.perf_counter() - started) / block * 1e6)
        worst = max(
            worst,
            *(
                abs(a[0] - w)
                for a, w in zip(answers, whole[begin : begin + block], strict=True)
                if a
            ),
        )
    if worst > 1e-3:
        raise SystemExit(f"row by row differs from the whole by {worst:.2g}: no times are given")
    print(f"row by row = whole recording within {worst:.1e}")
    for name, times in (("as arrays", arrays), ("as dicts of text, with times", texts)):
        print(f"{name}: {np.median(times):.1f} us a row (fastest block {min(times):.1f})")


if __name__ == "__main__":
    main()
