"""From when a model of dialogues is unsure, and from when it answers as the nearest dialogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import torch
from torch import Tensor

from memorycell.applications.chat.dialogues import Dialogue
from memorycell.errors import ModelFileError
from memorycell.language.nearest import NEVER, NearestText, pack_pairs, unpack_nearest

LIMITS, MEMORY = "limits", "memory"
"""The arrays of a model file."""
MAX_REMEMBERED = 20_000
"""Pairs of a message and its reply."""
UNSURE_SHARE = 0.05
"""Of held-out messages, by each of the two limits."""
UNLIMITED = 1e9
WRITTEN_SHAPES = ((3,), (4,))
"""Of the limits in a model file; older files have no weight."""


@dataclass(frozen=True)
class Limits:
    """Fitted on the validation split; the defaults are those of files without them.

    similarity   of a training message, from which its reply is given
    min_p        geometric mean of the probabilities of a reply's tokens, below which it is unsure
    max_nats     per token of a message, above which the reply is unsure
    mmi          weight of what a reply gains by the message, see `PredictOptions`
    """

    similarity: float = NEVER
    min_p: float = 0.12
    max_nats: float = UNLIMITED
    mmi: float = 0.5

    def arrays(self, pairs: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
        """For a model file: with the pairs where they are needed."""
        arrays = {LIMITS: torch.tensor(astuple(self), dtype=torch.float32)}
        if self.similarity < NEVER:
            arrays[MEMORY] = pack_pairs(pairs)
        return arrays


def read_limits(arrays: Mapping[str, Tensor]) -> tuple[Limits, NearestText | None]:
    """The limits and the memory of a model file. Raises `ModelFileError`."""
    if LIMITS not in arrays:
        return Limits(), None
    values = arrays[LIMITS].double().tolist()
    limits = Limits(*values) if arrays[LIMITS].shape in WRITTEN_SHAPES else None
    if limits is None or not 0 <= limits.mmi < 1:
        raise ModelFileError("the limits of the model are damaged; copy the file again")
    if limits.similarity >= NEVER or MEMORY not in arrays:
        return limits, None
    return limits, unpack_nearest(arrays[MEMORY], "word")


def unsure_limits(p: Sequence[float], nats: Sequence[float]) -> tuple[float, float]:
    """(min_p, max_nats) that `UNSURE_SHARE` of held-out messages are beyond, each."""
    return (
        float(np.quantile(p, UNSURE_SHARE)),
        float(np.quantile(nats, 1 - UNSURE_SHARE)),
    )


def remembered_pairs(dialogues: Sequence[Dialogue]) -> list[tuple[str, str]]:
    """Every message of a user and its reply, of evenly chosen ones where there are many."""
    pairs = [
        (turns[k], turns[k + 1])
        for turns in dialogues
        for k in range(0, len(turns) - 1, 2)
        if turns[k]
    ]
    return pairs[:: -(-len(pairs) // MAX_REMEMBERED) or 1]
