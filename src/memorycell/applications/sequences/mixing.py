"""The random convolutions of a data set, mixed into its model where that is better."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from memorycell.applications.sequences.answering import answers_over_time
from memorycell.applications.sequences.mixture_fitting import (
    MAX_SEQUENCES,
    Fitted,
    HeldOut,
    fit_mixture,
)
from memorycell.applications.sequences.model import SequenceModel
from memorycell.applications.sequences.unknown import UNLABELLED

if TYPE_CHECKING:
    from memorycell.applications.sequences.dataset import SequencesDataset

MIN_VALIDATION, MAX_VALIDATION = 20, 5000
"""Sequences, for the share of the mixture, and the threshold of an early answer; of more as many at
random.
"""


def mix(dataset: SequencesDataset, model: SequenceModel) -> Fitted | None:
    """Mix random convolutions in, with a note, for one class per sequence and where the log loss on
    validation sequences is lower; None where they are not.
    """
    if dataset.codec.target != "class" or not dataset.settings.mix:
        return None
    valid, train = dataset.target("valid").array, dataset.target("train").array
    if len(valid) < MIN_VALIDATION:
        return None
    chosen = _validated(dataset)
    own = np.arange(len(train))
    if len(own) > MAX_SEQUENCES:
        own = np.sort(np.random.default_rng(0).permutation(len(own))[:MAX_SEQUENCES])
    fold = np.zeros(len(train), np.int64) if dataset.left_out is None else dataset.left_out
    inputs = [dataset.inputs("train")[k] for k in own]
    others = dataset.unknown_inputs("train")
    member = dataset.own_member
    p = dataset.predictions(model, "valid")
    assert isinstance(p, np.ndarray)
    known = None if member is None else np.array(member)[chosen]
    held_out = HeldOut(
        [dataset.inputs("valid")[k] for k in chosen], valid[chosen], p[chosen], known
    )
    fitted = fit_mixture(
        [*inputs, *others],
        np.concatenate([train[own], np.full(len(others), UNLABELLED)]),
        np.concatenate([fold[own], np.full(len(others), UNLABELLED)]),
        held_out,
        patch=dataset.codec.patch,
        row_size=dataset.codec.row_size,
    )
    dataset.notes.append(fitted if isinstance(fitted, str) else fitted.note)
    if isinstance(fitted, str):
        return None
    model.mix(fitted.random)
    return fitted


def held_out_paths(
    dataset: SequencesDataset, model: SequenceModel, fitted: Fitted | None
) -> tuple[list[np.ndarray], np.ndarray]:
    """(the probabilities of n validation sequences after every step, arrays [n_i, C], of what did
    not learn from them, their classes [n]).
    """
    chosen, given = _validated(dataset), dataset.own_member
    inputs = [dataset.inputs("valid")[k] for k in chosen]
    truth = dataset.target("valid").array[chosen]
    member = None if given is None else [given[k] for k in chosen]
    paths = answers_over_time(model, dataset.codec, inputs, member)
    if fitted is None or member is None:
        return paths, truth
    return [
        fitted.held_out[k].mixed_path(p, x) for k, p, x in zip(member, paths, inputs, strict=True)
    ], truth


def _validated(dataset: SequencesDataset) -> np.ndarray:
    """The numbers of the validation sequences that are used, int64 [n]."""
    count = len(dataset.part("valid"))
    if count <= MAX_VALIDATION:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).permutation(count)[:MAX_VALIDATION])
