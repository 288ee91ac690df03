"""`memorycell.settings`, against the dataclasses that training takes."""

import dataclasses

import pytest

import memorycell
from memorycell.application import catalogue
from memorycell.face.setting_list import settings


@pytest.mark.parametrize("task", catalogue.names())
def test_every_setting_of_every_task_is_listed_with_its_default(task):
    application = catalogue.load(task)
    values = (application.settings(), application.training)
    expected = {f.name: getattr(v, f.name) for v in values for f in dataclasses.fields(v)}
    listed = memorycell.settings(task).to_dict()
    assert {name: one["default"] for name, one in listed.items()} == expected
    assert all(one["type"] for one in listed.values())


def test_what_a_setting_means():
    horizon = settings("forecast").to_dict()["horizon"]
    assert horizon["type"] == "int | None"
    assert "steps ahead" in horizon["meaning"]
    assert settings("forecast").to_dict()["lr"]["meaning"].startswith("peak learning rate")


def test_it_prints_as_a_table():
    listed = settings("forecast", "predict")
    (line,) = [line for line in repr(listed).splitlines() if line.startswith("quantiles")]
    assert "str | None" in line
    assert "levels to forecast" in line
    assert "<td" in listed._repr_html_()
    assert repr(settings("forecast", "session")) == "no settings"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("forcast",), "did you mean forecast"),
        (("forecast", "evaluate"), "expected train, predict, session"),
    ],
)
def test_what_there_is_not(arguments, words):
    with pytest.raises(memorycell.UserError, match=words):
        memorycell.settings(*arguments)
