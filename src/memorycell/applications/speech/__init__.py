"""Speech."""

from memorycell.application.contract import Application, Metric, TrainSettings
from memorycell.applications.speech.audio import AudioCodec
from memorycell.applications.speech.dataset import SpeechSettings, prepare, reopen
from memorycell.applications.speech.figures import speech_page
from memorycell.applications.speech.inspection import inspect
from memorycell.applications.speech.live import Hearing, LiveSpeech, Microphone, predict, show
from memorycell.applications.speech.public_data import DATASETS
from memorycell.models.classifier import Classifier
from memorycell.signals.transcriber import Transcriber

APPLICATION = Application(
    name="speech",
    summary="hears which word was said, or what was said; live, as it is said, with the time of every"
    " word",
    reads="a folder of WAV, FLAC, OGG or MP3 files with a list of transcripts, with a folder for"
    " every class, or with names like --set names={label}_{group}_{index}",
    default_dataset="free-spoken-digits",
    datasets=DATASETS,
    metric=Metric("error"),
    selection_metric="log_loss",
    baselines=("nearest neighbour by dynamic time warping (classes)", "most frequent words (text)"),
    training=TrainSettings(lr=3e-3, weight_decay=0.01, average=0.995, precision="auto"),
    minutes=4.0,
    settings=SpeechSettings,
    predict_options=Hearing,
    stream_options=Microphone,
    models={Classifier.kind: Classifier, Transcriber.kind: Transcriber},
    codecs={AudioCodec.kind: AudioCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    predict_reads="file",
    render=show,
    session=LiveSpeech,
    stream_reads="bytes",
    figures={".html": speech_page},
    inspect=inspect,
)
