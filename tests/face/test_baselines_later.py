"""Training without baselines, which are computed when they are asked for."""

import numpy as np
import pytest
from quick import QUICK

import memorycell


@pytest.fixture(scope="module")
def without(load_frame):
    return memorycell.train(
        "forecast", load_frame, target="load", horizon=4, baselines=False, **QUICK
    )


def test_training_is_the_same_and_the_baselines_come_later(without, forecaster):
    assert "baselines: not computed in training" in repr(without)
    assert "not computed in training" in without._repr_html_()
    assert without.info["baselines"] == {}
    assert "by_lead" not in without.result or "ridge" not in str(without.result["by_lead"])
    assert without.metrics == forecaster.metrics
    assert without.baselines == forecaster.baselines  # computed here
    assert without.skill == forecaster.skill
    assert without.result["baselines"] == forecaster.baselines
    assert repr(without) == repr(forecaster)


def test_a_loaded_model_says_so(load_frame, tmp_path):
    path = tmp_path / "m.safetensors"
    memorycell.train(
        "forecast", load_frame, target="load", horizon=4, baselines=False, out=path, **QUICK
    )
    model = memorycell.load(path)
    with pytest.warns(UserWarning, match="left out in training .it was loaded.*evaluate.data"):
        assert model.baselines == {}
    assert model.evaluate(load_frame)["baselines"].keys() >= {"ridge"}


def test_sequences_compare_later_with_what_they_compare_with_in_training():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    x = rng.normal(size=(40, 9)) + y[:, None]
    quick = {**QUICK, "members": 1, "augment": "none"}
    data = (x[..., None], y)
    at_once = memorycell.train("sequences", data, **quick)
    later = memorycell.train("sequences", data, baselines=False, **quick)
    assert later.info["baselines"] == {}
    assert later.baselines == at_once.baselines
    assert later.skill == at_once.skill
