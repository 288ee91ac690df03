"""Few long sequences cut in time: networks that validate each other on blocks of it.

One block of validation at the end of the training time is of one season, and intervals that fit it
do not fit the others. Here each network leaves out another block (blocked cross-validation,
Bergmeir & Benítez 2012, doi:10.1016/j.ins.2011.12.028), so that all of the training time validates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from memorycell.applications.sequences.sequence_set import SequenceSet, Target
from memorycell.applications.sequences.splits import TEST

CONTEXT = 365
"""Steps before a block that a network reads without a target."""
MIN_BLOCK = 30


def split_blocks(
    data: SequenceSet, spans: Sequence[np.ndarray], count: int
) -> tuple[SequenceSet, np.ndarray] | None:
    """(`count` blocks of the training time of each sequence as sequences of their own, with the
    steps before it as inputs alone; which of the blocks each is, int64 [N · count]). The parts of
    the steps `spans` are of `splits.split_spans`. None where blocks would be too short.
    """
    target = data.target
    assert target is not None
    ends = [int(np.flatnonzero(own < TEST)[-1]) + 1 if (own < TEST).any() else 0 for own in spans]
    if min(ends) < MIN_BLOCK * count:
        return None
    values, targets, names, origin = [], [], [], []
    for k, end in enumerate(ends):
        edges = np.linspace(0, end, count + 1).astype(int).tolist()
        for fold in range(count):
            begin, stop = edges[fold], edges[fold + 1]
            first = max(0, begin - CONTEXT)
            own = target.values[k][first:stop].copy()
            own[: begin - first] = -1 if target.kind == "step_class" else np.nan
            values.append(data.values[k][first:stop])
            targets.append(own)
            names.append(f"{data.names[k]}, block {fold + 1}")
            origin.append(k)
    several = data.select(np.array(origin))
    blocks = replace(
        several, names=names, values=values, target=Target(target.kind, target.names, targets)
    )
    return blocks, np.tile(np.arange(count), len(data))
