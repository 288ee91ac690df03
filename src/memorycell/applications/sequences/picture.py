"""The main picture of a model of sequences, by the kind of its target."""

from __future__ import annotations

from typing import Any

import numpy as np

from memorycell.application.picture import (
    MAX_POINTS,
    MAX_TABLE_ROWS,
    Picture,
    json_numbers,
    picture_of_result,
)
from memorycell.applications.sequences.answering import answers
from memorycell.applications.sequences.dataset import SequencesDataset
from memorycell.applications.sequences.model import SequenceModel
from memorycell.models.quantiles import interval

MAX_CANDIDATES = 25
"""Sequences among which one is chosen."""


def sequences_picture(
    dataset: SequencesDataset, model: SequenceModel, result: dict[str, Any]
) -> Picture | None:
    """Classes: the confusion matrix; labels: the metrics of each; a number: predictions and true
    values; a number per step: those of one sequence.
    """
    if dataset.codec.target == "labels":
        return _labels(result)
    if not dataset.codec.numeric:
        return picture_of_result(result)
    return _steps(dataset, model) if dataset.codec.every_step else _numbers(dataset, model)


def _labels(result: dict[str, Any]) -> Picture | None:
    scores: dict[str, dict[str, float]] = result.get("per_class") or {}
    if not 0 < len(scores) <= MAX_TABLE_ROWS:
        return None
    names = list(next(iter(scores.values())))
    rows = [[label, *(f"{own[name]:.4g}" for name in names)] for label, own in scores.items()]
    return Picture(title="Labels of the test split", table=[["label", *names], *rows])


def _numbers(dataset: SequencesDataset, model: SequenceModel) -> Picture | None:
    """The first number of sequences that are evenly spaced."""
    truth = dataset.target("test").array[:, 0]
    known = np.flatnonzero(np.isfinite(truth))
    chosen = known[_spaced(len(known), MAX_POINTS)]
    if not len(chosen):
        return None
    inputs = dataset.inputs("test")
    found = answers(model, dataset.codec, [inputs[k] for k in chosen])
    medians = interval(np.stack(list(found)))[1][:, 0]
    name = dataset.codec.names[0]
    pairs = zip(json_numbers(truth[chosen]), json_numbers(medians), strict=True)
    return Picture(
        title=f"{name} of {len(chosen):,} test sequences: predicted and true values",
        points=[(x, y) for x, y in pairs if x is not None and y is not None],
        x_name=f"true {name}",
        y=f"predicted {name}",
    )


def _steps(dataset: SequencesDataset, model: SequenceModel) -> Picture | None:
    """The first number over the steps of the sequence with the median error among some."""
    codec, part = dataset.codec, dataset.part("test")
    truths = dataset.target("test").values
    chosen = [k for k in _spaced(len(part), MAX_CANDIDATES) if np.isfinite(truths[k][:, 0]).any()]
    if not chosen:
        return None
    inputs = dataset.inputs("test")
    found = answers(model, codec, [inputs[k] for k in chosen])
    errors = [
        float(np.nanmean(np.abs(truths[k][:, 0] - interval(y)[1][:, 0])))
        for k, y in zip(chosen, found, strict=True)
    ]
    best = int(np.argsort(errors)[(len(errors) - 1) // 2])
    low, median, high = (line[:, 0] for line in interval(found[best]))
    steps = _spaced(len(median), MAX_POINTS)
    name, own = codec.names[0], chosen[best]
    return Picture(
        title=f"{name} of test sequence {part.names[own]}, with 80% intervals",
        x=[str(step + 1) for step in steps],
        y=name,
        lines={
            "true": json_numbers(truths[own][steps, 0]),
            "predicted": json_numbers(median[steps]),
        },
        low=json_numbers(low[steps]),
        high=json_numbers(high[steps]),
    )


def _spaced(size: int, count: int) -> np.ndarray:
    return np.unique(np.linspace(0, max(size - 1, 0), min(size, count)).astype(int))
