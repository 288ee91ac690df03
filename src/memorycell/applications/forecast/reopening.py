"""The dataset of a trained forecaster: its own test split, or other data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from memorycell.application.contract import ModelFile
from memorycell.application.datasets import locate
from memorycell.applications.forecast import classic
from memorycell.applications.forecast.baseline_sets import load_baselines
from memorycell.applications.forecast.baselines import Baseline
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.dataset import ForecastDataset
from memorycell.applications.forecast.mapped_prepare import reopen_files
from memorycell.applications.forecast.model import Forecaster
from memorycell.applications.forecast.scaling import with_new_series
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.applications.forecast.split import UNUSED, split_series
from memorycell.applications.forecast.words import unknown_word_notes
from memorycell.errors import DataError, ModelFileError
from memorycell.tables.parquet_files import parquet_files
from memorycell.training.splits import SPLITS


def reopen(data: str | None, file: ModelFile[Forecaster, SeriesCodec]) -> ForecastDataset:
    """See `Application.reopen`. The model's own data: the test split. Other data: all steps outside
    the period from training to test.
    """
    settings = file.typed_settings(ForecastSettings)
    try:
        begin, end = int(file.info["split"]["train"][0]), int(file.info["split"]["test"][0])
        naive_error = float(file.info["naive_error"])
        arrays = {n.removeprefix("baseline."): a.numpy() for n, a in file.arrays.items()}
        returns = settings.returns is not None
        baselines = load_baselines(arrays, settings.season or 1, returns=returns)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelFileError(
            f"the model file's description of its training is incomplete ({error!r}); train a new"
            " model"
        ) from None
    if (files := parquet_files(data or file.data)) is not None:
        where, period = data or file.data, (begin, end)
        mapped, own = reopen_files(files, where, file.codec, settings, file.fingerprint, period)
        return _compared(mapped, naive_error, baselines, own=own)
    path, source = locate(data or file.data)
    where = source.name if source else str(path)
    series = file.codec.read(file.codec.read_file(path), where)
    codec = with_new_series(file.codec, series, where)
    own = series.fingerprint() == file.fingerprint
    has_clock = file.codec.time is not None
    if own:
        test = split_series(series, settings, where, has_clock=has_clock) == 2
    elif not has_clock:
        test = np.ones(len(series), bool)
    else:
        test = (series.time >= end) | (series.time < begin)
    split = np.where(test, SPLITS.index("test"), UNUSED)
    dataset = ForecastDataset(where, series, codec, settings, split)
    if settings.classic and not classic.INSTALLED:
        dataset.settings = replace(settings, classic=None)
        dataset.notes.append(f"{settings.classic} left out: pip install 'memorycell[classic]'")
    if new := len(codec.own) - len(file.codec.own):
        dataset.notes.append(f"{new} series that were not in training, scaled by their own rows")
    dataset.notes += [] if own else unknown_word_notes(series, codec.words)
    return _compared(dataset, naive_error, baselines, own=own)


def _compared(
    dataset: ForecastDataset, naive_error: float, baselines: dict[str, Baseline], *, own: bool
) -> ForecastDataset:
    """The dataset with the baselines of the model file. Raises `DataError` where nothing is tested.

    own   the data are those of the training
    """
    at = dataset.origins("test")
    if len(at) == 0:
        raise DataError(
            f"{dataset.name}: nothing to evaluate: all rows are in the training period, or the"
            f" series is shorter than {dataset.settings.horizon} steps"
        )
    dataset.naive_error, dataset.baseline_models = naive_error, baselines
    part = "of the test split" if own else "outside the training period"
    dataset.notes.append(f"evaluated: {len(at):,} forecasts {part}")
    return dataset
