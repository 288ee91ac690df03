"""Two workers compared with one: training, prediction and tuning.

    python benchmarks/scale.py [train] [predict] [tune] [--smoke]

Every worker has one thread. Both numbers of workers are measured in turns, `--rounds` times, and
the median is printed: throughput by the clock, and processor seconds, which also mean something on
a machine that is busy. Training is measured in the epochs, without the start of the processes and
the reading of the data; prediction and tuning from the start of the command to its end.

    train     forecast on rows in the shape of ETTh1 (seven columns, hourly), H = 128, 32 lanes
    predict   a folder of Parquet files of such rows, forecasts from every row
    tune      trials of a small forecast
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

COMMAND = [sys.executable, "-m", "memorycell"]
COLUMNS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", default=["train", "predict", "tune"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="small sizes, to check that it runs")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    measures = {"train": train, "predict": predict, "tune": tune}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.what:
            counts = (1, options.workers)
            results = {count: [] for count in counts}
            for turn in range(1 if options.smoke else options.rounds):
                for count in counts:
                    results[count].append(measures[name](Path(folder), count, turn, options.smoke))
            report(name, results)


def report(name: str, results: dict[int, list[tuple[float, float]]]) -> None:
    """Median throughput and processor seconds of each number of workers, and their ratios."""
    medians = {
        count: [statistics.median(values) for values in zip(*rounds, strict=True)]
        for count, rounds in results.items()
    }
    one, many = medians.values()
    for count, (rate, processor_s) in medians.items():
        print(f"{name:8} {count} workers  {rate:12,.2f} per s  {processor_s:8.1f} processor s")
    print(f"{name:8} throughput x{many[0] / one[0]:.2f}, processor time x{many[1] / one[1]:.2f}")


def run(*words: object) -> tuple[str, str, float, float]:
    """(stdout, stderr, seconds, processor seconds with those of the children) of a command."""
    before, began = os.times(), time.monotonic()
    done = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, check=True)
    after = os.times()
    processor_s = after.children_user - before.children_user
    processor_s += after.children_system - before.children_system
    return done.stdout, done.stderr, time.monotonic() - began, processor_s


def train(folder: Path, workers: int, turn: int, smoke: bool) -> tuple[float, float]:
    """(steps of the data per second in the last epoch, processor seconds)"""
    rows = folder / "train.parquet"
    if not rows.exists():
        write_rows(rows, 2_000 if smoke else 200_000, 0)
    settings = {"target": "OT", "inputs": "all", "horizon": 24, "epochs": 2, "linear": "trained"}
    settings |= {"hidden": 16 if smoke else 128, "lanes": 32, "window": 24, "calendar": "day"}
    out = folder / f"train{workers}.safetensors"
    words = ["train", "forecast", rows, "--workers", workers, "--out", out]
    _, log, _, processor_s = run(*words, *as_options(settings))
    (*_, last) = [line for line in log.splitlines() if line.startswith("epoch ")]
    rate = float(last.partition(" steps/s")[0].split()[-1].replace(",", ""))
    return rate, processor_s


def predict(folder: Path, workers: int, turn: int, smoke: bool) -> tuple[float, float]:
    """(files per second, processor seconds)"""
    model, rows = folder / "predict.safetensors", folder / "rows"
    if not model.exists():
        write_rows(folder / "small.parquet", 2_000, 0)
        settings = {"target": "OT", "horizon": 24, "epochs": 1, "hidden": 16 if smoke else 128}
        run("train", "forecast", folder / "small.parquet", "--out", model, *as_options(settings))
        rows.mkdir()
        for k in range(4 if smoke else 40):
            write_rows(rows / f"{k:03d}.parquet", 500 if smoke else 20_000, k)
    origins = ["--set", f"origins={200 if smoke else 4_000}"]
    out = folder / f"results{workers}-{turn}"
    stdout, _, seconds, processor_s = run(
        "predict", model, "--input", rows / "*.parquet", "--out", out, "--workers", workers,
        *origins, "--json",
    )  # fmt: skip
    files = json.loads(stdout.splitlines()[-1])["written"]
    return files / seconds, processor_s


def tune(folder: Path, workers: int, turn: int, smoke: bool) -> tuple[float, float]:
    """(trials per second, processor seconds)"""
    rows = folder / "tune.parquet"
    if not rows.exists():
        write_rows(rows, 1_000 if smoke else 8_000, 0)
    trials = 2 if smoke else 8
    settings = {"target": "OT", "horizon": 24, "epochs": 2 if smoke else 5, "linear": "trained"}
    out = folder / f"tune{workers}-{turn}.safetensors"
    _, _, seconds, processor_s = run(
        "tune", "forecast", rows, "--trials", trials, "--seeds", 1, "--workers", workers,
        "--space", "hidden=choice(16,32)" if smoke else "hidden=choice(64,128)", "--out", out,
        *as_options(settings),
    )  # fmt: skip
    return trials / seconds, processor_s


def as_options(settings: dict[str, object]) -> list[str]:
    """--set key=value …"""
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def write_rows(path: Path, rows: int, seed: int) -> None:
    """Hourly rows in the shape of ETTh1: daily cycles, slow drift and noise."""
    rng = np.random.default_rng(seed)
    begin = datetime.datetime(1990, 1, 1)
    hours = np.arange(rows)
    table = {"date": [begin + datetime.timedelta(hours=int(h)) for h in hours]}
    for k, name in enumerate(COLUMNS):
        cycle = (3 + k) * np.sin(2 * np.pi * (hours / 24 + k / 7))
        table[name] = 10 + cycle + 0.05 * rng.normal(size=rows).cumsum() + rng.normal(size=rows)
    pl.DataFrame(table).write_parquet(path)


if __name__ == "__main__":
    main()
