"""Polyphonic music."""

from functools import partial

from memorycell.application.contract import Application, Metric, NoOptions
from memorycell.application.search_space import Choice, Uniform
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.music.codec import MusicCodec
from memorycell.applications.music.dataset import DEFAULT_DATASET, prepare, reopen
from memorycell.applications.music.events import EventCodec
from memorycell.applications.music.inspection import inspect
from memorycell.applications.music.model import Composer
from memorycell.applications.music.picture import music_picture
from memorycell.applications.music.predict import (
    OUTPUT_SUFFIXES,
    PredictOptions,
    predict,
    render,
    write_as,
)
from memorycell.applications.music.public_data import DATASETS
from memorycell.applications.music.score.codec import ScoreCodec
from memorycell.applications.music.score.details import render_details
from memorycell.applications.music.score.model import ScoreModel
from memorycell.applications.music.session import open_session
from memorycell.applications.music.settings import MusicSettings
from memorycell.language.model import LanguageModel

APPLICATION = Application(
    name="music",
    summary="Models polyphonic music: composes, continues a prompt, harmonises a melody; writes"
    " MIDI, sound and scores",
    reads="a folder of MIDI files (also MusicXML), or JSON: train, valid and test, each a list of"
    " pieces, each a list of frames, each a list of MIDI pitches",
    in_memory="pieces",
    default_dataset=DEFAULT_DATASET,
    datasets=DATASETS,
    metric=Metric("nats"),
    baselines=(
        "key frequency",
        "first order (logistic regression of each key on the previous frame)",
        "n-gram (for events and scores)",
    ),
    training=TrainSettings(lr=5e-3, weight_decay=0.0, average=0.995, precision="auto"),
    minutes=4.0,
    steps=10000,
    settings=MusicSettings,
    search_space={
        "lr": Uniform(1.25e-3, 2e-2, log=True),
        "hidden": Choice([128, 256, 512]),
        "dropout": Uniform(0.1, 0.6),
        "weight_drop": Uniform(0.0, 0.5),
        "noise": Uniform(0.0, 0.3),
    },
    predict_options=PredictOptions,
    stream_options=NoOptions,
    models={
        Composer.kind: Composer,
        LanguageModel.kind: LanguageModel,
        ScoreModel.kind: ScoreModel,
    },
    codecs={
        MusicCodec.kind: MusicCodec,
        EventCodec.kind: EventCodec,
        ScoreCodec.kind: ScoreCodec,
    },
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    predict_reads="file",
    render=render,
    session=open_session,
    figures={suffix: partial(write_as, suffix) for suffix in OUTPUT_SUFFIXES},
    picture=music_picture,
    inspect=inspect,
    render_details=render_details,
)
