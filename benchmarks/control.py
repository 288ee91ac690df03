"""How fast a policy learns, in processor time of one thread, against policies without memory.

python benchmarks/control.py CartPole-v1 --set hide=velocity --epochs 6 --target 475
python benchmarks/control.py live      # a step of a policy with 64 units, from Python and in C99
                                       # (compiled here, outputs compared first)
"""

import argparse
import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from c_step import FLAGS, step_us

from memorycell.application import catalogue
from memorycell.application.contract import AnyDataset
from memorycell.setting_fields import parse_settings
from memorycell.streaming.stream import Stream
from memorycell.training.events import Epoch, Step, ignore
from memorycell.training.run import Run

TIMED_STEPS, ROUNDS = 2000, 15


def learn(dataset: AnyDataset, seed: int, epochs: int, target: float | None) -> dict[str, Any]:
    """One run: processor seconds, steps per second, and the seconds and steps at which the mean
    return on validation first reached the target.
    """
    application = catalogue.load("control")
    (training,) = parse_settings(
        [application.training], {"seed": str(seed), "epochs": str(epochs), "patience": "9999"}
    )
    run = Run(dataset, training, "cost", None, None)
    dataset.attach(run.model, ignore)
    began, reached = time.process_time(), None
    training_s, epoch_began = 0.0, began

    def on_event(event: Step | Epoch) -> None:
        nonlocal reached, training_s, epoch_began
        now = time.process_time()
        if isinstance(event, Step):
            training_s += now - epoch_began
        elif reached is None and target is not None and -event.valid["cost"] >= target:
            reached = (round(now - began, 1), int(run.model.scaling.count))
        epoch_began = now

    run.fit(on_event, lambda better: None)
    steps = int(run.model.scaling.count)
    scores = dataset.evaluate(run.best_model(), "test")
    return {
        "return": [round(scores[k], 3) for k in ("return", "return_low", "return_high")],
        "steps": steps,
        "steps_per_s": round(steps / training_s),
        "processor_s": round(time.process_time() - began, 1),
        "reached": reached,
    }


def environment(name: str, pairs: Mapping[str, str], args: argparse.Namespace) -> None:
    """Prints a JSON line for every method."""
    application = catalogue.load("control")
    (settings,) = parse_settings([application.settings()], pairs)
    dataset = application.prepare(name, settings)
    random = dataset.baselines("valid")["random actions"]["return"]
    print(json.dumps({"random": round(random, 3)}), flush=True)
    methods = {"ours": dataset}
    if not args.alone:
        methods |= {f"frames={k}": dataset.variant(k) for k in (1, settings.frames)}
    for method, own in methods.items():
        print(json.dumps({method: learn(own, args.seed, args.epochs, args.target)}), flush=True)


def live() -> None:
    """Processor microseconds per step, the best of several rounds."""
    application = catalogue.load("control")
    (settings,) = parse_settings([application.settings()], {"hide": "velocity"})
    model = application.prepare("Pendulum-v1", settings).build().eval()
    stream = Stream(model, history=0)
    x = np.array([0.1, 0.2], np.float32)
    best = np.inf
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(TIMED_STEPS):
            stream.step(x)
        best = min(best, (time.process_time() - began) / TIMED_STEPS * 1e6)
    print(f"python: {best:.2f} us per step")
    for flags in FLAGS:
        print(f"C99, {' '.join(flags)}: {step_us(model, flags):.2f} us per step")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("environment")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--target", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alone", action="store_true", help="without the baselines")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.environment == "live":
        live()
    else:
        environment(args.environment, dict(pair.split("=", 1) for pair in args.set), args)


if __name__ == "__main__":
    main()
