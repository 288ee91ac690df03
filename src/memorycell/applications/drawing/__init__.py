"""Drawing by pen."""

from memorycell.application.contract import Application, Metric, NoOptions
from memorycell.application.search_space import Choice, Uniform
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.drawing.codec import PenCodec
from memorycell.applications.drawing.dataset import DEFAULT_DATASET, prepare, reopen
from memorycell.applications.drawing.figures import drawing_svg
from memorycell.applications.drawing.inspection import inspect
from memorycell.applications.drawing.model import Writer
from memorycell.applications.drawing.page import drawing_page
from memorycell.applications.drawing.picture import drawing_picture
from memorycell.applications.drawing.predict import PredictOptions, predict, render
from memorycell.applications.drawing.public_data import DATASETS
from memorycell.applications.drawing.settings import DrawingSettings

APPLICATION = Application(
    name="drawing",
    summary="Draws characters and words with a pen, in the style of a given example",
    reads="labelled pen strokes (JSON lines, InkML, SVG, Quick, Draw! and IAM-OnDB, Omniglot's text"
    " files), in a folder or a .zip",
    in_memory="strokes",
    default_dataset=DEFAULT_DATASET,
    datasets=DATASETS,
    metric=Metric("nats"),
    baselines=("straight on (linear regression on the last two moves)",),
    training=TrainSettings(lr=4e-3, weight_decay=0.0, average=0.998, precision="auto"),
    minutes=4.0,
    steps=1500,
    settings=DrawingSettings,
    search_space={
        "lr": Uniform(1e-3, 1.6e-2, log=True),
        "hidden": Choice([96, 192, 384]),
        "mixtures": Choice([6, 12, 20]),
        "dropout": Uniform(0.0, 0.5),
        "warp": Uniform(0.0, 1.0),
    },
    predict_options=PredictOptions,
    stream_options=NoOptions,
    models={Writer.kind: Writer},
    codecs={PenCodec.kind: PenCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    predict_data=("style",),
    render=render,
    session=None,
    figures={".svg": drawing_svg, ".html": drawing_page},
    picture=drawing_picture,
    inspect=inspect,
    inspect_reads="file",
)
