"""Choices made on the validation split: calendar, inputs and normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from memorycell.applications.forecast.dataset import ForecastDataset
    from memorycell.applications.forecast.settings import ForecastSettings

MIN_WEEK_GAIN = 0.005
"""Share of ridge's CRPS that the day of the week must save to become an input."""
MIN_INPUTS_LOSS = 0.02
"""Share of ridge's CRPS that leaving out all other columns must save."""
MIN_NORMAL_GAIN = 0.01
"""Share of the CRPS in a trial that normalised windows must save: such models are not exported."""
MIN_TRIAL_STEPS = 4000
"""Training steps of a table from which on trials are made."""
TRIAL_HIDDEN, TRIAL_LANES, TRIAL_BPTT, TRIAL_UPDATES, TRIAL_LR = 32, 16, 48, 80, 8e-3
"""The model of a trial, and its training: the same work whatever the machine."""
TRIAL_LEADS = 12
"""Lead times of a trial."""
TRIAL_WINDOW = 96
"""Steps of the longer window that is tried with normal=level."""


def select_calendar(dataset: ForecastDataset) -> ForecastDataset:
    """The dataset without the day of the week, unless ridge does better with it on the validation
    split: a network memorises the few weeks of most tables.
    """
    codec = dataset.codec
    both = codec.cycles is None and set(codec.calendar) == {"day", "week"}
    if not both or "ridge" not in dataset.baseline_models:
        return dataset
    other = dataset.rebuilt(replace(codec, cycles=("day",)))
    with_week, without = (d.baselines("valid")["ridge"]["crps"] for d in (dataset, other))
    return dataset if with_week < (1 - MIN_WEEK_GAIN) * without else other


def select_inputs(
    dataset: ForecastDataset, univariate: Callable[[], ForecastDataset]
) -> tuple[ForecastDataset, list[str]]:
    """(the dataset, or the `univariate` one if ridge does better with it on the validation split;
    notes)
    """
    if not dataset.codec.inputs or "ridge" not in dataset.baseline_models:
        return dataset, []
    other = univariate()
    every, none = (d.baselines("valid")["ridge"]["crps"] for d in (dataset, other))
    if none > (1 - MIN_INPUTS_LOSS) * every:
        return dataset, []
    inputs = ",".join(dataset.codec.inputs)
    return other, [
        f"inputs=none chosen: without the other columns ridge has a CRPS of {none:.4g} on"
        f" validation, {every:.4g} with them; --set inputs={inputs[:80]} uses them"
    ]


def select_normal(
    dataset: ForecastDataset, *, any_window: bool
) -> tuple[ForecastDataset, list[str]]:
    """(the dataset with `normal` chosen by short trials, and `window` if any_window; notes)"""
    settings = dataset.settings
    if settings.normal is not None or int((dataset.split == 0).sum()) < MIN_TRIAL_STEPS:
        return dataset, []
    choices = [replace(settings, normal="no"), replace(settings, normal="level")]
    longer = min(settings.horizon or 1, TRIAL_WINDOW)
    if any_window and longer > (settings.window or 1):
        choices.append(replace(settings, normal="level", window=longer))
    scores = [trial_score(dataset, choice) for choice in choices]
    best = int(np.argmin(scores))
    if not scores[best] < (1 - MIN_NORMAL_GAIN) * scores[0]:
        best = 0
    chosen = choices[best]
    tried = "; ".join(
        f"{choice.normal}, window {choice.window}: {score:.4g}"
        for choice, score in zip(choices, scores, strict=True)
    )
    note = (
        f"normal={chosen.normal} and window={chosen.window} chosen by trials of {TRIAL_UPDATES}"
        f" updates; CRPS on validation: {tried}"
    )
    return dataset.with_settings(chosen), [note]


def trial_score(dataset: ForecastDataset, settings: ForecastSettings) -> float:
    """The CRPS on validation of a small model after a fixed number of updates."""
    small = replace(settings, hidden=TRIAL_HIDDEN, lanes=TRIAL_LANES, bptt=TRIAL_BPTT)
    trial = dataset.with_settings(small).with_leads(TRIAL_LEADS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = trial.build().train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=TRIAL_LR, weight_decay=0.01)
        update, epoch, state = 0, 0, None
        while update < TRIAL_UPDATES:
            for batch in trial.batches(epoch):
                share = update / TRIAL_UPDATES
                for group in optimizer.param_groups:
                    warm_up = min(1.0, share / 0.1 + 0.1)
                    group["lr"] = TRIAL_LR * warm_up * 0.5 * (1 + math.cos(math.pi * share))
                carried = state.detach() if batch.carry and state is not None else None
                loss, state = model.loss(batch, carried)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                update += 1
                if update == TRIAL_UPDATES:
                    break
            epoch += 1
        crps = trial.evaluate(model, "valid")["crps"]
    return crps if math.isfinite(crps) else math.inf
