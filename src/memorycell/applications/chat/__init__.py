"""Chat: reply to messages, with the state of the conversation."""

from memorycell.application.contract import Application, Metric, NoOptions
from memorycell.application.search_space import Choice, Uniform
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.chat.dataset import DEFAULT_DATASET, prepare, reopen
from memorycell.applications.chat.exporters import EXPORTERS
from memorycell.applications.chat.figures import chat_page
from memorycell.applications.chat.inspection import inspect
from memorycell.applications.chat.picture import chat_picture
from memorycell.applications.chat.predict import predict, render
from memorycell.applications.chat.public_data import DATASETS
from memorycell.applications.chat.replies import PredictOptions
from memorycell.applications.chat.reply_quality import render_details
from memorycell.applications.chat.session import ChatSession
from memorycell.applications.chat.settings import ChatSettings
from memorycell.language.codec import TextCodec
from memorycell.language.model import LanguageModel

APPLICATION = Application(
    name="chat",
    summary="Replies turn by turn, learns from your dialogues, and marks replies it is unsure of",
    reads="dialogues: one per line with tabs between turns, JSON (also in the layouts of OpenAI,"
    " ShareGPT and Alpaca), or chatterbot YAML files",
    in_memory="dialogues",
    default_dataset=DEFAULT_DATASET,
    datasets=DATASETS,
    metric=Metric("perplexity"),
    baselines=("n-gram (interpolated Kneser-Ney)", "reply to the nearest training message"),
    training=TrainSettings(lr=5e-3, weight_decay=0.1, average=0.998, precision="auto"),
    minutes=5.0,
    steps=9000,
    settings=ChatSettings,
    search_space={
        "lr": Uniform(1.25e-3, 2e-2, log=True),
        "weight_decay": Uniform(0.01, 1.0, log=True),
        "hidden": Choice([128, 256, 512]),
        "dropout": Uniform(0.2, 0.7),
        "weight_drop": Uniform(0.2, 0.7),
        "noise": Uniform(0.0, 0.3),
    },
    predict_options=PredictOptions,
    stream_options=NoOptions,
    models={LanguageModel.kind: LanguageModel},
    codecs={TextCodec.kind: TextCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    render=render,
    session=ChatSession,
    figures={".html": chat_page},
    render_details=render_details,
    exporters=EXPORTERS,
    picture=chat_picture,
    inspect=inspect,
)
