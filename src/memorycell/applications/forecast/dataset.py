"""forecast: the next values of a series, as a distribution, at every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from memorycell.application.contract import Dataset, Metrics
from memorycell.application.datasets import locate, with_dataset_settings
from memorycell.application.modelfile import ModelFile
from memorycell.applications.forecast import classic
from memorycell.applications.forecast.baselines import (
    History,
    Persistence,
    forecast_baselines,
    restored,
    return_baselines,
)
from memorycell.applications.forecast.codec import (
    RETURN,
    SERIES,
    VALUE,
    Series,
    SeriesCodec,
    detect,
    fit_scaling,
)
from memorycell.applications.forecast.model import Forecaster, ForecasterConfig
from memorycell.applications.forecast.paths import by_paths
from memorycell.errors import DataError, ModelFileError, UserError
from memorycell.models.batches import LaneBatch, lanes
from memorycell.models.quantiles import interval
from memorycell.settings import check_choices, check_counts
from memorycell.tables.clock import Clock
from memorycell.tables.table import read_table
from memorycell.training import metrics
from memorycell.training.splits import SPLITS

if TYPE_CHECKING:
    import polars as pl

TRAIN_SHARE = 70 / 85
"""Of the time before what is tested on, the share that is learnt from; the rest chooses the epoch.
"""
WORTH = 0.005
"""Share of ridge's error that the day of the week must save to be told."""
MOST_KINDS = 64
"""Words of a static column that are told apart."""


@dataclass(frozen=True)
class ForecastSettings:
    """What --set can say about a forecast. Columns are found where they are not named.

    target      column to forecast, or several with commas; returns: a column of prices, of which
                the returns are forecast, 100 log(price / price a step before)
    each        yes: every target is a series of its own, all forecast by one model
    time        column of time stamps (found); time_format as in %d/%m/%Y
    group       column that tells several series in one file apart
    inputs      other columns to use, with commas; "none"; every column of numbers where not said
    known       those of them whose future is known beforehand (a price list, a calendar): it is
                told to the model
    static      columns of words that a series is told by, with commas; "group": which series it is,
                the first of it 64 kinds
    calendar    cycles that a step is told by: day, week, year, with commas, or none; where not said
                those of the clock, the week beside the day only if ridge forecasts the validation
                part better with it
    scaling     all, or series: every series in its own mean and deviation; where each=yes, series
    every       the nominal step, as in 5m, 1h: rows are snapped to it; "row" ignores the clock
    horizon     steps ahead; from the step's length where not said
    context     steps that simple methods may look back, and the longest gap that is bridged
    season      steps in a season, for the seasonal baseline; from the step's length where not said
    cell, hidden, layers, dropout, zoneout, weight_drop   the recurrent part
    window      steps that the linear path sees beside the recurrent part
    classic     ets, arima or theta, with commas: also compare with these, each fitted anew at up to
                `origins` steps of the test part, evenly spread, the model scored at the same ones
                (memorycell[classic]; slow)
    decode      direct: all steps ahead at once; paths: one step after another, drawn `paths` times
                and given back to the model
    head        quantiles, student (Student's t) or counts (negative binomial, for 0, 1, 2, …)
    normal      no; level: each window in its own mean and deviation, put back in the forecast;
                spread: by its size alone, and no forecast starts from the last value, as returns
                want it
    test        the share of the time that is tested on, as in 0.85:1; the last sixth of what comes
                before chooses the epoch
    split       rows of every series to learn from, to choose by and to test on, as in
                8640,2880,2880, in place of shares
    stride      steps from one forecast that is tested to the next, counted from the first of each
                series: 24, once a day
    lanes, bptt   sequences side by side in a batch, and steps a gradient flows back
    """

    target: str | None = None
    returns: str | None = None
    each: str | None = None
    time: str | None = None
    time_format: str | None = None
    group: str | None = None
    inputs: str | None = None
    known: str | None = None
    static: str | None = None
    calendar: str | None = None
    scaling: str | None = None
    every: str | None = None
    horizon: int | None = None
    context: int | None = None
    season: int | None = None
    cell: str = "lstm"
    hidden: int = 128
    layers: int = 1
    dropout: float = 0.2
    zoneout: float = 0.0
    weight_drop: float = 0.0
    window: int | None = None
    classic: str | None = None
    origins: int = 60
    decode: str = "direct"
    paths: int = 50
    head: str | None = None
    normal: str | None = None
    test: str = "0.85:1"
    split: str | None = None
    stride: int = 1
    lanes: int | None = None
    bptt: int = 96

    def __post_init__(self) -> None:
        check_counts(
            self,
            "stride",
            "origins",
            "paths",
            "horizon",
            "context",
            "season",
            "hidden",
            "layers",
            "window",
            "lanes",
            "bptt",
        )
        check_choices(
            self,
            decode=("direct", "paths"),
            each=(None, "yes", "no"),
            scaling=(None, "all", "series"),
        )
        if wrong := set(_names(self.classic)) - set(classic.METHODS):
            raise ValueError(
                f"classic={', '.join(sorted(wrong))}: expected {', '.join(classic.METHODS)}"
            )
        self.rows(), self.tested()
        self.model_config(2, 1)  # says what is wrong with the rest

    def rows(self) -> list[int] | None:
        """`split` in numbers."""
        if self.split is None:
            return None
        told = self.split.split(",")
        if len(told) != 3 or not all(t.strip().isdigit() and int(t) > 0 for t in told):
            raise ValueError(
                f"split={self.split}: expected three numbers of rows, as in 8640,2880,2880"
            )
        return [int(t) for t in told]

    def tested(self) -> tuple[float, float]:
        """`test` in numbers."""
        try:
            begin, end = (float(part) for part in self.test.split(":"))
        except ValueError:
            raise ValueError(
                f"test={self.test}: expected two shares of the time, as in 0.85:1"
            ) from None
        if not 0 < begin < end <= 1:
            raise ValueError(
                f"test={self.test}: expected two shares of the time, the first smaller, as in"
                " 0.85:1"
            )
        return begin, end

    def model_config(
        self,
        input_size: int,
        targets: int,
        *,
        moving: int | None = None,
        seen: int = 0,
        unit: float = 1.0,
    ) -> ForecasterConfig:
        """The sizes of the model these settings ask for."""
        return ForecasterConfig(
            linear=None if moving in (None, input_size) else moving,
            seen=seen,
            unit=unit,
            head=self.head or "quantiles",
            normal=self.normal or "no",
            input_size=input_size,
            hidden_size=self.hidden,
            horizon=1 if self.decode == "paths" else self.horizon or 1,
            targets=targets,
            window=self.window or 1,
            cell=self.cell,
            num_layers=self.layers,
            dropout=self.dropout,
            zoneout=self.zoneout,
            weight_drop=self.weight_drop,
        )


class ForecastDataset(Dataset):
    """A table of readings, on its clock, split by time, encoded, with the baselines fitted."""

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
        """[N] int: 0 train, 1 valid, 2 test, -1 none of them"""
        self.notes: list[str] = []
        self.methods: dict[str, Persistence] = {}
        self.inputs = codec.encode(series)
        filled = codec.fill(series)[:, : len(codec.targets)]
        horizon = settings.horizon or 1
        self.history = History(
            codec.scale(filled, series),
            self.inputs[:, : codec.moving].astype(np.float64),
            series.start,
            self._future(horizon),
        )
        self.naive_error = 1.0

    def _future(self, horizon: int) -> np.ndarray:
        """[N, horizon, targets]: the next values in scaled units; NaN where missing, past the
        segment, or in another split.
        """
        values = self.codec.scale(self.series.values[:, : len(self.codec.targets)], self.series)
        size = len(values)
        future = np.full((size, horizon, values.shape[1]), np.nan)
        for k in range(1, min(horizon, size - 1) + 1):
            same = (self.series.start[k:] == self.series.start[:-k]) & (
                self.split[k:] == self.split[:-k]
            )
            future[:-k, k - 1] = np.where(same[:, None], values[k:], np.nan)
        return future

    def at(self, split: str) -> np.ndarray:
        """[M]: the steps of a split at which a row was read and something of the future is known."""
        here = (self.split == SPLITS.index(split)) & (self.series.row >= 0)
        if split == "test" and self.settings.stride > 1:
            here &= (np.arange(len(self.series)) - self.series.first) % self.settings.stride == 0
        return np.flatnonzero(here & ~np.isnan(self.history.future).all((1, 2)))

    def mask(self, split: str) -> np.ndarray:
        """[N] bool of `at`."""
        result = np.zeros(len(self.series), bool)
        result[self.at(split)] = True
        return result

    # ---- what training asks for ------------------------------------------------------------------

    def build(self) -> Forecaster:
        """An LSTM with a linear path beside it, sized by the settings."""
        codec = self.codec
        unit = float(codec.std[0]) if self.settings.head == "counts" else 1.0
        # Of returns the linear path sees the returns alone: there is next to nothing to be seen.
        moving = len(codec.targets) if self.settings.normal == "spread" else codec.moving
        return Forecaster(
            self.settings.model_config(
                self.inputs.shape[1],
                len(codec.targets),
                moving=moving,
                seen=2 * len(codec.columns),
                unit=unit,
            )
        )

    def batches(self, seed: int) -> Iterator[LaneBatch]:
        """The training part in lanes, shifted at random."""
        rows = np.flatnonzero(self.split == 0)
        reset = self.series.reset[rows] | (np.diff(rows, prepend=rows[0] - 1) != 1)
        learn = self.mask("train")[rows]
        future = self.history.future[rows][:, : 1 if self.settings.decode == "paths" else None]
        target = np.where(learn[:, None, None], future, np.nan).astype(np.float32)
        s = self.settings
        count = s.lanes or min(max(len(rows) // (4 * s.bptt), 1), 32)
        shift = int(np.random.default_rng(seed).integers(len(rows)))
        return lanes(self.inputs[rows], target, reset, count=count, bptt=s.bptt, shift=shift)

    def quantiles(
        self, model: Forecaster, at: np.ndarray, precision: str = "float32"
    ) -> np.ndarray:
        """The model's forecasts at the steps `at` [M]: [M, horizon, targets, K] in scaled units."""
        if self.settings.decode == "direct":
            return model.run(self.inputs, self.series.start, at, precision=precision)
        return by_paths(
            model.stepper(precision),
            self.codec,
            self.series,
            self.inputs,
            at,
            horizon=self.settings.horizon or 1,
            paths=self.settings.paths,
        )

    def measure(self, quantiles: np.ndarray, at: np.ndarray) -> Metrics:
        """crps, mae, mse, mase, coverage_80: in the table's units for one target, in standard
        deviations for several.
        """
        truth = self.history.future[at]
        if not self.scaled:
            names = self.names(at)
            quantiles, truth = (
                self.codec.unscale(quantiles, names),
                self.codec.unscale(truth[..., None], names)[..., 0],
            )
        low, middle, high = interval(quantiles)
        return {
            "crps": metrics.crps(truth, quantiles),
            "mae": metrics.mae(truth, middle),
            "mse": metrics.mse(truth, quantiles.mean(-1)),
            "mase": metrics.mase(truth, middle, self.naive_error),
            "coverage_80": metrics.coverage(truth, low, high),
        }

    def _classic(self, model: Forecaster, at: np.ndarray) -> dict[str, Any]:
        """The metrics of the classic methods and of the model, at origins spread evenly over `at`."""
        s, level = self.settings, self.history.level
        some = at[
            np.unique(np.linspace(0, len(at) - 1, min(s.origins, len(at))).round().astype(int))
        ]
        ours = self.quantiles(model, some)
        told: dict[str, Any] = {"origins": len(some), "memorycell": self.measure(ours, some)}
        for method in _names(s.classic):
            quantiles = np.empty(ours.shape)
            for row, step in enumerate(some):
                for k in range(level.shape[1]):
                    values = level[self.series.start[step] : step + 1, k]
                    quantiles[row, :, k] = classic.forecast(
                        method,
                        values,
                        horizon=s.horizon or 1,
                        season=s.season or 1,
                        quantiles=ours.shape[-1],
                    )
            told[method] = self.measure(quantiles, some)
        return told

    @property
    def scaled(self) -> bool:
        """Whether errors are told in standard deviations of the training part: those of several
        columns have no common unit.
        """
        return len(self.codec.targets) > 1 or bool(self.codec.each)

    def names(self, at: np.ndarray) -> list[str]:
        """The series of the steps `at`."""
        return [self.series.groups[k] for k in self.series.group[at]]

    def details(self, model: Forecaster, split: str) -> dict[str, Any]:
        """By lead time, the CRPS of the model and of the best simple method; of returns, what the
        direction is worth.
        """
        at = self.at(split)
        ours = self.quantiles(model, at)
        truth = self.history.future[at]
        forecasts = {"memorycell": ours} | {
            name: method.predict(self.history, at) for name, method in self.methods.items()
        }
        scores = {name: self.measure(q, at)["crps"] for name, q in forecasts.items()}
        best = min(self.methods, key=lambda name: scores[name]) if self.methods else None
        horizon = ours.shape[1]
        leads = sorted(
            {1, *np.unique(np.linspace(1, horizon, min(horizon, 8)).round().astype(int)).tolist()}
        )
        told = {name: q for name, q in forecasts.items() if name in ("memorycell", best)}
        unit = 1.0 if self.scaled or self.codec.own else float(self.codec.std[0])
        found: dict[str, Any] = {
            "by_lead": {
                str(k): {
                    name: unit * metrics.crps(truth[:, k - 1], q[:, k - 1].astype(np.float64))
                    for name, q in told.items()
                }
                for k in leads
            }
        }
        if self.settings.classic:
            found["classic"] = self._classic(model, at)
        if self.codec.returns is not None:
            found["direction"] = metrics.directional_accuracy(
                self.codec.unscale(truth[..., None], self.names(at))[:, 0, 0, 0],
                interval(self.codec.unscale(ours, self.names(at)))[1][:, 0, 0],
            )
        return found

    def evaluate(self, model: Forecaster, split: str, precision: str = "float32") -> Metrics:
        """The model's metrics on a split."""
        at = self.at(split)
        if (
            self.settings.decode == "paths" and split == "valid"
        ):  # they take long: forecasts that do not overlap will do
            at = at[:: self.settings.horizon or 1]
        return self.measure(self.quantiles(model, at, precision), at)

    def sample(self, steps: int) -> np.ndarray:
        """Inputs [T, F] from where the test part begins."""
        begin = int(self.at("test")[0])
        return self.inputs[begin : begin + steps]

    def fit_baselines(self, quantiles: int) -> None:
        """Learn the simple methods on the training part."""
        s = self.settings
        train, valid = self.mask("train"), self.mask("valid")
        if self.codec.returns is not None:
            self.methods = return_baselines()
        else:
            self.methods = forecast_baselines(s.horizon or 1, s.season or 1, s.context or 1)
        for method in self.methods.values():
            method.fit(self.history, train, valid, quantiles)
        self.naive_error = _naive_error(self)

    def baselines(self, split: str) -> dict[str, Metrics]:
        """The simple methods' metrics on a split."""
        at = self.at(split)
        return {
            name: self.measure(method.predict(self.history, at), at)
            for name, method in self.methods.items()
        }

    def later(self, test: str) -> ForecastDataset:
        """The same codec and simple methods, tested on another share of the time."""
        settings = replace(self.settings, test=test)
        other = ForecastDataset(
            self.name,
            self.series,
            self.codec,
            settings,
            _split(self.codec, self.series, settings, self.name),
        )
        other.methods, other.naive_error = self.methods, self.naive_error
        return other

    def info(self) -> dict[str, Any]:
        """For the model file."""
        cuts = {
            name: [int(self.series.time[rows].min()), int(self.series.time[rows].max())]
            for name in SPLITS
            if len(rows := np.flatnonzero(self.split == SPLITS.index(name)))
        }
        return {
            "data": self.name,
            "fingerprint": self.series.fingerprint(),
            "split": cuts,
            "settings": dataclasses.asdict(self.settings),
            "naive_error": self.naive_error,
            "unit": "standard deviations of the training part" if self.scaled else "of the column",
        }

    def arrays(self) -> dict[str, Tensor]:
        """The fitted baselines."""
        return {
            f"baseline.{name}.{key}": torch.from_numpy(value)
            for name, method in self.methods.items()
            for key, value in method.arrays().items()
        }


def prepare(data: str | None, settings: ForecastSettings) -> ForecastDataset:
    """Read the table, decide what was not said, split by time, scale by the training part, fit the
    baselines.
    """
    if settings.classic and not classic.INSTALLED:  # said now, not after the training
        raise UserError(
            f"classic={settings.classic} needs statsforecast: pip install 'memorycell[classic]'"
        )
    path, source = locate(data or "glucose")
    where = source.name if source else str(path)
    settings = with_dataset_settings(settings, source)
    frame = read_table(path)
    codec = _codec(frame, where, settings)
    if codec.each or codec.returns:
        settings = replace(settings, scaling=settings.scaling or "series")
    if codec.returns:
        settings = replace(settings, normal=settings.normal or "spread")
    settings = _decided(settings, codec)
    if settings.calendar is not None:
        told = tuple(c for c in _names(settings.calendar) if c != "none")
        if wrong := set(told) - set(codec.clock.calendar):
            known = ", ".join(codec.clock.calendar) or "none"
            raise DataError(
                f"{where}: calendar={', '.join(sorted(wrong))}: with steps of {codec.clock} there"
                f" is {known}"
            )
        codec = replace(codec, cycles=told)
    codec = replace(
        codec, max_gap=settings.context or 1, reach=(settings.horizon or 1) if codec.known else 0
    )
    series = codec.read(frame, where)
    split = _split(codec, series, settings, where)
    codec = fit_scaling(codec, series, split == 0, one_by_one=settings.scaling == "series")
    if settings.head == "counts":
        codec = _counting(codec, series, where)
    if settings.static:
        codec = _told_by(codec, frame, series, split, settings.static, where)
        series = codec.read(frame, where)
    dataset = ForecastDataset(where if source else str(data), series, codec, settings, split)
    for name in SPLITS:
        if len(dataset.at(name)) == 0:
            why = (
                "the gaps are too long or too many"
                if settings.stride == 1
                else f"stride={settings.stride} may be too long"
            )
            raise DataError(f"{where}: nothing to forecast in the {name} part; {why}")
    dataset.fit_baselines(ForecasterConfig.quantiles)
    if (
        set(codec.calendar) == {"day", "week"}
        and settings.calendar is None
        and "ridge" in dataset.methods
    ):
        dataset = _without_weeks(dataset)
    dataset.notes = _notes(dataset, frame.height)
    return dataset


def _without_weeks(dataset: ForecastDataset) -> ForecastDataset:
    """The same, steps told by the day alone, unless ridge forecasts the validation part better with
    weeks: a network learns the few weeks of most tables by heart.
    """
    other = ForecastDataset(
        dataset.name,
        dataset.series,
        replace(dataset.codec, cycles=("day",)),
        dataset.settings,
        dataset.split,
    )
    other.fit_baselines(ForecasterConfig.quantiles)
    with_weeks, without = (p.baselines("valid")["ridge"]["crps"] for p in (dataset, other))
    return dataset if with_weeks < (1 - WORTH) * without else other


def _codec(frame: pl.DataFrame, where: str, settings: ForecastSettings) -> SeriesCodec:
    """The columns as named, or found, without scaling."""
    named = _names(settings.target)
    each = settings.each == "yes"
    if each and len(named) < 2:
        raise DataError(f"{where}: each=yes needs several targets: --set target=A,B,C")
    if each and (settings.group is not None or settings.returns is not None):
        raise DataError(
            f"{where}: each=yes makes a series of every target; it does not go with group or"
            " returns"
        )
    if settings.returns is not None and named:
        raise DataError(
            f"{where}: returns={settings.returns} says what is forecast; leave target out"
        )
    blank = SeriesCodec(
        (),
        (),
        Clock("row"),
        1,
        group=settings.group,
        each=named if each else (),
        returns=settings.returns,
    )
    table = blank.table(frame, where)
    target = (VALUE,) if each else (RETURN,) if settings.returns else named
    inputs = (
        None if settings.inputs is None else [c for c in _names(settings.inputs) if c != "none"]
    )
    known = _names(settings.known)
    inputs = (
        [*(inputs or []), *(c for c in known if c not in (inputs or []))]
        if known or inputs is not None
        else None
    )
    if settings.returns is not None and settings.returns not in (inputs or ()):
        table = table.drop(settings.returns)  # prices say little beside their changes
    codec = detect(
        table,
        where,
        target=target,
        inputs=inputs,
        time=settings.time,
        time_format=settings.time_format,
        group=SERIES if each else settings.group,
        every=settings.every,
    )
    return replace(codec, each=blank.each, returns=settings.returns, known=known)


def _counting(codec: SeriesCodec, series: Series, where: str) -> SeriesCodec:
    """The codec with counts in units of their mean."""
    if len(codec.targets) > 1 or codec.own:
        raise DataError(
            f"{where}: head=counts forecasts one column, scaled for all series together"
        )
    values = series.values[:, 0]
    wrong = (values < 0) | (values != np.round(values))
    wrong &= ~np.isnan(values)
    if wrong.any():
        row = int(series.row[int(wrong.argmax())])
        raise DataError(
            f"{where}: row {row + 1}, column {codec.targets[0]!r}: {values[int(wrong.argmax())]:g}"
            " is not a count; head=counts needs 0, 1, 2, …, or leave head out"
        )
    return replace(
        codec, mean=(0.0, *codec.mean[1:]), std=(max(codec.mean[0], 1e-3), *codec.std[1:])
    )


def _told_by(
    codec: SeriesCodec,
    frame: pl.DataFrame,
    series: Series,
    split: np.ndarray,
    static: str,
    where: str,
) -> SeriesCodec:
    """The codec with the words of training that series are told by."""
    table, found = codec.table(frame, where), {}
    if codec.group is None:
        raise DataError(
            f"{where}: static={static}: there is one series; name what tells several apart: --set"
            " group=COLUMN"
        )
    for c in _names(static):
        name = codec.group if c == "group" else c
        if name not in table.columns:
            raise DataError(
                f"{where}: no column {c!r}; it has {', '.join(map(repr, table.columns))}"
            )
        rows = series.row[(split == 0) & (series.row >= 0)]
        words = list(dict.fromkeys(str(table[name][int(row)]) for row in rows))
        found[name] = tuple(words[:MOST_KINDS])
    return replace(codec, static=found)


def reopen(data: str | None, file: ModelFile) -> ForecastDataset:
    """The same for a trained model. Its own data: the held-out test part. Other data: all but the
    span it learnt from.
    """
    try:
        settings = ForecastSettings(**file.info["settings"])
        begin, end = int(file.info["split"]["train"][0]), int(file.info["split"]["test"][0])
        naive_error, fingerprint = float(file.info["naive_error"]), str(file.info["fingerprint"])
        methods = restored(
            {n.removeprefix("baseline."): a.numpy() for n, a in file.arrays.items()},
            settings.season or 1,
            returns=settings.returns is not None,
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelFileError(
            f"the model file's description of its training is not whole ({error!r}); train it anew"
        ) from None
    path, source = locate(data or str(file.info["data"]))
    where = source.name if source else str(path)
    series = file.codec.read(read_table(path), where)
    same = series.fingerprint() == fingerprint
    if same:
        test = _split(file.codec, series, settings, where) == 2
    elif file.codec.time is None:
        test = np.ones(len(series), bool)  # no clock: nothing tells whether a row was learnt from
    else:
        test = (series.time >= end) | (series.time < begin)
    dataset = ForecastDataset(where, series, file.codec, settings, np.where(test, 2, -1))
    if len(dataset.at("test")) == 0:
        raise DataError(
            f"{where}: nothing to evaluate: no row lies outside the time the model learnt from, or"
            f" the series is shorter than {settings.horizon} steps"
        )
    dataset.naive_error, dataset.methods = naive_error, methods
    if settings.classic and not classic.INSTALLED:
        dataset.settings = replace(settings, classic=None)
        dataset.notes.append(f"{settings.classic} left out: pip install 'memorycell[classic]'")
    which = "of the held-out test part" if same else "outside the time it learnt from"
    dataset.notes.append(f"scored: {len(dataset.at('test')):,} forecasts {which}")
    return dataset


def _decided(settings: ForecastSettings, codec: SeriesCodec) -> ForecastSettings:
    """The settings with everything the data's clock decides filled in."""
    horizon = settings.horizon or codec.clock.horizon
    season = settings.season or codec.clock.season
    context = settings.context or max(2 * horizon, season)
    return replace(
        settings,
        horizon=horizon,
        season=season,
        context=context,
        window=settings.window or min(horizon, 24),
    )


def _split(
    codec: SeriesCodec, series: Series, settings: ForecastSettings, where: str
) -> np.ndarray:
    """[N] int: 0, 1, 2 by time, the same cuts for every series of the file; -1 for steps beyond a
    split in rows.
    """
    if (told := settings.rows()) is not None:
        split = np.digitize(np.arange(len(series)) - series.first, np.cumsum(told))
        if not (split >= 2).any():
            raise DataError(
                f"{where}: split={settings.split}: no series has more than {sum(told[:2])} steps"
            )
        return np.where(split > 2, -1, split)
    when = series.time
    if codec.time is None:  # no clock to compare series by: each is cut in the same proportions
        when = (np.arange(len(series)) - series.first) / np.bincount(series.group)[series.group]
    ordered = np.sort(when)
    begin, end = settings.tested()
    cuts = [
        ordered[int(share * len(ordered))]
        for share in (TRAIN_SHARE * begin, begin, end)
        if share < 1
    ]
    split = np.searchsorted(cuts, when, side="right")
    split = np.where(split > 2, -1, split)
    longest = max(np.bincount(series.group[split == 0], minlength=1))
    shortest_test = max(np.bincount(series.group[split == 2], minlength=1))
    need = (settings.context or 1) + (settings.horizon or 1)
    if longest < need or shortest_test <= (settings.horizon or 1):
        total = max(np.bincount(series.group))
        raise DataError(
            f"{where}: too short: {total} steps, of which {longest} to train on and {shortest_test}"
            f" to test on; a context of {settings.context} and a horizon of {settings.horizon} need"
            f" {need} and {(settings.horizon or 1) + 1}; bring more rows, or --set horizon=… --set"
            " context=…"
        )
    return split


def _naive_error(dataset: ForecastDataset) -> float:
    """Mean |y_t - y_{t-m}| over the training part, in the unit of the metrics: the scale of MASE."""
    values = dataset.series.values[:, : len(dataset.codec.targets)]
    if dataset.scaled:
        values = dataset.codec.scale(values, dataset.series)
    m = dataset.settings.season or 1
    same = (dataset.series.start[m:] == dataset.series.start[:-m]) & (dataset.split[m:] == 0)
    error = np.abs(values[m:] - values[:-m])[same]
    mean = float(np.nanmean(error)) if (~np.isnan(error)).any() else 0.0
    return mean if mean > 0 else 1.0


def _notes(dataset: ForecastDataset, rows: int) -> list[str]:
    """What was found, for people."""
    codec, series, s = dataset.codec, dataset.series, dataset.settings
    of = f" of {len(series.groups)} series" if codec.group else ""
    notes = [
        (
            f"{rows:,} rows{of}, one step = {codec.clock}; forecast {', '.join(codec.targets)}"
            f" {s.horizon} steps ahead"
        ),
        f"inputs: {', '.join(codec.columns)}"
        + (f"; calendar: {', '.join(codec.calendar)}" if codec.calendar else ""),
    ]
    empty = int((series.row < 0).sum())
    if empty or series.skipped:
        segments = int(series.reset.sum()) - len(series.groups)
        notes.append(
            f"gaps: {empty:,} empty steps bridged, {segments} longer gaps where the state starts"
            f" afresh, {series.skipped:,} rows left out that share a step with another"
        )
    read = series.row >= 0
    for k, column in enumerate(codec.columns):
        if missing := int(np.isnan(series.values[read, k]).sum()):
            notes.append(f"{column}: {missing:,} of {int(read.sum()):,} values missing")
    sizes = [int((dataset.split == k).sum()) for k in range(3)]
    notes.append(
        "steps to train, validate, test (in this order of time): "
        + ", ".join(f"{n:,}" for n in sizes)
    )
    if s.classic:
        notes.append(
            f"{s.classic}: at the end fitted anew at {s.origins} steps of the test part, up to some"
            " seconds each"
        )
    return notes + list(codec.notes)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
