"""Probabilistic forecasts of time series."""

from memorycell.application.contract import Application, Metric, NoOptions
from memorycell.application.search_space import Choice, Uniform
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.columns import (
    forecast_columns,
    forecast_csv,
    forecast_parquet,
)
from memorycell.applications.forecast.details import render_details
from memorycell.applications.forecast.exporters import EXPORTERS
from memorycell.applications.forecast.figures import forecast_page
from memorycell.applications.forecast.frames import check_frame
from memorycell.applications.forecast.inspection import inspect
from memorycell.applications.forecast.model import Forecaster
from memorycell.applications.forecast.picture import forecast_picture
from memorycell.applications.forecast.predict import PredictOptions, predict, render
from memorycell.applications.forecast.prepare import DEFAULT_DATASET, prepare
from memorycell.applications.forecast.public_data import DATASETS
from memorycell.applications.forecast.reopening import reopen
from memorycell.applications.forecast.report import report
from memorycell.applications.forecast.session import ForecastSession, session_columns
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.applications.forecast.walk_forward import ForecastWalk

APPLICATION = Application(
    name="forecast",
    summary="Forecasts the next values of time series with prediction intervals, at every step",
    reads="a table of readings over time (.csv, .tsv, .xlsx, .parquet) with one or more series;"
    " gaps are allowed",
    in_memory="table",
    default_dataset=DEFAULT_DATASET,
    datasets=DATASETS,
    metric=Metric("crps"),
    baselines=("persistence", "seasonal naive", "ridge"),
    training=TrainSettings(lr=8e-3),
    settings=ForecastSettings,
    search_space={
        "lr": Uniform(2e-3, 3.2e-2, log=True),
        "weight_decay": Uniform(1e-3, 0.1, log=True),
        "hidden": Choice([64, 128, 256]),
        "layers": Choice([1, 2]),
        "dropout": Uniform(0.0, 0.5),
        "window": Choice([None, 24, 96]),
    },
    predict_options=PredictOptions,
    stream_options=NoOptions,
    models={Forecaster.kind: Forecaster},
    codecs={SeriesCodec.kind: SeriesCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    predict_reads="file",
    render=render,
    render_details=render_details,
    session=ForecastSession,
    session_columns=session_columns,
    check_frame=check_frame,
    columns=forecast_columns,
    figures={".csv": forecast_csv, ".parquet": forecast_parquet, ".html": forecast_page},
    picture=forecast_picture,
    report=report,
    walk_forward=ForecastWalk(),
    inspect=inspect,
    exporters=EXPORTERS,
)
