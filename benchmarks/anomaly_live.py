"""Time per row of live anomaly detection: eight columns, a layer of 64 units, one core.

    python benchmarks/anomaly_live.py [--rows 20000]

The rows are random and the model is untrained, which does not change the amount of work. The scores
are first compared with those of the complete recording. Then rows are timed as arrays
(`RowScorer.step`) and as the dicts of text that `stream` reads, alternating.
"""

import argparse
import time

import numpy as np
import torch

from memorycell.application.modelfile import ModelFile
from memorycell.applications.anomaly.codec import fit_codec
from memorycell.applications.anomaly.columns import Columns, Recording
from memorycell.applications.anomaly.model import Detector, DetectorConfig
from memorycell.applications.anomaly.row_scorer import RowScorer
from memorycell.applications.anomaly.scoring import score_recording
from memorycell.applications.anomaly.session import AnomalySession
from memorycell.streaming.stream import Stream
from memorycell.tables.clock import iso_time

COLUMNS, BLOCK_ROWS = 8, 500


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    rows = parser.parse_args().rows
    torch.set_num_threads(1)
    torch.manual_seed(0)
    values = np.random.default_rng(0).normal(size=(rows, COLUMNS))
    times = np.arange(rows) * 1_000_000
    words, choices = np.empty((rows, 0), object), np.zeros(0, np.int64)
    recording = Recording("", times, values, words, None, np.arange(rows))
    columns = Columns(tuple(f"sensor {k}" for k in range(COLUMNS)), time="time")
    codec = fit_codec(columns, 0, [recording], [recording])
    model = Detector(
        DetectorConfig(input_size=codec.input_size, columns=COLUMNS, hidden_size=64, smooth=10)
    ).eval()
    torch.nn.init.normal_(model.head.recurrent.weight, std=0.1)
    model.threshold.fill_(1e9)

    expected = score_recording(model, codec, recording).scores
    scorer = RowScorer(model, codec, Stream(model, history=0))
    session = AnomalySession(ModelFile(model, codec, {"task": "anomaly"}))
    dicts = [
        {
            "time": iso_time(int(time_us)),
            **{c: f"{v:.6g}" for c, v in zip(codec.columns, row, strict=True)},
        }
        for time_us, row in zip(times, values, strict=True)
    ]
    array_us, dict_us, difference = [], [], 0.0
    for begin in range(0, rows - BLOCK_ROWS + 1, BLOCK_ROWS):
        block = range(begin, begin + BLOCK_ROWS)
        started = time.perf_counter()
        scored = [scorer.step(values[k], choices, int(times[k])) for k in block]
        array_us.append((time.perf_counter() - started) / BLOCK_ROWS * 1e6)
        started = time.perf_counter()
        for k in block:
            session.step(dicts[k])
        dict_us.append((time.perf_counter() - started) / BLOCK_ROWS * 1e6)
        scores = np.array([s.score for s in scored])
        difference = max(difference, np.abs(scores - expected[block.start : block.stop]).max())
    if difference > 1e-3:
        raise SystemExit(f"row by row differs from the complete recording by {difference:.2g}")
    print(f"row by row equals the complete recording within {difference:.1e}")
    for name, us in (("as arrays", array_us), ("as dicts of text with times", dict_us)):
        print(f"{name}: {np.median(us):.1f} us per row (fastest block {min(us):.1f})")


if __name__ == "__main__":
    main()
