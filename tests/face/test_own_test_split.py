"""A model trained on data in memory is evaluated on its test split, not on all of them."""

import numpy as np
import pytest

import memorycell
from memorycell.application.contract import ModelFile
from memorycell.errors import UserError

RNG = np.random.default_rng(0)
STROKES = [([RNG.normal(size=(9, 2)).cumsum(0)], f"s{k % 2}") for k in range(120)]
DATA = {
    "sequences": ([RNG.normal(size=(6, 2)) for _ in range(40)], np.arange(40) % 2),
    "control": [(RNG.normal(size=(5, 2)), np.full(5, k % 2)) for k in range(20)],
    "drawing": STROKES,
    "video": [RNG.random((24, 9, 11)) for _ in range(12)],
}
SETTINGS = {
    "sequences": {"members": 1, "augment": "none", "encoder": "none", "mix": False},
    "control": {"baseline_share": 0.0},
    "drawing": {},
    "video": {"context": 4, "horizon": 2},
}


@pytest.fixture(scope="module", params=DATA)
def model(request):
    return memorycell.train(
        request.param,
        DATA[request.param],
        epochs=1,
        hidden=4,
        progress=False,
        **SETTINGS[request.param],
    )


def test_evaluate_is_the_test_split(model):
    notes = []
    again = model.evaluate(log=notes.append)["metrics"]
    assert again == pytest.approx(model.metrics, rel=1e-4)
    assert not any("other data" in note or "another dataset" in note for note in notes)
    assert not any("memorycell-data-" in note for note in notes)
    assert model.evaluate(DATA[model.task])["metrics"] != pytest.approx(model.metrics, rel=1e-4)


def test_what_draws_or_proves_it_has_the_test_split(model, monkeypatch):
    """Every way to the model's own data opens them as its own."""
    opened = []
    reopen = model.application.reopen

    def watched(data, file):
        opened.append((data, isinstance(file, ModelFile)))
        return reopen(data, file)

    application = model.application
    monkeypatch.setitem(vars(application), "reopen", watched)
    assert model.own_dataset() is not None
    model.picture = None
    model.figure("main")
    assert len(opened) >= 2
    assert {data for data, _ in opened} == {None}


def test_without_the_data_it_says_so(model, tmp_path):
    model.save(tmp_path / "m.safetensors")
    with pytest.raises(UserError, match="data in memory: give the data again"):
        memorycell.load(tmp_path / "m.safetensors").evaluate()
