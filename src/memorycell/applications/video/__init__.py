"""Videos: the next frames, surprising frames, and the class of a clip."""

from memorycell.application.contract import Application, Metric
from memorycell.application.rendering import classification_details
from memorycell.application.search_space import Choice, Uniform
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.video.classifier import ClipClassifier
from memorycell.applications.video.codec import FrameCodec
from memorycell.applications.video.digits import NAME
from memorycell.applications.video.figures import FIGURES
from memorycell.applications.video.inspection import inspect
from memorycell.applications.video.model import FramePredictor
from memorycell.applications.video.picture import video_picture
from memorycell.applications.video.predict import PredictOptions, predict, render
from memorycell.applications.video.preparing import prepare, reopen
from memorycell.applications.video.public_data import DATASETS
from memorycell.applications.video.session import StreamOptions, VideoSession, remote_session
from memorycell.applications.video.settings import VideoSettings

APPLICATION = Application(
    name="video",
    summary="Predicts the next frames of a video, finds surprising frames, or names the class of a"
    " clip",
    reads="folders of frames (PNG, JPEG), videos (MP4, AVI, GIF and others), arrays [T, height,"
    " width] or [N, T, height, width] (.npz, .npy); for classes one folder per class, or labels in"
    " the .npz",
    in_memory="clips",
    default_dataset=NAME,
    datasets=DATASETS,
    metric=Metric("mse"),
    selection_metric="mse",
    baselines=(
        "black frames",
        "the mean of the frames seen",
        "the last frame repeated",
        "linear motion (shift by phase correlation)",
        "ridge regression on 5 × 5 pixels of the last two frames",
        "majority and nearest neighbour (classes)",
    ),
    training=TrainSettings(lr=4e-3, weight_decay=0.0),
    minutes=5.0,
    steps=1500,
    settings=VideoSettings,
    search_space={
        "lr": Uniform(1e-3, 1.6e-2, log=True),
        "hidden": Choice([24, 48, 96]),
        "layers": Choice([1, 2]),
        "kernel": Choice([3, 5]),
        "reach": Choice([1, 2, 3]),
    },
    predict_options=PredictOptions,
    stream_options=StreamOptions,
    models={FramePredictor.kind: FramePredictor, ClipClassifier.kind: ClipClassifier},
    codecs={FrameCodec.kind: FrameCodec},
    prepare=prepare,
    reopen=reopen,
    predict=predict,
    predict_reads="file",
    render=render,
    session=VideoSession,
    remote_session=remote_session,
    figures=FIGURES,
    render_details=classification_details,
    picture=video_picture,
    inspect=inspect,
)
