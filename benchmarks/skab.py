"""Anomalies of the Skoltech benchmark (SKAB) with settings chosen without the labels they are
evaluated on.

    python benchmarks/skab.py [--seeds 3] [--members 3] [--json]
    python benchmarks/skab.py --smoke

The protocol is SKAB's: the first 400 rows of each of the 34 recordings are normal and train, the
others are evaluated; F1, the rate of false alarms (FAR) and of missed ones (MAR) are counted over
the rows of all recordings together. One model is trained per seed, without labels, for the task's
default number of updates, so that a seed has one result for each number of threads; --minutes
limits them, and then the limit is reported on stderr.

    defaults         nothing is chosen
    averaged         for each folder the weight of the static deviation and the budget are those
                     with the highest F1 on the other two folders, among those with at most 15%
                     false alarms there; the score is the average over four smoothings
    averaged, 1 SE   the same, but of those whose F1 is within one standard error of the highest
                     (over the recordings of the other two folders, by the jackknife) the one with
                     the fewest false alarms there (the rule of Breiman et al. 1984)
    other averages   so are the smoothings, three or four, from 5 or 10 rows on
    other averages, 1 SE   the same
    one smoothing    so is the smoothing, instead of the average over several
    surprise alone, static alone   as averaged, with that weight fixed at 0 and at 1

Of several seeds the mean and the standard deviation follow.

--smoke trains small models on generated data: its figures have no meaning.
"""

import argparse
import itertools
import json
import math
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import small_data

from memorycell.application import catalogue, modelfile
from memorycell.applications.anomaly.dataset import AnomalyDataset
from memorycell.applications.anomaly.model import Detector, DetectorConfig
from memorycell.applications.anomaly.scoring import score_recording
from memorycell.applications.anomaly.settings import AnomalySettings
from memorycell.setting_fields import parse_settings
from memorycell.training import loop

AVERAGED, ONE_SMOOTHING = ((5, 4), (5, 3), (10, 3), (10, 4)), ((10, 1), (15, 1), (20, 1))
"""Pairs of `smooth` and `scales`."""
BUDGETS = (0.001, 0.003)
STATICS = (0.0, 1 / 3, 1 / 2, 2 / 3, 1.0)
MAX_FALSE_ALARMS = 0.15
LEADERBOARD = {
    "Conv-AE": (0.79, 13.69, 17.77),
    "MSET": (0.73, 20.82, 20.08),
    "LSTM-AE": (0.68, 14.24, 35.56),
    "Vanilla LSTM": (0.64, 15.40, 39.93),
}
"""F1, FAR and MAR in percent, as published in the README of github.com/waico/SKAB (v0.9, commit
80bac4a): defaults, without any tuning.
"""


class Remembering(Detector):
    """A detector that runs on each input once: settings of the score do not change its outputs."""

    def __init__(self, config: DetectorConfig, outputs: dict | None = None) -> None:
        super().__init__(config)
        self.outputs = {} if outputs is None else outputs

    def run(self, x: np.ndarray, *arguments: object, **options: object) -> np.ndarray:
        """See `Detector`."""
        key = x.tobytes()
        if key not in self.outputs:
            self.outputs[key] = super().run(x, *arguments, **options)
        return self.outputs[key]


class Choice(NamedTuple):
    """Settings of a detector."""

    smooth: int
    scales: int
    static: float
    budget: float


Counts = Mapping[str, np.ndarray]
"""Folder -> [recordings, 4] hits, false alarms, misses and quiet normal rows."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--updates", type=int, help="by default the task's own")
    parser.add_argument("--minutes", type=float, help="limit per model; by default the task's")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    print(f"{'':30s}    F1   FAR %  MAR %")
    for name, (f1, far, mar) in LEADERBOARD.items():
        print(f"{name + ' (published)':30s}  {f1:.3f}  {far:5.1f}  {mar:5.1f}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            for row in evaluate(Path(folder), options, seed):
                rows.append(row)
                print(json.dumps(row) if options.json else render(row), flush=True)
    if options.seeds > 1 and not options.json:
        for name in dict.fromkeys(row["name"] for row in rows):
            print(summary(name, [row for row in rows if row["name"] == name]))


def summary(name: str, rows: Sequence[Mapping[str, object]]) -> str:
    """The mean and the standard deviation over the seeds."""
    f1, far, mar = (np.array([row[key] for row in rows]) for key in ("f1", "far", "mar"))
    rates = f"{f1.mean():.3f}  {100 * far.mean():5.1f}  {100 * mar.mean():5.1f}"
    spread = f"± {f1.std(ddof=1):.3f}, {100 * far.std(ddof=1):.1f}, {100 * mar.std(ddof=1):.1f}"
    return f"{name:30s}  {rates}  mean of {len(rows)} seeds; {spread}"


def render(row: Mapping[str, object]) -> str:
    rates = f"{row['f1']:.3f}  {100 * row['far']:5.1f}  {100 * row['mar']:5.1f}"
    return f"{row['name']:30s}  {rates}  seed {row['seed']}: {row['chosen']}"


def evaluate(folder: Path, options: argparse.Namespace, seed: int) -> list[dict[str, object]]:
    """A row per way to choose."""
    counts: dict[Choice, Counts] = {}
    dataset, model = trained(folder, options, seed)
    for averages, static, budget in itertools.product(AVERAGED + ONE_SMOOTHING, STATICS, BUDGETS):
        choice = Choice(*averages, static, budget)
        counts[choice] = counted(dataset, model, choice)
    default = default_choice()
    ways: dict[str, Callable[[Choice], bool]] = {
        "defaults": lambda choice: choice == default,
        "averaged": lambda choice: is_default(choice) and 0 < choice.static < 1,
        "averaged, 1 SE": lambda choice: is_default(choice) and 0 < choice.static < 1,
        "other averages": lambda choice: choice.scales > 1 and 0 < choice.static < 1,
        "other averages, 1 SE": lambda choice: choice.scales > 1 and 0 < choice.static < 1,
        "one smoothing": lambda choice: choice.scales == 1 and 0 < choice.static < 1,
        "surprise alone": lambda choice: is_default(choice) and choice.static == 0,
        "static alone": lambda choice: is_default(choice) and choice.static == 1,
    }
    rows = []
    for name, allowed in ways.items():
        some = {choice: own for choice, own in counts.items() if allowed(choice)}
        total, chosen = np.zeros(4), {}
        for left_out in next(iter(counts.values())):
            others = {
                choice: np.concatenate([rows for name, rows in own.items() if name != left_out])
                for choice, own in some.items()
            }
            best = most_cautious(others) if name.endswith("1 SE") else highest(others)
            total += some[best][left_out].sum(0)
            chosen[left_out] = tuple(round(value, 3) for value in best)
        rows.append({"name": name, "seed": seed, **rates(total), "chosen": chosen})
    return rows


def is_default(choice: Choice) -> bool:
    """Whether the smoothings are the default ones."""
    return choice[:2] == default_choice()[:2]


def default_choice() -> Choice:
    config = AnomalySettings(settle=400).model_config(2, 1, ())
    return Choice(config.smooth, config.scales, config.static, config.budget)


def trained(
    folder: Path, options: argparse.Namespace, seed: int
) -> tuple[AnomalyDataset, Remembering]:
    """A model, and its dataset."""
    application, out = catalogue.load("anomaly"), folder / "model.safetensors"
    settings, data = application.settings(), "skab"
    values = {"members": str(options.members), "steps": str(options.updates or application.steps)}
    if options.smoke:
        settings = small_data.settings(application, data)
        data, values = small_data.write_joined(data, folder), {"steps": "20", "hidden": "8"}
    settings, train_settings = parse_settings((settings, application.training), values)
    loop.train(
        application,
        data,
        settings,
        replace(train_settings, seed=seed),
        out,
        minutes=options.minutes or options.members * application.minutes,
        baselines=False,
        log=lambda line: print(line, file=sys.stderr),
    )
    file = modelfile.load(out)
    model = Remembering(file.model.config).eval()
    model.load_state_dict(file.model.state_dict())
    return application.reopen(data, file), model


def counted(dataset: AnomalyDataset, model: Remembering, choice: Choice) -> Counts:
    """The confusion of a model with other settings of its score."""
    other = Remembering(replace(model.config, **choice._asdict()), model.outputs).eval()
    own = other.state_dict()
    weights = {k: v for k, v in model.state_dict().items() if k in own and own[k].shape == v.shape}
    other.load_state_dict({**own, **weights})  # the score is fitted next
    dataset.fit_score(other)
    counts: dict[str, list[list[int]]] = {}
    for r in dataset.recordings:
        settled = dataset.codec.settle
        flagged = score_recording(other, dataset.codec, r.recording).flagged[settled:]
        truth = np.asarray(r.recording.labels, bool)[settled:]
        parts = (flagged & truth, flagged & ~truth, ~flagged & truth, ~flagged & ~truth)
        folder = r.recording.name.split("/")[0]
        counts.setdefault(folder, []).append([int(part.sum()) for part in parts])
    return {folder: np.array(rows) for folder, rows in counts.items()}


def highest(counts: Mapping[Choice, np.ndarray]) -> Choice:
    """That with the highest F1 of those within the limit of false alarms; of none the one with the
    fewest.
    """

    def preference(choice: Choice) -> tuple[bool, float]:
        own = rates(counts[choice].sum(0))
        allowed = own["far"] <= MAX_FALSE_ALARMS
        return allowed, own["f1"] if allowed else -own["far"]

    return max(counts, key=preference)


def most_cautious(counts: Mapping[Choice, np.ndarray]) -> Choice:
    """That with the fewest false alarms of those within one standard error of `highest`."""
    best = highest(counts)
    least = rates(counts[best].sum(0))["f1"] - standard_error(counts[best])
    near = [choice for choice in counts if rates(counts[choice].sum(0))["f1"] >= least]
    return min(near, key=lambda choice: rates(counts[choice].sum(0))["far"])


def standard_error(counts: np.ndarray) -> float:
    """Of the F1 of recordings [N, 4], by the jackknife."""
    total = counts.sum(0)
    f1 = np.array([rates(total - own)["f1"] for own in counts])
    return math.sqrt((len(f1) - 1) * f1.var())


def rates(counts: np.ndarray) -> dict[str, float]:
    """See `metrics.detection_metrics`."""
    hits, false, missed, quiet = (float(value) for value in counts)
    return {
        "f1": 2 * hits / max(2 * hits + false + missed, 1),
        "far": false / max(false + quiet, 1),
        "mar": missed / max(hits + missed, 1),
    }


if __name__ == "__main__":
    main()
