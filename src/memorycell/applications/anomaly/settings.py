"""The settings of anomaly detection."""

from __future__ import annotations

from dataclasses import dataclass

from memorycell.applications.anomaly.codec import MAX_SETTLE_ROWS
from memorycell.applications.anomaly.model import MAX_SCALES, DetectorConfig
from memorycell.setting_fields import check_counts, check_ranges
from memorycell.tables.column_lists import split_names
from memorycell.tables.number_formats import check_separators

MIN_SETTLE_ROWS = 60
MAX_ADAPT_ROWS = 10_000_000
MAX_DRIFT, MAX_CORRUPT = 100, 0.99
STATIC_WEIGHT = 1 / 3
SMOOTH_ROWS = 10
SMOOTH_ROWS_SETTLE, SCALES_SETTLE = 5, 4


@dataclass(frozen=True)
class AnomalySettings:
    """Settings for --set. Columns that are not named are inferred from the table.

    columns     numeric and categorical columns to monitor, separated by commas; by default all that
                vary, without counters and indexes
    time        column of time stamps, or two, as in Date,Time; time_format as in %d/%m/%Y
    zone        in which times are written, such as Europe/Berlin; by default that of their offsets
    encoding    of text files, such as cp1252; by default UTF-8, or UTF-16 with a byte order mark
    sheet       of a workbook; by default the first
    decimal, thousands   how numbers are written (. or ,); by default found in the columns
    group       column that identifies the recording, account or card
    label       column of 0 (normal) and 1 (anomaly), or such words, used for evaluation only, never
                for training
    gap         monitor the time since the previous row as well; by default if there are categories
    settle      number of rows at the start of each recording that are assumed normal: they set its
                level and threshold, and are the only training rows; 0: train on the first 60%, with
                one level and threshold for all recordings
    budget      target fraction of normal rows that are flagged; sets the threshold from the tail of
                the scores in training
    smooth      rows over which deviates are averaged before they are scored; by default 10, with
                settle 5, with categories 1
    scales      number of averages, over smooth, 2 · smooth, 4 · smooth … rows, whose scores are
                averaged; by default 1, with settle and neither smooth nor categories 4
    static      weight of the static deviation, the Mahalanobis distance of the averaged readings
                from their level, in the score, 0 to 1; by default 0, with settle and without
                categories 1/3
    drift       scale of the random drift added to numeric columns in training, relative to the slow
                variation in the data, that of a segment between half and twice of it; by default 2
                with settle and without categories, else 0
    corrupt     probability that a training segment is corrupted: level shifts in some columns, or
                with categories rows from another account; by default 0.3, with categories 0.7
    adapt       time constant in rows at which a recording's level follows its normal rows; 0: fixed
    cell, hidden, layers, dropout, zoneout, weight_drop   the recurrent part
    window      previous rows that the head reads directly; by default 8, with categories 1
    members     networks that are trained together, whose predictions are averaged
    lanes, bptt   segments per batch, and rows per segment
    """

    columns: str | None = None
    time: str | None = None
    time_format: str | None = None
    zone: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    group: str | None = None
    label: str | None = None
    gap: bool | None = None
    settle: int = 0
    budget: float = 0.001
    smooth: int | None = None
    scales: int | None = None
    static: float | None = None
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
    members: int = 1
    lanes: int = 32
    bptt: int = 400

    def __post_init__(self) -> None:
        check_counts(self, "smooth", "hidden", "layers", "window", "lanes", "bptt")
        check_separators(self.decimal, self.thousands)
        if not (self.settle == 0 or MIN_SETTLE_ROWS <= self.settle <= MAX_SETTLE_ROWS):
            raise ValueError(
                f"settle={self.settle}: expected 0, or {MIN_SETTLE_ROWS} to {MAX_SETTLE_ROWS:,}"
            )
        if not 0 < self.budget < 0.5:
            raise ValueError(f"budget={self.budget}: expected a fraction between 0 and 0.5")
        check_ranges(
            self,
            adapt=(0, MAX_ADAPT_ROWS),
            static=(0, 1),
            scales=(1, MAX_SCALES),
            drift=(0, MAX_DRIFT),
            corrupt=(0, MAX_CORRUPT),
        )
        self.model_config(2, 1, ())  # checks the others

    @property
    def column_names(self) -> list[str] | None:
        """`columns` as a list; None: all."""
        if self.columns is None:
            return None
        return list(split_names(self.columns))

    def drift_scale(self, has_categories: bool) -> float:
        """`drift`, or its default."""
        if self.drift is not None:
            return self.drift
        return 2.0 if self.settle and not has_categories else 0.0

    def static_weight(self, has_categories: bool) -> float:
        """`static`, or its default."""
        if self.static is not None:
            return self.static
        return STATIC_WEIGHT if self.settle and not has_categories else 0.0

    def smooth_rows(self, has_categories: bool) -> int:
        """`smooth`, or its default."""
        if self.smooth is not None:
            return self.smooth
        if has_categories:
            return 1
        return SMOOTH_ROWS_SETTLE if self.settle else SMOOTH_ROWS

    def scale_count(self, has_categories: bool) -> int:
        """`scales`, or its default."""
        if self.scales is not None:
            return self.scales
        averages_of_its_own = self.smooth is not None or has_categories
        return SCALES_SETTLE if self.settle and not averages_of_its_own else 1

    def corruption_probability(self, has_categories: bool) -> float:
        """`corrupt`, or its default."""
        if self.corrupt is not None:
            return self.corrupt
        return 0.7 if has_categories else 0.3

    def model_config(self, input_size: int, columns: int, sizes: tuple[int, ...]) -> DetectorConfig:
        """The configuration of the model; see `DetectorConfig`."""
        return DetectorConfig(
            input_size=input_size,
            columns=columns,
            sizes=sizes,
            window=self.window or (1 if sizes else 8),
            budget=self.budget,
            smooth=self.smooth_rows(bool(sizes)),
            scales=self.scale_count(bool(sizes)),
            static=self.static_weight(bool(sizes)),
            own_score=self.settle > 0 and not sizes,
            hidden_size=self.hidden,
            cell=self.cell,
            num_layers=self.layers,
            dropout=self.dropout,
            zoneout=self.zoneout,
            weight_drop=self.weight_drop,
            members=self.members,
        )
