"""Choices made on the validation split: calendar, inputs and normalisation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

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
LONGEST_HORIZONS = 3
"""Horizons of a window that is tried where a longer one than usual is better."""
MAX_TRIAL_WINDOW = 96
"""Steps of the longest window that is tried."""


def select_calendar(dataset: ForecastDataset) -> ForecastDataset:
    """The dataset without the day of the week, unless ridge does better with it on the validation
    split: a network memorises the few weeks of most tables.
    """
    codec = dataset.codec
    both = codec.cycles is None and set(codec.calendar) == {"day", "week"}
    if not both or codec.returns is not None:
        return dataset
    day = replace(codec, cycles=("day",))
    if is_long(dataset):
        ridge, kept = _subset_ridge(dataset), _without_week(codec)
        if ridge is None:
            return dataset
        every = np.ones(codec.dynamic_size, bool)
        with_week, without = (ridge.error(f) for f in (every, kept[: codec.dynamic_size]))
        helps = with_week < (1 - MIN_WEEK_GAIN) * without
        return dataset if helps else dataset.with_features(day, kept)
    other = dataset.rebuilt(day)
    with_week, without = (d.baselines("valid")["ridge"]["crps"] for d in (dataset, other))
    return dataset if with_week < (1 - MIN_WEEK_GAIN) * without else other


def is_long(dataset: ForecastDataset) -> bool:
    """Whether choices are made by regressions on a part of the training steps."""
    return int((dataset.split == 0).sum()) > LONG_TABLE_ROWS


def _without_week(codec: SeriesCodec) -> np.ndarray:
    """[F] bool: the features that are not the week."""
    kept = np.ones(len(codec.features), bool)
    begin = 2 * len(codec.columns) + 1 + len(codec.gappy) + 4 * list(codec.calendar).index("week")
    kept[begin : begin + 4] = False
    return kept


def select_inputs(dataset: ForecastDataset) -> tuple[ForecastDataset, list[str]]:
    """(the dataset with all columns of numbers, or with those columns of numbers and words that
    help ridge on the validation split, or with none, whichever ridge does best with; notes)
    """
    codec, every = dataset.codec, dataset.codec.inputs
    if codec.returns is not None or not (every or codec.words):
        return dataset, []
    quick = _quick_error(dataset)
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


def _quick_error(dataset: ForecastDataset) -> Error | None:
    """The mean absolute error in scaled units, with a short window and few lead times; None where
    too little of the future is known.
    """
    ridge = _subset_ridge(dataset)
    if ridge is None:
        return None
    source = np.array(_feature_sources(dataset.codec), object)
    return lambda inputs: ridge.error(np.array([c in ("", *inputs) for c in source]))


def _subset_ridge(dataset: ForecastDataset) -> SubsetRidge | None:
    """None where too little of the future is known."""
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
    notes)
    """
    settings = dataset.settings
    if settings.normal is not None or int((dataset.split == 0).sum()) < MIN_TRIAL_STEPS:
        return dataset, []
    windows = [settings.window or 1]
    longer = min(max(settings.horizon or 1, ridge_window(dataset)), MAX_TRIAL_WINDOW)
    if any_window and longer > windows[0]:
        windows.append(longer)
    choices = [
        replace(settings, normal=normal, window=window, linear=settings.linear or "ridge")
        for window in windows
        for normal in ("no", "level")
    ]
    scores = [trial_score(dataset, choice) for choice in choices]
    best = int(np.argmin(scores))
    if not scores[best] < (1 - MIN_NORMAL_GAIN) * scores[0]:
        best = 0
    longest = min(LONGEST_HORIZONS * (settings.horizon or 1), MAX_TRIAL_WINDOW)
    if choices[best].window != windows[0] and longest > longer:
        choices.append(replace(choices[best], window=longest))
        scores.append(trial_score(dataset, choices[-1]))
        if scores[-1] < (1 - MIN_NORMAL_GAIN) * scores[best]:
            best = len(choices) - 1
    chosen = choices[best]
    if settings.linear is None:
        choices.append(replace(chosen, linear="trained"))
        scores.append(trial_score(dataset, choices[-1]))
        if not scores[best] < (1 - MIN_RIDGE_GAIN) * scores[-1]:
            chosen = choices[-1]
    tried = "; ".join(
        f"{choice.normal}, window {choice.window}, {choice.linear}: {score:.4g}"
        for choice, score in zip(choices, scores, strict=True)
    )
    note = (
        f"normal={chosen.normal}, window={chosen.window} and linear={chosen.linear} chosen by"
        f" trials of {TRIAL_UPDATES} updates; CRPS on validation: {tried}"
    )
    return dataset.with_settings(chosen), [note]


def ridge_window(dataset: ForecastDataset) -> int:
    """The steps that the ridge baseline reads, chosen on validation; 1 without it."""
    ridge = dataset.baseline_models.get("ridge")
    return ridge.window(dataset.history) if isinstance(ridge, Ridge) else 1


def trial_score(dataset: ForecastDataset, settings: ForecastSettings) -> float:
    """The CRPS on validation of a small model after a fixed number of updates."""
    small = replace(settings, hidden=TRIAL_HIDDEN, lanes=TRIAL_LANES, bptt=TRIAL_BPTT)
    trial = dataset.with_settings(small).with_leads(TRIAL_LEADS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = trial.build().train()
        _train_briefly(trial, model)
        crps = trial.evaluate(model, "valid")["crps"]
    return crps if math.isfinite(crps) else math.inf


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
