"""Sequences of classes that the model does not learn, for the answer "unknown"."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from memorycell.applications.sequences.sequence_set import SequenceSet, Target
from memorycell.errors import DataError, counted
from memorycell.signals.examples import Example, LabelledData
from memorycell.signals.unknown import describe_unknown, separate_unknown

UNLABELLED = -1
"""The class of a training sequence that is none of the classes."""


def separate(
    data: SequenceSet, patterns: str | None
) -> tuple[SequenceSet, dict[str, SequenceSet], list[str]]:
    """(the sequences of the other classes, those of the classes that `patterns` name as "train",
    "valid" and "test", notes); see `separate_unknown`. Raises `DataError`.
    """
    if patterns is None:
        return data, {}, []
    target = data.target
    if target is None or target.kind != "class":
        raise DataError(f"{data.where}: unknown={patterns}: only for one class per sequence")
    labels = [target.names[k] for k in target.array.tolist()]
    examples = [
        Example(k, label, name)
        for k, (label, name) in enumerate(zip(labels, data.names, strict=True))
    ]
    kept, unknown = separate_unknown(LabelledData(data.where, examples, False, []), patterns)
    learnt = {example.label for example in kept}
    if len(learnt) < 2:
        raise DataError(
            f"{data.where}: unknown={patterns}: leaves {counted(len(learnt), 'classes')} to learn"
        )
    names = tuple(name for name in target.names if name in learnt)
    known = data.select(np.array([example.raw for example in kept]))
    values = np.array([names.index(example.label) for example in kept])
    known = replace(known, target=Target("class", names, values))
    parts = {
        split: replace(data.select(np.array([example.raw for example in own])), target=None)
        for split, own in unknown.items()
    }
    return known, parts, [describe_unknown(unknown)]
