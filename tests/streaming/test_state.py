"""State: saved and loaded exactly, and only for the weights it belongs to."""

import copy
import dataclasses
import json
import os
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from memorycell import LSTM, State
from memorycell.errors import StateError, UserError
from memorycell.files import write_atomically
from memorycell.state import fingerprint, typed_extra


def state(batch: int = 3) -> State:
    return State(h=torch.randn(2, batch, 4), c=torch.randn(2, batch, 4))


def test_unpacks_like_a_tuple():
    s = state()
    h, c = s
    assert h is s.h
    assert c is s.c
    assert isinstance(s, tuple)
    assert s.batch_size == 3
    with pytest.raises(AttributeError, match="it has h, c"):
        _ = s.window
    torch.testing.assert_close(copy.deepcopy(s).asdict(), s.asdict())


def test_a_fork_is_independent():
    s = state()
    before = s.h.clone()
    s.fork().h.zero_()
    assert torch.equal(s.h, before)


@given(rows=st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_stack_inverts_select(rows):
    s = state(5)
    chosen = s.select(rows)
    assert chosen.batch_size == len(rows)
    again = State.stack([s.select([row]) for row in rows])
    assert all(torch.equal(a, b) for a, b in zip(chosen, again, strict=True))


def test_batch_sizes_must_agree():
    with pytest.raises(ValueError, match="one batch size"):
        State(h=torch.zeros(1, 2, 3), c=torch.zeros(1, 3, 3))
    with pytest.raises(ValueError, match="same names"):
        State.stack([state(), State(h=torch.zeros(1, 1, 1))])


def test_saved_and_loaded_exactly(tmp_path):
    layer, s = LSTM(3, 4, 2), state()
    s.save(tmp_path / "s.bin", fingerprint=fingerprint(layer), extra={"clock": 7})
    loaded, extra = State.load(tmp_path / "s.bin", fingerprint=fingerprint(layer))
    assert extra == {"clock": 7}
    assert list(loaded.asdict()) == ["h", "c"]
    assert all(torch.equal(a, b) for a, b in zip(loaded, s, strict=True))


def test_refused_for_other_weights(tmp_path):
    layer = LSTM(3, 4)
    state().save(tmp_path / "s.bin", fingerprint=fingerprint(layer))
    with torch.no_grad():
        layer.bias_ih_l0[0] += 1e-7
    with pytest.raises(StateError, match="other weights"):
        State.load(tmp_path / "s.bin", fingerprint=fingerprint(layer))


@given(cut=st.integers(0, 400))
def test_truncated_files_are_refused(cut, tmp_path_factory):
    path = tmp_path_factory.mktemp("state") / "s.bin"
    whole = state().to_bytes()
    path.write_bytes(whole[: min(cut, len(whole) - 1)])
    with pytest.raises(StateError, match="damaged"):
        State.load(path)


def test_from_bytes():
    layer, s = LSTM(3, 4, 2), state()
    data = s.to_bytes(fingerprint=fingerprint(layer), extra={"clock": 7})
    loaded, extra = State.from_bytes(data, fingerprint=fingerprint(layer))
    assert extra == {"clock": 7}
    assert list(loaded.asdict()) == ["h", "c"]
    assert all(torch.equal(a, b) for a, b in zip(loaded, s, strict=True))
    with pytest.raises(StateError, match="^this state belongs to other weights"):
        State.from_bytes(data, fingerprint="0" * 16)
    with pytest.raises(StateError, match="^damaged"):
        State.from_bytes(data[:-1])


STORED = (
    b"\x18\x01\x00\x00\x00\x00\x00\x00"
    b'{"__metadata__":{"memorycell":"{\\"format\\": \\"memorycell-state-1\\", \\"names\\": '
    b'[\\"h\\", \\"c\\"], \\"fingerprint\\": \\"ffffffffffffffff\\", \\"extra\\": {\\"clock\\": '
    b'7}}"},'
    b'"c":{"dtype":"F32","shape":[1,1,2],"data_offsets":[0,8]},'
    b'"h":{"dtype":"F32","shape":[1,1,2],"data_offsets":[8,16]}}  '
    b"\x00\x00@@\x00\x00\x80\xc0\x00\x00\x80?\x00\x00\x00@"
)


def test_a_state_of_format_1_loads(tmp_path):
    (tmp_path / "s").write_bytes(STORED)
    for loaded, extra in (State.from_bytes(STORED), State.load(tmp_path / "s")):
        assert extra == {"clock": 7}
        assert loaded.h.tolist() == [[[1.0, 2.0]]]
        assert loaded.c.tolist() == [[[3.0, -4.0]]]


def changed(**note) -> bytes:
    """The stored state of format 1 with another note."""
    whole = {"format": "memorycell-state-1", "names": ["h", "c"], "fingerprint": "", "extra": {}}
    values = {k: v for k, v in {**whole, **note}.items() if v is not None}
    tensors = {"h": torch.ones(1, 1, 2), "c": torch.ones(1, 1, 2)}
    return safetensors.torch.save(tensors, {"memorycell": json.dumps(values)})


@pytest.mark.parametrize(
    "note",
    [
        {"format": "memorycell-state-3"},
        {"format": "memorycell-state-2"},  # without its checksum
        {"format": None},
        {"checksum": "0" * 64},  # format 1 has none
        {"names": ["h"]},
        {"names": ["h", "c", "c"]},
        {"names": ["h", "x"]},
        {"names": "hc"},
        {"names": []},
        {"names": [1, 2]},
        {"names": None},
        {"fingerprint": 7},
        {"extra": []},
        {"extra": "x"},
        {"extra": None},
        {"more": 1},
    ],
)
def test_notes_are_checked(note):
    State.from_bytes(changed())
    with pytest.raises(StateError) as error:
        State.from_bytes(changed(**note))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.tensor([[[1.0, float("nan")]]]), "'c' has NaN or infinity"),
        (torch.tensor([[[1.0, float("-inf")]]]), "'c' has NaN or infinity"),
        (torch.ones(1, 1, 2, dtype=torch.int32), "torch.int32"),
        (torch.ones(1, 1, 2, dtype=torch.bool), "torch.bool"),
        (torch.ones(1, 2, 2), "one batch size"),
        (torch.ones(2), "one batch size"),
        (torch.tensor(1.0), "one batch size"),
    ],
)
def test_tensors_are_checked(tensor, words):
    note = {"format": "memorycell-state-1", "names": ["h", "c"], "fingerprint": "", "extra": {}}
    data = safetensors.torch.save(
        {"h": torch.ones(1, 1, 2), "c": tensor}, {"memorycell": json.dumps(note)}
    )
    with pytest.raises(StateError, match=words):
        State.from_bytes(data)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_states_of_other_float_types(dtype):
    s = State(h=torch.randn(2, 3, 4).to(dtype))
    (h,), _ = State.from_bytes(s.to_bytes())
    assert h.dtype == dtype
    assert torch.equal(h, s.h)


@pytest.mark.parametrize("extra", [{"x": float("nan")}, {"x": [1e999]}, {"x": "\ud800"}])
def test_values_that_could_not_be_loaded_are_not_saved(tmp_path, extra):
    with pytest.raises(StateError, match="extra values cannot be stored"):
        state().save(tmp_path / "s", extra=extra)
    assert list(tmp_path.iterdir()) == []


def test_text_like_a_checksum_may_be_stored():
    for extra in ({"0" * 64: "0" * 64}, {"a": "f" * 64, "checksum": 1}):
        data = state().to_bytes(fingerprint="0" * 64, extra=extra)
        assert State.from_bytes(data)[1] == extra
        assert state().to_bytes() != data


@dataclasses.dataclass(frozen=True)
class Saved:
    clock: Annotated[int, msgspec.Meta(ge=0)]
    words: list[str]


def test_typed_extra():
    data = state().to_bytes(extra={"clock": 7, "words": ["a"]})
    assert typed_extra(Saved, State.from_bytes(data)[1], "reader") == Saved(7, ["a"])
    for wrong in ({"clock": -1}, {"clock": "7"}, {"clock": True}, {"words": None}, {"more": 1}):
        values = {"clock": 7, "words": ["a"], **wrong}
        with pytest.raises(StateError, match="^not the state of a reader"):
            typed_extra(Saved, values, "reader")
    with pytest.raises(StateError, match="^not the state of a reader"):
        typed_extra(Saved, {}, "reader")


def test_other_files_are_refused(tmp_path):
    safetensors.torch.save_file({"h": torch.zeros(1, 1, 1)}, tmp_path / "other.bin")
    with pytest.raises(StateError, match="not a state"):
        State.load(tmp_path / "other.bin")
    with pytest.raises(StateError, match="no such file"):
        State.load(tmp_path / "none.bin")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch, call):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def disk_full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, disk_full)
    with pytest.raises(UserError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
