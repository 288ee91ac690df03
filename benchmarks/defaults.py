"""Train every task with its defaults on its default dataset, as `memorycell train TASK` does, and
compare it with its baselines on the test split, as a table in Markdown.

    python benchmarks/defaults.py [TASK ...] [--seeds N]
    python benchmarks/defaults.py --smoke

Each row is printed when its task is done. `end` says what ended training: its number of updates or
epochs, the limit in minutes (then the result depends on the machine's speed), or no better
validation metric for a third of the epochs. The exit status is 1 where a task is not better than
its best baseline. --smoke trains small models on small generated data for one epoch: its figures
have no meaning.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import small_data
import torch
from quality import SMOKE_SETTINGS

from memorycell.application import catalogue
from memorycell.application.contract import Metric
from memorycell.errors import DataError
from memorycell.face.train import train_model
from memorycell.setting_fields import parse_settings

TASKS = (
    *("text", "sentiment", "translation", "chat", "speech", "handwriting", "drawing", "music"),
    *("anomaly", "forecast", "sequences", "video", "control"),
)
WITHOUT_SMALL_DATA = ("video", "control")
COLUMNS = ("task", "data", "metric", "memorycell", "best baseline", "skill", "minutes", "end")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)}")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="small models on generated data")
    options = parser.parse_args()
    if unknown := set(options.tasks) - set(TASKS):
        parser.error(f"{', '.join(unknown)}: expected {', '.join(TASKS)}")
    if options.smoke:
        torch.set_num_threads(1)
    print(f"threads: {torch.get_num_threads()}", file=sys.stderr)
    print_row(COLUMNS)
    print_row(["---"] * len(COLUMNS))
    beaten = []
    with tempfile.TemporaryDirectory() as folder:
        for task in options.tasks or TASKS:
            if options.smoke and task in WITHOUT_SMALL_DATA:
                continue
            try:
                results = [
                    trained(task, seed, Path(folder), smoke=options.smoke)
                    for seed in range(options.seeds)
                ]
            except DataError as error:
                if options.smoke:
                    raise
                print(f"{task}: left out: {error}", file=sys.stderr)
                continue
            print_row(row(task, results))
            if any(result["skill"] <= 0 for result in results):
                beaten.append(task)
    if beaten and not options.smoke:
        sys.exit(f"not better than the best baseline: {', '.join(beaten)}")


def trained(task: str, seed: int, folder: Path, *, smoke: bool) -> dict[str, Any]:
    """The result of `memorycell train TASK --json`."""
    application = catalogue.load(task)
    settings, data, values = application.settings(), None, {}
    if smoke:
        settings = small_data.settings(application, application.default_dataset)
        data = small_data.write_joined(application.default_dataset, folder)
        known = {"epochs", *(field.name for field in fields(settings))}
        values = {k: v for k, v in SMOKE_SETTINGS.items() if k in known}
    settings, training = parse_settings((settings, application.training), values)
    out = folder / f"{task}.safetensors"
    model = train_model(application, data, settings, replace(training, seed=seed), out)
    return model.result


def row(task: str, results: Sequence[dict[str, Any]]) -> list[str]:
    """The cells of a task, with one value per seed."""
    name, first = results[0]["primary"], results[0]
    best = Metric(name, first["higher"]).best(first["baselines"])
    return [
        task,
        catalogue.load(task).default_dataset,
        name,
        ", ".join(f"{result['metrics'][name]:.4g}" for result in results),
        f"{first['baselines'][best][name]:.4g}, {best}",
        ", ".join(f"{result['skill']:.1%}" for result in results),
        ", ".join(f"{result['seconds'] / 60:.1f}" for result in results),
        ", ".join(f"{result['ended_by']} ({result['updates']:,} updates)" for result in results),
    ]


def print_row(cells: Sequence[str]) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
