"""Forecast."""

from memorycell.application.contract import Application, Metric, NoOptions, TrainSettings
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.dataset import ForecastSettings, prepare, reopen
from memorycell.applications.forecast.exporters import EXPORTERS
from memorycell.applications.forecast.figures import forecast_csv, forecast_page, report
from memorycell.applications.forecast.inspection import inspect
from memorycell.applications.forecast.live import LiveForecaster, Options, predict, show
from memorycell.applications.forecast.model import Forecaster
from memorycell.applications.forecast.public_data import DATASETS
from memorycell.applications.forecast.walk_forward import ForecastWalk

APPLICATION = Application(
    name="forecast",
    summary="the next values of a series, with the interval they will lie in, at every step",
    reads="a table of readings over time (.csv, .tsv, .parquet, .jsonl), one or many series, gaps"
    " allowed",
    default_dataset="glucose",
    datasets=DATASETS,
    metric=Metric("crps"),
    baselines=("persistence", "seasonal naive", "ridge"),
    training=TrainSettings(lr=8e-3),
    settings=ForecastSettings,
    predict_options=Options,
    stream_options=NoOptions,
    models={Forecaster.kind: Forecaster},
    codecs={SeriesCodec.kind: SeriesCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    predict_reads="file",
    render=show,
    session=LiveForecaster,
    figures={".csv": forecast_csv, ".html": forecast_page},
    report=report,
    walk_forward=ForecastWalk(),
    inspect=inspect,
    exporters=EXPORTERS,
)
