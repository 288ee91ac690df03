"""The catalogue imports nothing, applications keep the contract, the docs know all kinds."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from memorycell.application import catalogue
from memorycell.application.datasets import locate, named_dataset, named_datasets
from memorycell.application.train_settings import TrainSettings
from memorycell.errors import DataError, UserError

DOCS = Path(__file__).parents[2] / "docs"
BUILT_IN = list(catalogue.EXTRAS)


@pytest.fixture(params=BUILT_IN)
def application(request):
    return catalogue.load(request.param)


def test_names_come_without_imports():
    code = (
        "import sys; from memorycell.application import catalogue; catalogue.names();"
        "assert not [m for m in sys.modules if 'memorycell.applications' in m or m == 'torch']"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_lists_the_others():
    with pytest.raises(UserError, match=r"poetry: no such task; there are forecast, text"):
        catalogue.load("poetry")


def test_a_missing_package_names_its_extra(monkeypatch):
    error = ModuleNotFoundError("No module named 'soundfile'", name="soundfile")
    message = str(catalogue.missing_package("speech", error))
    assert message == "speech needs soundfile: pip install 'memorycell[speech]'"
    own = ModuleNotFoundError("No module named 'memorycell.x'", name="memorycell.x")
    with pytest.raises(ModuleNotFoundError):
        catalogue.missing_package("speech", own)


def test_minutes_are_a_limit_by_default(application):
    """Of a number of updates, so that a result does not depend on the machine's speed. Policies are
    the exception: their baselines are trained for the same time.
    """
    own = application
    assert own.minutes is None or own.minutes <= 5
    assert own.minutes is None or own.steps is not None or own.name == "control"


def test_an_application_is_complete(application):
    assert application.name in BUILT_IN
    assert application.default_dataset in {d.name for d in application.datasets}
    assert application.models
    assert application.codecs
    assert all(kind == model.kind for kind, model in application.models.items())
    assert all(kind == codec.kind for kind, codec in application.codecs.items())
    for kind in (application.settings, application.predict_options, application.stream_options):
        assert dataclasses.is_dataclass(kind)
        kind()  # every field has a default


def test_settings_and_those_of_training_do_not_share_names(application):
    names = {f.name for f in dataclasses.fields(application.settings)}
    assert not names & {f.name for f in dataclasses.fields(TrainSettings)}


def test_every_setting_is_documented(application):
    for kind in (application.settings, application.predict_options, application.stream_options):
        documentation = " ".join(c.__doc__ or "" for c in kind.__mro__)
        for field in dataclasses.fields(kind):
            assert re.search(rf"\b{field.name}\b", documentation), (kind, field.name)


def test_the_settings_of_named_datasets_exist(application):
    fields = {f.name for f in dataclasses.fields(application.settings)}
    for dataset in application.datasets:
        if dataset.name == application.default_dataset or len(application.datasets) == 1:
            assert set(dataset.settings) <= fields


def test_modelfile_page_names_every_kind():
    page = (DOCS / "modelfile.md").read_text()
    models, codecs = page.split("## Kinds of codecs")
    models = models.split("## Kinds of models")[1]
    for section, kinds in (
        (models, {kind for name in BUILT_IN for kind in catalogue.load(name).models}),
        (codecs.split("## Tensors")[0], {k for n in BUILT_IN for k in catalogue.load(n).codecs}),
    ):
        rows = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
        named = {kind for row in rows for kind in re.findall(r"`(\w+)`", row)} - {"kind"}
        assert named == kinds


def test_a_file_takes_precedence_over_a_dataset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "glucose").write_text("x")
    assert locate("glucose") == (Path("glucose"), None)
    assert "glucose" in named_datasets()
    with pytest.raises(UserError, match="no such dataset"):
        named_dataset("nothing")
    with pytest.raises(DataError, match="no such file, and no dataset of that name"):
        locate("nothing")
