"""anomaly: rows of sensors, or of transactions, that are not as rows before them led to expect."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from memorycell.application.contract import (
    Dataset,
    Metric,
    Metrics,
)
from memorycell.application.datasets import locate, with_dataset_settings
from memorycell.application.modelfile import ModelFile
from memorycell.applications.anomaly.baselines import (
    Everything,
    Forest,
    Mahalanobis,
    MovingZ,
    Outliers,
)
from memorycell.applications.anomaly.codec import (
    Readings,
    ReadingsCodec,
    detect,
    disturbed,
    fit_scaling,
    interrupted,
    tables,
    wandering,
    with_categories,
)
from memorycell.applications.anomaly.live import WARM, Watched, read, watch
from memorycell.applications.anomaly.model import (
    Detector,
    DetectorConfig,
    Surprise,
    deviates,
    smoothed,
)
from memorycell.errors import DataError
from memorycell.language.codec import fingerprint
from memorycell.models.batches import LaneBatch
from memorycell.models.quantiles import tail_quantile
from memorycell.settings import check_counts
from memorycell.training import metrics

TRAIN_SHARE, VALID_SHARE = 0.60, 0.10
VALID_SETTLE = 0.15
"""Of the rows in which a recording settles, the share at their end that only choose the epoch."""
PIECES_AN_EPOCH = 640


@dataclass(frozen=True)
class AnomalySettings:
    """What --set can say about a detector. Columns are found where they are not named.

    columns     numbers and categories to watch, with commas; all of them where not said
    time        column of time stamps (found); time_format as in %d/%m/%Y
    group       column that tells recordings, accounts or cards apart
    label       column of 0 and 1 (an anomaly): it only evaluates, and is never learnt from
    gap         whether the time since the row before is watched as well: yes, no; where there are
                categories if not said
    settle      rows at the beginning of every recording that are taken for normal: they set its
                level and its threshold, and are all that is learnt from; 0: the first 60% are
                learnt from, and one threshold holds for all
    budget      share of normal rows that may be flagged: sets the threshold, from the tail of the
                scores in training
    smooth      rows over which deviates are averaged before they are judged; 10, or 1 where there
                are categories, if not said
    drift       in training, columns wander by so many times as much as they were seen to: what
                wanders so is normal; 2 where recordings settle, whose few rows have not seen it,
                and hold no categories; else 0, if not said
    corrupt     in training, probability that a piece is disturbed, which the forecast must not
                follow: some columns are shifted for a stretch, or, where there are categories, a
                stranger's rows are put in; 0.3, or 0.7 likewise
    adapt       rows over which a recording's level follows rows that are judged normal; 0: it stays
    cell, hidden, layers, dropout, zoneout, weight_drop   the recurrent part
    window      rows that a column's own forecast looks back at directly; 8, or 1 where there are
                categories, if not said
    lanes, bptt   pieces side by side in a batch, and their rows
    """

    columns: str | None = None
    time: str | None = None
    time_format: str | None = None
    group: str | None = None
    label: str | None = None
    gap: str | None = None
    settle: int = 0
    budget: float = 0.001
    smooth: int | None = None
    drift: float | None = None
    corrupt: float | None = None
    adapt: int = 0
    cell: str = "lstm"
    hidden: int = 64
    layers: int = 1
    dropout: float = 0.2
    zoneout: float = 0.0
    weight_drop: float = 0.0
    window: int | None = None
    lanes: int = 32
    bptt: int = 400

    def __post_init__(self) -> None:
        check_counts(self, "smooth", "hidden", "layers", "window", "lanes", "bptt")
        if self.settle < 0 or 0 < self.settle < 60:
            raise ValueError(f"settle={self.settle}: expected 0, or 60 rows or more")
        if self.adapt < 0:
            raise ValueError(f"adapt={self.adapt}: expected 0 or more rows")
        if not 0 < self.budget < 0.5:
            raise ValueError(f"budget={self.budget}: expected a share of rows between 0 and 0.5")
        if (self.drift or 0) < 0 or not 0 <= (self.corrupt or 0) < 1:
            raise ValueError("drift: expected 0 or more; corrupt: a probability below 1")
        if self.gap not in (None, "yes", "no"):
            raise ValueError(f"gap={self.gap}: expected yes or no")
        self.model_config(2, 1, ())  # says what is wrong with the rest

    def model_config(self, input_size: int, columns: int, sizes: tuple[int, ...]) -> DetectorConfig:
        """The sizes of the model these settings ask for."""
        return DetectorConfig(
            input_size=input_size,
            columns=columns,
            sizes=sizes,
            window=self.window or (1 if sizes else 8),
            budget=self.budget,
            smooth=self.smooth or (1 if sizes else 10),
            hidden_size=self.hidden,
            cell=self.cell,
            num_layers=self.layers,
            dropout=self.dropout,
            zoneout=self.zoneout,
            weight_drop=self.weight_drop,
        )


@dataclass
class Encoded:
    """A recording ready to be learnt from: `x` [N, F], `z` [N, K] and `choices` [N, C] of its rows,
    `split` [N] as in `splits.SPLITS`.
    """

    readings: Readings
    x: np.ndarray
    z: np.ndarray
    split: np.ndarray


class AnomalyDataset(Dataset):
    """Recordings, encoded, split by time."""

    def __init__(
        self,
        name: str,
        recordings: list[Readings],
        splits: list[np.ndarray],
        codec: ReadingsCodec,
        settings: AnomalySettings,
    ) -> None:
        self.name, self.codec, self.settings = name, codec, settings
        self.notes: list[str] = []
        self.recordings = [
            Encoded(r, *codec.encode(r), split) for r, split in zip(recordings, splits, strict=True)
        ]
        usual = 0.7 if codec.categories else 0.3
        self.corrupt = usual if settings.corrupt is None else settings.corrupt
        self.drift = (
            settings.drift
            if settings.drift is not None
            else (2.0 if settings.settle and not codec.categories else 0.0)
        )

    @property
    def labelled(self) -> bool:
        """Whether somebody has said which of the test rows are anomalies."""
        return any(self._tested(e) is not None for e in self.recordings)

    def metric(self, usual: Metric) -> Metric:
        """See `Dataset`: without labels only the likelihood of the rows can be compared."""
        return usual if self.labelled else Metric("nats")

    def _tested(self, e: Encoded) -> np.ndarray | None:
        labels, at = e.readings.labels, e.split == 2
        return None if labels is None or not at.any() else labels[at]

    # ---- what training asks for ------------------------------------------------------------------

    def build(self) -> Detector:
        """A detector sized by the settings."""
        codec = self.codec
        return Detector(
            self.settings.model_config(len(codec.features), len(codec.columns), codec.sizes)
        )

    @cached_property
    def _wander(self) -> np.ndarray:
        """[K]: of every column's variance, the share that is slower than a quarter of a piece."""
        slow, whole = np.zeros(len(self.codec.columns)), np.zeros(len(self.codec.columns))
        size = max(self.settings.bptt // 4, 10)
        for e in self.recordings:
            z = self.codec.filled(e.z)[e.split <= 1]
            for begin in range(0, len(z) - 4 * size + 1, 4 * size):
                piece = z[begin : begin + 4 * size].reshape(4, size, -1)
                noise = (
                    np.diff(piece, axis=1).var((0, 1)) / 2 / size
                )  # what the means of mere noise differ by
                slow += np.maximum(piece.mean(1).var(0) - noise, 0)
                whole += piece.reshape(4 * size, -1).var(0)
        return np.clip(slow / np.maximum(whole, 1e-9), 0, 1)

    def batches(self, seed: int) -> Iterator[LaneBatch]:
        """The training rows in pieces, each begun anew, wandering and disturbed at random."""
        rng = np.random.default_rng(seed)
        s = self.settings
        places: list[tuple[int, int]] = []
        while len(places) < PIECES_AN_EPOCH:
            before = len(places)
            for k, e in enumerate(self.recordings):
                rows = int((e.split == 0).sum())
                shift = int(rng.integers(max(1, min(s.bptt, rows)))) if rows > s.bptt else 0
                places += [
                    (k, begin)
                    for begin in range(shift, rows, s.bptt)
                    if rows - begin > WARM or rows <= s.bptt
                ]
            if len(places) == before:
                break
        order = rng.permutation(len(places))
        for begin in range(0, len(order), s.lanes):
            yield self._batch([places[k] for k in order[begin : begin + s.lanes]], rng)

    def _batch(self, places: list[tuple[int, int]], rng: np.random.Generator) -> LaneBatch:
        codec, s = self.codec, self.settings
        columns, choices = len(codec.columns), len(codec.categories)
        length = min(
            s.bptt, max(int((self.recordings[k].split == 0).sum()) - begin for k, begin in places)
        )
        x = np.zeros((len(places), length, len(codec.features)), np.float32)
        target = np.full((len(places), length, columns + choices), np.nan, np.float32)
        for lane, (k, begin) in enumerate(places):
            e = self.recordings[k]
            end = min(begin + length, int((e.split == 0).sum()))
            n = end - begin
            own, strange = interrupted(n, rng, self.corrupt if choices else 0.0)
            own += begin
            x[lane, :n] = e.x[own]
            known = np.minimum(own + 1, end - 1)
            target[lane, :n] = np.concatenate([e.z[known], e.readings.choices[known]], 1)
            target[lane, :n][own + 1 >= end] = np.nan
            if strange.any():
                other = self.recordings[int(rng.integers(len(self.recordings)))]
                learnt = int((other.split == 0).sum())
                x[lane, :n][strange] = other.x[
                    rng.integers(max(learnt, 1), size=int(strange.sum()))
                ]
            if self.drift:
                wander = wandering(n, self._wander * self.drift, rng)
                self._shift(x[lane, :n], wander)
                target[lane, : n - 1, :columns] += wander[1:]
            if self.corrupt and not choices:
                self._shift(x[lane, :n], disturbed(n, columns, rng, self.corrupt))
        return LaneBatch(
            torch.from_numpy(x),
            torch.from_numpy(target),
            torch.zeros(x.shape[:2], dtype=torch.bool),
            carry=False,
        )

    def _shift(self, x: np.ndarray, offset: np.ndarray) -> None:
        """Deviations and changes [n, F], in their place, as if the columns had been higher by
        offset [n, K].
        """
        columns = offset.shape[1]
        x[:, :columns] += offset
        x[:, columns : 2 * columns] += np.diff(offset, axis=0, prepend=offset[:1]) / np.array(
            self.codec.change
        )

    def validate(self, model: Detector) -> Metrics:
        """See `Dataset`; what surprise is measured by is set on the way, so that it belongs to the
        best weights.
        """
        self.calibrate(model)
        return self.evaluate(model, "valid")

    @torch.inference_mode()
    def calibrate(self, model: Detector) -> None:
        """Set the mean and covariance of smoothed deviates, and the threshold, on rows learnt from
        and validation rows.
        """
        s, scores = [], []
        for e in self.recordings:
            known = int((e.split <= 1).sum())
            if known > 1:
                y = model.run(e.x[:known])
                far = np.nan_to_num(
                    deviates(y[:-1], e.z[1:known], e.readings.choices[1:known], model.config.sizes)
                )
                s.append(smoothed(far, model.config.smooth)[min(WARM, known // 4) :])
        rows = np.concatenate(s)
        model.center.copy_(torch.from_numpy(rows.mean(0)))
        covariance = np.atleast_2d(np.cov(rows.T))
        variance = np.diag(covariance)
        least = 1 / (
            2 * model.config.smooth - 1
        )  # of deviates that are as wide as told, and independent, once smoothed
        covariance = covariance + np.diag(np.maximum(least - variance, 1e-3 * variance))
        model.inverse.copy_(torch.from_numpy(np.linalg.inv(covariance)))
        found = Surprise(model)
        scores = [found.shares(part).sum(-1) for part in s]
        model.threshold.fill_(tail_quantile(np.concatenate(scores), model.config.budget))

    def watched(self, model: Detector, precision: str = "float32") -> list[Watched]:
        """What the model makes of every recording."""
        return [
            watch(model, self.codec, e.readings, adapt=self.settings.adapt, precision=precision)
            for e in self.recordings
        ]

    @torch.inference_mode()
    def nats(self, model: Detector, split: str, precision: str = "float32") -> float:
        """Mean nats of a row, over its known columns."""
        total, count = 0.0, 0
        for e in self.recordings:
            at = np.flatnonzero(e.split[1:] == ("train", "valid", "test").index(split))
            if len(at):
                y = model.run(e.x, precision=precision)[at]
                target = np.concatenate([e.z, e.readings.choices], 1)[at + 1].astype(np.float32)
                total += float(
                    model.head.nats(torch.from_numpy(y), torch.from_numpy(target)).double().sum()
                )
                count += int((~np.isnan(target)).sum())
        return total / max(count, 1)

    def evaluate(self, model: Detector, split: str, precision: str = "float32") -> Metrics:
        """Nats a column of a row; on the test part also the share flagged, and where there are
        labels how well.
        """
        nats = {"nats": self.nats(model, split, precision)}
        if split != "test":
            return nats
        found = self.watched(model, precision)
        return {
            **self._judged([w.flagged for w in found], [w.scores / w.threshold for w in found]),
            **nats,
        }

    def _judged(self, flagged: list[np.ndarray], scores: list[np.ndarray]) -> Metrics:
        """Of what was flagged [N] of every recording, the test rows."""
        tests = [e.split == 2 for e in self.recordings]
        if not self.labelled:
            rows = np.concatenate([f[t] for f, t in zip(flagged, tests, strict=True)])
            return {"flagged": float(rows.mean()) if len(rows) else 0.0}
        parts = [
            (f[t], s[t], labels)
            for f, s, t, e in zip(flagged, scores, tests, self.recordings, strict=True)
            if (labels := self._tested(e)) is not None
        ]
        return metrics.detection_metrics(*(list(part) for part in zip(*parts, strict=True)))

    # ---- simple methods --------------------------------------------------------------------------

    def _flat(self, e: Encoded) -> np.ndarray:
        """[N, C]: deviations and categories as numbers, for methods that know no others."""
        hot = [
            np.arange(size) == e.readings.choices[:, k, None]
            for k, size in enumerate(self.codec.sizes)
        ]
        return np.concatenate([self.codec.filled(e.z), *hot], 1)

    def baselines(self, split: str) -> dict[str, Metrics]:
        """Each fitted on the rows the model learnt from, its threshold set as the model's is."""
        if not any((e.split <= 1).any() for e in self.recordings):
            return {}
        if split != "test":
            return {"mahalanobis": {"nats": self._gaussian_nats(split)}}
        result = {}
        for name, make in BASELINES.items():
            flagged, scores = self._flagged_by(make)
            result[name] = self._judged(flagged, scores)
        result["mahalanobis"]["nats"] = self._gaussian_nats(split)
        if not self.labelled:
            return {"mahalanobis": result["mahalanobis"]}
        return result

    def _flagged_by(
        self, make: Callable[[], Outliers]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        settle, budget = self.settings.settle, self.settings.budget
        rows = [self._flat(e) for e in self.recordings]
        normal = [r[e.split <= 1] for r, e in zip(rows, self.recordings, strict=True)]
        flagged, scores = [], []
        if settle:  # each recording for itself
            for own, known in zip(rows, normal, strict=True):
                method = make().fit(known)
                score = method.score(own)
                edge = (
                    tail_quantile(score[WARM : len(known)], budget)
                    if np.isfinite(score).all()
                    else 0.0
                )
                flagged.append(score > edge)
                scores.append(
                    score / max(edge, 1e-12) if np.isfinite(score).all() else np.ones(len(score))
                )
            return flagged, scores
        method = make().fit(np.concatenate(normal))
        found = [method.score(own) for own in rows]
        known = np.concatenate([f[: len(n)] for f, n in zip(found, normal, strict=True)])
        edge = tail_quantile(known, budget) if np.isfinite(known).all() else 0.0
        return [f > edge for f in found], [np.where(np.isfinite(f), f, 1.0) for f in found]

    def _gaussian_nats(self, split: str) -> float:
        """Nats a column of rows under one normal distribution of the numbers; of categories, under
        their frequencies.
        """
        at = ("train", "valid", "test").index(split)
        columns = len(self.codec.columns)
        rows = [
            np.concatenate([self.codec.filled(e.z), e.readings.choices], 1) for e in self.recordings
        ]
        known = np.concatenate(
            [r[e.split <= 1] for r, e in zip(rows, self.recordings, strict=True)]
        )
        tried = np.concatenate(
            [r[e.split == at] for r, e in zip(rows, self.recordings, strict=True)]
        )
        total = Mahalanobis().fit(known[:, :columns]).nats(tried[:, :columns]).sum()
        for k, size in enumerate(self.codec.sizes):
            counts = np.bincount(known[:, columns + k].astype(int), minlength=size) + 1.0
            total -= np.log(counts / counts.sum())[tried[:, columns + k].astype(int)].sum()
        return float(total / max(tried.size, 1))

    # ---- the rest --------------------------------------------------------------------------------

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`."""
        e = max(self.recordings, key=lambda e: len(e.x))
        begin = int(np.argmax(e.split == 2)) if (e.split == 2).any() else 0
        return e.x[begin : begin + steps]

    def inspection_input(self) -> np.ndarray:
        """See `Dataset`: the longest recording."""
        return max(self.recordings, key=lambda e: len(e.x)).x

    def info(self) -> dict[str, Any]:
        """For the model file."""
        counts = np.bincount(
            np.concatenate([e.split[e.split >= 0] for e in self.recordings]), minlength=3
        )
        return {
            "data": self.name,
            "fingerprint": fingerprint(e.readings.values.tobytes().hex() for e in self.recordings),
            "split": dict(zip(("train", "valid", "test"), map(int, counts), strict=True)),
            "settings": dataclasses.asdict(self.settings),
            "unit": "nats a column of a row",
        }


BASELINES: Mapping[str, Callable[[], Outliers]] = {
    "flag everything": Everything,
    "moving z-score": MovingZ,
    "mahalanobis": Mahalanobis,
    "isolation forest": Forest,
}


def prepare(data: str | None, settings: AnomalySettings) -> AnomalyDataset:
    """Read the tables, split every recording by time, and only then fit categories and scaling, to
    the training rows.
    """
    path, source = locate(data or "skab")
    where = source.name if source else str(data)
    settings = with_dataset_settings(settings, source)
    found = tables(path, where)
    notes: list[str] = []
    if path.is_dir() and settings.label is not None:
        without = [name for name, frame in found if settings.label not in frame.columns]
        found = [(name, frame) for name, frame in found if name not in without]
        if not found:
            raise DataError(f"{where}: no table in it has the column {settings.label!r}")
        notes += (
            [f"left out: {', '.join(without)}, without the column {settings.label!r}"]
            if without
            else []
        )
    columns = (
        None
        if settings.columns is None
        else [c.strip() for c in settings.columns.split(",") if c.strip()]
    )
    first = f"{where}/{found[0][0]}" if path.is_dir() else where
    codec, told = detect(
        found[0][1],
        first,
        columns=columns,
        time=settings.time,
        time_format=settings.time_format,
        group=settings.group,
        label=settings.label,
        gap=None if settings.gap is None else settings.gap == "yes",
        settle=settings.settle,
    )
    notes += told

    def recordings() -> list[Readings]:
        return [
            r
            for name, frame in found
            for r in codec.read(
                frame, f"{where}/{name}" if path.is_dir() else where, name if path.is_dir() else ""
            )
        ]

    read_once = recordings()
    splits = split_rows(read_once, settings, notes, where)
    if codec.categories:
        if len(found) > 1:
            raise DataError(
                f"{where}: categories in a folder of tables are not read; join them into one table"
            )
        trained = np.concatenate([r.rows[s == 0] for r, s in zip(read_once, splits, strict=True)])
        codec = with_categories(codec, found[0][1], trained)
        read_once = recordings()
    kept = [(r, s) for r, s in zip(read_once, splits, strict=True) if len(r) > 1]
    parts = [
        Readings(r.name, r.time[s <= 1], r.values[s <= 1], r.choices[s <= 1], None, r.rows[s <= 1])
        for r, s in kept
        if (s <= 1).sum() > 1
    ]
    if not parts:
        raise DataError(f"{where}: no recording has rows to learn from; {'; '.join(notes)}")
    codec = fit_scaling(codec, parts)
    dataset = AnomalyDataset(where, [r for r, _ in kept], [s for _, s in kept], codec, settings)
    counts = dataset.info()["split"]
    dataset.notes = [
        *notes,
        f"{len(kept):,} recordings, {sum(counts.values()):,} rows: "
        + ", ".join(f"{n:,} {s}" for s, n in counts.items()),
        (
            "watched:"
            f" {', '.join((*codec.columns, *(f'{c} ({len(v)} kinds)' for c, v in codec.categories.items())))}"
        ),
    ]
    if dataset.labelled:
        share = np.concatenate(
            [t for e in dataset.recordings if (t := dataset._tested(e)) is not None]
        ).mean()
        dataset.notes.append(
            f"{share:.1%} of the test rows are labelled anomalies; no label is learnt from"
        )
    return dataset


def split_rows(
    recordings: list[Readings], settings: AnomalySettings, notes: list[str], where: str
) -> list[np.ndarray]:
    """Of every recording, [N] int: 0 train, 1 valid, 2 test. By time over all rows where a column
    tells recordings apart.
    """
    if settings.settle:
        short = [r.name or where for r in recordings if len(r) <= settings.settle]
        if len(short) == len(recordings):
            raise DataError(f"{where}: no recording is longer than settle={settings.settle} rows")
        notes += (
            [f"{len(short)} recordings with {settings.settle} rows or fewer are not tested on"]
            if short
            else []
        )
        edge = round((1 - VALID_SETTLE) * settings.settle)
        return [np.digitize(np.arange(len(r)), (edge, settings.settle)) for r in recordings]
    if settings.group is not None:
        moments = np.sort(np.concatenate([r.time for r in recordings]))
        edges = moments[
            [int(TRAIN_SHARE * len(moments)), int((TRAIN_SHARE + VALID_SHARE) * len(moments))]
        ]
        return [np.digitize(r.time, edges) for r in recordings]
    shares = np.array([TRAIN_SHARE, TRAIN_SHARE + VALID_SHARE])
    return [np.digitize(np.arange(len(r)), np.round(shares * len(r))) for r in recordings]


def reopen(data: str | None, file: ModelFile) -> AnomalyDataset:
    """The same for a trained model. Its own data: the test part. Others: every row, after those in
    which it settles.
    """
    settings: AnomalySettings = file.settings(AnomalySettings)
    own = str(file.info["data"])
    codec: ReadingsCodec = file.codec
    recordings, where = read(codec, data or own)
    if data is None or data == own:
        splits = split_rows(recordings, settings, [], where)
    else:
        splits = [np.where(np.arange(len(r)) < codec.settle, 1, 2) for r in recordings]
    kept = [
        (r, s) for r, s in zip(recordings, splits, strict=True) if len(r) > max(1, codec.settle)
    ]
    if not kept:
        raise DataError(
            f"{where}: no recording is longer than the {codec.settle} rows in which it settles"
        )
    return AnomalyDataset(where, [r for r, _ in kept], [s for _, s in kept], codec, settings)
