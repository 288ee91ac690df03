"""When a language model says that a text is unlike those it was trained on."""

import numpy as np
import pytest
import torch

from memorycell.applications.text.limits import fit_limit, is_unsure
from memorycell.errors import ModelFileError


def test_the_limit_is_a_quantile_of_windows():
    nats = np.repeat(np.arange(100.0), 50)
    arrays, note = fit_limit(nats)
    assert float(arrays["limits"]) == pytest.approx(np.quantile(np.arange(100.0), 0.98))
    assert "2% of the validation split" in note
    assert is_unsure(arrays, np.full(20, 98.0))
    assert not is_unsure(arrays, np.full(20, 96.0))
    assert not is_unsure(arrays, np.full(19, 98.0))  # too short to judge
    assert not is_unsure({}, np.full(20, 98.0))
    with pytest.raises(ModelFileError, match="limits"):
        is_unsure({"limits": torch.zeros(2)}, nats)
    assert fit_limit(nats[:49])[0] == {}
    more = fit_limit(np.append(nats, [999.0] * 49))[0]  # not a complete window
    assert more["limits"] == arrays["limits"]
