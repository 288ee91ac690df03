"""Sentiment."""

from memorycell.application.contract import Application, Metric, NoOptions, TrainSettings
from memorycell.applications.sentiment.codec import LabelledCodec
from memorycell.applications.sentiment.dataset import SentimentSettings, prepare, reopen
from memorycell.applications.sentiment.figures import words_page
from memorycell.applications.sentiment.inspection import inspect
from memorycell.applications.sentiment.live import Explaining, LiveSentiment, predict, show
from memorycell.applications.sentiment.public_data import DATASETS
from memorycell.models.classifier import Classifier

APPLICATION = Application(
    name="sentiment",
    summary="tells what a text is: positive or negative, or any labels of yours; shows the words that"
    " mattered",
    reads="a table with a column of texts and one of labels, or a folder with train, dev and test"
    " tables or trees",
    default_dataset="sst",
    datasets=DATASETS,
    metric=Metric("accuracy", higher_is_better=True),
    selection_metric="log_loss",
    baselines=("most frequent label", "TF-IDF with logistic regression"),
    training=TrainSettings(lr=2e-3, weight_decay=0.01, average=0.998, precision="auto"),
    minutes=4.5,
    settings=SentimentSettings,
    predict_options=Explaining,
    stream_options=NoOptions,
    models={Classifier.kind: Classifier},
    codecs={LabelledCodec.kind: LabelledCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    render=show,
    session=LiveSentiment,
    figures={".html": words_page},
    inspect=inspect,
)
