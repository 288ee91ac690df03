"""Translation."""

from memorycell.application.contract import Application, Metric, NoOptions, TrainSettings
from memorycell.applications.translation.codec import PairCodec
from memorycell.applications.translation.dataset import TranslationSettings, prepare, reopen
from memorycell.applications.translation.figures import attention_page
from memorycell.applications.translation.inspection import inspect
from memorycell.applications.translation.live import Translating, predict, show
from memorycell.applications.translation.model import Translator
from memorycell.applications.translation.public_data import DATASETS

APPLICATION = Application(
    name="translation",
    summary="translates: learns from pairs of sentences in two languages; shows what each word"
    " looked at",
    reads="two columns (.tsv, .csv, .jsonl, .parquet), two aligned files, or a message catalogue"
    " (.po, .mo)",
    default_dataset="multi30k-de-en",
    datasets=DATASETS,
    metric=Metric("chrf", higher_is_better=True),
    selection_metric="nats",
    baselines=("the translation of the nearest known sentence", "the source unchanged"),
    training=TrainSettings(lr=2e-3, weight_decay=0.01, average=0.998, clip=1.0, precision="auto"),
    minutes=4.5,
    settings=TranslationSettings,
    predict_options=Translating,
    stream_options=NoOptions,
    models={Translator.kind: Translator},
    codecs={PairCodec.kind: PairCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    render=show,
    session=None,
    figures={".html": attention_page},
    inspect=inspect,
)
