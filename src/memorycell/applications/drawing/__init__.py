"""Drawing."""

from memorycell.application.contract import Application, Metric, NoOptions, TrainSettings
from memorycell.applications.drawing.codec import PenCodec
from memorycell.applications.drawing.dataset import DrawingSettings, prepare, reopen
from memorycell.applications.drawing.inspection import inspect
from memorycell.applications.drawing.live import Hand, picture, predict, show
from memorycell.applications.drawing.model import Writer
from memorycell.applications.drawing.public_data import DATASETS

APPLICATION = Application(
    name="drawing",
    summary="draws by hand: characters, and words from their letters, in the style of a person if you"
    " give an example",
    reads="strokes that say what they are (JSON lines, InkML, Omniglot's text files, in a folder or a"
    " .zip)",
    default_dataset="omniglot",
    datasets=DATASETS,
    metric=Metric("nats"),
    baselines=("straight on (a linear regression on the last two moves)",),
    training=TrainSettings(lr=4e-3, weight_decay=0.0, average=0.998, precision="auto"),
    minutes=4.0,
    settings=DrawingSettings,
    predict_options=Hand,
    stream_options=NoOptions,
    models={Writer.kind: Writer},
    codecs={PenCodec.kind: PenCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    render=show,
    session=None,
    figures={".svg": picture},
    inspect=inspect,
)
