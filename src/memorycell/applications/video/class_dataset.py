"""Clips by split, to learn their class."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch

from memorycell.application.contract import Dataset, Metric, Metrics, Record
from memorycell.applications.video.classifier import ClassBatch, ClassConfig, ClipClassifier
from memorycell.applications.video.clips import Clip
from memorycell.applications.video.codec import FrameCodec
from memorycell.applications.video.settings import VideoSettings
from memorycell.applications.video.source import Source
from memorycell.models.batches import by_length, padded
from memorycell.training.metrics import classification_metrics, labelled_confusion

THUMBNAIL = 8
"""Side of the pictures that the nearest-neighbour baseline compares."""


class ClassDataset(Dataset[ClipClassifier, ClassBatch]):
    """See `Dataset`."""

    codec: FrameCodec

    def __init__(self, source: Source, codec: FrameCodec, settings: VideoSettings) -> None:
        self.source, self.codec, self.settings = source, codec, settings
        self.notes = [*source.notes, f"classes: {', '.join(codec.labels)}"]

    def build(self) -> ClipClassifier:
        """See `Dataset`."""
        s = self.settings
        return ClipClassifier(
            ClassConfig(
                height=self.codec.height,
                width=self.codec.width,
                classes=len(self.codec.labels),
                hidden_size=s.hidden,
                num_layers=s.layers,
                cell=s.cell,
                kernel=s.kernel,
                patch=s.patch,
                reach=s.reach,
                block=s.block,
                members=s.members,
            )
        )

    def batches(self, seed: int) -> Iterator[ClassBatch]:
        """See `Dataset`; clips of similar length."""
        clips = self.source.splits["train"]
        lengths = np.array([len(clip.frames) for clip in clips])
        budget = self.settings.lanes * int(np.median(lengths))
        for rows in by_length(lengths, budget, seed):
            yield self._batch([clips[k] for k in rows])

    def _batch(self, clips: Sequence[Clip]) -> ClassBatch:
        frames, lengths = padded([clip.frames for clip in clips])
        return ClassBatch(frames.float().div_(255), lengths, torch.from_numpy(self._target(clips)))

    def _target(self, clips: Sequence[Clip]) -> np.ndarray:
        return np.array([self.codec.labels.index(clip.label or "") for clip in clips])

    def metric(self, usual: Metric) -> Metric:
        """See `Dataset`."""
        return Metric("error")

    def evaluate(self, model: ClipClassifier, split: str, precision: str = "float32") -> Metrics:
        """See `Dataset`: `classification_metrics`, and as mse the mean squared error of the
        probabilities (Brier 1950).
        """
        clips = self.source.splits[split]
        return self._metrics(split, self._log_p(model, clips))

    @torch.inference_mode()
    def _log_p(self, model: ClipClassifier, clips: Sequence[Clip]) -> np.ndarray:
        model.eval()
        return np.concatenate(
            [model(self._batch([clip]).frames)[0][:, -1].numpy() for clip in clips]
        )

    def _metrics(self, split: str, log_p: np.ndarray) -> Metrics:
        truth = self._target(self.source.splits[split])
        metrics = classification_metrics(truth, log_p)
        squares = (np.exp(log_p) - np.eye(log_p.shape[1])[truth]) ** 2
        return metrics | {"mse": float(squares.mean())}

    def baselines(self, split: str) -> dict[str, Metrics]:
        """See `Dataset`."""
        if "train" not in self.source.splits:
            return {}
        target = self._target(self.source.splits["train"])
        count = len(self.codec.labels)
        shares = (np.bincount(target, minlength=count) + 1) / (len(target) + count)
        clips = self.source.splits[split]
        near = self._train_features
        found = []
        for clip in clips:
            distance = ((near - _features(clip)) ** 2).sum(1)
            if split == "train":
                distance[np.argmin(distance)] = np.inf
            found.append(target[int(np.argmin(distance))])
        guess = np.log(np.where(np.eye(count)[found] > 0, 0.9, 0.1 / max(count - 1, 1)))
        return {
            "majority": self._metrics(split, np.log(np.repeat(shares[None], len(clips), 0))),
            "nearest neighbour": self._metrics(split, guess),
        }

    @cached_property
    def _train_features(self) -> np.ndarray:
        return np.stack([_features(clip) for clip in self.source.splits["train"]])

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`."""
        frames = self.source.splits["test"][0].frames[:steps].astype(np.float32) / 255
        return frames.reshape(len(frames), -1)

    def details(self, model: ClipClassifier, split: str) -> Record:
        """See `Dataset`: the confusion matrix."""
        clips = self.source.splits[split]
        log_p = self._log_p(model, clips)
        return {"confusion": labelled_confusion(self._target(clips), log_p, self.codec.labels)}

    def info(self) -> Record:
        """See `Dataset`."""
        return {
            "data": self.source.name,
            "fingerprint": self.source.fingerprint,
            "split": {split: len(clips) for split, clips in self.source.splits.items()},
            "settings": dataclasses.asdict(self.settings),
        }


def _features(clip: Clip) -> np.ndarray:
    """The mean frame and the mean change between frames, each as a thumbnail."""
    frames = torch.from_numpy(clip.frames).float() / 255
    change = (frames[1:] - frames[:-1]).abs() if len(frames) > 1 else torch.zeros_like(frames)
    both = torch.stack([frames.mean(0), change.mean(0)])[None]
    small = torch.nn.functional.adaptive_avg_pool2d(both, THUMBNAIL)[0].numpy()
    return np.concatenate(
        [small[0].ravel(), small[1].ravel() / max(float(small[1].std()), 1e-3) * 0.1]
    )
