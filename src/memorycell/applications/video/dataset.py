"""Clips by split, to learn the next frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from memorycell.application.contract import Dataset, Metric, Metrics, Record
from memorycell.applications.video import baselines as simple
from memorycell.applications.video.baselines import Ridge, fit_ridge
from memorycell.applications.video.clips import Clip
from memorycell.applications.video.codec import FrameCodec
from memorycell.applications.video.digits import moving_digits
from memorycell.applications.video.metrics import auc_pr, frame_metrics
from memorycell.applications.video.model import FrameBatch, FrameConfig, FramePredictor
from memorycell.applications.video.settings import VideoSettings
from memorycell.applications.video.source import Source
from memorycell.errors import DataError

MIN_BATCHES = 8
"""Of an epoch."""
EVALUATION_LANES = 32
ALARM_QUANTILE = 0.99


class FramesDataset(Dataset[FramePredictor, FrameBatch]):
    """See `Dataset`."""

    codec: FrameCodec

    def __init__(self, source: Source, codec: FrameCodec, settings: VideoSettings) -> None:
        self.source, self.codec, self.settings = source, codec, settings
        self.notes = list(source.notes)
        self.ridge: Ridge | None = None

    # ---- training --------------------------------------------------------------------------------

    def build(self) -> FramePredictor:
        """See `Dataset`; its linear part is the regression of the next frame."""
        model = FramePredictor(self._config())
        if "train" in self.source.splits:
            start = self._linear_start
            with torch.no_grad():
                for network in model.networks:
                    network.linear_weight.copy_(start.weight)
                    network.linear_bias.copy_(start.bias)
        return model

    def _config(self) -> FrameConfig:
        s = self.settings
        return FrameConfig(
            height=self.codec.height,
            width=self.codec.width,
            hidden_size=s.hidden,
            num_layers=s.layers,
            cell=s.cell,
            kernel=s.kernel,
            patch=s.patch,
            reach=s.reach,
            block=s.block,
            members=s.members,
        )

    @cached_property
    def _linear_start(self) -> Ridge:
        """The regression on the maps of `FramePredictor`."""
        with torch.random.fork_rng(devices=[]):
            model = FramePredictor(dataclasses.replace(self._config(), members=1))
        maps, target = [], []
        for clip in simple.some_clips(self._floats("train")):
            frames = torch.from_numpy(clip)[None]
            found = model.maps(frames[:, :-1])[0]
            skip = min(self.settings.context, len(found) - 1)
            maps.append(found[skip:])
            target.append(frames[0, skip + 1 :])
        return Ridge.fit(torch.cat(maps), torch.cat(target), self.settings.reach)

    def batches(self, seed: int) -> Iterator[FrameBatch]:
        """See `Dataset`. With a horizon of 1, consecutive parts of long sequences, whose state is
        carried; else windows, of which a random number of frames at the end is predicted from
        predictions.
        """
        return self._lanes(seed) if self.settings.horizon == 1 else self._windows(seed)

    def _lanes(self, seed: int) -> Iterator[FrameBatch]:
        s, (frames, begins) = self.settings, self._sequence
        count = max(1, min(s.lanes, len(frames) // (s.bptt + 1)))
        length = len(frames) // count
        shift = int(np.random.default_rng(seed).integers(len(frames)))
        starts = (shift + np.arange(count) * length)[:, None]
        for begin in range(0, length - 1, s.bptt):
            index = (starts + np.arange(begin, min(begin + s.bptt, length - 1) + 1)) % len(frames)
            x = torch.from_numpy(frames[index]).float().div_(255)
            yield FrameBatch(x, torch.from_numpy(begins[index]), carry=begin > 0)

    @cached_property
    def _sequence(self) -> tuple[np.ndarray, np.ndarray]:
        """All training frames and where clips begin."""
        clips = self.source.splits["train"]
        begins = np.zeros(sum(len(clip.frames) for clip in clips), bool)
        begins[np.cumsum([0, *(len(clip.frames) for clip in clips[:-1])])] = True
        return np.concatenate([clip.frames for clip in clips]), begins

    def _windows(self, seed: int) -> Iterator[FrameBatch]:
        s, rng = self.settings, np.random.default_rng(seed)
        clips = self.source.splits["train"]
        if self.source.digits is not None:
            total = s.clips
        else:
            total = sum(len(clip.frames) for clip in clips) // (s.context + s.horizon)
        for k in range(max(-(-total // s.lanes), MIN_BATCHES)):
            rollout = int(rng.integers(s.horizon))
            steps = s.context + 1 + rollout
            if self.source.digits is not None:
                frames = moving_digits(self.source.digits, s.lanes, steps, s.pixels, [seed, k])
            else:
                frames = self._random_windows(clips, steps, rng)
            x = torch.from_numpy(frames).float().div_(255)
            yield FrameBatch(x, torch.zeros(x.shape[:2], dtype=torch.bool), rollout)

    def _random_windows(
        self, clips: list[Clip], steps: int, rng: np.random.Generator
    ) -> np.ndarray:
        p = np.array([len(clip.frames) - steps + 1 for clip in clips], float).clip(0)
        windows = []
        for k in rng.choice(len(clips), self.settings.lanes, p=p / p.sum()):
            begin = int(rng.integers(len(clips[k].frames) - steps + 1))
            windows.append(clips[k].frames[begin : begin + steps])
        return np.stack(windows)

    # ---- evaluation ------------------------------------------------------------------------------

    def metric(self, usual: Metric) -> Metric:
        """See `Dataset`."""
        if self.settings.goal == "anomaly":
            return Metric("auc_pr", higher_is_better=True)
        return usual

    @torch.inference_mode()
    def evaluate(self, model: FramePredictor, split: str, precision: str = "float32") -> Metrics:
        """See `Dataset`: `frame_metrics` of the predicted frames."""
        model.eval()
        if self.settings.horizon == 1 or self.settings.goal == "anomaly":
            clips = self._floats(split)
            predicted = [self.next_frames(model, clip)[:-1] for clip in clips]
            return self._metrics(split, predicted)
        seen, truth = self._cases(split)
        rows = []
        for x in torch.from_numpy(seen).split(EVALUATION_LANES):
            y, state = model(x)
            rows.append(self._rolled(model, y[:, -1], state))
        return self._frame_metrics(truth, torch.cat(rows).numpy())

    def _rolled(self, model: FramePredictor, first: Tensor, state: object) -> Tensor:
        if self.settings.horizon == 1:
            return first[:, None]
        rolled, _ = model.roll(first, state, self.settings.horizon - 1)  # type: ignore[arg-type]
        return torch.cat([first[:, None], rolled], 1)

    @staticmethod
    @torch.inference_mode()
    def next_frames(model: FramePredictor, frames: np.ndarray, chunk: int = 32) -> np.ndarray:
        """The predicted frame after each of frames [T, height, width] float32."""
        state, parts = None, []
        for x in torch.from_numpy(frames)[None].split(chunk, 1):
            y, state = model(x, state)
            parts.append(y[0])
        return torch.cat(parts).numpy()

    def _metrics(self, split: str, predicted: list[np.ndarray]) -> Metrics:
        """Of the next frames after each frame but the last, of every clip of a split."""
        skip = self.settings.context
        clips = self._floats(split)
        truth = np.concatenate([clip[skip:] for clip in clips])
        ours = np.concatenate([frames[skip - 1 :] for frames in predicted])
        metrics = self._frame_metrics(truth, ours)
        labels = [clip.anomalies for clip in self.source.splits[split]]
        if self.settings.goal == "anomaly" and all(own is not None for own in labels):
            anomalous = np.concatenate([own[skip:] for own in labels if own is not None])
            if anomalous.any():
                errors = ((truth - ours.clip(0, 1)) ** 2).mean((1, 2))
                metrics["auc_pr"] = auc_pr(errors, anomalous)
        if self.settings.goal == "anomaly" and split == "test" and "auc_pr" not in metrics:
            raise DataError(
                f"{self.source.name}: goal=anomaly is evaluated on labelled frames: an .npz file"
                " with `anomaly`, 1 for an anomalous frame, some of them in the test split"
            )
        return metrics

    def _frame_metrics(self, truth: np.ndarray, predicted: np.ndarray) -> Metrics:
        metrics = frame_metrics(truth, predicted)
        if self.source.digits is None:  # brightness is no probability elsewhere
            del metrics["bce"]
        return metrics

    def _floats(self, split: str) -> list[np.ndarray]:
        return [clip.frames.astype(np.float32) / 255 for clip in self.source.splits[split]]

    def _cases(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """(frames seen [N, context, …], the frames after them [N, horizon, …]): windows that do not
        overlap.
        """
        c, h = self.settings.context, self.settings.horizon
        windows = [
            clip[k : k + c + h]
            for clip in self._floats(split)
            for k in range(0, len(clip) - c - h + 1, c + h)
        ]
        cases = np.stack(windows)
        return cases[:, :c], cases[:, c:]

    def baselines(self, split: str) -> dict[str, Metrics]:
        """See `Dataset`."""
        methods = {
            "zero": simple.zero,
            "mean": simple.mean,
            "last frame": simple.last,
            "linear motion": simple.motion,
        }
        ridge = self.fitted_ridge()
        if ridge is not None:
            methods["ridge"] = ridge.predict
        return {name: self._baseline(method, split) for name, method in methods.items()}

    def _baseline(self, method: simple.Predict, split: str) -> Metrics:
        s = self.settings
        if s.horizon == 1 or s.goal == "anomaly":
            predicted = [
                np.concatenate(
                    [
                        method(clip[max(0, t + 1 - s.context) : t + 1], 1)
                        for t in range(len(clip) - 1)
                    ]
                )
                for clip in self._floats(split)
            ]
            return self._metrics(split, predicted)
        seen, truth = self._cases(split)
        return self._frame_metrics(truth, np.stack([method(x, s.horizon) for x in seen]))

    def fitted_ridge(self) -> Ridge | None:
        """The regression on the last two frames, from the training split or the model file."""
        if self.ridge is None and "train" in self.source.splits:
            self.ridge = fit_ridge(self._floats("train"))
        return self.ridge

    def calibrate(self, model: FramePredictor) -> None:
        """See `Dataset`: the usual surprise, on the validation split."""
        skip = self.settings.context
        errors = np.concatenate(
            [
                ((self.next_frames(model.eval(), clip)[skip - 1 : -1] - clip[skip:]) ** 2).mean(
                    (1, 2)
                )
                for clip in self._floats("valid")
            ]
        )
        self.codec = dataclasses.replace(
            self.codec,
            usual=float(np.median(errors)),
            alarm=float(np.quantile(errors, ALARM_QUANTILE)),
        )

    # ---- the rest --------------------------------------------------------------------------------

    def arrays(self) -> dict[str, Tensor]:
        """See `Dataset`: the regression on the last two frames."""
        ridge = self.fitted_ridge()
        return {} if ridge is None else {"ridge_weight": ridge.weight, "ridge_bias": ridge.bias}

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`."""
        return self._floats("test")[0][:steps].reshape(-1, self.codec.height * self.codec.width)

    def info(self) -> Record:
        """See `Dataset`."""
        return {
            "data": self.source.name,
            "fingerprint": self.source.fingerprint,
            "split": {split: len(clips) for split, clips in self.source.splits.items()},
            "settings": dataclasses.asdict(self.settings),
        }
