"""Scores of complete recordings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memorycell.applications.anomaly.codec import ReadingsCodec, bounded, run_lengths
from memorycell.applications.anomaly.columns import Recording
from memorycell.applications.anomaly.model import Detector
from memorycell.applications.anomaly.row_scorer import RowScorer
from memorycell.applications.anomaly.score import ScoreFunction, max_run_lengths
from memorycell.applications.anomaly.score_fitting import recording_score
from memorycell.streaming.stream import Stream

STUDENT_T_Q95 = 2.015
"""The 95% quantile of Student's t with 5 degrees of freedom; ± it bounds a 90% interval."""


@dataclass
class Scored:
    """The scores of a recording of N rows.

    scores          [N] float64
    contributions   [N, S] of each column to the score
    threshold       above it a row is an anomaly
    flagged         [N] bool
    stuck           [N, K] bool
    low, high       [N, K] bounds of the predicted 90% interval, in units of the table; NaN where
                    there is no prediction
    settled         rows before the first that can be flagged
    """

    scores: np.ndarray
    contributions: np.ndarray
    threshold: float
    flagged: np.ndarray
    stuck: np.ndarray
    low: np.ndarray
    high: np.ndarray
    settled: int


def score_recording(
    model: Detector,
    codec: ReadingsCodec,
    recording: Recording,
    *,
    adapt: int = 0,
    precision: str = "float32",
) -> Scored:
    """The scores of a complete recording; those of a `RowScorer` row by row are the same.

    adapt   time constant in rows at which the level follows normal rows; 0: fixed
    """
    if adapt:
        return _score_row_by_row(model, codec, recording, adapt, precision)
    x, z, choices = codec.encode(recording)
    y = model.run(x, precision=precision)
    score = ScoreFunction(model)
    averaged = score.averages(y, z, bounded(z), choices)
    score, threshold = recording_score(score, model, codec, averaged)
    contributions = score.contributions(averaged)
    scores = contributions @ np.ones(contributions.shape[1])
    runs = np.stack([run_lengths(column) for column in recording.values.T], 1)
    stuck = runs > max_run_lengths(codec)
    settled = np.arange(len(scores)) >= codec.settle
    flagged = ((scores > threshold) | stuck.any(1)) & settled
    low, high = _intervals(y, codec, recording)
    return Scored(scores, contributions, threshold, flagged, stuck, low, high, codec.settle)


def _intervals(
    y: np.ndarray, codec: ReadingsCodec, recording: Recording
) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) [N, K] of the predicted 90% intervals of the rows; NaN for the first."""
    size = len(codec.columns)
    mean, std = codec.level(recording.values[: codec.settle])
    first = np.full((1, size), np.nan)
    center = np.concatenate([first, y[:-1, :size].astype(np.float64)])
    scale = np.exp(y[:-1, size : 2 * size].astype(np.float64))
    half = np.concatenate([first, STUDENT_T_Q95 * scale])
    center, half = center * std + mean, half * std
    return center - half, center + half


def _score_row_by_row(
    model: Detector, codec: ReadingsCodec, recording: Recording, adapt: int, precision: str
) -> Scored:
    scorer = RowScorer(model, codec, Stream(model, precision, history=0), adapt)
    rows, size = len(recording), len(codec.columns)
    choices = codec.category_ids(recording.words)
    scores, contributions = np.zeros(rows), np.zeros((rows, len(codec.names)))
    flagged, stuck = np.zeros(rows, bool), np.zeros((rows, size), bool)
    low, high = np.full((rows, size), np.nan), np.full((rows, size), np.nan)
    for k in range(rows):
        if scorer.y is not None:
            center = scorer.y[:size] * scorer.std + scorer.mean
            half = STUDENT_T_Q95 * np.exp(scorer.y[size : 2 * size]) * scorer.std
            low[k], high[k] = center - half, center + half
        row = scorer.step(recording.values[k], choices[k], int(recording.time[k]))
        if row is None:
            continue
        scores[k], contributions[k], stuck[k] = row
        flagged[k] = scorer.is_anomaly(row)
        if not flagged[k]:
            scorer.adapt_level(recording.values[k])
    return Scored(scores, contributions, scorer.threshold, flagged, stuck, low, high, codec.settle)


def flagged_ranges(flagged: np.ndarray) -> list[tuple[int, int]]:
    """(first, last) row of each range of consecutive flagged rows [N] bool."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flagged.astype(np.int8), [0]])))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
