"""Handwriting."""

from memorycell.application.contract import Application, Metric, NoOptions, TrainSettings
from memorycell.applications.handwriting.dataset import HandwritingSettings, prepare, reopen
from memorycell.applications.handwriting.figures import handwriting_page
from memorycell.applications.handwriting.inspection import inspect
from memorycell.applications.handwriting.lines import LineCodec
from memorycell.applications.handwriting.live import LiveHandwriting, Reading, predict, show
from memorycell.applications.handwriting.public_data import DATASETS
from memorycell.models.classifier import Classifier
from memorycell.signals.strokes import StrokeCodec
from memorycell.signals.transcriber import Transcriber

APPLICATION = Application(
    name="handwriting",
    summary="reads what was written: characters from pen strokes, as they are drawn; words and lines"
    " from strokes or pictures",
    reads="strokes (JSON lines, InkML, Omniglot's text files, in a folder or a .zip), or a folder of"
    " pictures with a list of transcripts",
    default_dataset="omniglot",
    datasets=DATASETS,
    metric=Metric("error"),
    selection_metric="log_loss",
    baselines=("nearest neighbour by dynamic time warping (classes)", "most frequent words (text)"),
    training=TrainSettings(lr=4e-3, weight_decay=0.01, average=0.995, precision="auto"),
    minutes=4.0,
    settings=HandwritingSettings,
    predict_options=Reading,
    stream_options=NoOptions,
    models={Classifier.kind: Classifier, Transcriber.kind: Transcriber},
    codecs={StrokeCodec.kind: StrokeCodec, LineCodec.kind: LineCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    predict_reads="file",
    render=show,
    session=LiveHandwriting,
    figures={".html": handwriting_page},
    inspect=inspect,
)
