"""How long does a streamed step of the whole forecaster take, from a row to its forecast? And
`memorycell --help`?

    python benchmarks/forecast_step.py [--json]

The outputs of stepping are compared with the whole sequence first; no time is printed where they
differ.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from memorycell.application import modelfile
from memorycell.application.contract import TrainSettings
from memorycell.application.datasets import SOURCES
from memorycell.applications.forecast.dataset import ForecastSettings
from memorycell.applications.forecast.live import LiveForecaster
from memorycell.tables.table import read_table
from memorycell.tasks import TASKS
from memorycell.training import loop as training

ROWS, TOLERANCE = 2000, 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.safetensors")
        training.train(
            TASKS["forecast"], "glucose", ForecastSettings(), TrainSettings(epochs=1), path
        )
        file = modelfile.load(path)
    frame = read_table(SOURCES["glucose"].find())[:ROWS]
    rows = list(frame.iter_rows(named=True))
    series = file.codec.read(frame, "glucose")
    at = np.flatnonzero(series.row >= 0)
    whole = file.codec.unscale(
        file.model.run(file.codec.encode(series), series.start, at).astype(float)
    )

    live, micros, streamed = LiveForecaster(file), [], []
    for row in rows:
        began = time.perf_counter_ns()
        answer = live.step(row)
        micros.append((time.perf_counter_ns() - began) / 1000)
        if "repeat" not in answer:
            streamed.append(live.quantiles)
    difference = float(np.abs(np.stack(streamed) - whole).max())
    if difference > TOLERANCE:
        sys.exit(f"streamed and whole differ by {difference:g} mg/dl: no time is printed")

    starts = []
    for _ in range(7):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "memorycell", "--help"], check=True, capture_output=True
        )
        starts.append(time.perf_counter() - began)
    result = {
        "hidden": file.model.config.hidden_size,
        "max_diff": difference,
        "step_us_median": round(float(np.median(micros)), 1),
        "step_us_p99": round(float(np.percentile(micros, 99)), 1),
        "help_s_median": round(float(np.median(starts)), 3),
    }
    print(
        json.dumps(result)
        if as_json
        else "\n".join(f"{key:15} {value}" for key, value in result.items())
    )


if __name__ == "__main__":
    main()
