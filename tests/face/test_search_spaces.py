"""The search space of every task: its names and values exist, and its extremes build a model."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from memorycell.application import catalogue
from memorycell.application.search_space import default_space
from memorycell.errors import UserError
from memorycell.face import tuning_space
from memorycell.face.options import with_options
from memorycell.setting_fields import parse_settings


def small_data():
    """tests/cli/untrained.py, which has data of most tasks."""
    path = Path(__file__).parents[1] / "cli" / "untrained.py"
    spec = importlib.util.spec_from_file_location("small_data_of_most_tasks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DATA = small_data()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    for package in ("polars", "sklearn", "regex", "kaldi_native_fbank", "PIL", "symusic"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("spaces")
    DATA.write_data(folder)
    return folder


def application_of(task):
    try:
        return catalogue.load(task)
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("task", catalogue.names())
def test_every_task_has_a_space_that_holds_its_defaults(task):
    application = application_of(task)
    assert application.search_space is not None
    space = default_space(application)
    assert 2 <= len(space) <= 6
    known = {**vars(application.settings()), **vars(application.training)}
    assert all(known[key] in distribution for key, distribution in space.items())
    written = {key: str(value) for key, value in space.items()}
    own, training = application.settings(), application.training
    read = tuning_space.search_space(application, written, own, training)  # every value is allowed
    assert read.keys() == space.keys()
    assert tuning_space.from_json(tuning_space.to_json(space)) == space


def test_an_application_without_a_space_has_one_around_its_defaults():
    application = replace(application_of("forecast"), search_space=None)
    space = default_space(application)
    assert list(space) == ["lr", "weight_decay", "hidden", "dropout"]
    assert space["hidden"].values == [64, 128, 256]
    assert str(space["lr"]) == "loguniform(0.002,0.032)"


@pytest.mark.parametrize("end", [0, -1], ids=["low", "high"])
@pytest.mark.parametrize("task", catalogue.names())
def test_the_extremes_of_a_space_are_settings(task, end):
    application = application_of(task)
    space = default_space(application)
    extremes = {key: distribution.examples[end] for key, distribution in space.items()}
    values = with_options([application.settings(), application.training], extremes, task)
    assert extremes.items() <= {k: v for value in values for k, v in vars(value).items()}.items()


@pytest.mark.parametrize("end", [0, -1], ids=["low", "high"])
@pytest.mark.parametrize("task", list(DATA.DATA))
def test_the_extremes_of_a_space_build_a_model(folder, task, end):
    application = application_of(task)
    (settings,) = parse_settings([application.settings()], DATA.SETTINGS[task])
    extremes = {key: d.examples[end] for key, d in default_space(application).items()}
    settings, _ = with_options([settings, application.training], extremes, task)
    model = application.prepare(str(folder / DATA.DATA[task]), settings).build()
    assert model.config.hidden_size == extremes["hidden"]
