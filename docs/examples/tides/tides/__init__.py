"""tides: the next water level of a series. The smallest complete application."""

from memorycell.application.contract import Application, Metric, NoOptions
from memorycell.application.train_settings import TrainSettings
from tides.codec import TideCodec
from tides.dataset import TideSettings, prepare, reopen
from tides.model import TideModel
from tides.use import EXPORTERS, TideSession, inspect, predict, render

APPLICATION = Application(
    name="tides",
    summary="Predicts the next water level of a tide gauge.",
    reads="a text file with one level per line, at equal intervals",
    default_dataset="levels.txt",
    datasets=(),
    metric=Metric("mae"),
    baselines=("the last level",),
    training=TrainSettings(lr=1e-2),
    settings=TideSettings,
    predict_options=NoOptions,
    stream_options=NoOptions,
    models={TideModel.kind: TideModel},
    codecs={TideCodec.kind: TideCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    predict_reads="file",
    render=render,
    session=TideSession,
    inspect=inspect,
    exporters=EXPORTERS,
)
