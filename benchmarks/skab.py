"""Anomalies of the Skoltech benchmark (SKAB) with settings chosen without the labels they are
evaluated on.

    python benchmarks/skab.py [--minutes 1.5] [--seeds 1] [--json]
    python benchmarks/skab.py --smoke

The protocol is SKAB's: the first 400 rows of each of the 34 recordings are normal and train, the
others are evaluated; F1, the rate of false alarms (FAR) and of missed ones (MAR) are counted over
the rows of all recordings together. One model is trained per seed, without labels.

    defaults         nothing is chosen
    averaged         for each folder the weight of the static deviation and the budget are those
                     with the highest F1 on the other two folders, among those with at most 15%
                     false alarms there; the score is the average over four smoothings
    other averages   so are the smoothings, three or four, from 5 or 10 rows on
    one smoothing    so is the smoothing, instead of the average over several
    surprise alone, static alone   as averaged, with that weight fixed at 0 and at 1

--smoke trains small models on generated data: its figures have no meaning.
"""

import argparse
import itertools
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import small_data

from memorycell.application import catalogue, modelfile
from memorycell.applications.anomaly.dataset import AnomalyDataset
from memorycell.applications.anomaly.model import Detector
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


class Choice(NamedTuple):
    """Settings of a detector."""

    smooth: int
    scales: int
    static: float
    budget: float


Counts = Mapping[str, np.ndarray]
"""Folder -> hits, false alarms, misses and quiet normal rows."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.5, help="per model")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    print(f"{'':30s}    F1   FAR %  MAR %")
    for name, (f1, far, mar) in LEADERBOARD.items():
        print(f"{name + ' (published)':30s}  {f1:.3f}  {far:5.1f}  {mar:5.1f}")
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            for row in evaluate(Path(folder), options, seed):
                print(json.dumps(row) if options.json else render(row), flush=True)


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
        "other averages": lambda choice: choice.scales > 1 and 0 < choice.static < 1,
        "one smoothing": lambda choice: choice.scales == 1 and 0 < choice.static < 1,
        "surprise alone": lambda choice: is_default(choice) and choice.static == 0,
        "static alone": lambda choice: is_default(choice) and choice.static == 1,
    }
    rows = []
    for name, allowed in ways.items():
        some = {choice: own for choice, own in counts.items() if allowed(choice)}
        total, chosen = np.zeros(4), {}
        for left_out in next(iter(counts.values())):
            best = max(some, key=lambda choice: preference(some[choice], left_out))
            total += some[best][left_out]
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
) -> tuple[AnomalyDataset, Detector]:
    """A model, and its dataset."""
    application, out = catalogue.load("anomaly"), folder / "model.safetensors"
    settings, data, minutes = application.settings(), "skab", options.minutes
    values = {"members": str(options.members)}
    if options.smoke:
        settings, minutes = small_data.settings(application, data), None
        data, values = small_data.write_joined(data, folder), {"epochs": "1", "hidden": "8"}
    settings, train_settings = parse_settings((settings, application.training), values)
    train_settings = replace(train_settings, seed=seed)
    loop.train(application, data, settings, train_settings, out, minutes=minutes, baselines=False)
    file = modelfile.load(out)
    return application.reopen(data, file), file.model


def counted(dataset: AnomalyDataset, model: Detector, choice: Choice) -> Counts:
    """The confusion of a model with other settings of its score."""
    other = Detector(replace(model.config, **choice._asdict())).eval()
    own = other.state_dict()
    weights = {k: v for k, v in model.state_dict().items() if k in own and own[k].shape == v.shape}
    other.load_state_dict({**own, **weights})  # the score is fitted next
    dataset.fit_score(other)
    counts: dict[str, np.ndarray] = {}
    for r in dataset.recordings:
        settled = dataset.codec.settle
        flagged = score_recording(other, dataset.codec, r.recording).flagged[settled:]
        truth = np.asarray(r.recording.labels, bool)[settled:]
        own = [flagged & truth, flagged & ~truth, ~flagged & truth, ~flagged & ~truth]
        folder = r.recording.name.split("/")[0]
        counts[folder] = counts.get(folder, 0) + np.array([part.sum() for part in own])
    return counts


def preference(counts: Counts, left_out: str) -> tuple[bool, float]:
    """What is highest for the best choice, on the folders that are not left out: F1, but those with
    more false alarms than the limit come after all others.
    """
    own = rates(np.sum([part for name, part in counts.items() if name != left_out], 0))
    if own["far"] > MAX_FALSE_ALARMS:
        return False, -own["far"]
    return True, own["f1"]


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
