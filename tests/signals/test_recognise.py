"""Running a model on features."""

import numpy as np
import pytest
import torch

from memorycell.application.contract import ModelFile
from memorycell.errors import ModelFileError
from memorycell.models.classifier import Classifier, ClassifierConfig
from memorycell.signals.recognise import recognise


def test_a_model_that_gives_nan_is_named():
    torch.manual_seed(0)
    model = Classifier(ClassifierConfig(vocabulary=0, input_size=3, classes=2, hidden_size=4))
    file = ModelFile(model, None, {"task": "speech"})
    features = np.ones((5, 3), np.float32)
    assert np.exp(recognise(file, features)).sum() == pytest.approx(1)
    with torch.no_grad():
        model.pool.score.weight.fill_(3e38)  # finite, but exp of the scores is 0 or infinite
    with pytest.raises(ModelFileError, match="the speech model gives NaN"):
        recognise(file, features)
