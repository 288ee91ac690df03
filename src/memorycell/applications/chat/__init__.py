"""Chat."""

from memorycell.application.contract import Application, Metric, NoOptions, TrainSettings
from memorycell.applications.chat.dataset import ChatSettings, prepare, reopen
from memorycell.applications.chat.exporters import EXPORTERS
from memorycell.applications.chat.inspection import inspect
from memorycell.applications.chat.live import Conversation, Replying, predict, show
from memorycell.applications.chat.public_data import DATASETS
from memorycell.language.codec import TextCodec
from memorycell.language.model import LanguageModel

APPLICATION = Application(
    name="chat",
    summary="answers: learns from dialogues, replies turn by turn, says when it is unsure",
    reads="dialogues: a line a dialogue with tabs between turns, JSON lines, or chatterbot's YAML"
    " files",
    default_dataset="chatterbot",
    datasets=DATASETS,
    metric=Metric("perplexity"),
    baselines=("n-gram (interpolated Kneser-Ney)",),
    training=TrainSettings(lr=5e-3, weight_decay=0.1, average=0.998, precision="auto"),
    minutes=4.5,
    settings=ChatSettings,
    predict_options=Replying,
    stream_options=NoOptions,
    models={LanguageModel.kind: LanguageModel},
    codecs={TextCodec.kind: TextCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    render=show,
    session=Conversation,
    inspect=inspect,
    exporters=EXPORTERS,
)
