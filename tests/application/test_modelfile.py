"""Model files: everything comes back; damage, later versions and hostile descriptions are refused
in one line.
"""

import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memorycell.application import modelfile
from memorycell.application.contract import ModelFile
from memorycell.applications.forecast.codec import SeriesCodec
from memorycell.applications.forecast.model import Forecaster, ForecasterConfig
from memorycell.errors import ModelFileError
from memorycell.tables.clock import Clock
from memorycell.tables.times import TimeColumns

INFO = {"task": "forecast", "data": "readings.csv", "fingerprint": "0", "settings": {}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    codec = SeriesCodec(
        ("y",),
        ("x",),
        Clock("second", 3600),
        24,
        times=TimeColumns(("t",)),
        mean=(1.0, 2.0),
        std=(3.0, 4.0),
        change=(0.5, 0.6),
        gappy=("x",),
    )
    torch.manual_seed(0)
    model = Forecaster(
        ForecasterConfig(input_size=len(codec.features), hidden_size=5, horizon=3, window=4)
    )
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    ModelFile(model, codec, INFO, {"baseline.ridge.weights": torch.ones(2)}).save(path)
    return path


def rewritten(whole, change) -> bytes:
    """The file with its JSON changed, and without a checksum."""
    raw = whole.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    note = json.loads(header["__metadata__"]["memorycell"])
    del note["checksum"]
    change(note)
    header["__metadata__"]["memorycell"] = json.dumps(note)
    packed = json.dumps(header).encode()
    packed += b" " * (-len(packed) % 8)
    return struct.pack("<Q", len(packed)) + packed + raw[8 + size :]


def test_flipped_bits_are_refused(whole, tmp_path):
    raw = whole.read_bytes()
    for position in np.random.default_rng(0).integers(8 * len(raw), size=300):
        flipped = bytearray(raw)
        flipped[position // 8] ^= 1 << position % 8
        path = tmp_path / "m.safetensors"
        path.write_bytes(flipped)
        with pytest.raises(ModelFileError):
            modelfile.load(path)


def test_everything_comes_back(whole):
    file = modelfile.load(whole)
    assert file.codec.mean == (1.0, 2.0)
    assert file.codec.clock == Clock("second", 3600)
    assert file.info == INFO
    assert torch.equal(file.arrays["baseline.ridge.weights"], torch.ones(2))
    torch.manual_seed(0)
    again = Forecaster(file.model.config)
    x = torch.randn(1, 6, again.config.input_size)
    assert torch.equal(file.model(x)[0], again.eval()(x)[0])
    assert np.isfinite(file.model.run(x[0].numpy(), np.zeros(6, int), np.arange(6))).all()


@given(share=st.floats(0, 0.999))
def test_truncated(whole, share, tmp_path_factory):
    raw = whole.read_bytes()
    path = tmp_path_factory.mktemp("cut") / "cut.safetensors"
    path.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(ModelFileError, match="truncated, damaged or not a model"):
        modelfile.load(path)


@given(at=st.integers(0, 3000), value=st.integers(0, 255))
def test_spoilt_bytes_never_raise_anything_else(whole, at, value, tmp_path_factory):
    raw = bytearray(whole.read_bytes())
    raw[at % len(raw)] = value
    path = tmp_path_factory.mktemp("spoilt") / "m.safetensors"
    path.write_bytes(raw)
    try:
        modelfile.load(path)
    except ModelFileError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n: n.update(version=2, library="9.9"), "format 2 by memorycell '9.9'.*upgrade"),
        (lambda n: n.update(format="other"), "not a model"),
        (lambda n: n["config"].update(hidden_size=10**6), "expected"),
        (lambda n: n["config"].update(hidden_size=10**30), "hidden_size"),
        (lambda n: n["config"].update(num_layers=10**6), "more layers"),
        (lambda n: n["config"].update(cell="__import__"), "cell"),
        (lambda n: n["config"].update(extra=1), "extra"),
        (lambda n: n["config"].update(dropout="x"), "dropout"),
        (lambda n: n["codec"].update(kind="pickle"), "pickle"),
        (lambda n: n["codec"].update(mean=[1.0]), "scaling"),
        (lambda n: n["codec"].update(targets=[]), "targets"),
        (lambda n: n["codec"].update(inputs=["x", "z"]), "scaling"),
        (lambda n: n["codec"].update(clock={"unit": "year"}), "clock"),
        (lambda n: n.pop("config"), "config"),
    ],
)
def test_hostile_descriptions(whole, change, words, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(rewritten(whole, change))
    with pytest.raises(ModelFileError, match=words):
        modelfile.load(path)


def test_nan_in_the_weights(whole, tmp_path):
    file = modelfile.load(whole)
    with torch.no_grad():
        file.model.recurrent.weight_hh_l0[0, 0] = float("nan")
    file.save(tmp_path / "nan.safetensors")
    with pytest.raises(ModelFileError, match="NaN"):
        modelfile.load(tmp_path / "nan.safetensors")


def test_a_pickle_is_refused(tmp_path):
    torch.save({"a": 1}, tmp_path / "m.pt")
    with pytest.raises(ModelFileError, match="not a model file"):
        modelfile.load(tmp_path / "m.pt")
