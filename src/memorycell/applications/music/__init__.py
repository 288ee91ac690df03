"""Music."""

from functools import partial

from memorycell.application.contract import Application, Metric, NoOptions, TrainSettings
from memorycell.applications.music.codec import MusicCodec
from memorycell.applications.music.dataset import MusicSettings, prepare, reopen
from memorycell.applications.music.events import EventCodec
from memorycell.applications.music.inspection import inspect
from memorycell.applications.music.live import (
    SUFFIXES,
    Composing,
    LiveMusic,
    as_file,
    predict,
    show,
)
from memorycell.applications.music.model import Composer
from memorycell.applications.music.public_data import DATASETS
from memorycell.language.model import LanguageModel

APPLICATION = Application(
    name="music",
    summary="knows what could sound next: composes, goes on with a beginning, harmonises a melody;"
    " MIDI, sound, a score",
    reads="a folder of MIDI files (also MusicXML), or JSON: train, valid and test, each a list of"
    " pieces, of frames, of pitches",
    default_dataset="jsb",
    datasets=DATASETS,
    metric=Metric("nats"),
    baselines=(
        "how often each key sounds",
        "first order: every key by a logistic regression on the frame before",
        "n-gram (of events)",
    ),
    training=TrainSettings(lr=5e-3, weight_decay=0.0, average=0.995, precision="auto"),
    minutes=3.0,
    settings=MusicSettings,
    predict_options=Composing,
    stream_options=NoOptions,
    models={Composer.kind: Composer, LanguageModel.kind: LanguageModel},
    codecs={MusicCodec.kind: MusicCodec, EventCodec.kind: EventCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    predict_reads="file",
    render=show,
    session=LiveMusic,
    figures={suffix: partial(as_file, suffix) for suffix in SUFFIXES},
    inspect=inspect,
)
