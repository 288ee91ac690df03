"""Keras 3 files against Keras."""

import json
import os
import zipfile

import numpy as np
import pytest
import torch

import memorycell
from memorycell.errors import UserError

OLD_NUMPY = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # in Keras itself


@pytest.fixture(scope="module")
def keras():
    os.environ["KERAS_BACKEND"] = "torch"
    return pytest.importorskip("keras")


@OLD_NUMPY
def test_layers_of_a_keras_model(keras, tmp_path):
    """Every recurrent layer of a model, with random weights, against Keras's own outputs."""
    layers = keras.layers
    keras_layers = {
        "an_lstm": layers.LSTM(7, return_sequences=True, name="an_lstm"),
        "no_bias": layers.LSTM(6, return_sequences=True, use_bias=False, name="no_bias"),
        "both_ways": layers.Bidirectional(layers.GRU(3, return_sequences=True), name="both_ways"),
        "a_gru": layers.GRU(4, return_sequences=True, name="a_gru"),
        "first_gru": layers.GRU(4, return_sequences=True, reset_after=False, name="first_gru"),
        "first_both": layers.Bidirectional(
            layers.GRU(2, return_sequences=True, reset_after=False), name="first_both"
        ),
        "gru_without": layers.GRU(4, return_sequences=True, use_bias=False, name="gru_without"),
        "two_lstms": layers.Bidirectional(layers.LSTM(5, return_sequences=True), name="two_lstms"),
        "simple": layers.SimpleRNN(6, return_sequences=True, name="simple"),
        "with_relu": layers.SimpleRNN(
            5, return_sequences=True, activation="relu", name="with_relu"
        ),
    }
    start = keras.Input((None, 5))
    inner = keras.Sequential(
        [keras.Input((None, 5)), layers.LSTM(3, return_sequences=True, name="deep")], name="inner"
    )
    outputs, x = [], start
    for each in keras_layers.values():
        outputs.append(each(x))
        x = layers.Dropout(0.5)(outputs[-1])
    net = keras.Model(start, [*outputs, inner(x)])
    rng = np.random.default_rng(0)
    net.set_weights(
        [rng.normal(scale=0.5, size=w.shape).astype(np.float32) for w in net.get_weights()]
    )
    net.save(tmp_path / "m.keras")

    imported = memorycell.from_keras(tmp_path / "m.keras")
    assert list(imported) == [*keras_layers, "deep"]
    inputs = rng.normal(size=(3, 11, 5)).astype(np.float32)
    theirs = [np.asarray(y.detach()) for y in net(torch.from_numpy(inputs))]
    x = inputs
    for name, expected in zip(imported, theirs, strict=True):
        mine = imported[name](torch.from_numpy(x))[0].detach().numpy()
        assert np.abs(mine - expected).max() < 2e-6, name
        x = expected


@OLD_NUMPY
def test_unsupported_keras_files_are_refused_with_the_reason(keras, tmp_path):
    layers = keras.layers
    path = tmp_path / "m.keras"

    def refused(words: str, *added) -> None:
        if added:
            keras.Sequential([keras.Input((None, 5)), *added]).save(path)
        with pytest.raises(UserError, match=words):
            memorycell.from_keras(path)

    refused("no such file")
    path.write_bytes(b"nothing like a zip")
    refused("not a Keras 3 model")
    refused("no recurrent layer", layers.Dense(3))
    refused("'own': memorycell has no RNN", layers.RNN(layers.LSTMCell(3), name="own"))
    refused("activation='relu'", layers.LSTM(3, activation="relu"))
    refused("go_backwards=True", layers.LSTM(3, go_backwards=True))
    refused("merge_mode='sum'", layers.Bidirectional(layers.LSTM(3), merge_mode="sum"))
    keras.Sequential([keras.Input((None, 5)), layers.LSTM(3, name="cut")]).save(path)
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        weights = archive.read("model.weights.h5")
    config["config"]["layers"][1]["config"]["units"] = 4
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights)
    refused("'cut': weights are missing or have the wrong shape .units=4, but the weights have 3")
