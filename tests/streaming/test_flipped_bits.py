"""Damaged files: a flipped bit anywhere in a saved state or a spill file is refused or harmless."""

import json
import random
import tracemalloc
import zlib

import numpy as np
import pytest
import safetensors.numpy
import torch

import memorycell
from memorycell.errors import StateError
from memorycell.state import State, fingerprint
from memorycell.streaming.pool import Pool
from memorycell.streaming.spill import SpillFolder
from memorycell.streaming.spill_file import encode, read_index

MAX_BYTES = 4 << 20
"""That reading a damaged file may allocate."""


def flips(data: bytes, count: int, seed: int = 0):
    """Copies of data with one bit changed, seeded; all of them if `count` is that large."""
    bits = range(8 * len(data))
    for bit in bits if count >= len(bits) else random.Random(seed).sample(bits, count):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(changed)


def test_every_flipped_bit_of_a_saved_state_is_refused():
    state = State(h=torch.randn(1, 2, 3), c=torch.randn(1, 2, 3))
    data = state.to_bytes(fingerprint="a" * 16, extra={"clock": 7, "names": ["x"]})
    State.from_bytes(data)
    tracemalloc.start()
    for _, changed in flips(data, 8 * len(data)):
        with pytest.raises(StateError):
            State.from_bytes(changed)
    assert tracemalloc.get_traced_memory()[1] < MAX_BYTES
    tracemalloc.stop()


def small_layer() -> memorycell.LSTM:
    torch.manual_seed(0)
    return memorycell.LSTM(5, 3, batch_first=True)


def state_of(pool: Pool, slot: int) -> bytes:
    return pool.stepper.layout.rows(pool.state([slot])).tobytes()


def states_of(pool: Pool) -> dict[int, bytes]:
    return {slot: state_of(pool, slot) for slot in pool.slots.tolist()}


@pytest.mark.parametrize("which", [1, 2])
def test_flipped_bits_of_spill_files_never_change_a_session(tmp_path, which):
    """Of the only file with sessions, and of a file that lists one closed since."""
    module = small_layer()
    with Pool(module, spill=tmp_path) as pool:
        slots = pool.open_many(6)
        pool.step(slots, np.random.default_rng(0).normal(size=(6, 5)))
        pool.spill(slots)
        pool.close(4)
        pool.step([1], np.ones((1, 5)))
    expected = states_of(Pool(module, spill=tmp_path))
    assert sorted(expected) == [0, 1, 2, 3, 5]
    path = tmp_path / f"spill-{which:06}.safetensors"
    whole = path.read_bytes()
    refused = 0
    for bit, changed in flips(whole, 700):
        path.write_bytes(changed)
        tracemalloc.start()
        try:
            pool = Pool(module, spill=tmp_path)
            assert sorted(pool.slots.tolist()) == sorted(expected), bit
            for slot, state in expected.items():
                try:
                    assert state_of(pool, slot) == state, bit
                except StateError:
                    refused += 1
            pool._folder.release()
        except StateError:
            refused += 1
        assert tracemalloc.get_traced_memory()[1] < MAX_BYTES, bit
        tracemalloc.stop()
        path.write_bytes(whole)
    assert refused > 600


def test_flipped_bits_under_an_open_pool_never_change_a_session(tmp_path):
    pool = Pool(small_layer(), spill=tmp_path)
    slots = pool.open_many(6)
    pool.step(slots, np.random.default_rng(0).normal(size=(6, 5)))
    pool.spill(slots)
    expected = states_of(pool)
    path = tmp_path / "spill-000001.safetensors"
    refused = 0
    for bit, changed in flips(path.read_bytes(), 500):
        path.write_bytes(changed)
        for slot, state in expected.items():
            try:
                assert state_of(pool, slot) == state, bit
            except StateError:
                refused += 1
    assert refused > 250


# ---- files that no memorycell wrote --------------------------------------------------------------


def forged(closed: list, slots: list[int], width: int = 6) -> bytes:
    """A file with the right checksums."""
    states = np.zeros((len(slots), width), np.float32)
    return encode(1, fingerprint(small_layer()), closed, np.array(slots, np.int64), states)


def old_file(slots: list[int], states: np.ndarray, closed: list) -> bytes:
    """A file of format 1, whose checksums leave out the slots."""
    note = {
        "format": "memorycell-spill-1",
        "fingerprint": fingerprint(small_layer()),
        "closed": closed,
    }
    checks = np.array([zlib.crc32(row.tobytes()) for row in states], np.uint32)
    return safetensors.numpy.save(
        {"slots": np.array(slots, np.int64), "states": states, "checks": checks},
        {"memorycell": json.dumps(note)},
    )


ABSURD_SLOTS = [[3, 3], [-1], [1 << 24], [1 << 31], [1 << 40], [(1 << 63) - 1]]
ABSURD_CLOSED = [[1 << 24], [-1], [1 << 70], [True], [2.5], ["7"], [None], 7]


@pytest.mark.parametrize(
    "data",
    [
        *(old_file(s, np.zeros((len(s), 6), np.float32), []) for s in ABSURD_SLOTS),
        *(old_file([0], np.zeros((1, 6), np.float32), c) for c in ABSURD_CLOSED),
        *(forged([], s) for s in ABSURD_SLOTS if 0 <= s[0] < 1 << 32),
        *(forged(c, [0]) for c in ABSURD_CLOSED),
    ],
)
def test_repeated_and_absurd_slots_are_refused(tmp_path, data):
    (tmp_path / "spill-000001.safetensors").write_bytes(data)
    module = small_layer()
    tracemalloc.start()
    with pytest.raises(StateError, match=r"spill-000001\.safetensors: damaged"):
        Pool(module, spill=tmp_path)
    assert tracemalloc.get_traced_memory()[1] < MAX_BYTES
    tracemalloc.stop()


def test_folders_of_format_1_are_read_and_replaced(tmp_path):
    module = small_layer()
    rows = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    old = old_file([7, 0, 2], rows, [])
    (tmp_path / "spill-000001.safetensors").write_bytes(old)
    (tmp_path / "spill-000002.safetensors").write_bytes(old_file([2], -rows[2:], [0]))
    with Pool(module, spill=tmp_path) as pool:
        assert pool.slots.tolist() == [2, 7]
        assert states_of(pool) == {2: (-rows[2]).tobytes(), 7: rows[0].tobytes()}
        pool.step([2, 7], np.ones((2, 5)))
        stepped = states_of(pool)
    assert states_of(Pool(module, spill=tmp_path)) == stepped
    (last,) = tmp_path.glob("spill-*.safetensors")
    note, slots = read_index(last, 3, 6)
    assert (note.format, sorted(slots.tolist())) == ("memorycell-spill-2", [2, 7])


def test_a_renamed_file_and_a_later_format_are_refused(tmp_path):
    data = forged([], [0, 1])
    for name, content in (
        ("spill-000002.safetensors", data),
        ("spill-000001.safetensors", data.replace(b"spill-2", b"spill-3")),
        ("spill-000001.safetensors", forged([], [0, 1], width=7)),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(StateError, match=f"{name}: damaged, or not sessions of this model"):
            Pool(small_layer(), spill=tmp_path)
        path.unlink()


def test_a_folder_takes_only_what_it_can_give_back(tmp_path):
    folder = SpillFolder(tmp_path, "f" * 16, 6)
    good = np.zeros((2, 6), np.float32)
    for slots, states, words in (
        ([0, 0], good, "slots"),
        ([0, -1], good, "slots"),
        ([0, 1 << 24], good, "slots"),
        ([0, 1.0], good, "slots"),
        ([0, True], good, "slots"),
        ([0, 1], good[:, :5], r"states: expected float32 \[2, 6\], got float32 \[2, 5\]"),
        ([0, 1], good[:1], "states"),
        ([0, 1], good.astype(float), "states: .*, got float64"),
    ):
        with pytest.raises(ValueError, match=words):
            folder.write(slots, states)
    assert list(tmp_path.glob("spill-*")) == []
    folder.write([1, 0], good)
    assert folder.slots.tolist() == [0, 1]
    with pytest.raises(ValueError, match="slots: 2 is not in the folder"):
        folder.read(np.array([2]))
