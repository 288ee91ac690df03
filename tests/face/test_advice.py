"""Errors advise what their reader can do: keyword arguments in Python, and settings of training
only where a model is trained.
"""

import json
import re

import numpy as np
import pandas as pd
import pytest
from quick import QUICK
from typer.testing import CliRunner

import memorycell
from memorycell.application import catalogue
from memorycell.application.advice import training_advice
from memorycell.applications.forecast.predict import PredictOptions
from memorycell.cli.verbs import app
from memorycell.errors import DataError, UserError
from memorycell.face.advice import as_arguments

SNAPS = "(your step) snaps rows to the nearest step"


@pytest.fixture(scope="module")
def irregular(load_frame):
    frame = load_frame.reset_index()
    frame.loc[40, "time"] += pd.Timedelta("7min")
    return frame


def test_a_clock_is_a_setting_of_training(forecaster, irregular, tmp_path):
    """`every` of predict is another option."""
    irregular.to_csv(tmp_path / "rows.csv", index=False)
    for data in (irregular, tmp_path / "rows.csv"):
        for verb in (forecaster.predict, forecaster.evaluate, forecaster.inspect):
            with pytest.raises(DataError, match=re.escape(f'; every="5m" in training {SNAPS}')):
                verb(data)
        with pytest.raises(DataError, match=re.escape(f'; every="5m" {SNAPS}')):
            memorycell.train("forecast", data, target="load", horizon=4, **QUICK)


def test_the_command_line_advises_its_own_options(forecaster, irregular, tmp_path):
    irregular.to_csv(tmp_path / "rows.csv", index=False)
    forecaster.save(tmp_path / "m.safetensors")
    for verb in ("predict", "evaluate", "inspect"):
        result = CliRunner().invoke(app, [verb, *map(str, (tmp_path / "m.safetensors",
                                                           tmp_path / "rows.csv"))])  # fmt: skip
        assert result.exit_code == 2
        assert f"; --set every=5m in training {SNAPS}" in " ".join(result.stderr.split())


def test_notes_of_a_model_have_arguments():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.normal(size=(300, 3)).cumsum(0), columns=["y", "u", "v"])
    model = memorycell.train("forecast", rows, target="y", every="row", horizon=2, **QUICK)
    model.info["notes"] = ["inputs: y; --set inputs=all uses u, v too"]
    assert model.notes == ['inputs: y; inputs="all" uses u, v too']
    assert "inputs=&quot;all&quot;" in model._repr_html_() or 'inputs="all"' in model._repr_html_()


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("name it: --set target=COLUMN", 'name it: target="COLUMN"'),
        ("; --set target=A,B,C", '; target="A,B,C"'),
        ("--set stride=1 for all", "stride=1 for all"),
        ("voices: --set voices=N, or", "voices: voices=N, or"),
        ("train with --set view=voices", 'train with view="voices"'),
        ("or --set decimal=. or --set decimal=,", 'or decimal="." or decimal=","'),
        ("--set time_format='%d.%m.' or", 'time_format="%d.%m." or'),
        ("name it in --set unknown=, or", "name it in unknown=, or"),
        ("each=yes needs --set each=yes.", "each=yes needs each=True."),
        ("cut off: --set longest=…", "cut off: longest=…"),
        ("--to onnx: not for", "to onnx: not for"),
        ("longer training (--minutes)", "longer training (minutes)"),
        ("pip install --upgrade memorycell", "pip install --upgrade memorycell"),
    ],
)
def test_options_as_arguments(message, expected):
    assert as_arguments(message) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("; --set group=COLUMN, or", "; --set group=COLUMN in training, or"),
        ("the step, as in --set every=5m, or", "the step, as in --set every=5m in training, or"),
        ("fewer: --set every=24", "fewer: --set every=24"),
        ("more: --set origins=…", "more: --set origins=…"),
        ("train with --set inputs=A", "train with --set inputs=A"),
        ("row 3: no number", "row 3: no number"),
        ("raw samples: --set format=…", "raw samples: --set format=…"),
    ],
)
def test_settings_of_training(message, expected):
    with (
        pytest.raises(DataError) as raised,
        training_advice(catalogue.load("forecast"), PredictOptions()),
    ):
        raise DataError(message)
    assert str(raised.value) == expected


def test_exports_name_arguments(forecaster, tmp_path):
    with pytest.raises(UserError, match="^precision int8: ONNX files are in float32"):
        forecaster.export("onnx", tmp_path, precision="int8")
    assert json.dumps(list(tmp_path.iterdir())) == "[]"
