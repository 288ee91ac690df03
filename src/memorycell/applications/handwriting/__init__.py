"""Recognise handwriting: characters and text, from pen strokes or images of lines."""

from memorycell.application.contract import Application, Metric, NoOptions
from memorycell.application.rendering import classification_details
from memorycell.application.search_space import Choice, Uniform
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.handwriting.codec import LineCodec
from memorycell.applications.handwriting.dataset import prepare, reopen
from memorycell.applications.handwriting.figures import handwriting_page
from memorycell.applications.handwriting.inspection import inspect
from memorycell.applications.handwriting.predict import PredictOptions, predict, render
from memorycell.applications.handwriting.public_data import DATASETS
from memorycell.applications.handwriting.session import HandwritingSession
from memorycell.applications.handwriting.settings import HandwritingSettings
from memorycell.models.classifier import Classifier
from memorycell.signals.strokes import StrokeCodec
from memorycell.signals.transcriber import Transcriber

APPLICATION = Application(
    name="handwriting",
    summary="Recognises characters from pen strokes as they are drawn, and text from strokes or"
    " images of lines",
    reads="strokes (JSON lines, InkML, SVG, Quick, Draw! and IAM-OnDB, Omniglot's text files; a"
    " file, a folder or a .zip), or a folder of images with a list of transcripts",
    in_memory="strokes",
    default_dataset="omniglot",
    datasets=DATASETS,
    metric=Metric("error"),
    selection_metric="log_loss",
    baselines=("nearest neighbour by dynamic time warping (classes)", "most frequent words (text)"),
    training=TrainSettings(lr=6e-3, weight_decay=0.01, average=0.995, precision="auto"),
    minutes=5.0,
    steps=5500,
    settings=HandwritingSettings,
    search_space={
        "lr": Uniform(1e-3, 1.6e-2, log=True),
        "weight_decay": Uniform(1e-3, 0.1, log=True),
        "hidden": Choice([64, 128, 256]),
        "layers": Choice([1, 2, 3]),
        "dropout": Uniform(0.1, 0.6),
        "warp": Uniform(0.0, 2.0),
    },
    predict_options=PredictOptions,
    stream_options=NoOptions,
    models={Classifier.kind: Classifier, Transcriber.kind: Transcriber},
    codecs={StrokeCodec.kind: StrokeCodec, LineCodec.kind: LineCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    predict_reads="file",
    render=render,
    session=HandwritingSession,
    figures={".html": handwriting_page},
    render_details=classification_details,
    inspect=inspect,
)
