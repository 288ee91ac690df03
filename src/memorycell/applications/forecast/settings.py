"""The settings of a forecaster."""

from __future__ import annotations

from dataclasses import dataclass, replace

from memorycell.applications.forecast import classic
from memorycell.applications.forecast.model import ForecasterConfig
from memorycell.errors import UserError
from memorycell.setting_fields import check_choices, check_counts
from memorycell.tables.clock import Clock
from memorycell.tables.column_lists import split_names

SEASONAL = ("season", "raw+season")
RAW = ("raw", *SEASONAL)
"""Of `linear`: paths that read windows as they are."""
SEASONAL_WINDOW = 720
"""Steps that a seasonal path reads by default: a month of hours."""


@dataclass(frozen=True)
class ForecastSettings:
    """Settings of `train forecast`, changed with --set. Columns that are not named are inferred.

    target      the column to forecast, or several, separated by commas; in double quotes where
                the name has a comma
    returns     column of prices whose returns are forecast: 100 log(price / previous price)
    each        yes: every target is a series of its own; one model forecasts all
    time        column of time stamps, or columns of dates and of times of day: Date,Time;
                time_format as in %d/%m/%Y; zone of times without an offset: Europe/Berlin
    encoding    of a text file, unless UTF-8: cp1252; sheet of a workbook, by default the first
    decimal, thousands   separators in numbers, where a column can be read in two ways
    group       column that names the series of a row
    inputs      other columns to use, numbers or words, separated by commas, or none, or all; by
                default all numeric columns, unless ridge does better on validation with some
                (columns of words among them) or none
    words       inputs whose values are words although they are written as numbers, such as codes
    known       inputs whose future values are known in advance, such as prices or holidays;
                numbers or words
    static      columns of words that describe a series, separated by commas; group: its name, for
                the first 64 series
    calendar    cycles given as inputs: day, week, year, separated by commas, or none; by default
                those of the clock, and the week only if ridge then does better on validation
    scaling     all, or series: every series by its own mean and standard deviation, the default
                with each and returns
    every       the nominal step, as in 5m, 1h: rows are snapped to it; business: Monday to Friday;
                row: ignore the clock
    horizon     steps ahead; by default from the step
    context     steps of history that baselines may use, and the longest gap that is filled
    season      steps per season of the seasonal baseline; by default from the step
    cell, hidden, layers, dropout, zoneout, weight_drop   of the recurrent part
    window      steps that the linear path reads; by default the horizon, at most 24, or with
                linear=season as many seasons as 720 steps hold
    classic     ets, arima or theta, separated by commas: compare with these as well, refitted at up
                to `origins` evenly spaced test steps; the model is scored at the same steps
                (memorycell[classic]; slow)
    decode      direct: all steps ahead at once; paths: step by step, by `paths` sampled paths
    head        quantiles, student (Student's t) or counts (negative binomial, for 0, 1, 2, …)
    normal      no; level: each window is normalised by its mean and standard deviation, which are
                restored in the forecast; spread: by its root mean square, and forecasts do not
                start from the last value (for returns)
    linear      the path that reads the window: trained, from no change; ridge, a regression on the
                training split that is not trained further; raw, ridge that reads windows as they
                are where normal=level; season, the same season by season with few weights (see
                `SeasonalPath`); or raw+season, the mean of both; by default as trials decide
    correction  share, from 0 to 1, of what the recurrent part adds to the median of a fitted
                linear path that is kept after training: below 1 where later data differ from those
                of training and validation
    positive    yes: what is forecast cannot be negative; forecasts are clipped at 0
    test        the test period as shares of the time, as in 0.85:1; the last sixth before it is the
                validation period
    split       rows per series to train, validate and test on, as in 8640,2880,2880, instead of
                `test`
    stride      steps between tested forecasts, from the first step of each series: 24 for one a
                day; by default 1, or so that about 25,000 forecasts are tested
    members     networks that are trained together, whose quantiles are averaged
    lanes, bptt   sequences per batch, and steps that gradients flow back
    """

    target: str | None = None
    returns: str | None = None
    each: bool | None = None
    time: str | None = None
    time_format: str | None = None
    zone: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    group: str | None = None
    inputs: str | None = None
    words: str | None = None
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
    linear: str | None = None
    correction: float = 1.0
    positive: bool = False
    test: str = "0.85:1"
    split: str | None = None
    stride: int | None = None
    members: int = 1
    lanes: int | None = None
    bptt: int = 96

    def __post_init__(self) -> None:
        counts = ("stride", "origins", "paths", "horizon", "context", "season", "hidden", "layers")
        check_counts(self, *counts, "window", "lanes", "bptt")
        check_choices(self, decode=("direct", "paths"), scaling=(None, "all", "series"))
        check_choices(self, linear=(None, "trained", "ridge", *RAW))
        if not 0 <= self.correction <= 1:
            raise ValueError(f"correction={self.correction:g}: expected 0 to 1")
        if wrong := set(split_names(self.classic)) - set(classic.METHODS):
            raise ValueError(
                f"classic={', '.join(sorted(wrong))}: expected {', '.join(classic.METHODS)}"
            )
        self.split_rows(), self.test_period()
        self.model_config(2, 1)  # checks the remaining settings

    def split_rows(self) -> list[int] | None:
        """`split` as numbers."""
        if self.split is None:
            return None
        parts = self.split.split(",")
        if len(parts) != 3 or not all(p.strip().isdigit() and int(p) > 0 for p in parts):
            raise ValueError(
                f"split={self.split}: expected three numbers of rows, as in 8640,2880,2880"
            )
        return [int(p) for p in parts]

    def test_period(self) -> tuple[float, float]:
        """`test` as numbers."""
        expected = f"test={self.test}: expected two shares of the time, as in 0.85:1"
        try:
            begin, end = (float(part) for part in self.test.split(":"))
        except ValueError:
            raise ValueError(expected) from None
        if not 0 < begin < end <= 1:
            raise ValueError(f"{expected}, the first one smaller")
        return begin, end

    def with_defaults(self, clock: Clock) -> ForecastSettings:
        """The settings with the defaults that depend on the clock and on other settings."""
        horizon = self.horizon or clock.horizon
        season = self.season or clock.season
        many = bool(self.each) or self.returns is not None
        window = self.window or min(horizon, 24)
        if self.linear in SEASONAL:
            window = self.window or max(SEASONAL_WINDOW // season, 1) * season
            if window < season:
                raise UserError(
                    f"window={window}: linear={self.linear} needs a season of {season} steps or"
                    f" more; --set window={7 * season}"
                )
        return replace(
            self,
            horizon=horizon,
            season=season,
            context=self.context or max(2 * horizon, season),
            window=window,
            scaling=self.scaling or ("series" if many else None),
            normal=self.normal or (None if self.returns is None else "spread"),
        )

    def model_config(
        self,
        input_size: int,
        targets: int,
        *,
        linear: int | None = None,
        seen: int = 0,
        unit: float = 1.0,
    ) -> ForecasterConfig:
        """The sizes of the model; see `ForecasterConfig` for the arguments."""
        return ForecasterConfig(
            linear=None if linear == input_size else linear,
            seen=seen,
            unit=unit,
            head=self.head or "quantiles",
            normal=self.normal or "no",
            raw_linear=self.linear in RAW and self.normal == "level",
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
            members=self.members,
        )
