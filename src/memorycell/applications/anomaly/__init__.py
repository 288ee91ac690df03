"""Anomaly."""

from memorycell.application.contract import Application, Metric, TrainSettings
from memorycell.applications.anomaly.codec import ReadingsCodec
from memorycell.applications.anomaly.dataset import BASELINES, AnomalySettings, prepare, reopen
from memorycell.applications.anomaly.figures import anomaly_page
from memorycell.applications.anomaly.inspection import inspect
from memorycell.applications.anomaly.live import LiveAnomaly, Options, Streaming, predict, show
from memorycell.applications.anomaly.model import Detector
from memorycell.applications.anomaly.public_data import DATASETS

APPLICATION = Application(
    name="anomaly",
    summary="watches rows of sensors or of transactions: how surprising each is, whether it is an"
    " anomaly, which columns are to blame; live",
    reads="a table of readings (CSV, Parquet, JSON lines), one or many recordings; a folder of such"
    " tables; or a table of events, with --set group=COLUMN naming the account or card",
    default_dataset="skab",
    datasets=DATASETS,
    metric=Metric("f1", higher_is_better=True),
    selection_metric="nats",
    baselines=tuple(BASELINES),
    training=TrainSettings(lr=4e-3, weight_decay=0.01, average=0.99),
    minutes=3.0,
    settings=AnomalySettings,
    predict_options=Options,
    stream_options=Streaming,
    models={Detector.kind: Detector},
    codecs={ReadingsCodec.kind: ReadingsCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    predict_reads="file",
    render=show,
    session=LiveAnomaly,
    figures={".html": anomaly_page},
    inspect=inspect,
)
