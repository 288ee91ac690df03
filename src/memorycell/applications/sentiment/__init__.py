"""Sentiment and other text classification, with the words behind each prediction."""

from memorycell.application.contract import Application, Metric, NoOptions
from memorycell.application.rendering import classification_details
from memorycell.application.search_space import Choice, Uniform
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.sentiment.codec import LabelledCodec
from memorycell.applications.sentiment.dataset import DEFAULT_DATASET, prepare, reopen
from memorycell.applications.sentiment.figures import words_page
from memorycell.applications.sentiment.frames import check_frame
from memorycell.applications.sentiment.inspection import inspect
from memorycell.applications.sentiment.predict import PredictOptions, predict, render
from memorycell.applications.sentiment.prediction_columns import label_columns
from memorycell.applications.sentiment.public_data import DATASETS
from memorycell.applications.sentiment.session import SentimentSession
from memorycell.applications.sentiment.settings import SentimentSettings
from memorycell.models.classifier import Classifier

APPLICATION = Application(
    name="sentiment",
    summary="Classifies text by sentiment or your own labels and highlights the words behind each"
    " prediction",
    reads="a table with a column of texts and one of labels, or a folder with train, dev and test"
    " tables or trees",
    in_memory="labelled",
    default_dataset=DEFAULT_DATASET,
    datasets=DATASETS,
    metric=Metric("accuracy", higher_is_better=True),
    selection_metric="log_loss",
    baselines=("most frequent label", "TF-IDF with logistic regression"),
    training=TrainSettings(lr=2e-3, weight_decay=0.01, average=0.998, precision="auto"),
    minutes=5.0,
    steps=4500,
    settings=SentimentSettings,
    search_space={
        "lr": Uniform(5e-4, 8e-3, log=True),
        "weight_decay": Uniform(1e-3, 0.1, log=True),
        "hidden": Choice([64, 128, 256]),
        "dropout": Uniform(0.2, 0.7),
        "word_dropout": Uniform(0.0, 0.3),
    },
    predict_options=PredictOptions,
    stream_options=NoOptions,
    models={Classifier.kind: Classifier},
    codecs={LabelledCodec.kind: LabelledCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    render=render,
    session=SentimentSession,
    check_frame=check_frame,
    columns=label_columns,
    figures={".html": words_page},
    render_details=classification_details,
    inspect=inspect,
)
