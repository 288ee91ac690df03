"""Choices made on the validation split: calendar, inputs and normalisation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from memorycell.applications.forecast.history import spaced
from memorycell.applications.forecast.ridge import LONG_TABLE_ROWS, Ridge, SubsetRidge
from memorycell.training.adamw import AdamW
from memorycell.training.threads import StepThreads

if TYPE_CHECKING:
    from memorycell.applications.forecast.codec import SeriesCodec
    from memorycell.applications.forecast.dataset import ForecastDataset
    from memorycell.applications.forecast.model import Forecaster
    from memorycell.applications.forecast.settings import ForecastSettings

MIN_WEEK_GAIN = 0.005
"""Share of ridge's CRPS that the day of the week must save to become an input."""
MIN_INPUTS_LOSS = 0.02
"""Share of ridge's error that other inputs than all columns of numbers must save."""
MIN_COLUMN_GAIN = 0.005
"""Share of ridge's absolute error that a column must save to be one that helps."""
SUBSET_WINDOW = 24
"""Steps that ridge reads when single columns are compared."""
MIN_NORMAL_GAIN = 0.01
"""Share of the CRPS in a trial that normalised or longer windows must save."""
MIN_RIDGE_GAIN = 0.015
"""Share of the CRPS in a trial that linear=ridge must save: a longer training reaches more without.
"""
MIN_TRIAL_STEPS = 4000
"""Training steps of a table from which on trials are made."""
TRIAL_HIDDEN, TRIAL_LANES, TRIAL_BPTT, TRIAL_UPDATES, TRIAL_LR = 32, 16, 48, 80, 8e-3
"""The model of a trial, and its training: the same work whatever the machine."""
TRIAL_LEADS = 12
"""Lead times of a trial."""
LONG_TABLE_ORIGINS, LONG_TABLE_LINEAR_ROWS = 2048, 4096
"""Of a long table: validation steps by which trials are compared, and training steps of their
linear paths, evenly spaced.
"""
LONGEST_HORIZONS = 3
"""Horizons of a window that is tried where a longer one than usual is better."""
MAX_TRIAL_WINDOW = 96
"""Steps of the longest window that is tried."""


def select_calendar(
    dataset: ForecastDataset, ridge: SubsetRidge | None
) -> tuple[ForecastDataset, SubsetRidge | None]:
    """The dataset without the day of the week, unless ridge does better with it on the validation
    split: a network memorises the few weeks of most tables.

    ridge   `subset_ridge` of a long table, returned for the features that are left
    """
    codec = dataset.codec
    both = codec.cycles is None and set(codec.calendar) == {"day", "week"}
    if not both or codec.returns is not None:
        return dataset, ridge
    day = replace(codec, cycles=("day",))
    if is_long(dataset):
        if ridge is None:
            return dataset, ridge
        kept = _without_week(codec)
        every, dynamic = np.ones(codec.dynamic_size, bool), kept[: codec.dynamic_size]
        if ridge.error(every) < (1 - MIN_WEEK_GAIN) * ridge.error(dynamic):
            return dataset, ridge
        return dataset.with_features(day, kept), ridge.among(dynamic)
    other = dataset.rebuilt(day)
    with_week, without = (d.baselines("valid")["ridge"]["crps"] for d in (dataset, other))
    return dataset if with_week < (1 - MIN_WEEK_GAIN) * without else other, ridge


def is_long(dataset: ForecastDataset) -> bool:
    """Whether choices are made by regressions on a part of the training steps."""
    return int((dataset.split == 0).sum()) > LONG_TABLE_ROWS


def _without_week(codec: SeriesCodec) -> np.ndarray:
    """[F] bool: the features that are not the week."""
    kept = np.ones(len(codec.features), bool)
    begin = 2 * len(codec.columns) + 1 + len(codec.gappy) + 4 * list(codec.calendar).index("week")
    kept[begin : begin + 4] = False
    return kept


def select_inputs(
    dataset: ForecastDataset, ridge: SubsetRidge | None
) -> tuple[ForecastDataset, list[str]]:
    """(the dataset with all columns of numbers, or with those columns of numbers and words that
    help ridge on the validation split, or with none, whichever ridge does best with; notes)

    ridge   `subset_ridge` of the dataset, where that is known
    """
    codec, every = dataset.codec, dataset.codec.inputs
    if codec.returns is not None or not (every or codec.words):
        return dataset, []
    quick = _quick_error(dataset, ridge or subset_ridge(dataset))
    if quick is None and is_long(dataset):
        return dataset, []
    helpful = () if quick is None else _helpful_inputs((*every, *codec.words), quick)
    error = quick or (lambda inputs: dataset.narrowed(inputs).baselines("valid")["ridge"]["crps"])
    tried = {inputs: error(inputs) for inputs in dict.fromkeys((every, (), helpful))}
    best = min(tried, key=tried.__getitem__)
    used = best if tried[best] < (1 - MIN_INPUTS_LOSS) * tried[every] else every
    if used == every and not codec.words:
        return dataset, []
    scores = "; ".join(f"{_names(inputs)}: {score:.4g}" for inputs, score in tried.items())
    note = f"inputs={_names(used)} chosen; error of ridge on validation: {scores}"
    if left_out := [c for c in (*every, *codec.words) if c not in used]:
        note += f"; --set inputs=all uses {_names(left_out)} too"
    return dataset.narrowed(used), [note]


def _names(columns: Sequence[str]) -> str:
    return ",".join(columns)[:80] or "none"


Error: TypeAlias = Callable[[Collection[str]], float]
"""Of ridge on the validation split with some of the inputs."""


def _quick_error(dataset: ForecastDataset, ridge: SubsetRidge | None) -> Error | None:
    """The mean absolute error in scaled units, with a short window and few lead times; None where
    too little of the future is known.
    """
    if ridge is None:
        return None
    source = np.array(_feature_sources(dataset.codec), object)
    return lambda inputs: ridge.error(np.array([c in ("", *inputs) for c in source]))


def subset_ridge(dataset: ForecastDataset) -> SubsetRidge | None:
    """Regressions that compare inputs, with a short window and few lead times; None where too
    little of the future is known.
    """
    small = dataset.with_leads(TRIAL_LEADS)
    ridge = SubsetRidge(
        small.history,
        small.origin_mask("train"),
        small.origin_mask("valid"),
        min(dataset.settings.horizon or 1, SUBSET_WINDOW),
    )
    return ridge if ridge.usable else None


def _helpful_inputs(offered: Sequence[str], error: Error) -> tuple[str, ...]:
    """The inputs that lower the error, each added to those before it, the most helpful first."""
    lowest, alone = error(()), {c: error((c,)) for c in offered}
    chosen: list[str] = []
    for c in sorted(offered, key=alone.__getitem__):
        with_it = error((*chosen, c)) if chosen else alone[c]
        if with_it < (1 - MIN_COLUMN_GAIN) * lowest:
            chosen.append(c)
            lowest = with_it
    return tuple(c for c in offered if c in chosen)


def _feature_sources(codec: SeriesCodec) -> tuple[str, ...]:
    """The input column of each feature that changes over time, "" for those that depend on none.
    There are no inputs known in advance.
    """
    numbers = tuple("" if c in codec.targets else c for c in codec.columns)
    gappy = tuple("" if c in codec.targets else c for c in codec.gappy)
    words = (c for c, own in codec.words.items() for _ in range(len(own) + 1))
    return (*numbers, *numbers, "", *gappy, *[""] * (4 * len(codec.calendar)), *words)


def select_normal(
    dataset: ForecastDataset, *, any_window: bool
) -> tuple[ForecastDataset, list[str]]:
    """(the dataset with `normal` and `linear` chosen by short trials, and `window` if any_window;
    notes). Of a long table only `linear` is chosen by trials, the others by the linear path.
    """
    settings = dataset.settings
    if settings.normal is not None or int((dataset.split == 0).sum()) < MIN_TRIAL_STEPS:
        return dataset, []
    windows = [settings.window or 1]
    longer = min(max(settings.horizon or 1, ridge_window(dataset)), MAX_TRIAL_WINDOW)
    if any_window and longer > windows[0]:
        windows.append(longer)
    trials = Trials(dataset)
    choices = [
        replace(settings, normal=normal, window=window, linear=settings.linear or "ridge")
        for window in windows
        for normal in ("no", "level")
    ]
    linear = is_long(dataset) and all(trials.has_linear_path(choice) for choice in choices)
    score = trials.linear_error if linear else trials.crps
    best = _best(choices, score)
    longest = min(LONGEST_HORIZONS * (settings.horizon or 1), MAX_TRIAL_WINDOW)
    if best.window != windows[0] and longest > longer:
        best = _best([best, replace(best, window=longest)], score)
    if settings.linear is None:
        trained = replace(best, linear="trained")
        if not trials.crps(best) < (1 - MIN_RIDGE_GAIN) * trials.crps(trained):
            best = trained
    notes = [
        f"normal={best.normal}, window={best.window} and linear={best.linear} chosen by trials of"
        f" {TRIAL_UPDATES} updates; CRPS on validation: {_scores(trials.all_crps)}"
    ]
    if linear:
        notes[:0] = [
            f"normal={best.normal} and window={best.window} chosen by the linear path; its mean"
            f" absolute error on validation: {_scores(trials.linear_errors)}"
        ]
    return dataset.with_settings(best), notes


def _best(
    choices: Sequence[ForecastSettings], score: Callable[[ForecastSettings], float]
) -> ForecastSettings:
    """The choice with the lowest score, where that is enough below the score of the first."""
    best = min(choices, key=score)
    return best if score(best) < (1 - MIN_NORMAL_GAIN) * score(choices[0]) else choices[0]


def _scores(scores: Mapping[ForecastSettings, float]) -> str:
    return "; ".join(
        f"{choice.normal}, window {choice.window}, {choice.linear}: {score:.4g}"
        for choice, score in scores.items()
    )


def ridge_window(dataset: ForecastDataset) -> int:
    """The steps that the ridge baseline reads, chosen on validation; 1 without it."""
    ridge = dataset.baseline_models.get("ridge")
    return ridge.window(dataset.history) if isinstance(ridge, Ridge) else 1


class Trials:
    """Small models of settings that are compared, with a few lead times.

    all_crps        settings -> the CRPS on validation after a fixed number of updates, of those
                    that were trained
    linear_errors   settings -> the mean absolute error on validation of their linear paths
    """

    def __init__(self, dataset: ForecastDataset) -> None:
        self.dataset = dataset
        self.all_crps: dict[ForecastSettings, float] = {}
        self.linear_errors: dict[ForecastSettings, float] = {}
        self._datasets: dict[ForecastSettings, ForecastDataset] = {}

    def crps(self, settings: ForecastSettings) -> float:
        """The CRPS of a small model; infinity where it is not finite."""
        if settings not in self.all_crps:
            trial = self._trial(settings)
            at = trial.scored_origins("valid")
            at = spaced(at, LONG_TABLE_ORIGINS) if is_long(trial) else at
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = trial.build().train()
                _train_briefly(trial, model)
                crps = trial.score(trial.quantiles(model, at), at)["crps"]
            self.all_crps[settings] = crps if math.isfinite(crps) else math.inf
        return self.all_crps[settings]

    def has_linear_path(self, settings: ForecastSettings) -> bool:
        """Whether a regression fits the head and the data."""
        return self._trial(settings).linear_error() is not None

    def linear_error(self, settings: ForecastSettings) -> float:
        """Of the linear path with which the small model starts; infinity where it has none."""
        error = self._trial(settings).linear_error()
        self.linear_errors[settings] = math.inf if error is None else error
        return self.linear_errors[settings]

    def _trial(self, settings: ForecastSettings) -> ForecastDataset:
        if settings not in self._datasets:
            small = replace(settings, hidden=TRIAL_HIDDEN, lanes=TRIAL_LANES, bptt=TRIAL_BPTT)
            trial = self.dataset.with_settings(small).with_leads(TRIAL_LEADS)
            trial.linear_rows = LONG_TABLE_LINEAR_ROWS if is_long(trial) else trial.linear_rows
            self._datasets[settings] = trial
        return self._datasets[settings]


def _train_briefly(trial: ForecastDataset, model: Forecaster) -> None:
    """`TRIAL_UPDATES` updates."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(trial.frozen_parameters(0) or "-"))
    optimizer = AdamW(model.parameters(), lr=TRIAL_LR, weight_decay=0.01)
    state = None
    batches = (batch for epoch in itertools.count() for batch in trial.batches(epoch))
    with StepThreads(model) as threads:
        for update, batch in enumerate(itertools.islice(batches, TRIAL_UPDATES)):
            share = update / TRIAL_UPDATES
            for group in optimizer.param_groups:
                warm_up = min(1.0, share / 0.1 + 0.1)
                group["lr"] = TRIAL_LR * warm_up * 0.5 * (1 + math.cos(math.pi * share))
            threads.choose(batch.steps)
            carried = state.detach() if batch.carry and state is not None else None
            loss, state = model.loss(batch, carried)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
