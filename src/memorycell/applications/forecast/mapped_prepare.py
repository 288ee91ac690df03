"""Prepares many Parquet files for training or evaluation, in bounded memory.

What a table is, and what is chosen on validation, comes from a sample that is read like a table in
one file: the first `SAMPLE_ROWS` rows, or of several series those of the first series. The
baselines are fitted on it too, in the scaling of all steps to train on. Where the files have no
more rows than that, everything is as for one file.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.dataset import ForecastDataset
from memorycell.applications.forecast.mapped_dataset import MappedForecastDataset, encoded_steps
from memorycell.applications.forecast.mapped_steps import mapped_steps
from memorycell.applications.forecast.series import require_columns
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.errors import DataError
from memorycell.tables.parquet_files import ParquetTable
from memorycell.training.splits import SPLITS

SAMPLE_ROWS = 200_000
REFUSED = ("returns", "each", "words", "classic", "positive")
"""Settings for a table in one file only, and values of others."""
REFUSED_VALUES = {"decode": "paths", "head": "counts", "normal": "spread"}


def prepare_files(
    paths: Sequence[Path],
    data: str,
    settings: ForecastSettings,
    prepare_table: Callable[[str, ForecastSettings], ForecastDataset],
) -> ForecastDataset:
    """The dataset of files; `prepare_table` prepares one file. Raises `DataError`."""
    _refuse(settings, data)
    table = ParquetTable(paths)
    with tempfile.TemporaryDirectory(prefix="memorycell-sample-") as folder:
        path = Path(folder) / "sample.parquet"
        rows = _write_sample(table, settings.group, data, path)
        # Numbers of rows are those of all rows.
        split = settings.split if rows == table.height else None
        try:
            sample = prepare_table(str(path), replace(settings, split=split))
        except DataError as error:
            raise DataError(str(error).replace(str(path), data)) from None
    if sample.codec.words:
        raise DataError(
            f"{data}: columns of words ({', '.join(sample.codec.words)}) are read from one file"
            " only; name the inputs, as in --set inputs=A,B or inputs=none"
        )
    blank = _without_fit(sample.codec)
    steps = mapped_steps(table, blank)
    own = replace(sample.settings, split=settings.split, stride=settings.stride)
    encoded = encoded_steps(steps, blank, own, data)
    dataset = MappedForecastDataset(data, steps, encoded, own)
    for name in SPLITS:
        if len(encoded[name]) == 0:
            raise DataError(f"{data}: nothing to forecast in the {name} split")
    fitted = ForecastDataset(data, sample.series, dataset.codec, sample.settings, sample.split)
    fitted.fit_baselines()
    dataset.baseline_models = fitted.baseline_models
    share = "all rows" if rows == table.height else f"a sample of {rows:,} rows"
    dataset.notes = [*_notes(dataset, table), f"from {share}:", *sample.notes]
    return dataset


def reopen_files(
    paths: Sequence[Path],
    data: str,
    codec: SeriesCodec,
    settings: ForecastSettings,
    fingerprint: str,
    period: tuple[int, int],
) -> tuple[MappedForecastDataset, bool]:
    """(the dataset of files for a fitted codec, whether they are those of a fingerprint): then the
    splits are those of the training. Of other files all steps outside of a period are tested.
    Raises `DataError`.
    """
    steps = mapped_steps(ParquetTable(paths), codec)
    own = steps.fingerprint == fingerprint
    if codec.time is None:
        period = (0, 0)  # there are no times: all steps
    if new := [name for name in steps.groups if codec.own and name not in codec.own]:
        raise DataError(
            f"{data}: series {new[0]} was not in training, so that its scale is unknown; evaluate"
            " it in a file of its own"
        )
    encoded = encoded_steps(steps, codec, settings, data, None if own else period)
    return MappedForecastDataset(data, steps, encoded, settings), own


def _refuse(settings: ForecastSettings, data: str) -> None:
    """Raises `DataError` for settings that need all rows in memory."""
    given = [name for name in REFUSED if getattr(settings, name)]
    given += [name for name, own in REFUSED_VALUES.items() if getattr(settings, name) == own]
    if given:
        value = getattr(settings, given[0])
        text = "yes" if value is True else value
        raise DataError(f"{data}: {given[0]}={text}: for a table in one file only; join the files")


def _without_fit(codec: SeriesCodec) -> SeriesCodec:
    """A codec that is to be fitted."""
    return replace(
        codec,
        mean=(),
        std=(),
        change=(),
        bounds=(),
        gappy=(),
        own={},
        static=dict.fromkeys(codec.static, ()),
    )


def _write_sample(table: ParquetTable, group: str | None, data: str, path: Path) -> int:
    """Write the sample as a table. Returns the number of its rows."""
    import polars as pl

    if group is None:
        frames = [piece.frame for piece in table.pieces(table.columns, SAMPLE_ROWS)]
    else:
        require_columns(table.columns, [group], data)
        counts: Counter[object] = Counter()
        for piece in table.pieces([group]):
            counts.update(piece.frame[group].to_list())  # in the order of the rows
        frames, left = [], _rows_of_first(counts)
        chosen = set(_first_series(counts))
        for piece in table.pieces(table.columns):
            own = piece.frame.filter(pl.Series([name in chosen for name in piece.frame[group]]))
            frames.append(own.head(left))
            left -= frames[-1].height
            if not left:
                break
    sample = pl.concat(frames)
    sample.write_parquet(path)
    return sample.height


def _first_series(counts: Counter[object]) -> list[object]:
    """Series with together at most `SAMPLE_ROWS` rows; one at least."""
    chosen: list[object] = []
    total = 0
    for name, count in counts.items():
        total += count
        if chosen and total > SAMPLE_ROWS:
            break
        chosen.append(name)
    return chosen


def _rows_of_first(counts: Counter[object]) -> int:
    return min(sum(counts[name] for name in _first_series(counts)), SAMPLE_ROWS)


def _notes(dataset: MappedForecastDataset, table: ParquetTable) -> list[str]:
    """What was found in the files, for people."""
    steps, facts, settings = dataset.steps, dataset.facts, dataset.settings
    count = f" in {len(steps.groups):,} series" if dataset.codec.group else ""
    notes = [
        f"{table.height:,} rows{count} in {len(table.paths):,} files, read from disk:"
        f" {steps.made_from} and {dataset.encoded.folder.name} in {dataset.encoded.folder.parent}",
        "steps, in order of time: "
        + ", ".join(f"{size:,} {name}" for name, size in facts["sizes"].items()),
    ]
    if facts["empty"] or steps.skipped:
        notes.append(
            f"gaps: {facts['empty']:,} empty steps filled, {steps.skipped:,} rows dropped that"
            " share a step with another"
        )
    notes += [
        f"{column}: {missing:,} values missing"
        for column, missing in facts["missing"].items()
        if missing
    ]
    if (settings.stride or 1) > 1:
        notes.append(
            f"tested at every {settings.stride} steps ({len(dataset.origins('test')):,} forecasts);"
            " --set stride=1 for all"
        )
    return notes
