"""Two workers compared with one: training, prediction and tuning; what a killed worker costs, and
the memory of a folder that is larger than it.

    python benchmarks/scale.py [train] [predict] [tune] [killed] [folder] [--smoke] [--keep DIR]

Every worker has one thread. Both numbers of workers are measured in turns, `--rounds` times, and
the median is printed: throughput by the clock, and processor seconds, which also mean something on
a machine that is busy. Training is measured in its steps, without the start of the processes and
the reading of the data; prediction and tuning from the start of the command to its end. With --keep
the data stay in a folder, and what is there is not made again; `--only-data` only makes them.

    train     forecast on 20 million rows in the shape of ETTh1 (seven columns, every minute), in
              Parquet files that are read from disk, H = 128, 32 lanes; the plain loop too
    predict   a folder of Parquet files of such rows, forecasts from every 5th row
    tune      trials of a small forecast
    killed    training by two workers, one of which is killed, compared with one without
    folder    prediction of the last day of every file of `--gigabytes`, and the memory of a worker
"""

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl

COMMAND = [sys.executable, "-m", "memorycell"]
COLUMNS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
ROWS, FILES = 20_000_000, 20
Rate = tuple[float, float]
"""Throughput and processor seconds."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", default=["train", "predict", "tune", "killed"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--only-data", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="small sizes, to check that it runs")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    measures = {"train": train, "predict": predict, "tune": tune}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        os.environ["MEMORYCELL_CACHE"] = str(folder / "cache")
        for name in options.what:
            if name in ("killed", "folder"):
                {"killed": killed, "folder": large_folder}[name](folder, options)
                continue
            # The plain loop is the command without --workers.
            counts = (0, 1, options.workers) if name == "train" else (1, options.workers)
            results = {count: [] for count in counts}
            for turn in range(1 if options.smoke or options.only_data else options.rounds):
                for count in counts[:1] if options.only_data else counts:
                    began = time.monotonic()
                    rate, processor_s = measures[name](folder, count, turn, options)
                    results[count].append((rate, processor_s))
                    log = f"{name} {count} workers: {rate:.3f} per s, {processor_s:.1f} processor s"
                    print(f"{log}, {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
            if not options.only_data:
                report(name, results)


def report(name: str, results: dict[int, list[tuple[float, float]]]) -> None:
    """Median throughput and processor seconds of each number of workers, and their ratios."""
    medians = {
        count: [statistics.median(values) for values in zip(*rounds, strict=True)]
        for count, rounds in results.items()
    }
    *_, one, many = medians.values()
    for count, (rate, processor_s) in medians.items():
        print(f"{name:8} {count} workers  {rate:12,.3f} per s  {processor_s:8.1f} processor s")
    if 0 in medians:
        print(f"{name:8} one worker / plain loop: throughput x{one[0] / medians[0][0]:.3f}")
    print(f"{name:8} throughput x{many[0] / one[0]:.2f}, processor time x{many[1] / one[1]:.2f}")


def run(*words: object) -> tuple[str, str, float, float]:
    """(stdout, stderr, seconds, processor seconds with those of the children) of a command."""
    before, began = os.times(), time.monotonic()
    done = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    after = os.times()
    processor_s = after.children_user - before.children_user
    processor_s += after.children_system - before.children_system
    return done.stdout, done.stderr, time.monotonic() - began, processor_s


def workers_of(count: int) -> list[object]:
    """--workers; nothing for the plain loop."""
    return ["--workers", count] if count else []


def train(folder: Path, workers: int, turn: int, options: argparse.Namespace) -> Rate:
    """(steps of the data per second, processor seconds)"""
    rows, smoke = folder / "train", options.smoke
    count = 20_000 if smoke else ROWS
    if not rows.exists():
        rows.mkdir()
        for k in range(FILES):
            write_rows(rows / f"{k:03d}.parquet", count // FILES, k, k * count // FILES)
    settings = {"target": "OT", "inputs": "all", "horizon": 24, "linear": "trained"}
    settings |= {"normal": "no", "window": 24, "calendar": "day"}
    settings |= {"stride": 10 if smoke else 1440}
    settings |= {"steps": 20 if smoke or options.only_data else 150}
    settings |= {"hidden": 16 if smoke else 128, "lanes": 32, "average": 0.9}
    settings |= {"split": f"{count - 2 * count // 200},{count // 200},{count // 200}"}
    out = folder / f"train{workers}.safetensors"
    words = ["train", "forecast", rows / "*.parquet", *workers_of(workers), "--out", out]
    _, log, _, processor_s = run(*words, *as_options(settings))
    (*_, last) = [line for line in log.splitlines() if line.startswith("epoch ")]
    rate = float(last.partition(" steps/s")[0].split()[-1].replace(",", ""))
    return rate, processor_s


def predict(folder: Path, workers: int, turn: int, options: argparse.Namespace) -> Rate:
    """(files per second, processor seconds)"""
    rows, smoke = folder / "rows", options.smoke
    model = trained(folder, 16 if smoke else 128)
    if not rows.exists():
        rows.mkdir()
        for k in range(4 if smoke else 40):
            write_rows(rows / f"{k:03d}.parquet", 500 if smoke else 20_000, k)
    origins = ["--set", f"origins={200 if smoke else 4_000}"]
    out = folder / f"results{workers}-{turn}-{time.time_ns()}"
    stdout, _, seconds, processor_s = run(
        "predict", model, "--input", rows / "*.parquet", "--out", out, "--workers", workers,
        *origins, "--json",
    )  # fmt: skip
    files = json.loads(stdout.splitlines()[-1])["written"]
    return files / seconds, processor_s


def trained(folder: Path, hidden: int) -> Path:
    """A small forecaster."""
    model = folder / f"hidden{hidden}.safetensors"
    if not model.exists():
        write_rows(folder / "small.parquet", 4_000, 0)
        settings = {"target": "OT", "horizon": 24, "steps": 50, "hidden": hidden}
        run("train", "forecast", folder / "small.parquet", "--out", model, *as_options(settings))
    return model


def tune(folder: Path, workers: int, turn: int, options: argparse.Namespace) -> Rate:
    """(trials per hour, processor seconds)"""
    rows, smoke = folder / "tune.parquet", options.smoke
    if not rows.exists():
        write_rows(rows, 2_000 if smoke else 8_000, 0)
    trials = 2 if smoke else 8
    settings = {"target": "OT", "horizon": 24, "steps": 10 if smoke else 60, "linear": "trained"}
    settings |= {"normal": "no", "inputs": "all", "window": 24, "calendar": "day", "layers": 1}
    settings |= {"season": 24, "context": 48}
    out = folder / f"tune{workers}-{turn}-{time.time_ns()}.safetensors"
    _, log, seconds, processor_s = run(
        "tune", "forecast", rows, "--trials", trials, "--seeds", 1, "--workers", workers,
        "--space", "hidden=choice(16,32)" if smoke else "hidden=choice(96,128)",
        "--out", out, *as_options(settings),
    )  # fmt: skip
    done = [line for line in log.splitlines() if line.startswith("trial ")]
    assert len(done) == trials, "a trial was lost"
    return 3600 * trials / seconds, processor_s


def killed(folder: Path, options: argparse.Namespace) -> None:
    """Print what a killed worker costs."""
    rows = folder / "killed.parquet"
    write_rows(rows, 3_000 if options.smoke else 20_000, 0)
    settings = {"target": "OT", "horizon": 24, "linear": "trained", "normal": "no", "inputs": "all"}
    settings |= {"hidden": 32, "lanes": 8, "bptt": 48, "epochs": 6, "calendar": "day"}
    seconds = []
    for kills in (False, True):
        out = folder / f"killed{kills}.safetensors"
        if kills:
            threading.Thread(target=kill_after, args=[Path(f"{out}.resume")], daemon=True).start()
        words = ["train", "forecast", rows, "--workers", options.workers, "--out", out]
        stdout, _, own, _ = run(*words, "--json", *as_options(settings))
        seconds.append(own)
        metrics = json.loads(stdout.splitlines()[-1])["metrics"]
        print(f"killed   {kills!s:5}  {own:6.1f} s  crps {metrics['crps']:.6f}")
    print(f"killed   a killed worker costs {seconds[1] - seconds[0]:.1f} s")


def kill_after(checkpoint: Path) -> None:
    """Kill -9 a worker when there is a checkpoint."""
    checkpoint.unlink(missing_ok=True)
    while not checkpoint.exists():
        time.sleep(0.05)
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        words = status.read_bytes().split(b"\0")
        if b"memorycell.face.parallel_training" in words:
            os.kill(int(status.parent.name), signal.SIGKILL)
            return


def large_folder(folder: Path, options: argparse.Namespace) -> None:
    """Print how long the prediction of a large folder takes, and the memory of a process."""
    model, rows = trained(folder, 16 if options.smoke else 128), folder / "large"
    size = 20_000 if options.smoke else 1_000_000
    rows.mkdir(exist_ok=True)
    done, k = 0, 0
    while done < (3e6 if options.smoke else options.gigabytes * 1e9):
        path = rows / f"{k:04d}.parquet"
        if not path.exists():
            write_rows(path, size, k)
        done, k = done + path.stat().st_size, k + 1
    if options.only_data:
        return
    stdout, _, seconds, processor_s = run(
        "predict", model, "--input", rows / "*.parquet", "--out", folder / "large results",
        "--workers", options.workers, "--json",
    )  # fmt: skip
    found = json.loads(stdout.splitlines()[-1])
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(
        f"folder   {done / 1e9:.2f} GB in {found['files']} files, {found['written']} written:"
        f" {seconds:.0f} s, {processor_s:.0f} processor s, {memory:.2f} GB in the largest process"
    )


def as_options(settings: dict[str, object]) -> list[str]:
    """--set key=value …"""
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def write_rows(path: Path, rows: int, seed: int, first: int = 0) -> None:
    """Rows of every minute in the shape of ETTh1: daily cycles and noise."""
    rng = np.random.default_rng(seed)
    minutes = np.arange(first, first + rows)
    table = {"date": np.datetime64("1990-01-01", "us") + minutes * np.timedelta64(60_000_000, "us")}
    for k, name in enumerate(COLUMNS):
        cycle = (3 + k) * np.sin(2 * np.pi * (minutes / 1440 + k / 7))
        table[name] = 10 + cycle + rng.normal(size=rows)
    pl.DataFrame(table).write_parquet(path)


if __name__ == "__main__":
    main()
