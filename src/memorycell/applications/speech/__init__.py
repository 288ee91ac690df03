"""Recognise spoken words, or transcribe speech, from files or live."""

from memorycell.application.contract import Application, Metric
from memorycell.application.rendering import classification_details
from memorycell.application.search_space import Choice, Uniform
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.speech.codec import AudioCodec
from memorycell.applications.speech.dataset import prepare, reopen
from memorycell.applications.speech.figures import speech_page
from memorycell.applications.speech.inspection import inspect
from memorycell.applications.speech.predict import PredictOptions, predict, render
from memorycell.applications.speech.public_data import DATASETS
from memorycell.applications.speech.session import SpeechSession, StreamOptions
from memorycell.applications.speech.settings import SpeechSettings
from memorycell.models.classifier import Classifier
from memorycell.signals.transcriber import Transcriber

APPLICATION = Application(
    name="speech",
    summary="Recognises spoken words or transcribes speech, offline or streaming, with word"
    " timings",
    reads="a folder of WAV, FLAC, OGG or MP3 files with a list of transcripts (also in the layouts"
    " of LJSpeech, Common Voice, LibriSpeech and Kaldi), with one folder per class, or with names"
    " that match --set names={label}_{group}_{index}",
    in_memory="sounds",
    default_dataset="free-spoken-digits",
    datasets=DATASETS,
    metric=Metric("error"),
    selection_metric="log_loss",
    baselines=("nearest neighbour by dynamic time warping (classes)", "most frequent words (text)"),
    training=TrainSettings(lr=3e-3, weight_decay=0.01, average=0.995, precision="auto"),
    minutes=5.0,
    steps=1900,
    settings=SpeechSettings,
    search_space={
        "lr": Uniform(7.5e-4, 1.2e-2, log=True),
        "weight_decay": Uniform(1e-3, 0.1, log=True),
        "hidden": Choice([64, 128, 256]),
        "layers": Choice([1, 2, 3]),
        "dropout": Uniform(0.0, 0.6),
        "noise": Uniform(0.0, 0.6),
    },
    predict_options=PredictOptions,
    stream_options=StreamOptions,
    models={Classifier.kind: Classifier, Transcriber.kind: Transcriber},
    codecs={AudioCodec.kind: AudioCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    predict_reads="file",
    render=render,
    session=SpeechSession,
    stream_reads="bytes",
    figures={".html": speech_page},
    render_details=classification_details,
    inspect=inspect,
)
