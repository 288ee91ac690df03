"""A table of readings, read, split by time and encoded, with fitted baselines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from copy import copy
from dataclasses import asdict, replace

import numpy as np
import torch
from torch import Tensor

from memorycell.application.contract import Dataset, Metrics, Record
from memorycell.applications.forecast import linear_start
from memorycell.applications.forecast.baseline_sets import (
    forecast_baselines,
    return_baselines,
)
from memorycell.applications.forecast.baselines import Baseline, seasonal_error
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.details import evaluation_details
from memorycell.applications.forecast.history import FutureValues, History, spaced
from memorycell.applications.forecast.model import Forecaster, ForecasterConfig
from memorycell.applications.forecast.paths import run_paths
from memorycell.applications.forecast.scaling import fit_codec, narrow
from memorycell.applications.forecast.series import Series
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.applications.forecast.split import split_series
from memorycell.applications.forecast.words import drop_words
from memorycell.models.batches import LaneBatch, lanes
from memorycell.models.quantiles import interval
from memorycell.training import metrics
from memorycell.training.splits import SPLITS

MAX_LANES = 32
"""Sequences per batch by default."""
MAX_VALID_ORIGINS, MAX_TEST_ORIGINS = 8192, 25_000
"""Forecasts that are scored after each epoch, and at the end with the default stride."""
MAX_SCORED_NUMBERS = 500_000
"""Numbers of the forecasts that are scored at once."""


def is_scaled(codec: SeriesCodec) -> bool:
    """Whether several columns, which have no common unit, are forecast."""
    return len(codec.targets) > 1 or bool(codec.each)


class ForecastDataset(Dataset[Forecaster, LaneBatch]):
    """See `Dataset`.

    series            the table on its clock
    split             [N] int, an index into `SPLITS` or `UNUSED`
    inputs            [N, F] float32
    history           what the baselines read, in scaled units
    baseline_models   the fitted baselines by name
    linear_rows       training steps of the regression of the linear path, at most
    naive_error       the scale of MASE, in the unit of the metrics
    """

    codec: SeriesCodec
    geometric_means: tuple[str, ...] = ()
    stored_baselines = True

    def __init__(
        self,
        name: str,
        series: Series,
        codec: SeriesCodec,
        settings: ForecastSettings,
        split: np.ndarray,
    ) -> None:
        self.name, self.series, self.codec, self.settings = name, series, codec, settings
        self.split = split
        self.notes: list[str] = []
        self.baseline_models: dict[str, Baseline] = {}
        self.naive_error = 1.0
        self.linear_rows = linear_start.MAX_ROWS
        self._baseline_scores: dict[str, dict[str, Metrics]] = {}
        self._linear_start: tuple[ForecasterConfig, linear_start.LinearStart | None] | None = None
        self._last: tuple[Forecaster, tuple[object, ...], np.ndarray] | None = None
        self.inputs = codec.encode(series)
        filled = codec.fill(series)[:, : len(codec.targets)]
        self._future = self._future_values()
        self.history = History(
            codec.scale(filled, series),
            self.inputs[:, : codec.dynamic_size],
            series.start,
            self._future,
        )
        if settings.stride is None:
            stride = max(-(-len(self.origins("test")) // MAX_TEST_ORIGINS), 1)
            self.settings = replace(settings, stride=stride)

    def _future_values(self) -> FutureValues:
        """The next values in scaled units; NaN where missing, past the segment, or in another
        split.
        """
        values = self.codec.scale(self.series.values[:, : len(self.codec.targets)], self.series)
        begins = self.series.reset | (np.diff(self.split, prepend=self.split[0]) != 0)
        return FutureValues(values, np.cumsum(begins), self.settings.horizon or 1)

    @property
    def scaled(self) -> bool:
        """Whether metrics are in standard deviations of the training split: several columns have no
        common unit.
        """
        return is_scaled(self.codec)

    def origins(self, split: str) -> np.ndarray:
        """[M]: the steps of a split to forecast from: a row was read, and some of the future is
        known.
        """
        usable = (self.split == SPLITS.index(split)) & (self.series.row >= 0)
        usable &= self._future.any_known
        if split == "test" and (self.settings.stride or 1) > 1:
            step = np.arange(len(self.series)) - self.series.first
            usable &= step % self.settings.stride == 0
        return np.flatnonzero(usable)

    def origin_mask(self, split: str) -> np.ndarray:
        """[N] bool: whether a step is among the `origins`."""
        mask = np.zeros(len(self.series), bool)
        mask[self.origins(split)] = True
        return mask

    def series_names(self, at: np.ndarray) -> list[str]:
        """The series of the steps `at`."""
        return [self.series.groups[k] for k in self.series.group[at]]

    # ---- training --------------------------------------------------------------------------------

    def build(self) -> Forecaster:
        """See `Dataset`."""
        config = self._model_config()
        model = Forecaster(config)
        linear_start.set_linear_path(model, self._fitted_linear_path(config))
        return model

    def linear_error(self) -> float | None:
        """The error on validation of the linear path with which a new model starts; None where it
        is not fitted.
        """
        start = self._fitted_linear_path(self._model_config())
        return None if start is None else start.error

    def _model_config(self) -> ForecasterConfig:
        codec, settings, targets = self.codec, self.settings, len(self.codec.targets)
        # With normal=spread, and over long windows, the linear path reads the targets alone: other
        # inputs predict little.
        linear = codec.dynamic_size
        too_wide = (settings.window or 1) * linear >= linear_start.MAX_COLUMNS
        if settings.normal == "spread" or too_wide:
            linear = targets
        return settings.model_config(
            self.inputs.shape[1],
            targets,
            linear=linear,
            seen=2 * len(codec.columns),
            unit=float(codec.std[0]) if settings.head == "counts" else 1.0,
        )

    def _fitted_linear_path(self, config: ForecasterConfig) -> linear_start.LinearStart | None:
        if self._linear_start is None or self._linear_start[0] != config:
            self._linear_start = config, linear_start.fit_linear_path(self, config)
        return self._linear_start[1]

    def frozen_parameters(self, epoch: int) -> tuple[str, ...]:
        """See `Dataset`: a linear path that starts as ridge stays so."""
        if not (self._linear_start and self._linear_start[1]):
            return ()
        others = [f"others.{k}." for k in range(self.settings.members - 1)]
        return tuple(f"{at}{name}" for at in ("", *others) for name in linear_start.PARAMETERS)

    def calibrate(self, model: Forecaster) -> None:
        """See `Dataset`: the setting `correction`."""
        self.notes += linear_start.shrink_correction(self, model)

    def batches(self, seed: int) -> Iterator[LaneBatch]:
        """See `Dataset`: the training split in lanes, from a random position."""
        settings = self.settings
        steps = np.flatnonzero(self.split == 0)
        reset = self.series.reset[steps] | (np.diff(steps, prepend=steps[0] - 1) != 1)
        usable = self.origin_mask("train")
        count = settings.lanes or min(max(len(steps) // (4 * settings.bptt), 1), MAX_LANES)
        rng = np.random.default_rng(seed)
        shift = int(rng.integers(len(steps)))
        for batch in lanes(steps, steps, reset, count=count, bptt=settings.bptt, shift=shift):
            at = batch.x.numpy()
            target = self.history.future[at.ravel()].reshape(
                *at.shape, *self.history.future.shape[1:]
            )
            target = np.where(usable[at][..., None, None], target, np.nan).astype(np.float32)
            if settings.decode == "paths":
                target = target[:, :, :1]
            x = self.inputs[at]
            drop_words(x, self.codec.word_widths, self.codec.words_at, rng)
            yield batch._replace(x=torch.from_numpy(x), target=torch.from_numpy(target))

    def fit_baselines(self) -> None:
        """Fit the baselines on the training split."""
        settings = self.settings
        horizon, season = settings.horizon or 1, settings.season or 1
        if self.codec.returns is not None:
            self.baseline_models = return_baselines()
        else:
            self.baseline_models = forecast_baselines(horizon, season, settings.context or 1)
        train, valid = self.origin_mask("train"), self.origin_mask("valid")
        for model in self.baseline_models.values():
            model.fit(self.history, train, valid, ForecasterConfig.quantiles)
        values = self.series.values[:, : len(self.codec.targets)]
        if self.scaled:
            values = self.codec.scale(values, self.series)
        self.naive_error = seasonal_error(values, self.series.start, self.split == 0, season)

    # ---- evaluation ------------------------------------------------------------------------------

    def quantiles(
        self, model: Forecaster, at: np.ndarray, precision: str = "float32"
    ) -> np.ndarray:
        """The forecasts at the steps `at` [M]: [M, horizon, targets, K] in scaled units. The last
        ones are kept, for those who score the same model again.
        """
        key = (precision, at.tobytes(), *(p._version for p in model.parameters()))
        if self._last is not None and self._last[0] is model and self._last[1] == key:
            return self._last[2]
        quantiles = self._run(model, at, precision)
        self._last = model, key, quantiles
        return quantiles

    def _run(self, model: Forecaster, at: np.ndarray, precision: str) -> np.ndarray:
        if self.settings.decode == "direct":
            return model.run(self.inputs, self.series.start, at, precision=precision)
        return run_paths(
            model.stepper(precision),
            self.codec,
            self.series,
            self.inputs,
            at,
            horizon=self.settings.horizon or 1,
            paths=self.settings.paths,
        )

    def baseline_quantiles(self, name: str, at: np.ndarray) -> np.ndarray:
        """The forecasts of a baseline at the steps `at` [M]: [M, horizon, targets, K] in scaled
        units.
        """
        return self.baseline_models[name].predict(self.history, at)

    def score(self, quantiles: np.ndarray, at: np.ndarray) -> Metrics:
        """crps, mae, mse, mase and coverage_80 of forecasts at the steps `at`, in the table's unit
        for one target, in standard deviations for several.
        """
        return self._mean_score([(quantiles[part], at[part]) for part in self.chunks(at)])

    def weights(self, split: str) -> dict[str, float]:
        """See `Combinable`: the known values of the forecasts that are scored."""
        at = self.scored_origins(split)
        parts = (self.history.future[at[part]] for part in self.chunks(at))
        known = float(sum((~np.isnan(truth)).sum() for truth in parts))
        return dict.fromkeys(("crps", "mae", "mse", "mase", "coverage_80"), known)

    def _mean_score(self, parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> Metrics:
        """The metrics of forecasts, given as (quantiles, steps), over all known values."""
        total: dict[str, float] = defaultdict(float)
        count = 0
        for quantiles, at in parts:
            truth = self.history.future[at]
            if not self.scaled:
                names = self.series_names(at)
                quantiles = self.codec.unscale(quantiles, names)
                truth = self.codec.unscale(truth[..., None], names)[..., 0]
            if known := int((~np.isnan(truth)).sum()):
                count += known
                for name, value in self._score_of(truth, quantiles).items():
                    total[name] += known * value
        return {name: value / count for name, value in total.items()}

    def _score_of(self, truth: np.ndarray, quantiles: np.ndarray) -> Metrics:
        low, median, high = interval(quantiles)
        return {
            "crps": metrics.crps(truth, quantiles),
            "mae": metrics.mae(truth, median),
            "mse": metrics.mse(truth, quantiles.mean(-1)),
            "mase": metrics.mase(truth, median, self.naive_error),
            "coverage_80": metrics.coverage(truth, low, high),
        }

    def chunks(self, at: np.ndarray) -> list[slice]:
        """Slices of the steps `at` whose forecasts fit in memory together."""
        _, horizon, targets = self.history.future.shape
        size = max(MAX_SCORED_NUMBERS // (horizon * targets * ForecasterConfig.quantiles), 1)
        return [slice(begin, begin + size) for begin in range(0, len(at), size)]

    def scored_origins(self, split: str) -> np.ndarray:
        """[M]: the `origins` whose forecasts are scored; on "valid", after every epoch, a part."""
        at = self.origins(split)
        return at if split == "test" else spaced(at, MAX_VALID_ORIGINS)

    def evaluate(self, model: Forecaster, split: str, precision: str = "float32") -> Metrics:
        """See `Dataset`."""
        at = self.scored_origins(split)
        if self.settings.decode == "paths" and split == "valid":
            at = at[:: self.settings.horizon or 1]  # sampling is slow
        return self.score(self.quantiles(model, at, precision), at)

    def baselines(self, split: str) -> dict[str, Metrics]:
        """See `Dataset`."""
        if split not in self._baseline_scores:
            at = self.scored_origins(split)
            parts = [at[part] for part in self.chunks(at)]
            self._baseline_scores[split] = {
                name: self._mean_score((self.baseline_quantiles(name, p), p) for p in parts)
                for name in self.baseline_models
            }
        return self._baseline_scores[split]

    def details(self, model: Forecaster, split: str) -> Record:
        """See `Dataset`; `evaluation_details`."""
        return evaluation_details(self, model, split)

    def sample(self, steps: int) -> np.ndarray:
        """See `Dataset`."""
        begin = int(self.origins("test")[0])
        return self.inputs[begin : begin + steps]

    def with_test_period(self, test: str) -> ForecastDataset:
        """The same codec and baselines with another test period; see `ForecastSettings.test`."""
        settings = replace(self.settings, test=test)
        has_clock = self.codec.time is not None
        split = split_series(self.series, settings, self.name, has_clock=has_clock)
        other = ForecastDataset(self.name, self.series, self.codec, settings, split)
        other.baseline_models, other.naive_error = self.baseline_models, self.naive_error
        return other

    def with_settings(self, settings: ForecastSettings) -> ForecastDataset:
        """The same data, codec and baselines for another model."""
        other = copy(self)
        other.settings, other._last, other._linear_start = settings, None, None
        return other

    def with_features(self, codec: SeriesCodec, kept: np.ndarray) -> ForecastDataset:
        """The same data with the features `kept` [F] bool, those of another codec; no baselines."""
        other = self.with_settings(self.settings)
        other.codec, other.inputs = codec, np.ascontiguousarray(self.inputs[:, kept])
        other.history = replace(self.history, inputs=other.inputs[:, : codec.dynamic_size])
        other.baseline_models, other._baseline_scores = {}, {}
        return other

    def with_leads(self, count: int) -> ForecastDataset:
        """The same data with at most `count` of the steps ahead, all at once, for trials."""
        other = copy(self)
        other._future = self._future.at_leads(count)
        other.history = replace(self.history, future=other._future)
        horizon = len(other._future.leads)
        other.settings = replace(self.settings, horizon=horizon, decode="direct")
        other._linear_start = None
        return other

    def rebuilt(self, codec: SeriesCodec, series: Series | None = None) -> ForecastDataset:
        """The same split with another codec, and baselines fitted with it."""
        series = self.series if series is None else series
        other = ForecastDataset(self.name, series, codec, self.settings, self.split)
        other.fit_baselines()
        return other

    def narrowed(self, inputs: Collection[str]) -> ForecastDataset:
        """The same split with some of the inputs, numbers and words, and baselines fitted again."""
        series, codec = narrow(self.series, self.codec, inputs)
        fitted = fit_codec(codec, series, self.split == 0, self.settings, self.name)
        return self.rebuilt(replace(fitted, notes=codec.notes), series)

    # ---- in a model file -------------------------------------------------------------------------

    def info(self) -> Record:
        """See `Dataset`."""
        periods = {
            name: [int(self.series.time[steps].min()), int(self.series.time[steps].max())]
            for k, name in enumerate(SPLITS)
            if len(steps := np.flatnonzero(self.split == k))
        }
        return {
            "data": self.name,
            "fingerprint": self.series.fingerprint(),
            "split": periods,
            "settings": asdict(self.settings),
            "naive_error": self.naive_error,
            "unit": "standard deviations of the training split" if self.scaled else "of the column",
        }

    def arrays(self) -> dict[str, Tensor]:
        """See `Dataset`."""
        return {
            f"baseline.{name}.{key}": torch.from_numpy(value)
            for name, model in self.baseline_models.items()
            for key, value in model.arrays().items()
        }
