"""Recordings split by time and encoded, with their baselines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch

from memorycell.application.contract import Dataset, Metric, Metrics, Record
from memorycell.applications.anomaly.baselines import BASELINES, Mahalanobis, OutlierDetector
from memorycell.applications.anomaly.batches import SegmentBatches
from memorycell.applications.anomaly.codec import ReadingsCodec, bounded
from memorycell.applications.anomaly.columns import Recording
from memorycell.applications.anomaly.model import Detector
from memorycell.applications.anomaly.score import ScoreFunction
from memorycell.applications.anomaly.score_fitting import WARM_UP_ROWS, fit_score
from memorycell.applications.anomaly.scoring import Scored, score_recording
from memorycell.applications.anomaly.settings import AnomalySettings
from memorycell.applications.anomaly.splits import TEST, SplitRecording
from memorycell.language.codec import fingerprint
from memorycell.models.batches import LaneBatch
from memorycell.models.quantiles import tail_quantile
from memorycell.training import metrics
from memorycell.training.splits import SPLITS


class AnomalyDataset(Dataset[Detector, LaneBatch]):
    """See `Dataset`.

    scored   the scores of each recording, of the last evaluation on the test split
    """

    codec: ReadingsCodec

    def __init__(
        self,
        name: str,
        recordings: Sequence[Recording],
        splits: Sequence[np.ndarray],
        codec: ReadingsCodec,
        settings: AnomalySettings,
    ) -> None:
        self.name, self.codec, self.settings = name, codec, settings
        self.notes: list[str] = []
        self.scored: Sequence[Scored] = ()
        self.recordings = [
            SplitRecording(recording, codec.encode(recording), split)
            for recording, split in zip(recordings, splits, strict=True)
        ]

    @property
    def labelled(self) -> bool:
        """Whether there are labels for test rows."""
        return any(r.test_labels is not None for r in self.recordings)

    def metric(self, usual: Metric) -> Metric:
        """See `Dataset`; without labels, the likelihood of the rows."""
        return usual if self.labelled else Metric("nats")

    def build(self) -> Detector:
        """See `Dataset`."""
        codec = self.codec
        return Detector(
            self.settings.model_config(codec.input_size, len(codec.columns), codec.sizes)
        )

    def batches(self, seed: int) -> Iterator[LaneBatch]:
        """See `Dataset`."""
        return self._batches.epoch(seed)

    @cached_property
    def _batches(self) -> SegmentBatches:
        return SegmentBatches(self.recordings, self.codec, self.settings)

    def validate(self, model: Detector) -> Metrics:
        """See `Dataset`. Fits the anomaly score first, since its parameters are stored in the model
        and selected together with the weights.
        """
        self.fit_score(model)
        return self.evaluate(model, "valid")

    @torch.inference_mode()
    def fit_score(self, model: Detector) -> None:
        """Fit the anomaly score and the threshold on training and validation rows."""
        averaged, score = [], ScoreFunction(model)
        for r in self.recordings:
            rows = r.normal_rows
            if rows > 1:
                x, z, choices = (part[:rows] for part in r.encoded)
                y, filled = model.run(x), bounded(z)
                features = score.features(y[:-1], z[1:], filled[1:], choices[1:])
                average = score.averaged(features)
                averaged.append(average[min(WARM_UP_ROWS, rows // 4) :])
        fit_score(model, averaged)

    def evaluate(self, model: Detector, split: str, precision: str = "float32") -> Metrics:
        """See `Dataset`: nats per known column of a row; on the test split also the fraction of
        rows flagged, or with labels the detection metrics.
        """
        nats = {"nats": self._nats(model, split, precision)}
        if split != "test":
            return nats
        self.scored = scored = [
            score_recording(
                model, self.codec, r.recording, adapt=self.settings.adapt, precision=precision
            )
            for r in self.recordings
        ]
        relative = [s.scores / s.threshold for s in scored]
        return {**self._detection_metrics([s.flagged for s in scored], relative), **nats}

    @torch.inference_mode()
    def _nats(self, model: Detector, split: str, precision: str) -> float:
        """The mean over the known columns of the rows of a split."""
        total, count = 0.0, 0
        for r in self.recordings:
            previous = np.flatnonzero(r.split[1:] == SPLITS.index(split))
            if len(previous):
                y = model.run(r.encoded.x, precision=precision)[previous]
                target = r.targets(previous + 1).astype(np.float32)
                nats = model.head.nats(torch.from_numpy(y), torch.from_numpy(target))
                total += float(nats.double().sum())
                count += int((~np.isnan(target)).sum())
        return total / max(count, 1)

    def _detection_metrics(
        self, flagged: Sequence[np.ndarray], scores: Sequence[np.ndarray]
    ) -> Metrics:
        """Of the test rows, from what was flagged [N] and the scores [N] of each recording."""
        tests = [r.split == TEST for r in self.recordings]
        if not self.labelled:
            rows = np.concatenate([f[test] for f, test in zip(flagged, tests, strict=True)])
            return {"flagged": float(rows.mean()) if len(rows) else 0.0}
        parts = [
            (f[test], s[test], labels)
            for f, s, test, r in zip(flagged, scores, tests, self.recordings, strict=True)
            if (labels := r.test_labels) is not None
        ]
        return metrics.detection_metrics(*(list(part) for part in zip(*parts, strict=True)))

    def baselines(self, split: str) -> dict[str, Metrics]:
        """See `Dataset`. Each is fitted on the training and validation rows, and its threshold is
        set like that of the model.
        """
        if not any(r.normal.any() for r in self.recordings):
            return {}
        if split != "test":
            return {"mahalanobis": {"nats": self._gaussian_nats(split)}}
        result = {
            name: self._detection_metrics(*self._baseline_scores(method()))
            for name, method in BASELINES.items()
            if self.labelled or name == "mahalanobis"
        }
        result["mahalanobis"]["nats"] = self._gaussian_nats(split)
        return result

    def _baseline_scores(
        self, method: OutlierDetector
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """(flagged [N] bool, scores [N]) of each recording."""
        budget = self.settings.budget
        rows = [r.tabular(self.codec) for r in self.recordings]
        normal = [own[r.normal] for own, r in zip(rows, self.recordings, strict=True)]
        flagged, scores = [], []
        if self.settings.settle:  # each recording has its own level and threshold
            for own, known in zip(rows, normal, strict=True):
                score = method.fit(known).score(own)
                threshold = 0.0
                relative = np.ones(len(score))
                if np.isfinite(score).all():
                    threshold = tail_quantile(score[WARM_UP_ROWS : len(known)], budget)
                    relative = score / max(threshold, 1e-12)
                flagged.append(score > threshold)
                scores.append(relative)
            return flagged, scores
        method = method.fit(np.concatenate(normal))
        scores = [method.score(own) for own in rows]
        known = np.concatenate([s[: len(own)] for s, own in zip(scores, normal, strict=True)])
        threshold = tail_quantile(known, budget) if np.isfinite(known).all() else 0.0
        flagged = [s > threshold for s in scores]
        return flagged, [np.where(np.isfinite(s), s, 1.0) for s in scores]

    def _gaussian_nats(self, split: str) -> float:
        """Nats per column of a row under a normal distribution of the numbers and the frequencies
        of the categories in training.
        """
        numbers = len(self.codec.columns)
        rows = [np.concatenate([r.encoded.filled, r.encoded.choices], 1) for r in self.recordings]
        normal = np.concatenate(
            [own[r.normal] for own, r in zip(rows, self.recordings, strict=True)]
        )
        tested = np.concatenate(
            [
                own[r.split == SPLITS.index(split)]
                for own, r in zip(rows, self.recordings, strict=True)
            ]
        )
        total = Mahalanobis().fit(normal[:, :numbers]).nats(tested[:, :numbers]).sum()
        for k, size in enumerate(self.codec.sizes, numbers):
            counts = np.bincount(normal[:, k].astype(int), minlength=size) + 1.0
            total -= np.log(counts / counts.sum())[tested[:, k].astype(int)].sum()
        return float(total / max(tested.size, 1))

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`; from the longest recording."""
        longest = self._longest
        test = longest.split == TEST
        begin = int(np.argmax(test)) if test.any() else 0
        return longest.encoded.x[begin : begin + steps]

    def inspection_input(self) -> np.ndarray:
        """The inputs [N, F] of the longest recording."""
        return self._longest.encoded.x

    @property
    def _longest(self) -> SplitRecording:
        return max(self.recordings, key=lambda r: len(r.recording))

    def info(self) -> Record:
        """See `Dataset`."""
        values = (r.recording.values.tobytes().hex() for r in self.recordings)
        return {
            "data": self.name,
            "fingerprint": fingerprint(values),
            "split": self.split_sizes(),
            "settings": dataclasses.asdict(self.settings),
            "unit": "nats per column of a row",
        }

    def split_sizes(self) -> dict[str, int]:
        """Split -> number of rows."""
        counts = np.bincount(np.concatenate([r.split for r in self.recordings]), minlength=3)
        return dict(zip(SPLITS, map(int, counts), strict=True))


def summary(dataset: AnomalyDataset) -> list[str]:
    """Notes on the size and the columns of a dataset."""
    sizes, codec = dataset.split_sizes(), dataset.codec
    names = [*codec.columns, *(f"{c} ({len(v)} categories)" for c, v in codec.categories.items())]
    notes = [
        f"{len(dataset.recordings):,} recordings, {sum(sizes.values()):,} rows: "
        + ", ".join(f"{rows:,} {split}" for split, rows in sizes.items()),
        f"columns: {', '.join(names)}",
    ]
    labels = [own for r in dataset.recordings if (own := r.test_labels) is not None]
    if labels:
        share = np.concatenate(labels).mean()
        notes.append(
            f"{share:.1%} of the test rows are labelled anomalies; labels are not used in training"
        )
        if share in (0, 1):
            word = "an anomaly" if share else "normal"
            notes.append(f"every test row is labelled {word}: detection cannot be measured")
    return notes
