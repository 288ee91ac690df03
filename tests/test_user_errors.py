"""A `UserError` is a ValueError, and none is swallowed where ValueErrors of others are described;
unknown fields are refused at every level.
"""

import json
import zipfile
from dataclasses import dataclass, field

import numpy as np
import pytest

import memorycell
from memorycell import errors
from memorycell.applications.chat.dialogues import read_dialogues
from memorycell.applications.music.reading import _read_json
from memorycell.setting_fields import from_json, parse_settings


def test_every_error_of_ours_is_a_value_error():
    kinds = (errors.UserError, errors.DataError, errors.ModelFileError, errors.StateError)
    assert all(issubclass(kind, ValueError) for kind in kinds)
    assert memorycell.UserError is errors.UserError


def test_a_text_in_another_encoding_is_not_called_yaml(tmp_path):
    path = tmp_path / "chat.yml"
    path.write_bytes("conversations:\n- - Grüße\n  - Grüße\n".encode("latin-1"))
    with pytest.raises(errors.DataError, match="is not utf-8") as raised:
        read_dialogues(path, str(path))
    assert "not a chatterbot YAML" not in str(raised.value)


def test_an_empty_file_is_not_called_json(tmp_path):
    path = tmp_path / "pieces.json"
    path.write_text("")
    with pytest.raises(errors.DataError, match="contains no text") as raised:
        _read_json(path)
    assert "is not JSON" not in str(raised.value)


def test_an_unsupported_layer_is_not_called_damaged(tmp_path):
    h5py = pytest.importorskip("h5py")
    layer = {
        "class_name": "LSTM",
        "config": {"name": "l", "units": 2, "activation": "selu", "recurrent_activation": "tanh"},
    }
    path = tmp_path / "m.keras"
    weights = tmp_path / "w.h5"
    with h5py.File(weights, "w") as file:
        variables = file.create_group("layers/l/cell/vars")
        file["layers/l"].create_group("vars").attrs["name"] = "l"
        variables["0"] = np.zeros((3, 8), np.float32)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": [layer]}}))
        archive.write(weights, "model.weights.h5")
    with pytest.raises(errors.UserError, match="activation") as raised:
        memorycell.from_keras(path)
    assert "wrong shape" not in str(raised.value)


def test_a_missing_package_is_not_called_a_damaged_model(tmp_path, monkeypatch):
    from memorycell.application import catalogue, modelfile
    from memorycell.files import tensors_to_bytes

    def missing(name):
        raise errors.UserError(f"{name} needs symusic: pip install 'memorycell[music]'")

    note = {"format": "memorycell-model", "version": 1, "info": {"task": "music"}}
    data = tensors_to_bytes({}, {**note, "codec": {}, "config": {}})
    monkeypatch.setattr(catalogue, "load", missing)
    with pytest.raises(errors.UserError, match="needs symusic"):
        modelfile.from_bytes(data)


def test_a_setting_that_raises_one_keeps_its_text():
    @dataclass
    class Settings:
        size: int = 1

        def __post_init__(self) -> None:
            if self.size > 1:
                raise errors.UserError("its own text")

    with pytest.raises(errors.UserError, match="^its own text$"):
        parse_settings([Settings()], {"size": "2"})


@dataclass
class Inner:
    a: int = 1


@dataclass
class Outer:
    one: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    many: tuple[Inner, ...] = ()
    row: tuple[int, Inner] | None = None
    named: dict[str, Inner] | None = None
    deep: list[dict[str, list[Inner]]] | None = None


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"b": 1}, "b"),
        ({"one": {"b": 1}}, "one.b"),
        ({"maybe": {"b": 1}}, "maybe.b"),
        ({"many": [{}, {"b": 1}]}, "many.b"),
        ({"row": [1, {"b": 1}]}, "row.b"),
        ({"named": {"x": {"b": 1}}}, "named.x.b"),
        ({"deep": [{"k": [{"b": 1}]}]}, "deep.k.b"),
    ],
)
def test_unknown_fields_are_refused_at_every_level(values, place):
    with pytest.raises(ValueError, match=f"unknown field '{place}'"):
        from_json(Outer, values)


def test_known_fields_are_read_at_every_level():
    values = {
        "one": {"a": 2},
        "row": [1, {"a": 3}],
        "named": {"x": {}},
        "deep": [{"k": [{"a": 4}]}],
    }
    expected = Outer(Inner(2), None, (), (1, Inner(3)), {"x": Inner()}, [{"k": [Inner(4)]}])
    assert from_json(Outer, values) == expected


@pytest.mark.parametrize(
    ("count", "units", "text"),
    [
        (0, "rows", "0 rows"),
        (1, "rows", "1 row"),
        (2, "rows", "2 rows"),
        (1234, "rows", "1,234 rows"),
        (1, "classes", "1 class"),
        (1, "entries", "1 entry"),
        (1, "series", "1 series"),
        (1, "sounding keys", "1 sounding key"),
        (1, "dialogues", "1 dialogue"),
        (1, "pieces", "1 piece"),
    ],
)
def test_counts_in_messages(count, units, text):
    assert errors.counted(count, units) == text
