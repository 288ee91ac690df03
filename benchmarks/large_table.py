"""From a table of 1,000,000 rows and 10 columns to the first training step of a forecaster:
seconds, processor seconds and peak memory, from a file and from a data frame in memory.

    python benchmarks/large_table.py [--rows 1000000] [--columns 10] [--smoke] [--json]

The table is generated: hourly rows with daily and weekly cycles, and noise that carries over. Every
measurement is a process of its own, which stops after the first training step;
seconds are counted from the call of `memorycell.train`, the peak memory is the process's, with
PyTorch.
"""

import argparse
import contextlib
import json
import multiprocessing
import resource
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import memorycell
from memorycell.training import run as training_run

SOURCES = ("parquet", "csv", "frame")


class FirstStep(Exception):
    """Raised at the first training step."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--source", choices=SOURCES, action="append")
    parser.add_argument("--smoke", action="store_true", help="5,000 rows")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = 5000 if options.smoke else options.rows
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder), rows, options.columns)
        for source in options.source or SOURCES:
            with spawn.Pool(1) as pool:
                result = pool.apply(measure, (source, folder, rows, options.columns))
            print(json.dumps(result) if options.json else text(result))


def write_table(folder: Path, rows: int, columns: int) -> None:
    frame = table(rows, columns)
    frame.write_parquet(folder / "table.parquet")
    frame.write_csv(folder / "table.csv")


def table(rows: int, columns: int) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    hours = np.arange(rows)
    values = {}
    for k in range(columns):
        noise = rng.standard_normal(rows).astype(np.float32)
        carried = np.convolve(noise, 0.8 ** np.arange(24), "full")[:rows]
        cycles = np.sin(2 * np.pi * hours / 24 + k) + 0.5 * np.sin(2 * np.pi * hours / 168)
        values[f"sensor {k}"] = np.round(20 + 5 * cycles + carried, 3)
    begin = datetime(1920, 1, 1)
    times = pl.datetime_range(begin, begin + timedelta(hours=rows - 1), "1h", eager=True)
    return pl.DataFrame({"time": times, **values})


def measure(source: str, folder: str, rows: int, columns: int) -> dict[str, Any]:
    data = pl.read_parquet(f"{folder}/table.parquet") if source == "frame" else None
    path = f"{folder}/table.{source}"
    finished: list[float] = []

    def first_step(self: Any, *arguments: Any) -> Any:
        step(self, *arguments)
        finished.append(time.perf_counter())
        raise FirstStep

    step, training_run.Run._train_step = training_run.Run._train_step, first_step
    began, cpu = time.perf_counter(), time.process_time()
    with contextlib.suppress(FirstStep):
        memorycell.train(
            "forecast",
            path if data is None else data,
            target="sensor 0",
            epochs=1,
            progress=False,
            out=f"{folder}/model.safetensors",
        )
    return {
        "source": source,
        "rows": rows,
        "columns": columns,
        "seconds": round(finished[0] - began, 2),
        "processor_s": round(time.process_time() - cpu, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def text(result: dict[str, Any]) -> str:
    return (
        f"{result['source']:8} {result['rows']:,} rows × {result['columns']}: first training step"
        f" after {result['seconds']} s ({result['processor_s']} processor seconds),"
        f" {result['peak_mb']:,} MB"
    )


if __name__ == "__main__":
    main()
