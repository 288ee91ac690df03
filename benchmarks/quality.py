"""Train each task on its public data with default settings and score it once on the test part, beside the simple methods.

    python benchmarks/quality.py forecast [--seeds 3]

Writes a JSON line a run to stdout; a table for people to stderr.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from memorycell import training
from memorycell.errors import DataError
from memorycell.tasks import TASKS
from memorycell.tasks.task import TrainSettings

SETS = {"forecast": ("glucose", "weather", "ETTh1")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    for name in options.tasks:
        task = TASKS[name]
        for data in SETS[name]:
            for seed in range(options.seeds):
                with tempfile.TemporaryDirectory() as folder:
                    try:
                        how = TrainSettings(seed=seed)
                        result = training.train(task, data, task.settings(), how, Path(folder, "m.safetensors"))
                    except DataError as error:
                        print(f"left out: {error}", file=sys.stderr)
                        break
                print(json.dumps({**result, "data": data, "seed": seed}), flush=True)
                best = min(result["baselines"], key=lambda m: result["baselines"][m][task.primary])
                ours, theirs = result["metrics"], result["baselines"][best]
                figures = ", ".join(
                    f"{k} {ours[k]:.4g} ({best} {theirs[k]:.4g}, {1 - ours[k] / theirs[k]:+.1%})"
                    for k in ("crps", "mae")
                )
                print(f"{name} {data} seed {seed}: {figures}, {result['seconds']:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
