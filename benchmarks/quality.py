"""Train each task on its public data and score it once on the test part, beside the simple methods.

    python benchmarks/quality.py forecast [--seeds 3]
    python benchmarks/quality.py text sentiment translation chat
    python benchmarks/quality.py speech handwriting drawing music anomaly

Writes a JSON line a run to stdout; a line for people to stderr. The times are for two cores.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from memorycell.application import modelfile
from memorycell.errors import DataError
from memorycell.settings import parse_settings
from memorycell.tasks import TASKS
from memorycell.training import loop as training


@dataclass(frozen=True)
class Plan:
    """One training run; `minutes` None is the plan in epochs that `train` makes. `also` are sets to
    score it on; `name` is what it is told as, where the data's name does not do.
    """

    data: str
    minutes: float | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    name: str = ""


PLANS = {
    "forecast": (
        Plan("glucose"),
        Plan("weather", None, {"epochs": "40", "weight_drop": "0.3"}),
        Plan("ETTh1", 10, {"patience": "99"}),
        Plan("stocks", None, {"lr": "2e-3", "weight_decay": "30", "patience": "99"}),
    ),
    "anomaly": (Plan("skab", 2),),
    "text": (
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
    "sentiment": (Plan("sst", 14, {"hidden": "192", "embedding": "192", "patience": "99"}),),
    "translation": (
        Plan(
            "multi30k-de-en",
            40,
            {
                "vocabulary": "6000",
                "hidden": "320",
                "dropout": "0.35",
                "budget": "4000",
                "patience": "99",
            },
        ),
        Plan("localisation-en-hi", 25, {"patience": "99"}, also=("tatoeba-en-hi",)),
    ),
    "chat": (Plan("chatterbot", 4.8),),
    "speech": (
        Plan("free-spoken-digits", 2, {"patience": "99"}),
        *(
            Plan(
                "free-spoken-digits",
                2,
                {
                    "held_out": f"group={who}",
                    "direction": "both",
                    "whole": "yes",
                    "ceps": "10",
                    "speed": "0.2",
                    "throat": "0.15",
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
        Plan("omniglot", 6.5, {"direction": "both", "patience": "99"}),
        Plan(
            "ocr-words", 4, {"direction": "both", "warp": "0.5", "dropout": "0.3", "patience": "99"}
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
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", default=list(PLANS), choices=list(PLANS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--data", help="only this set")
    options = parser.parse_args()
    for name in options.tasks:
        for plan in PLANS[name]:
            for seed in range(options.seeds if options.data in (None, plan.data) else 0):
                try:
                    run(name, plan, seed)
                except DataError as error:
                    print(f"left out: {error}", file=sys.stderr)
                    break


def run(name: str, plan: Plan, seed: int) -> None:
    task = TASKS[name]
    settings, how = parse_settings((task.settings(), task.training), plan.settings)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.safetensors")
        result = training.train(
            task, plan.data, settings, replace(how, seed=seed), path, minutes=plan.minutes
        )
        tell(result, plan.name or plan.data, seed)
        for other in plan.also:
            tell(
                training.evaluate(task, modelfile.load(path), path, other, print_note), other, seed
            )


def tell(result: dict, data: str, seed: int) -> None:
    print(json.dumps({**result, "data": data, "seed": seed}), flush=True)
    figures = ", ".join(f"{k} {v:.4g}" for k, v in result["metrics"].items())
    beside = "; ".join(
        f"{method} {result['primary']} {v[result['primary']]:.4g}"
        for method, v in result["baselines"].items()
    )
    print(
        f"{result['task']} {data} seed {seed}: {figures}; {beside}; {result['seconds']:.0f} s",
        file=sys.stderr,
    )


def print_note(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
