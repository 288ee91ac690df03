"""The answer "unknown" of a classifier, for inputs of none of its classes.

Some classes have no label. Examples of the first of them are trained on, with all labels equally
likely as the target (outlier exposure; Hendrycks, Mazeika & Dietterich 2019, arXiv:1812.04606).
Those of the second set the threshold: below this probability of the best class the answer is
"unknown" (Hendrycks & Gimpel 2017, arXiv:1610.02136). Those of the third, new to both, measure how
often an unknown input gets a label all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np

from memorycell.errors import DataError, quote
from memorycell.signals.examples import Example, LabelledData, R, Splits
from memorycell.training.splits import SPLITS, split_of

UNKNOWN_LABEL = "unknown"
PURPOSES = ("are trained on without a label", "set the threshold", "measure it")
"""Of the unknown examples in each split."""


def separate_unknown(
    data: LabelledData[R], patterns: str | None
) -> tuple[list[Example[R]], Splits[R]]:
    """(the other examples, those of the classes that `patterns` name, as "train", "valid" and
    "test").

    From three classes on they are divided by class, so that those of "valid" and "test" are new;
    of two, one is that of "test"; one is divided by example. Raises `DataError` for a pattern
    without a class, and where a learnt class is named "unknown".
    """
    if patterns is None:
        return list(data.examples), {}
    labels = sorted({example.label for example in data.examples})
    names: set[str] = set()
    for pattern in filter(None, map(str.strip, patterns.split(","))):
        found = [label for label in labels if fnmatchcase(label, pattern)]
        if not found:
            shown = ", ".join(map(quote, labels[:10]))
            raise DataError(f"{data.name}: unknown={pattern}: no such class; there are {shown}")
        names.update(found)
    if UNKNOWN_LABEL in set(labels) - names:
        raise DataError(
            f'{data.name}: a class is named "unknown": name it in --set unknown=, or rename it'
        )
    kept = [example for example in data.examples if example.label not in names]
    apart = [example for example in data.examples if example.label in names]
    splits: Splits[R] = {split: [] for split in SPLITS}
    for example in apart:
        splits[_split(example, sorted(names))].append(example)
    for split, members in splits.items():
        if not members:
            raise DataError(f"{data.name}: unknown={patterns}: no example for the {split} split")
    return kept, splits


def _split(example: Example[R], names: Sequence[str]) -> str:
    at = names.index(example.label)
    if len(names) >= len(SPLITS):
        return SPLITS[at % len(SPLITS)]
    if at == 1:
        return "test"
    if len(names) == 1:
        return split_of(example.name, one_in=3)
    return "valid" if split_of(example.name, one_in=2) == "valid" else "train"


def fit_threshold(p: np.ndarray, false_acceptance: float) -> float:
    """The probability that at most a share `false_acceptance` of p [N], the best probabilities of
    unknown inputs, reaches.
    """
    ordered = np.sort(p)[::-1]
    accepted = int(false_acceptance * len(ordered))
    return min(float(np.nextafter(ordered[accepted], 2.0)), 1.0)


def describe_unknown(unknown: Splits[R]) -> str:
    """For notes."""
    parts = [
        f"{len(unknown[split])} of {_names({e.label for e in unknown[split]})} {purpose}"
        for split, purpose in zip(SPLITS, PURPOSES, strict=True)
    ]
    return f"examples of unknown classes: {', '.join(parts)}"


def _names(labels: set[str]) -> str:
    ordered: Sequence[str] = sorted(labels)
    return ", ".join(ordered[:5]) + (" …" if len(ordered) > 5 else "")
