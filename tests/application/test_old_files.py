"""Model files and state files of an earlier version still load, and give the numbers they gave."""

import json
import math
from pathlib import Path

import pytest

from memorycell.application import catalogue, live, modelfile

FOLDER = Path(__file__).parent / "old_files"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
INPUTS = {"forecast": "readings.csv", "anomaly": "payments.csv", "text": "The panda s"}
OPTIONS = {"text": {"length": 0}}


def assert_same(ours, theirs, at=""):
    """Equal, numbers within 1e-4 relative to values over one."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), at
        for key in theirs:
            assert_same(ours[key], theirs[key], f"{at}.{key}")
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs), at
        for k, value in enumerate(theirs):
            assert_same(ours[k], value, f"{at}[{k}]")
    elif isinstance(theirs, float):
        assert math.isclose(ours, theirs, rel_tol=1e-4, abs_tol=1e-4), (at, ours, theirs)
    else:
        assert ours == theirs, at


@pytest.fixture(params=sorted(INPUTS))
def task(request):
    return request.param


def test_predictions(task):
    application, file = catalogue.load(task), modelfile.load(FOLDER / f"{task}.safetensors")
    source = INPUTS[task]
    if application.predict_reads == "file":
        source = str(FOLDER / source)
    options = application.predict_options(**OPTIONS.get(task, {}))
    record = json.loads(json.dumps(application.predict(file, source, options)))
    expected = EXPECTED[task]["predict"]
    if isinstance(expected, dict):
        assert_same({key: record[key] for key in expected}, expected)
    else:
        key = {"forecast": "forecasts", "anomaly": "recordings"}[task]
        assert_same(record[key], expected)


def test_states(task):
    file = modelfile.load(FOLDER / f"{task}.safetensors")
    session = live.open_session(file)
    session.restore((FOLDER / f"{task}.state").read_bytes())
    answers = [
        answer for line in EXPECTED[task]["stream"]["lines"] for answer in session.feed(line)
    ]
    assert_same(json.loads(json.dumps(answers)), EXPECTED[task]["stream"]["answers"])


@pytest.mark.parametrize(("name", "setting"), [("forecast", "each"), ("anomaly", "gap")])
def test_settings_that_were_yes_or_no_are_bool(name, setting):
    file = modelfile.load(FOLDER / f"{name}.safetensors")
    assert file.info["settings"][setting] == "yes"
    assert getattr(file.typed_settings(catalogue.load(name).settings), setting) is True


def test_they_are_evaluated_on_their_own_data(task, monkeypatch):
    monkeypatch.chdir(FOLDER)
    application, file = catalogue.load(task), modelfile.load(f"{task}.safetensors")
    dataset = application.reopen(None, file)
    metric = dataset.metric(application.metric).name
    assert_same(dataset.evaluate(file.model, "test")[metric], file.info["metrics"][metric])
