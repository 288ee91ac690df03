"""Translation between two languages, with attention."""

from memorycell.application.contract import Application, Metric, NoOptions
from memorycell.application.search_space import Choice, Uniform
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.translation.codec import PairCodec
from memorycell.applications.translation.dataset import DEFAULT_DATASET, prepare, reopen
from memorycell.applications.translation.figures import attention_page
from memorycell.applications.translation.inspection import inspect
from memorycell.applications.translation.model import Translator
from memorycell.applications.translation.predict import PredictOptions, predict, render
from memorycell.applications.translation.prediction_columns import translation_columns
from memorycell.applications.translation.public_data import DATASETS
from memorycell.applications.translation.settings import TranslationSettings

APPLICATION = Application(
    name="translation",
    summary="Translates between two languages, learns from pairs of sentences, and shows the"
    " attention of each word",
    reads="two columns (.tsv, .csv, .jsonl, .parquet, .xlsx), two aligned files, a translation"
    " memory (.tmx), or a message catalogue (.po, .mo)",
    in_memory="pairs",
    default_dataset=DEFAULT_DATASET,
    datasets=DATASETS,
    metric=Metric("chrf", higher_is_better=True),
    selection_metric="nats",
    baselines=("translation of the nearest training sentence", "source unchanged"),
    training=TrainSettings(lr=2e-3, weight_decay=0.01, average=0.998, clip=1.0, precision="auto"),
    minutes=5.0,
    steps=2000,
    settings=TranslationSettings,
    search_space={
        "lr": Uniform(5e-4, 8e-3, log=True),
        "weight_decay": Uniform(1e-3, 0.1, log=True),
        "hidden": Choice([128, 256, 512]),
        "dropout": Uniform(0.0, 0.5),
        "weight_drop": Uniform(0.0, 0.5),
        "smoothing": Uniform(0.0, 0.2),
    },
    predict_options=PredictOptions,
    stream_options=NoOptions,
    models={Translator.kind: Translator},
    codecs={PairCodec.kind: PairCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    render=render,
    session=None,
    columns=translation_columns,
    figures={".html": attention_page},
    inspect=inspect,
)
