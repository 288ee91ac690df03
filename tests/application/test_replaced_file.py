"""A model file that is overwritten in place, or truncated, while a process runs the model: nothing
changes, and the process lives.
"""

import subprocess
import sys

import pytest
import torch

from memorycell.application.contract import ModelFile
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.model import Forecaster, ForecasterConfig
from memorycell.tables.clock import Clock

CODEC = SeriesCodec(
    ("y",), (), Clock("row", 1), 4, mean=(0.0,), std=(1.0,), change=(1.0,), cycles=()
)
INFO = {"task": "forecast", "data": "readings.csv", "fingerprint": "0", "settings": {}}
RUN = """
import json, os, sys
from memorycell.application import live, modelfile

path, replacement = sys.argv[1:]
file = modelfile.load(path)
sessions = [live.open_session(file)]
answers = [sessions[0].feed({"y": k}) for k in range(5)]
if replacement != "none":
    inode = os.stat(path).st_ino
    content = b"" if replacement == "empty" else open(replacement, "rb").read()
    with open(path, "r+b") as target:  # as cp does
        target.truncate(0)
        target.write(content)
    assert os.stat(path).st_ino == inode
sessions.append(live.open_session(file))
answers += [session.feed({"y": k}) for k in range(5) for session in sessions]
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def model_bytes():
    """Two models of the same shapes with other weights: large, so that they take many pages."""

    def made(seed: int) -> bytes:
        torch.manual_seed(seed)
        config = ForecasterConfig(
            input_size=len(CODEC.features), hidden_size=64, horizon=2, window=2
        )
        model = Forecaster(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        return ModelFile(model, CODEC, INFO).to_bytes()

    return made(0), made(1)


def answers(path, replacement) -> str:
    """What `RUN` prints, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, path, replacement], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_replaced_in_place_changes_nothing(model_bytes, tmp_path):
    ours, other = model_bytes
    assert len(ours) == len(other)
    path = tmp_path / "m.safetensors"
    (tmp_path / "other.safetensors").write_bytes(other)
    printed = []
    for replacement in ("none", tmp_path / "other.safetensors", "empty"):
        path.write_bytes(ours)
        printed.append(answers(path, replacement))
    assert printed[0] == printed[1] == printed[2]
    assert answers(tmp_path / "other.safetensors", "none") != printed[0]
