"""A model of every task is saved, pickled and copied through the bytes of its file."""

import copy
import pickle
import sys
from pathlib import Path

import pytest

import memorycell
from memorycell.application import catalogue

sys.path.append(str(Path(__file__).parents[1] / "cli"))

from untrained import SETTINGS, write_data, write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_data(folder)
    return folder


def test_there_is_a_model_of_every_task():
    assert set(SETTINGS) == set(catalogue.names())


@pytest.mark.parametrize("task", SETTINGS)
def test_copies_have_the_bytes_of_the_file(task, folder, monkeypatch):
    quick = {"members": "1", "augment": "none"}  # nothing is chosen by trials
    monkeypatch.setitem(SETTINGS, "sequences", {**SETTINGS["sequences"], **quick})
    path = write_model(task, folder)
    model = memorycell.load(path)
    assert model.task == task
    model.save(folder / "again.safetensors")
    assert (folder / "again.safetensors").read_bytes() == path.read_bytes()
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model)):
        assert type(other) is type(model)
        assert other.to_bytes() == path.read_bytes()
        assert (other.settings, other.notes) == (model.settings, model.notes)
    deep = copy.deepcopy(model)
    with_weights = [own for own in deep.model.parameters() if own.numel()]
    with_weights[0].data.add_(1)  # is not shared
    assert model.to_bytes() == path.read_bytes()
    assert deep.to_bytes() != path.read_bytes()
