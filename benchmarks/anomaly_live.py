"""Duration of a live row of an anomaly detector: eight columns, hidden size 64, one core.

    python benchmarks/anomaly_live.py [--rows 20000] [--scales 4] [--static 0.33] [--smoke]

The rows are random and the model is untrained, which does not change the work. By default the score
is that of a table without `settle`: the surprise of one average. The live scores are
first compared with those of the full recording. Then rows are timed alternately as arrays
(`RowScorer.step`), and as the dicts of text that `stream` reads, including time stamps.
"""

import argparse
import time

import numpy as np
import torch

from memorycell.application.contract import ModelFile
from memorycell.application.live import open_session
from memorycell.applications.anomaly.columns import Columns, Recording
from memorycell.applications.anomaly.fitting import fit_codec
from memorycell.applications.anomaly.model import Detector, DetectorConfig
from memorycell.applications.anomaly.row_scorer import RowScorer
from memorycell.applications.anomaly.scoring import score_recording
from memorycell.streaming.stream import Stream
from memorycell.tables.times import TimeColumns
from memorycell.tables.zones import iso_time

COLUMNS = tuple(f"sensor {k}" for k in range(8))
BLOCK, TOLERANCE = 500, 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--scales", type=int, default=1, help="averages in the score")
    parser.add_argument("--static", type=float, default=0.0, help="weight of the static deviation")
    parser.add_argument("--smoke", action="store_true", help=f"only {2 * BLOCK} rows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recording = random_recording(2 * BLOCK if options.smoke else options.rows)
    file = untrained_detector(recording, scales=options.scales, static=options.static)
    full = score_recording(file.model, file.codec, recording).scores
    scorer = RowScorer(file.model, file.codec, Stream(file.model, history=0))
    session = open_session(file)
    rows = rows_of_text(recording)

    array_us, text_us, difference = [], [], 0.0
    for begin in range(0, len(rows) - BLOCK + 1, BLOCK):
        block = range(begin, begin + BLOCK)
        choices = np.zeros(0, np.int64)
        began = time.perf_counter()
        scored = [scorer.step(recording.values[k], choices, int(recording.time[k])) for k in block]
        array_us.append((time.perf_counter() - began) / BLOCK * 1e6)
        began = time.perf_counter()
        records = [record for k in block for record in session.feed(rows[k])]
        text_us.append((time.perf_counter() - began) / BLOCK * 1e6)
        for row, record, expected in zip(scored, records, full[block], strict=True):
            live = np.array([row.score, record["score"]])
            difference = max(difference, float(np.abs(live - expected).max()))
    if not difference <= TOLERANCE:
        raise SystemExit(f"live and full-recording scores differ by {difference:.2g}: not timed")
    print(f"largest difference between live and full-recording scores: {difference:.1e}")
    for name, micros in (("arrays", array_us), ("dicts of text with times", text_us)):
        print(f"{name}: {np.median(micros):.1f} µs per row (fastest block {min(micros):.1f})")


def random_recording(rows: int) -> Recording:
    values = np.random.default_rng(0).normal(size=(rows, len(COLUMNS)))
    time_us = np.arange(rows) * 1_000_000
    return Recording("", time_us, values, np.empty((rows, 0), object), None, np.arange(rows))


def untrained_detector(recording: Recording, *, scales: int, static: float) -> ModelFile:
    torch.manual_seed(0)
    columns = Columns(COLUMNS, times=TimeColumns(("time",)))
    codec = fit_codec(columns, settle=0, train=[recording], normal=[recording])
    config = DetectorConfig(
        input_size=codec.input_size,
        columns=len(COLUMNS),
        hidden_size=64,
        smooth=10,
        scales=scales,
        static=static,
    )
    model = Detector(config).eval()
    torch.nn.init.normal_(model.head.recurrent.weight, std=0.1)
    model.threshold.fill_(1e9)
    return ModelFile(model, codec, {"task": "anomaly"})


def rows_of_text(recording: Recording) -> list[dict[str, str]]:
    return [
        {
            "time": iso_time(int(moment)),
            **{column: f"{value:.6g}" for column, value in zip(COLUMNS, values, strict=True)},
        }
        for moment, values in zip(recording.time, recording.values, strict=True)
    ]


if __name__ == "__main__":
    main()
