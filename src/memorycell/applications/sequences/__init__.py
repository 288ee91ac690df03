"""Sequences of measurements: one class or number each, or one at every step."""

from memorycell.application.contract import Application, Metric, NoOptions
from memorycell.application.rendering import classification_details
from memorycell.application.search_space import Choice, Uniform
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.sequences.codec import SequenceCodec
from memorycell.applications.sequences.dataset import LOSS
from memorycell.applications.sequences.exporters import EXPORTERS
from memorycell.applications.sequences.figures import sequences_page
from memorycell.applications.sequences.inspection import inspect
from memorycell.applications.sequences.model import SequenceModel
from memorycell.applications.sequences.picture import sequences_picture
from memorycell.applications.sequences.predict import (
    PredictOptions,
    answer_columns,
    predict,
    render,
    to_csv,
    to_parquet,
)
from memorycell.applications.sequences.prepare import DEFAULT_DATASET, prepare, reopen
from memorycell.applications.sequences.public_data import DATASETS
from memorycell.applications.sequences.report import report_page
from memorycell.applications.sequences.session import SequencesSession, session_columns
from memorycell.applications.sequences.settings import SequencesSettings

APPLICATION = Application(
    name="sequences",
    summary="Classifies sequences, labels every step, or predicts numbers, live after every row",
    reads="a table with a column that names the sequence of each row and one to predict (CSV,"
    " Excel, Parquet, JSON lines); a folder of such tables with labels.csv; .ts and .arff"
    " files of the UCR/UEA archive; .npz with arrays X and y",
    in_memory="sequences",
    default_dataset=DEFAULT_DATASET,
    datasets=DATASETS,
    metric=Metric("accuracy", higher_is_better=True),
    selection_metric=LOSS,
    baselines=(
        "most frequent class or mean",
        "nearest neighbour by dynamic time warping",
        "logistic or ridge regression on summary features",
        "random convolutions and ridge",
    ),
    training=TrainSettings(epochs=60, lr=6e-3, weight_decay=0.02, average=0.99),
    settings=SequencesSettings,
    search_space={
        "lr": Uniform(1.5e-3, 2.4e-2, log=True),
        "weight_decay": Uniform(2e-3, 0.2, log=True),
        "hidden": Choice([32, 64, 128]),
        "layers": Choice([1, 2]),
        "dropout": Uniform(0.0, 0.6),
        "weight_drop": Uniform(0.0, 0.5),
    },
    predict_options=PredictOptions,
    stream_options=NoOptions,
    models={SequenceModel.kind: SequenceModel},
    codecs={SequenceCodec.kind: SequenceCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    predict_reads="file",
    render=render,
    session=SequencesSession,
    session_columns=session_columns,
    columns=answer_columns,
    figures={".html": sequences_page, ".csv": to_csv, ".parquet": to_parquet},
    render_details=classification_details,
    report=report_page,
    picture=sequences_picture,
    inspect=inspect,
    exporters=EXPORTERS,
)
