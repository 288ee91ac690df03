"""Reads a table for training: what the settings leave open is inferred, or chosen on validation."""

from __future__ import annotations

from memorycell.application.datasets import locate, with_dataset_settings
from memorycell.applications.forecast import classic
from memorycell.applications.forecast.choices import (
    is_long,
    select_calendar,
    select_inputs,
    select_normal,
    subset_ridge,
)
from memorycell.applications.forecast.dataset import ForecastDataset
from memorycell.applications.forecast.infer import check_targets, infer
from memorycell.applications.forecast.mapped_prepare import prepare_files
from memorycell.applications.forecast.notes import table_notes
from memorycell.applications.forecast.scaling import fit_codec
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.applications.forecast.split import split_series
from memorycell.errors import DataError
from memorycell.tables.parquet_files import parquet_files
from memorycell.tables.table import read_table
from memorycell.training.splits import SPLITS

DEFAULT_DATASET = "glucose"


def prepare(data: str | None, settings: ForecastSettings) -> ForecastDataset:
    """See `Application.prepare`. What the settings leave open is inferred from the table."""
    if settings.classic and not classic.INSTALLED:  # reported before training, not after it
        raise classic.missing_package(settings.classic)
    if data is not None and (files := parquet_files(data)) is not None:
        return prepare_files(files, data, settings, prepare)
    path, source = locate(data or DEFAULT_DATASET)
    where = source.name if source else str(path)
    settings = with_dataset_settings(settings, source)
    any_window = settings.window is None
    notes: list[str] = []
    frame = read_table(path, encoding=settings.encoding, sheet=settings.sheet, notes=notes)
    check_targets(settings, where)
    codec, settings, frame = infer(frame, where, settings)
    series, rows = codec.read(frame, where), frame.height
    del frame  # of a long table, much of the memory
    split = split_series(series, settings, where, has_clock=codec.time is not None)
    codec = fit_codec(codec, series, split == 0, settings, where)
    dataset = ForecastDataset(where if source else str(data), series, codec, settings, split)
    for name in SPLITS:
        if len(dataset.origins(name)) == 0:
            cause = (
                "the gaps are too long or too many"
                if dataset.settings.stride == 1
                else f"stride={settings.stride} may be too long"
            )
            raise DataError(f"{where}: nothing to forecast in the {name} split; {cause}")
    ridge = None
    if is_long(dataset):
        ridge = subset_ridge(dataset) if settings.returns is None else None
    else:
        dataset.fit_baselines()
    dataset, ridge = select_calendar(dataset, ridge)
    chosen: list[str] = []
    if settings.inputs is None and settings.known is None and settings.words is None:
        dataset, chosen = select_inputs(dataset, ridge)
    if not dataset.baseline_models:
        dataset.fit_baselines()
    dataset, more = select_normal(dataset, any_window=any_window)
    dataset.notes = notes + table_notes(dataset, rows) + chosen + more
    return dataset
