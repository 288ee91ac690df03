"""A forecaster's dataset of many Parquet files, encoded once into memory-mapped arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from memorycell.application.array_folder import ArrayFolder, ArrayWriter, array_folder
from memorycell.application.contract import Record
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.dataset import (
    MAX_LANES,
    MAX_TEST_ORIGINS,
    ForecastDataset,
    is_scaled,
)
from memorycell.applications.forecast.history import FutureValues, History
from memorycell.applications.forecast.mapped_fitting import (
    filled_blocks,
    fit_mapped,
    write_split,
)
from memorycell.applications.forecast.mapped_steps import BLOCK_STEPS, MappedSteps
from memorycell.applications.forecast.model import MAX_WARM_UP_STEPS, Forecaster
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.applications.forecast.split import UNUSED, check_lengths
from memorycell.errors import UserError
from memorycell.models.batches import LaneBatch, lanes
from memorycell.training.splits import SPLITS

PART_STEPS, PARTS = 4 * MAX_WARM_UP_STEPS, 8
"""Steps of a part of a split that is evaluated with a state of its own, after `MAX_WARM_UP_STEPS`
before it, and parts that are evaluated at once."""


class MappedForecastDataset(ForecastDataset):
    """See `ForecastDataset`: its arrays are memory-mapped, and no operation reads all of one.

    steps    of the files
    arrays   that `encoded` made of them with a codec
    """

    def __init__(
        self,
        name: str,
        steps: MappedSteps,
        encoded: ArrayFolder,
        settings: ForecastSettings,
    ) -> None:
        self.steps, self.encoded, self.facts = steps, encoded, encoded.notes
        self.name, self.series, self.settings = name, steps.all_steps(), settings
        self.codec = SeriesCodec.from_json(self.facts["codec"])
        self.split, self.inputs = encoded["split"], encoded["inputs"]
        self.notes, self.baseline_models, self._baseline_scores = [], {}, {}
        self.naive_error = self.facts["naive_error"]
        self._linear_start = self._last = None
        self._future = FutureValues(encoded["values"], encoded["run"], settings.horizon or 1)
        dynamic = self.inputs[:, : self.codec.dynamic_size]
        self.history = History(encoded["level"], dynamic, steps.start, self._future)
        if settings.stride is None:
            stride = max(-(-len(encoded["test"]) // MAX_TEST_ORIGINS), 1)
            self.settings = replace(settings, stride=stride)
        self._tested: tuple[int, np.ndarray] | None = None

    def origins(self, split: str) -> np.ndarray:
        """See `ForecastDataset`; mapped, but for the test split with a stride."""
        at, stride = self.encoded[split], self.settings.stride or 1
        if split != "test" or stride == 1:
            return at
        if self._tested is None or self._tested[0] != stride:
            parts = []
            for begin in range(0, len(at), BLOCK_STEPS):
                own = np.asarray(at[begin : begin + BLOCK_STEPS])
                first = self.steps.offsets[self.steps.group[own]]
                parts.append(own[(own - first) % stride == 0])
            self._tested = stride, np.concatenate(parts or [np.zeros(0, np.int64)])
        return self._tested[1]

    def batches(self, seed: int) -> Iterator[LaneBatch]:
        """See `ForecastDataset`: the same batches."""
        return self.own_batches(seed, slice(None))

    def own_batches(self, seed: int, rows: slice) -> Iterator[LaneBatch]:
        """See `Dataset`."""
        settings, steps = self.settings, self.encoded["train steps"]
        count = settings.lanes or min(max(len(steps) // (4 * settings.bptt), 1), MAX_LANES)
        shift = int(np.random.default_rng(seed).integers(len(steps)))
        reset, usable = self.encoded["train reset"], self.encoded["learned"]
        bptt = settings.bptt
        for batch in lanes(steps, steps, reset, count=count, bptt=bptt, shift=shift, rows=rows):
            at = batch.x.numpy()
            target = self.history.future[at]
            target = np.where(usable[at][..., None, None], target, np.nan).astype(np.float32)
            x = np.array(self.inputs[at])
            yield batch._replace(x=torch.from_numpy(x), target=torch.from_numpy(target))

    def fit_baselines(self) -> None:
        """They are those of the sample, see `mapped_prepare`."""

    def _run(self, model: Forecaster, at: np.ndarray, precision: str) -> np.ndarray:
        parts = np.split(at, np.flatnonzero(np.diff(at // PART_STEPS)) + 1) if len(at) else [at]
        config, done = model.config, 0
        shape = (len(at), config.horizon, config.targets, config.quantiles)
        result = np.empty(shape, np.float32)
        for k in range(0, len(parts), PARTS):
            x, start, places = [], [], []
            size = 0
            for own in parts[k : k + PARTS]:
                begin = max(int(self.steps.start[own[0]]), int(own[0]) - MAX_WARM_UP_STEPS)
                read = slice(begin, int(own[-1]) + 1)
                x.append(np.array(self.inputs[read]))
                start.append(np.maximum(self.steps.start[read] - begin, 0) + size)
                places.append(own - begin + size)
                size += len(x[-1])
            own_x, own_start, place = map(np.concatenate, (x, start, places))
            own_result = model.run(own_x, own_start, place, precision=precision)
            result[done : done + len(place)] = own_result
            done += len(place)
        return result

    def with_test_period(self, test: str) -> ForecastDataset:
        """Not here: raises `UserError`."""
        raise UserError(f"{self.name}: backtest reads one file; join the files into one")

    def info(self) -> Record:
        """See `Dataset`."""
        return {
            "data": self.name,
            "fingerprint": self.steps.fingerprint,
            "split": self.facts["periods"],
            "settings": asdict(self.settings),
            "naive_error": self.naive_error,
            "unit": "standard deviations of the training split" if self.scaled else "of the column",
        }


def encoded_steps(
    steps: MappedSteps,
    codec: SeriesCodec,
    settings: ForecastSettings,
    where: str,
    outside: tuple[int, int] | None = None,
) -> ArrayFolder:
    """The arrays of steps, for a codec that is to be fitted to them, or by a fitted one.

    outside   all steps that are not between these times are the test split; None: the splits are
              those of the settings

    Raises `DataError`, and `UserError` where they cannot be written.
    """
    own = asdict(settings)
    made_from = {
        "steps": steps.made_from,
        "codec": {**codec.to_json(), "notes": ()},
        **{key: own[key] for key in ("split", "test", "horizon", "context", "season", "scaling")},
        "outside": outside,
    }
    return array_folder(
        "forecast-inputs",
        made_from,
        lambda writer: _encode(writer, steps, codec, settings, where, outside),
    )


def _encode(
    writer: ArrayWriter,
    steps: MappedSteps,
    codec: SeriesCodec,
    settings: ForecastSettings,
    where: str,
    outside: tuple[int, int] | None,
) -> dict[str, Any]:
    if outside is None:
        split = write_split(writer, steps, settings, has_clock=codec.time is not None)
        _check_length(steps, split, settings, where)
    else:
        split = writer.create("split", [len(steps)], np.int8)
        for part in steps.blocks():
            time = steps.time[part]
            test = (time >= outside[1]) | (time < outside[0])
            split[part] = np.where(test, SPLITS.index("test"), UNUSED)
    if not codec.std:
        codec = fit_mapped(codec, steps, split, settings, where)
    targets, run, last_split = len(codec.targets), 0, int(split[0])
    empty, missing = 0, np.zeros(len(codec.columns), np.int64)
    for part, first, series, filled in filled_blocks(codec, steps):
        inside = slice(part.start - first, part.stop - first)
        writer.append("inputs", codec.encode(series)[inside])
        writer.append("level", codec.scale(filled[:, :targets], series)[inside])
        writer.append("values", codec.scale(series.values[:, :targets], series)[inside])
        own = np.asarray(split[part])
        begins = series.reset[inside] | (np.diff(own, prepend=last_split) != 0)
        runs = run + np.cumsum(begins)
        writer.append("run", runs)
        run, last_split = int(runs[-1]), int(own[-1])
        read = series.row[inside] >= 0
        empty += int((~read).sum())
        missing += np.isnan(series.values[inside][read]).sum(0)
    sizes = _write_origins(writer, steps, split, settings.horizon or 1)
    return {
        "codec": codec.to_json(),
        "notes": codec.notes,
        "periods": _periods(steps, split),
        "sizes": sizes,
        "empty": empty,
        "missing": dict(zip(codec.columns, missing.tolist(), strict=True)),
        "naive_error": _naive_error(writer, steps, split, codec, settings.season or 1),
    }


def _write_origins(
    writer: ArrayWriter, steps: MappedSteps, split: np.ndarray, horizon: int
) -> dict[str, int]:
    """Write the steps of each split to forecast from, and those to train on, which may have an
    unknown future. Returns the number of steps of each split.
    """
    values, run = writer.finished("values"), writer.finished("run")
    sizes, before = dict.fromkeys(SPLITS, 0), -2
    for part in steps.blocks():
        ahead = slice(part.start, part.stop + horizon)
        future = FutureValues(np.array(values[ahead]), np.array(run[ahead]), horizon)
        usable = future.any_known[: part.stop - part.start] & (steps.row[part] >= 0)
        own = split[part]
        for k, name in enumerate(SPLITS):
            writer.append(name, np.flatnonzero(usable & (own == k)) + part.start)
            sizes[name] += int((own == k).sum())
        writer.append("learned", usable & (own == 0))
        train = np.flatnonzero(own == 0) + part.start
        gap = np.diff(train, prepend=before) != 1
        writer.append("train steps", train)
        writer.append("train reset", (steps.start[train] == train) | gap)
        before = int(train[-1]) if len(train) else before
    return sizes


def _periods(steps: MappedSteps, split: np.ndarray) -> dict[str, list[int]]:
    """Split -> its first and last time; without those that have no steps."""
    found: dict[str, list[int]] = {}
    for part in steps.blocks():
        for k, name in enumerate(SPLITS):
            time = steps.time[part][split[part] == k]
            if len(time):
                low, high = found.get(name, [int(time[0])] * 2)
                found[name] = [min(low, int(time.min())), max(high, int(time.max()))]
    return found


def _naive_error(
    writer: ArrayWriter, steps: MappedSteps, split: np.ndarray, codec: SeriesCodec, season: int
) -> float:
    """As `seasonal_error`."""
    scaled = writer.finished("values") if is_scaled(codec) else None
    total = count = 0.0
    for part in steps.blocks():
        read = slice(max(part.start - season, 0), part.stop)
        values = steps.values[read, : len(codec.targets)] if scaled is None else scaled[read]
        start = steps.start[read]
        same = (start[season:] == start[:-season]) & (split[read][season:] == 0)
        error = np.abs(values[season:] - values[:-season])[same]
        total += float(np.nansum(error))
        count += int((~np.isnan(error)).sum())
    return total / count if total > 0 else 1.0


def _check_length(
    steps: MappedSteps, split: np.ndarray, settings: ForecastSettings, where: str
) -> None:
    """Raises `DataError` if a split is too short; see `split.check_length`."""
    counts = np.zeros((len(steps.groups), 4), np.int64)
    for part in steps.blocks():
        np.add.at(counts, (steps.group[part], split[part]), 1)  # UNUSED is the last column
    train, _, test, _ = counts.max(0).tolist()
    check_lengths(train, test, int(counts.sum(1).max()), settings, where)
