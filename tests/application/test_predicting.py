"""Predictions of damaged models."""

import math

import pytest
import torch

import memorycell
from memorycell.application import catalogue
from memorycell.application.predicting import predict_record
from memorycell.errors import ModelFileError

TEXTS = [(f"{word} day {k}", word) for k in range(40) for word in ("good", "bad")]


@pytest.fixture(scope="module")
def model():
    return memorycell.train("sentiment", TEXTS, epochs=1, hidden=4, embedding=4, progress=False)


def test_a_prediction_that_is_not_a_number_is_refused(model):
    """Finite weights whose products overflow, as a damaged file has."""
    assert math.isfinite(model.predict("good day")["texts"][0]["p"])
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.fill_(3e38)
    options = catalogue.load("sentiment").predict_options()
    for predict in (lambda: predict_record(model, "good day", options), lambda: model.predict("a")):
        with pytest.raises(ModelFileError, match=r"the sentiment model gives NaN or infinity: its"):
            predict()
