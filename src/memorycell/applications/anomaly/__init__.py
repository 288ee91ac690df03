"""Anomaly detection in sensor readings and events."""

from memorycell.application.contract import Application, Metric
from memorycell.application.search_space import Choice, Uniform
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.anomaly.baselines import BASELINES
from memorycell.applications.anomaly.codec import ReadingsCodec
from memorycell.applications.anomaly.figures import anomaly_page
from memorycell.applications.anomaly.inspection import inspect
from memorycell.applications.anomaly.model import Detector
from memorycell.applications.anomaly.picture import anomaly_picture
from memorycell.applications.anomaly.predict import PredictOptions, predict, render
from memorycell.applications.anomaly.prepare import DEFAULT_DATASET, prepare, reopen
from memorycell.applications.anomaly.public_data import DATASETS
from memorycell.applications.anomaly.rows import score_columns, to_csv, to_parquet
from memorycell.applications.anomaly.session import AnomalySession, StreamOptions, session_columns
from memorycell.applications.anomaly.settings import AnomalySettings

APPLICATION = Application(
    name="anomaly",
    summary="Detects anomalies in rows of sensor readings or transactions, live, and names the"
    " columns responsible",
    reads="a table of readings (CSV, Excel, Parquet, JSON lines) with one or more recordings; a"
    " folder of such tables; or a table of events, with --set group=COLUMN for the account or card",
    in_memory="table",
    default_dataset=DEFAULT_DATASET,
    datasets=DATASETS,
    metric=Metric("f1", higher_is_better=True),
    selection_metric="nats",
    baselines=tuple(BASELINES),
    training=TrainSettings(lr=4e-3, weight_decay=0.01, average=0.99),
    minutes=3.0,
    steps=2000,
    settings=AnomalySettings,
    search_space={
        "lr": Uniform(1e-3, 1.6e-2, log=True),
        "weight_decay": Uniform(1e-3, 0.1, log=True),
        "hidden": Choice([32, 64, 128]),
        "dropout": Uniform(0.0, 0.5),
        "window": Choice([None, 4, 16, 32]),
    },
    predict_options=PredictOptions,
    stream_options=StreamOptions,
    models={Detector.kind: Detector},
    codecs={ReadingsCodec.kind: ReadingsCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    predict_reads="file",
    render=render,
    session=AnomalySession,
    session_columns=session_columns,
    columns=score_columns,
    figures={".html": anomaly_page, ".csv": to_csv, ".parquet": to_parquet},
    picture=anomaly_picture,
    inspect=inspect,
)
