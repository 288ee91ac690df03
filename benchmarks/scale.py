"""Two workers compared with one: training, prediction and tuning; what a killed worker costs, and
the memory of a folder that is larger than it.

    python benchmarks/scale.py [train] [predict] [tune] [batches] [killed] [folder] [--smoke]

Every worker has one thread. Both numbers of workers are measured in turns, `--rounds` times, and
the median is printed: throughput by the clock, and processor seconds, which also mean something on
a machine that is busy. Training is measured in its steps, without the start of the processes and
the reading of the data. Prediction and tuning are measured from the start of the command to its
end, and without the start of the workers: from the end of the first job of every worker to that of
the last job, without the training of the winner. With --keep the data stay in a folder, and what is
there is not made again; `--only-data` only makes them.

    train     forecast on 20 million rows in the shape of ETTh1 (seven columns, every minute), in
              Parquet files that are read from disk, H = 128, `--lanes` of 96 steps; the plain loop
              too, and as many plain loops at once as there are workers: what the machine can give
    predict   a folder of Parquet files of such rows, forecasts from every 5th row
    tune      trials of a small forecast, of 5 epochs, so that none is stopped early
    batches   making a batch of 3,200 lanes of the training, and the rows of one of 100 workers
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl

from memorycell.application import catalogue
from memorycell.setting_fields import parse_settings
from memorycell.training.parallel import OwnBatches

COMMAND = [sys.executable, "-m", "memorycell"]
COLUMNS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
ROWS, FILES = 20_000_000, 20
Rate = tuple[float, float, float]
"""Throughput without the start of the workers, from start to end, and processor seconds."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", default=["train", "predict", "tune", "killed"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--lanes", type=int, default=32, help="of the training")
    parser.add_argument("--address", help="of a Ray cluster, for prediction and tuning")
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
            if name in ("batches", "killed", "folder"):
                own = {"batches": batches, "killed": killed, "folder": large_folder}
                own[name](folder, options)
                continue
            # The plain loop is the command without --workers.
            counts = (1, options.workers)
            if name == "train":
                counts = (0, -options.workers, *counts)
            results = {count: [] for count in counts}
            for turn in range(1 if options.smoke or options.only_data else options.rounds):
                for count in counts[:1] if options.only_data else counts:
                    began = time.monotonic()
                    rates = measures[name](folder, count, turn, options)
                    results[count].append(rates)
                    log = f"{name} {count} workers: {rates[0]:.3f} per s ({rates[1]:.3f} in all)"
                    log += f", {rates[2]:.1f} processor s, {time.monotonic() - began:.1f} s"
                    print(log, file=sys.stderr, flush=True)
            if not options.only_data:
                report(name, results)


def report(name: str, results: dict[int, list[Rate]]) -> None:
    """Median throughput and processor seconds of each number of workers, and their ratios."""
    medians = {
        count: [statistics.median(values) for values in zip(*rounds, strict=True)]
        for count, rounds in results.items()
    }
    *controls, one, many = medians.values()
    for count, (rate, in_all, processor_s) in medians.items():
        what = f"{count} workers" if count > 0 else f"{max(-count, 1)} plain loops"
        print(
            f"{name:8} {what}  {rate:12,.3f} per s  {in_all:12,.3f} with start and end"
            f"  {processor_s:8.1f} processor s"
        )
    if controls:
        print(
            f"{name:8} one worker / plain loop: throughput x{one[0] / controls[0][0]:.3f}; plain"
            f" loops at once / one: x{controls[1][0] / controls[0][0]:.2f}"
        )
    print(
        f"{name:8} throughput x{many[0] / one[0]:.2f}, with start and end x{many[1] / one[1]:.2f},"
        f" processor time x{many[2] / one[2]:.2f}"
    )


def run(*words: object) -> tuple[str, list[tuple[float, str]], float, float]:
    """(stdout, lines of stderr with their seconds since the start, seconds, processor seconds with
    those of the children) of a command.
    """
    before, began, lines = os.times(), time.monotonic(), []
    command = [*COMMAND, *map(str, words)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        lines = [(time.monotonic() - began, line.rstrip()) for line in process.stderr]
        stdout = process.stdout.read()
    if process.returncode:
        sys.exit("\n".join(line for _, line in lines)[-2000:])
    seconds, after = time.monotonic() - began, os.times()
    processor_s = after.children_user - before.children_user
    processor_s += after.children_system - before.children_system
    return stdout, lines, seconds, processor_s


def steady_rate(ends: list[float], workers: int) -> float:
    """Jobs per second, from the end of the first job of every worker to the end of the last."""
    ends = sorted(ends)
    return (len(ends) - workers) / (ends[-1] - ends[workers - 1])


def workers_of(count: int) -> list[object]:
    """--workers; nothing for the plain loop."""
    return ["--workers", count] if count else []


def address_of(options: argparse.Namespace) -> list[object]:
    """--address; nothing for this machine's own processes."""
    return ["--address", options.address] if options.address else []


def train(folder: Path, workers: int, turn: object, options: argparse.Namespace) -> Rate:
    """Steps of the data per second."""
    if workers < 0:
        with ThreadPoolExecutor(-workers) as pool:
            before = os.times()
            given = [(folder, 0, f"{turn}-{k}", options) for k in range(-workers)]
            rates = list(pool.map(lambda own: train(*own), given))
            after = os.times()
        processor_s = after.children_user + after.children_system
        processor_s -= before.children_user + before.children_system
        return sum(rate[0] for rate in rates), sum(rate[1] for rate in rates), processor_s
    rows, settings = training_data(folder, options)
    settings |= {"steps": 20 if options.smoke or options.only_data else 150}
    out = folder / f"train{workers}-{turn}.safetensors"
    words = ["train", "forecast", rows / "*.parquet", *workers_of(workers), "--out", out]
    _, log, seconds, processor_s = run(*words, *as_options(settings))
    (*_, last) = [line for _, line in log if line.startswith("epoch ")]
    rate = float(last.partition(" steps/s")[0].split()[-1].replace(",", ""))
    return rate, settings["steps"] * settings["lanes"] * 96 / seconds, processor_s


def training_data(folder: Path, options: argparse.Namespace) -> tuple[Path, dict[str, object]]:
    """(the folder of the files, the settings of the forecaster)"""
    rows, smoke = folder / "train", options.smoke
    count = 20_000 if smoke else ROWS
    if not rows.exists():
        rows.mkdir()
        for k in range(FILES):
            write_rows(rows / f"{k:03d}.parquet", count // FILES, k, k * count // FILES)
    settings: dict[str, object] = {"target": "OT", "inputs": "all", "horizon": 24}
    settings |= {"linear": "trained", "normal": "no", "window": 24, "calendar": "day"}
    settings |= {"stride": 10 if smoke else 1440, "hidden": 16 if smoke else 128}
    settings |= {"lanes": options.lanes, "average": 0.9}
    settings |= {"split": f"{count - 2 * count // 200},{count // 200},{count // 200}"}
    return rows, settings


def batches(folder: Path, options: argparse.Namespace) -> None:
    """Print how long it takes to make batches, and the rows of one worker."""
    rows, settings = training_data(folder, options)
    application = catalogue.load("forecast")
    settings |= {"lanes": 32 if options.smoke else 3200}
    pairs = {key: str(value) for key, value in settings.items() if key != "average"}
    (own,) = parse_settings([application.settings()], pairs)
    dataset = application.prepare(str(rows / "*.parquet"), own)
    assert isinstance(dataset, OwnBatches)
    for name, lanes in (("all lanes", slice(None)), ("a 100th", slice(0, None, 100))):
        seconds = []
        made = dataset.own_batches(1, lanes)
        for _ in range(5):
            began = time.perf_counter()
            batch = next(made)
            seconds.append(time.perf_counter() - began)
        median = 1e3 * statistics.median(seconds)
        print(
            f"batches  {name}: {len(batch.x):,} lanes of {batch.x.shape[1]} steps, {median:.1f} ms"
        )


def predict(folder: Path, workers: int, turn: int, options: argparse.Namespace) -> Rate:
    """Files per second."""
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
        *address_of(options), *origins, "--json",
    )  # fmt: skip
    files = json.loads(stdout.splitlines()[-1])["written"]
    ends = [path.stat().st_mtime for path in out.rglob("*.parquet")]
    assert len(ends) == files
    return steady_rate(ends, workers), files / seconds, processor_s


def trained(folder: Path, hidden: int) -> Path:
    """A small forecaster."""
    model = folder / f"hidden{hidden}.safetensors"
    if not model.exists():
        write_rows(folder / "small.parquet", 4_000, 0)
        settings = {"target": "OT", "horizon": 24, "steps": 50, "hidden": hidden}
        run("train", "forecast", folder / "small.parquet", "--out", model, *as_options(settings))
    return model


def tune(folder: Path, workers: int, turn: int, options: argparse.Namespace) -> Rate:
    """Trials per hour."""
    rows, smoke = folder / "tune.parquet", options.smoke
    if not rows.exists():
        write_rows(rows, 2_000 if smoke else 40_000, 0)
    trials = 4 if smoke else 8
    settings = {"target": "OT", "horizon": 24, "steps": 10 if smoke else 180, "linear": "trained"}
    settings |= {"normal": "no", "inputs": "all", "window": 24, "calendar": "day", "layers": 1}
    settings |= {"season": 24, "context": 48, "lanes": 8}
    out = folder / f"tune{workers}-{turn}-{time.time_ns()}.safetensors"
    _, log, seconds, processor_s = run(
        "tune", "forecast", rows, "--trials", trials, "--seeds", 1, "--workers", workers,
        *address_of(options),
        "--space", "hidden=choice(16,32)" if smoke else "hidden=choice(96,128)",
        "--out", out, *as_options(settings),
    )  # fmt: skip
    ends = [at for at, line in log if line.startswith("trial ")]
    assert len(ends) == trials, "a trial was lost"
    return 3600 * steady_rate(ends, workers), 3600 * trials / seconds, processor_s


def killed(folder: Path, options: argparse.Namespace) -> None:
    """Print what a killed worker costs."""
    rows = folder / "killed.parquet"
    write_rows(rows, 3_000 if options.smoke else 20_000, 0)
    settings = {"target": "OT", "horizon": 24, "linear": "trained", "normal": "no", "inputs": "all"}
    settings |= {"lanes": 8, "bptt": 48, "epochs": 6, "calendar": "day"}
    settings |= {"hidden": 32 if options.smoke else 128}
    seconds, died = [], threading.Event()
    for kills in (False, True):
        out = folder / f"killed{kills}.safetensors"
        if kills:
            threading.Thread(
                target=kill_after, args=[Path(f"{out}.resume"), died], daemon=True
            ).start()
        words = ["train", "forecast", rows, "--workers", options.workers, "--out", out]
        stdout, _, own, _ = run(*words, "--json", *as_options(settings))
        seconds.append(own)
        metrics = json.loads(stdout.splitlines()[-1])["metrics"]
        print(f"killed   {kills!s:5}  {own:6.1f} s  crps {metrics['crps']:.6f}")
    assert died.is_set(), "the training ended first"
    print(f"killed   a killed worker costs {seconds[1] - seconds[0]:.1f} s")


def kill_after(checkpoint: Path, died: threading.Event) -> None:
    """Kill -9 a worker of this program when there is a checkpoint."""
    checkpoint.unlink(missing_ok=True)
    while not checkpoint.exists():
        time.sleep(0.05)
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words, own = status.read_bytes().split(b"\0"), descends(int(status.parent.name))
        except OSError:  # it has ended
            continue
        if own and b"memorycell.face.parallel_training" in words:
            os.kill(int(status.parent.name), signal.SIGKILL)
            died.set()
            return


def descends(process: int) -> bool:
    """Whether this program started a process, or one that started it, and so on."""
    while process > 1 and process != os.getpid():
        status = Path(f"/proc/{process}/stat").read_text()
        process = int(status.rpartition(")")[2].split()[1])
    return process == os.getpid()


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
