"""Training, validation and test parts of labelled sequences.

Sequences are split, by class, and never those of one group; a few long sequences with a target at
every step are cut in time instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from memorycell.applications.sequences.sequence_set import SequenceSet, Target
from memorycell.errors import DataError, counted, quote

TRAIN, VALID, TEST = range(3)
PART_WORDS = {
    **dict.fromkeys(("train", "training", "0"), TRAIN),
    **dict.fromkeys(("valid", "validation", "val", "dev", "1"), VALID),
    **dict.fromkeys(("test", "testing", "2"), TEST),
}
"""How files name the parts, in lower case."""
MAX_CUT_SEQUENCES = 8
"""Up to as many sequences with a target at every step are cut in time."""
MIN_CUT_STEPS = 30
TARGET_BINS = 5
"""Quantile bins by which sequences with numbers as targets are stratified."""


def split_sequences(
    data: SequenceSet, shares: Sequence[float] = (0.7, 0.15, 0.15), seed: int = 0
) -> np.ndarray:
    """The part of each sequence, int8 [N]: `TRAIN`, `VALID` or `TEST`.

    shares   of training, validation and test; where the data have an official test part, it is
             kept, and validation takes its share of the training and validation sequences together

    Each class keeps its shares; a class of one or two sequences is trained on. Sequences of one
    group are in one part. Raises `DataError` where no sequence is left to train or to test on.
    """
    train_share, valid_share, test_share = shares
    rng = np.random.default_rng(seed)
    strata = _strata(data)
    groups = data.groups
    parts = np.zeros(len(data), np.int8)
    if data.split is not None and (data.split == TEST).any():
        parts = data.split.astype(np.int8)
        rest = np.flatnonzero(parts != TEST)
        if not (parts == VALID).any() and valid_share > 0:
            share = valid_share / (train_share + valid_share)
            parts[rest] = _allot(strata[rest], _of(groups, rest), (1 - share, share, 0.0), rng)
    else:
        parts = _allot(strata, groups, (train_share, valid_share, test_share), rng)
    for part, share, name in ((TRAIN, 1, "train"), (TEST, test_share, "test")):
        if share and not (parts == part).any():
            raise DataError(
                f"{data.where}: {counted(len(data), 'sequences')}"
                + (f" in {counted(len(set(groups)), 'groups')}" if groups else "")
                + f": none is left to {name} on; add data"
            )
    return parts


def split_spans(data: SequenceSet, shares: Sequence[float]) -> list[np.ndarray] | None:
    """The part of each step, N arrays int8 [T_i], where sequences are cut in time: training first,
    then validation, then test; None where sequences are split.

    That is for up to `MAX_CUT_SEQUENCES` with a target at every step and no official parts. The
    shares are those of the steps up to the last one with a known target.
    """
    target = data.target
    if target is None or not target.every_step or data.split is not None:
        return None
    if len(data) > MAX_CUT_SEQUENCES:
        return None
    spans = []
    for name, values in zip(data.names, target.values, strict=True):
        known = np.flatnonzero(known_steps(values))
        end = int(known[-1]) + 1 if len(known) else 0
        if end < MIN_CUT_STEPS:
            raise DataError(
                f"{data.where}: sequence {quote(name)} has {counted(end, 'steps')} up to its last"
                f" target; to cut {counted(len(data), 'sequences')} in time needs"
                f" {MIN_CUT_STEPS}; add steps, or more than {MAX_CUT_SEQUENCES} sequences"
            )
        edges = np.round(np.cumsum(shares[:2]) * end)
        spans.append(np.digitize(np.arange(len(values)), edges).astype(np.int8))
    return spans


def select_part(
    data: SequenceSet, split: np.ndarray | Sequence[np.ndarray], part: int
) -> SequenceSet:
    """The sequences of a part; `split` is of `split_sequences` or `split_spans`.

    Of sequences that are cut in time, the steps up to the end of the part, with the targets before
    it masked: a model reads the inputs before the part and is not scored there.
    """
    if isinstance(split, np.ndarray):
        return data.select(split == part)
    target = data.target
    assert target is not None
    ends = [int(np.flatnonzero(s == part)[-1]) + 1 if (s == part).any() else 0 for s in split]
    masked = []
    for values, steps, end in zip(target.values, split, ends, strict=True):
        own = values[:end].copy()
        own[steps[:end] != part] = -1 if target.kind == "step_class" else np.nan
        masked.append(own)
    cut = [values[:end] for values, end in zip(data.values, ends, strict=True)]
    whole = replace(data, values=cut, target=Target(target.kind, target.names, masked))
    return whole.select(np.array(ends) > 0)


def known_steps(values: np.ndarray) -> np.ndarray:
    """Whether the target of each step is known, bool [T], of values [T] (class) or [T, K]."""
    return values >= 0 if values.ndim == 1 else ~np.isnan(values).any(1)


def folds(data: SequenceSet, count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Up to `count` folds (numbers of the training sequences [n], of the validation sequences [m])
    of all sequences, stratified as in `split_sequences`; groups stay together.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    strata, index = _strata(data), np.zeros(len(data))
    smallest = int(np.bincount(strata).min()) if len(np.unique(strata)) > 1 else 0
    if data.groups is not None:
        _, groups = np.unique(data.groups, return_inverse=True)
        count = min(count, int(groups.max()) + 1)
        if count < 2:
            return []
        if smallest >= count:
            grouped = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
            return list(grouped.split(index, strata, groups))
        return list(GroupKFold(count, shuffle=True, random_state=seed).split(index, None, groups))
    count = min(count, len(data))
    if count < 2:
        return []
    if smallest < 2:
        return list(KFold(count, shuffle=True, random_state=seed).split(index))
    folder = StratifiedKFold(min(count, smallest), shuffle=True, random_state=seed)
    return list(folder.split(index, strata))


def split_notes(data: SequenceSet, parts: np.ndarray) -> list[str]:
    """What a user should know about the parts [N]: classes that are not in each of them."""
    target = data.target
    if target is None or target.kind != "class":
        return []
    counts = np.stack(
        [np.bincount(target.array[parts == k], minlength=len(target.names)) for k in range(3)]
    )
    notes = []
    for k, name in enumerate(target.names):
        if counts[TRAIN, k] == 0 and counts[:, k].sum():
            notes.append(
                f"class {quote(name)} is not in the training part; its"
                f" {counted(int(counts[1:, k].sum()), 'sequences')} will be counted as errors"
            )
    alone = [n for n, count in zip(target.names, counts.sum(0), strict=True) if count == 1]
    if alone:
        names = ", ".join(quote(n) for n in alone[:5])
        notes.append(f"classes with one sequence, which is trained on: {names} ({len(alone)})")
    return notes


def _of(groups: list[str] | None, index: np.ndarray) -> list[str] | None:
    return None if groups is None else [groups[k] for k in index]


def _strata(data: SequenceSet) -> np.ndarray:
    """What the parts have in equal shares, int64 [N]: the class, the combination of labels, or a
    quantile bin of the number; the most common class of the steps.
    """
    target = data.target
    if target is None or target.kind == "step_number":
        return np.zeros(len(data), np.int64)
    if target.kind == "class":
        return np.asarray(target.values)
    if target.kind == "labels":
        return np.unique(target.array, axis=0, return_inverse=True)[1].reshape(-1)
    if target.kind == "step_class":
        size = len(target.names)
        return np.array([np.bincount(v[v >= 0], minlength=size).argmax() for v in target.values])
    number = target.array[:, 0]
    bins = min(TARGET_BINS, max(1, len(number) // 10))
    return np.searchsorted(np.quantile(number, np.arange(1, bins) / bins), number, side="right")


def _allot(
    strata: np.ndarray,
    groups: list[str] | None,
    shares: Sequence[float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Parts int8 [N] with about these shares of every stratum."""
    if groups is not None:
        return _allot_groups(strata, groups, shares, rng)
    parts = np.zeros(len(strata), np.int8)
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        if len(members) < 2:
            continue
        counts = np.floor(np.array(shares) * len(members) + 0.5).astype(int)
        if len(members) == 2:  # one to train on, and one to test on where there is a test share
            counts = np.array([1, int(shares[TEST] == 0), int(shares[TEST] > 0)])
        else:
            counts[TEST] = max(counts[TEST], int(shares[TEST] > 0))
            counts[VALID] = max(counts[VALID], int(shares[VALID] > 0 and len(members) > 3))
        counts[VALID] = min(counts[VALID], len(members) - 1 - counts[TEST])
        test, valid = counts[TEST], max(counts[VALID], 0)
        parts[members[:test]], parts[members[test : test + valid]] = TEST, VALID
    return parts


def _allot_groups(
    strata: np.ndarray, groups: list[str], shares: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """Parts int8 [N]; each group, the largest first, goes to the part that then is nearest to its
    shares of the strata.
    """
    names, index = np.unique(groups, return_inverse=True)
    table = np.zeros((len(names), int(strata.max()) + 1))
    np.add.at(table, (index, strata), 1)
    wanted = np.array(shares)[:, None] * table.sum(0)
    filled = np.zeros_like(wanted)
    part_of = np.zeros(len(names), np.int8)
    order = rng.permutation(len(names))
    order = order[np.argsort(-table[order].sum(1), kind="stable")]
    scale = np.maximum(table.sum(0), 1)
    for rank, group in enumerate(order):
        empty = [k for k in range(3) if shares[k] > 0 and not filled[k].any()]
        left = len(order) - rank
        open_parts = empty if len(empty) >= left else [k for k in range(3) if shares[k] > 0]
        costs = []
        for part in open_parts:
            after = filled.copy()
            after[part] += table[group]
            costs.append((((after - wanted) / scale) ** 2).sum())
        part_of[group] = open_parts[int(np.argmin(costs))]
        filled[part_of[group]] += table[group]
    return part_of[index]
