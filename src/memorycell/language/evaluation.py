"""Evaluate a language model at the precision of live sessions."""

from __future__ import annotations

import numpy as np

from memorycell.language.codec import END_ID
from memorycell.language.model import LanguageModel

MAX_CHUNK = 2048
"""Tokens per call of the stepper."""


def stepped_nats(model: LanguageModel, tokens: np.ndarray, precision: str) -> np.ndarray:
    """Negative log-likelihoods [N - 1] float64 of all tokens [N] int64 but the first, computed in
    single steps; the state is reset at every `END_ID`.
    """
    stepper = model.stepper(precision)
    state = np.zeros((1, stepper.layout.width), np.float32)
    x, y = tokens[:-1], tokens[1:]
    starts = np.union1d(np.flatnonzero(x == END_ID), np.arange(0, len(x), MAX_CHUNK))
    nats = []
    for chunk in np.split(np.arange(len(x)), starts[1:]):
        if x[chunk[0]] == END_ID:
            state[:] = 0
        log_p, _ = stepper.step_one(state, 0, x[chunk, None].astype(np.float32))
        nats.append(-np.take_along_axis(log_p, y[chunk, None], 1)[:, 0])
    return np.concatenate(nats).astype(np.float64)
