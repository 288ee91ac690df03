"""The answer "unknown" of a classifier, for inputs of none of its classes.

Examples of classes that the model does not learn set the threshold: below this probability of the
best class the answer is "unknown" (Hendrycks & Gimpel 2017, arXiv:1610.02136). Examples of other
such classes measure how often an unknown input gets a label all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np

from memorycell.errors import DataError, quote
from memorycell.signals.examples import Example, LabelledData, R, Splits
from memorycell.training.splits import split_of

UNKNOWN_LABEL = "unknown"


def separate_unknown(
    data: LabelledData[R], patterns: str | None
) -> tuple[list[Example[R]], Splits[R]]:
    """(the other examples, those of the classes that `patterns` name, as "valid" and "test").

    Several classes are divided by class, so that those of "test" are new; one class by example.
    Raises `DataError` for a pattern without a class, and where a learnt class is named "unknown".
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
    ordered = sorted(names)
    second_half = set(ordered[1::2])
    halves: Splits[R] = {"valid": [], "test": []}
    for example in apart:
        in_test = (
            example.label in second_half
            if len(ordered) > 1
            else split_of(example.name, one_in=2) == "test"
        )
        halves["test" if in_test else "valid"].append(example)
    for split, members in halves.items():
        if not members:
            raise DataError(f"{data.name}: unknown={patterns}: no example for the {split} split")
    return kept, halves


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
        for split, purpose in (("valid", "set the threshold"), ("test", "measure it"))
    ]
    return f"examples of unknown classes: {', '.join(parts)}"


def _names(labels: set[str]) -> str:
    ordered: Sequence[str] = sorted(labels)
    return ", ".join(ordered[:5]) + (" …" if len(ordered) > 5 else "")
