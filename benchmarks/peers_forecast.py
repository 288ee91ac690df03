"""The forecaster with its default settings against NeuralForecast's LSTM in the same minutes.

    python benchmarks/peers_forecast.py [--minutes 1] [--seeds 2] [--data OT] [--processor-time]
    python benchmarks/peers_forecast.py --smoke

Every method forecasts from the same steps of the same test split, and is compared by its mean
absolute error in the unit of the column; memorycell's is that of its median. One thread each.

NeuralForecast is installed into an environment of its own, build/peers-forecast (2 GB). It reads
the training and the validation split, with the other columns that memorycell uses, and has its own
defaults: three horizons of history, two layers of 128. Its time begins with `fit`; that of
memorycell with the reading of the file, so that the choices made on validation count.

--processor-time counts the processor time of the process instead of that on the wall: use it where
the machine does other things, too. --smoke: small sizes, to check that everything runs; it leaves
NeuralForecast out, with the reason, where its environment is missing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from memorycell.application import catalogue, modelfile
from memorycell.application.datasets import locate
from memorycell.applications.forecast.dataset import ForecastDataset
from memorycell.applications.forecast.history import spaced
from memorycell.applications.forecast.reopening import reopen
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.errors import DataError
from memorycell.models.quantiles import interval
from memorycell.setting_fields import parse_settings
from memorycell.training import loop as training
from memorycell.training.splits import SPLITS

ENVIRONMENT = Path(__file__).parents[1] / "build" / "peers-forecast"
PEER = Path(__file__).with_name("peers_forecast_lstm.py")
MAX_ORIGINS = 1500
"""Forecasts per method, evenly spaced over the test split."""
FORECAST = catalogue.load("forecast")


@dataclass(frozen=True)
class Task:
    """A table to forecast. The settings say what the table is, not how to forecast it.

    data   a dataset's name; None: `monthly_panel`
    """

    data: str | None
    settings: dict[str, str] = field(default_factory=dict)


TASKS = {
    "OT": Task("ETTh1", {"target": "OT", "horizon": "96", "split": "8640,2880,2880"}),
    "glucose": Task("glucose"),
    "weather": Task("weather"),
    "panel": Task(None, {"target": "sales", "group": "shop", "horizon": "12"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--data", action="append", choices=list(TASKS), help="by default all")
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.smoke:
        options.minutes, options.data = 0.02, ["panel"]
    if options.processor_time:
        time.monotonic = time.process_time  # the clock of the training loop
    python = peer_environment(install=not options.smoke)
    for name in options.data or TASKS:
        for seed in range(options.seeds):
            try:
                result = compare(TASKS[name], seed, python, options)
            except DataError as error:
                print(f"{name} skipped: {error}", file=sys.stderr)
                break
            print(json.dumps({"data": name, "seed": seed, **result}), flush=True)
            mae = ", ".join(f"{method} {value:.4g}" for method, value in result["mae"].items())
            print(f"{name} seed {seed}: MAE {mae}", file=sys.stderr)


def peer_environment(*, install: bool) -> Path | None:
    """The interpreter with NeuralForecast; None, with the reason on stderr, where it is missing."""
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "installed").exists():
        if not install:
            print(f"NeuralForecast left out: no {ENVIRONMENT}", file=sys.stderr)
            return None
        venv.create(ENVIRONMENT, with_pip=True)
        wanted = [f"torch=={torch.__version__.split('+')[0]}", "neuralforecast"]
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *wanted], check=True)
        (ENVIRONMENT / "installed").touch()
    return python


def compare(task: Task, seed: int, python: Path | None, options: argparse.Namespace) -> dict:
    """Method -> mean absolute error, and what was chosen by default."""
    with tempfile.TemporaryDirectory() as folder:
        path = table(task, Path(folder), smoke=options.smoke)
        out = Path(folder) / "model.safetensors"
        settings, train_settings = parse_settings(
            (ForecastSettings(), FORECAST.training), task.settings
        )
        train_settings = replace(train_settings, seed=seed)
        notes: list[str] = []
        training.train(
            FORECAST, path, settings, train_settings, out, minutes=options.minutes, log=notes.append
        )
        file = modelfile.load(out)
        dataset = reopen(path, file)
        at = spaced(dataset.origins("test"), MAX_ORIGINS)
        mae = {"memorycell": error(dataset, dataset.quantiles(file.model, at), at)}
        for name in ("persistence", "ridge"):
            mae[name] = error(dataset, dataset.baseline_quantiles(name, at), at)
        if python is not None:
            found = peer(dataset, at, seed, python, Path(folder), options)
            mae["NeuralForecast LSTM"] = mean_absolute_error(dataset, found["forecasts"], at)
    chosen = [note for note in notes if " chosen" in note]
    return {"mae": mae, "origins": len(at), "minutes": options.minutes, "chosen": chosen}


def table(task: Task, folder: Path, *, smoke: bool) -> str:
    """The dataset's name, or the path of its table where only some of its settings are wanted."""
    if task.data is None:
        path = folder / "panel.csv"
        monthly_panel(path, series=4 if smoke else 60, months=96 if smoke else 144)
        return str(path)
    return str(locate(task.data)[0]) if task.settings else task.data


def monthly_panel(path: Path, *, series: int, months: int) -> None:
    """A table in the manner of the M competitions: many short monthly series of different size,
    with trends that change, seasons and noise.
    """
    rng = np.random.default_rng(0)
    lines = ["month,shop,sales"]
    for k in range(series):
        level, trend = np.exp(rng.normal(5, 0.7)), rng.normal(0, 0.004)
        season = rng.uniform(0, 0.3) * np.sin(2 * np.pi * (np.arange(12) / 12 + rng.random()))
        season += rng.normal(0, 0.05, 12)
        slope = trend + np.cumsum(rng.normal(0, 0.0006, months))
        log = np.cumsum(slope) + season[np.arange(months) % 12] + rng.normal(0, 0.06, months)
        for month, value in enumerate(level * np.exp(log)):
            lines.append(f"{2010 + month // 12}-{month % 12 + 1:02d}-01,s{k},{value:.2f}")
    path.write_text("\n".join(lines) + "\n")


def error(dataset: ForecastDataset, quantiles: np.ndarray, at: np.ndarray) -> float:
    """The mean absolute error of the medians of quantiles [M, horizon, targets, K]."""
    values = dataset.codec.unscale(quantiles.astype(np.float64), dataset.series_names(at))
    return mean_absolute_error(dataset, interval(values)[1][..., 0], at)


def mean_absolute_error(dataset: ForecastDataset, forecasts: np.ndarray, at: np.ndarray) -> float:
    """Over the known values; forecasts [M, horizon] in the unit of the column."""
    future = dataset.history.future[at][..., None]
    truth = dataset.codec.unscale(future, dataset.series_names(at))[..., 0, 0]
    return float(np.nanmean(np.abs(truth - forecasts)))


def peer(
    dataset: ForecastDataset,
    at: np.ndarray,
    seed: int,
    python: Path,
    folder: Path,
    options: argparse.Namespace,
) -> dict[str, np.ndarray]:
    """The forecasts [M, horizon] of NeuralForecast's LSTM."""
    series, codec = dataset.series, dataset.codec
    first_test = np.flatnonzero(dataset.split == SPLITS.index("test"))[0]
    if (rows := dataset.settings.split_rows()) is not None:
        before = np.arange(len(series)) - series.first < sum(rows[:2])
    else:
        before = series.time < series.time[first_test]
    job = {
        "values": codec.fill(series),  # [N, C], the target first
        "start": series.start,
        "fit": before,
        "at": at,
    }
    np.savez(folder / "job.npz", **job)
    command = {
        "horizon": dataset.settings.horizon,
        "seconds": 60 * options.minutes,
        "seed": seed,
        "processor_time": options.processor_time,
    }
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run(
        [python, PEER, folder, json.dumps(command)], check=True, env=environment, stdout=sys.stderr
    )
    return dict(np.load(folder / "forecasts.npz"))


if __name__ == "__main__":
    main()
