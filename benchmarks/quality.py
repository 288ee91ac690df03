"""Train every application on its public data and evaluate it once on the test split, compared with
the baselines.

    python benchmarks/quality.py forecast [--seeds 3]
    python benchmarks/quality.py text sentiment translation chat
    python benchmarks/quality.py speech handwriting drawing music anomaly sequences
    python benchmarks/quality.py --smoke

Writes one JSON line per run to stdout and a summary to stderr. Durations are for two cores.
--smoke trains small models on small generated data: it checks in seconds that every run works, and
its metrics have no meaning.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import small_data
import torch

from memorycell.application import catalogue, modelfile
from memorycell.application.datasets import locate
from memorycell.errors import DataError
from memorycell.setting_fields import parse_settings
from memorycell.tables.table import read_table
from memorycell.training import loop as training

SMOKE_SETTINGS = {
    **{"epochs": "1", "hidden": "8", "embedding": "8", "vocabulary": "60"},
    **{"augment": "none", "encoder": "none"},
}
"""Where an application has them."""

NAMED_ONLY = ("letters", "water-loop")
"""Datasets that are read by their name alone, so that there is no small form."""


@dataclass(frozen=True)
class Plan:
    """One training run.

    minutes   duration; None: by epochs, or by updates as the command does by default
    also      further datasets to evaluate the model on
    name      in the results; by default that of the data
    sequence  only this sequence of a named dataset of one table, without its values per sequence
    """

    data: str
    minutes: float | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    name: str = ""
    sequence: str = ""


PLANS = {
    "forecast": (
        Plan("glucose"),
        Plan("weather", None, {"epochs": "40", "weight_drop": "0.3"}),
        Plan("ETTh1", 5, {"weight_decay": "1", "patience": "99"}),
        Plan("stocks", None, {"lr": "2e-3", "weight_decay": "30", "patience": "99"}),
    ),
    "anomaly": (Plan("skab"),),
    "text": (
        Plan("tinyshakespeare", 1.5, name="tinyshakespeare, defaults, 90 s"),
        Plan(
            "tinyshakespeare",
            8.7,
            {
                "hidden": "512",
                "precision": "bfloat16",
                "lr": "4e-3",
                "weight_drop": "0.1",
                "average": "0.998",
                "dropout": "0.2",
                "lanes": "32",
                "bptt": "128",
                "patience": "99",
                "valid": "0.01",
            },
            name="tinyshakespeare, bfloat16",
        ),
        Plan(
            "tinyshakespeare",
            19,
            {
                "hidden": "512",
                "weight_drop": "0.2",
                "lr": "4e-3",
                "average": "0.999",
                "dropout": "0.3",
                "lanes": "32",
                "bptt": "128",
                "patience": "99",
                "dynamic": "0.2",
                "valid": "0.01",
            },
        ),
    ),
    "sentiment": (Plan("sst"),),
    "translation": (
        Plan(
            "multi30k-de-en",
            38,
            {
                "precision": "bfloat16",
                "vocabulary": "6000",
                "hidden": "320",
                "dropout": "0.35",
                "budget": "4000",
                "patience": "99",
            },
        ),
        Plan("localisation-en-hi", 25, {"patience": "99"}, also=("tatoeba-en-hi",)),
        Plan("tatoeba-en-hi", 4.5),
        Plan("localisation-en-hi+tatoeba-en-hi", 4.5, also=("tatoeba-en-hi", "localisation-en-hi")),
    ),
    "chat": (Plan("chatterbot"), Plan("chitchat")),
    "speech": (
        Plan("free-spoken-digits", 2, {"patience": "99"}),
        *(
            Plan(
                "free-spoken-digits",
                None,
                {
                    "epochs": "10",
                    "held_out": f"group={who}",
                    "direction": "both",
                    "whole": "yes",
                    "ceps": "10",
                    "speed": "0.2",
                    "throat": "0.15",
                    "views": "5",
                    "nearest": "20",
                    "tilt": "0.5",
                    "dropout": "0.4",
                    "patience": "99",
                },
                name=f"digits without {who}",
            )
            for who in ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
        ),
        Plan(
            "asterisk-en",
            19,
            {
                "direction": "both",
                "hidden": "192",
                "stack": "3",
                "lr": "5e-3",
                "budget": "1000",
                "patience": "99",
            },
        ),
    ),
    "handwriting": (
        Plan("omniglot", 2.5, name="omniglot, defaults"),
        Plan("omniglot", 2.5, {"direction": "both", "patience": "99"}),
        Plan(
            "ocr-words", 4, {"direction": "both", "warp": "0.5", "dropout": "0.3", "patience": "99"}
        ),
    ),
    "sequences": (
        Plan("JapaneseVowels"),
        Plan(
            "JapaneseVowels",
            settings={"channels": "64", "hidden": "128", "dropout": "0.5"},
            name="JapaneseVowels, larger",
        ),
        Plan(
            "JapaneseVowels", settings={"unknown": "7,8,9"}, name="JapaneseVowels, 7, 8, 9 unknown"
        ),
        Plan("BasicMotions"),
        Plan("GunPoint"),
        Plan("ArrowHead"),
        Plan("ItalyPowerDemand"),
        Plan("PLAID", 5),
        Plan("pendigits", 5),
        Plan("letters", 2),
        Plan("water-loop", 2),
        Plan("hydrology"),
        *(
            Plan("hydrology", name=f"hydrology, {basin} alone", sequence=basin)
            for basin in ("01022500", "01547700", "02064000", "03015500")
        ),
    ),
    "drawing": (Plan("omniglot", 5, {"patience": "99"}),),
    "music": (
        Plan("jsb", 2, {"patience": "99"}, name="jsb, voice by voice"),
        Plan(
            "jsb",
            12,
            {
                "view": "keys",
                "hidden": "384",
                "dropout": "0.5",
                "noise": "0.15",
                "zoneout": "0.1",
                "weight_drop": "0.4",
                "patience": "99",
            },
            name="jsb, key by key",
        ),
        Plan("jsb-16th", 2, {"view": "events", "patience": "99"}, name="jsb, events"),
        Plan("chorales", 5, {"patience": "99"}, name="chorales, scores"),
        Plan("essen", 5, {"patience": "99"}, name="folk songs, scores"),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", help=f"by default all: {', '.join(PLANS)}")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--data", help="only this dataset, or the run of this name")
    parser.add_argument("--smoke", action="store_true", help="small models on generated data")
    options = parser.parse_args()
    if unknown := set(options.tasks) - set(PLANS):
        parser.error(f"{', '.join(unknown)}: expected {', '.join(PLANS)}")
    if options.smoke:
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for task in options.tasks or PLANS:
            for plan in PLANS[task]:
                partial = plan.sequence or "unknown" in plan.settings or plan.data in NAMED_ONLY
                other = options.data not in (None, plan.data, plan.name)
                if other or (options.smoke and partial):
                    continue
                try:
                    for seed in range(options.seeds):
                        run(task, plan, seed, Path(folder), smoke=options.smoke)
                except DataError as error:
                    if options.smoke:
                        raise
                    print_to_stderr(f"skipped: {error}")


def run(task: str, plan: Plan, seed: int, folder: Path, *, smoke: bool) -> None:
    application = catalogue.load(task)
    settings, values, minutes = application.settings(), plan.settings, plan.minutes
    datasets = {name: name for name in (plan.data, *plan.also)}
    if smoke:
        settings, minutes = small_data.settings(application, plan.data), None
        known = {"epochs", *(field.name for field in dataclasses.fields(settings))}
        values = {**values, **{k: v for k, v in SMOKE_SETTINGS.items() if k in known}}
        datasets = {name: small_data.write_joined(name, folder) for name in datasets}
    elif plan.sequence:
        datasets[plan.data], values = one_sequence(plan, folder)
    settings, train_settings = parse_settings((settings, application.training), values)
    train_settings = replace(train_settings, seed=seed)
    if minutes is None and train_settings.epochs is None and train_settings.steps is None:
        minutes = application.minutes
        train_settings = replace(train_settings, steps=application.steps)
    path = folder / "model.safetensors"
    result = training.train(
        application, datasets[plan.data], settings, train_settings, path, minutes=minutes
    )
    report(result, plan.name or plan.data, seed)
    for name in plan.also:
        file = modelfile.load(path)
        result = training.evaluate(application, file, path, datasets[name], print_to_stderr)
        report(result, name, seed)


def one_sequence(plan: Plan, folder: Path) -> tuple[str, dict[str, str]]:
    """(a table of the rows of one sequence, the settings to read it with)."""
    path, dataset = locate(plan.data)
    settings = {k: v for k, v in dataset.settings.items() if k != "static"}
    table = read_table(path)
    own = table.filter(table[settings["sequence"]].cast(str) == plan.sequence)
    own.write_csv(folder / f"{plan.sequence}.csv")
    return str(folder / f"{plan.sequence}.csv"), {**settings, **plan.settings}


def report(result: dict, data: str, seed: int) -> None:
    print(json.dumps({**result, "data": data, "seed": seed}), flush=True)
    metric = result["primary"]
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in result["metrics"].items())
    baselines = "; ".join(
        f"{name} {metric} {values[metric]:.4g}" for name, values in result["baselines"].items()
    )
    print_to_stderr(
        f"{result['task']} {data} seed {seed}: {metrics}; {baselines}; {result['seconds']:.0f} s"
    )


def print_to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
