"""Language models of text: generate, complete, score, predict the next word."""

from memorycell.application.contract import Application, Metric, NoOptions
from memorycell.application.search_space import Choice, Uniform
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.text.exporters import EXPORTERS
from memorycell.applications.text.figures import text_page
from memorycell.applications.text.inspection import inspect
from memorycell.applications.text.picture import text_picture
from memorycell.applications.text.predict import PredictOptions, predict, render
from memorycell.applications.text.prepare import DEFAULT_DATASET, prepare, reopen
from memorycell.applications.text.public_data import DATASETS
from memorycell.applications.text.session import TextSession
from memorycell.applications.text.settings import TextSettings
from memorycell.language.codec import TextCodec
from memorycell.language.model import LanguageModel

APPLICATION = Application(
    name="text",
    summary="Models text: generates, completes, scores, and predicts the next word as you type",
    reads="text files (UTF-8, or --set encoding=…), or a folder of .txt and .md files",
    in_memory="texts",
    default_dataset=DEFAULT_DATASET,
    datasets=DATASETS,
    metric=Metric("nats"),
    baselines=("n-gram (interpolated Kneser-Ney)",),
    training=TrainSettings(lr=5e-3, weight_decay=0.0, average=0.995, precision="auto"),
    minutes=5.0,
    steps=16000,
    settings=TextSettings,
    search_space={
        "lr": Uniform(1.25e-3, 2e-2, log=True),
        "hidden": Choice([128, 256, 512]),
        "layers": Choice([1, 2]),
        "dropout": Uniform(0.0, 0.5),
        "weight_drop": Uniform(0.0, 0.5),
    },
    predict_options=PredictOptions,
    stream_options=NoOptions,
    models={LanguageModel.kind: LanguageModel},
    codecs={TextCodec.kind: TextCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    render=render,
    session=TextSession,
    figures={".html": text_page},
    exporters=EXPORTERS,
    picture=text_picture,
    inspect=inspect,
)
