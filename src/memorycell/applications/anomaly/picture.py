"""The main picture of a detector: the anomaly score of the test rows of one recording."""

from __future__ import annotations

import numpy as np

from memorycell.application.contract import Record
from memorycell.application.picture import MAX_POINTS, Picture, json_numbers
from memorycell.applications.anomaly.dataset import AnomalyDataset
from memorycell.applications.anomaly.model import Detector
from memorycell.applications.anomaly.scoring import flagged_ranges
from memorycell.applications.anomaly.splits import TEST

MIN_SCORE = 0.1
"""Lower end of the logarithmic axis of scores."""


def anomaly_picture(dataset: AnomalyDataset, model: Detector, result: Record) -> Picture | None:
    """The scores, the threshold and the flagged rows of the recording with the most flagged test
    rows, with its labelled anomalies; the maximum of several rows where there are many.
    """
    best, most = None, -1
    for r, scored in zip(dataset.recordings, dataset.scored, strict=True):
        test = np.flatnonzero(r.split == TEST)
        if len(test) and (count := int(scored.flagged[test].sum())) > most:
            best, most = (r, scored, test), count
    if best is None:
        return None
    r, scored, rows = best
    begins = np.arange(0, len(rows), -(-len(rows) // MAX_POINTS))
    scores = np.fmax(scored.scores[rows], MIN_SCORE)
    labels = r.recording.labels
    labelled = None if labels is None else np.maximum.reduceat(labels[rows], begins)
    flagged = np.maximum.reduceat(scored.flagged[rows], begins)
    named = f" of {r.recording.name}" if r.recording.name else ""
    return Picture(
        title=f"Anomaly score of the test rows{named}",
        x=[str(dataset.codec.format_time(int(time))) for time in r.recording.time[rows[begins]]],
        y="score",
        lines={"score": json_numbers(np.fmax.reduceat(scores, begins))},
        level=("threshold", float(scored.threshold)),
        marks=np.flatnonzero(flagged).tolist(),
        spans=[] if labelled is None else list(flagged_ranges(labelled)),
        span="labelled anomalies",
        log=True,
    )
