"""Duration of a live step of the demo's forecaster, from a row to its forecast, and of
`memorycell --help`.

    python benchmarks/forecast_step.py [--json] [--smoke]

The live forecasts are first compared with those of the full sequence; durations are printed only
where they agree. --smoke uses a small model and small generated data.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import small_data
import torch

from memorycell.application import catalogue, modelfile
from memorycell.application.datasets import locate
from memorycell.application.live import open_session
from memorycell.tables.table import read_table
from memorycell.training import loop as training

MAX_ROWS, TOLERANCE = 2000, 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="a small model on generated data")
    options = parser.parse_args()
    torch.set_num_threads(1)
    application = catalogue.load("forecast")
    settings, train_settings = application.settings(), replace(application.training, epochs=1)
    with tempfile.TemporaryDirectory() as folder:
        data, path = "glucose", Path(folder, "model.safetensors")
        if options.smoke:
            data = str(small_data.write("glucose", Path(folder)))
            settings = replace(small_data.settings(application, "glucose"), hidden=8)
        training.train(application, data, settings, train_settings, path)
        file = modelfile.load(path)
        frame = read_table(locate(data)[0])[:MAX_ROWS]
    full = full_sequence_forecasts(file, frame)
    live, micros = live_forecasts(file, list(frame.iter_rows(named=True)))
    difference = float(np.abs(live - full).max())
    if not difference <= TOLERANCE:
        sys.exit(f"live and full-sequence forecasts differ by {difference:g} mg/dl: not timed")
    result = {
        "hidden": file.model.config.hidden_size,
        "max_diff": difference,
        "step_us_median": round(float(np.median(micros)), 1),
        "step_us_p99": round(float(np.percentile(micros, 99)), 1),
        "help_s_median": round(float(np.median(help_seconds(1 if options.smoke else 7))), 3),
    }
    lines = [f"{key:15} {value}" for key, value in result.items()]
    print(json.dumps(result) if options.json else "\n".join(lines))


def full_sequence_forecasts(file, frame) -> np.ndarray:
    series = file.codec.read(frame, "glucose")
    at = np.flatnonzero(series.row >= 0)
    quantiles = file.model.run(file.codec.encode(series), series.start, at)
    return file.codec.unscale(quantiles.astype(float))


def live_forecasts(file, rows: list[dict]) -> tuple[np.ndarray, list[float]]:
    """The forecasts, and the microseconds of every row."""
    session, micros, forecasts = open_session(file), [], []
    for row in rows:
        began = time.perf_counter_ns()
        (record,) = session.feed(row)
        micros.append((time.perf_counter_ns() - began) / 1000)
        if "repeat" not in record:
            forecasts.append(session.quantiles)
    return np.stack(forecasts), micros


def help_seconds(repeats: int) -> list[float]:
    command = [sys.executable, "-m", "memorycell", "--help"]
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    return seconds


if __name__ == "__main__":
    main()
