"""Arguments of streams and pools: what is not an input or a session is one ValueError, and changes
nothing.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch

import memorycell
from memorycell.streaming.pool import Pool
from memorycell.streaming.stream import Stream


def layer() -> memorycell.LSTM:
    torch.manual_seed(0)
    return memorycell.LSTM(5, 9, batch_first=True)


INPUTS = [
    np.array(["1", "2", "3", "4", "5"]),
    np.array([1, 2, 3, 4, None], object),
    np.arange(5) * 1j,
    np.array(["2024-01-01"] * 5, "datetime64[D]"),
    ["1", "2", "3", "4", "5"],
    [1, 2, 3, 4, [5]],
    [1, 2, 3, 4, Fraction(1, 2)],
    [1, 2, 3, 4, None],
    {"x": 1},
    None,
    "12345",
    b"12345",
    torch.arange(5) * 1j,
]


@pytest.mark.parametrize("x", INPUTS, ids=repr)
def test_inputs_that_are_not_numbers(x):
    stream, pool = Stream(layer()), Pool(layer())
    slot = pool.open()
    with pytest.raises(ValueError, match="^x: expected numbers") as error:
        stream.step(x)
    assert len(str(error.value)) < 300
    with pytest.raises(ValueError, match="^x: expected numbers"):
        pool.step([slot], x if isinstance(x, (dict, str, bytes, type(None))) else [x])
    assert not stream.state.h.any()
    assert not pool.state([slot]).h.any()


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.float16, np.float64, ">f4", ">i2"])
def test_numbers_of_any_type_are_inputs(dtype):
    x = np.array([1, 0, 1, 1, 0]).astype(dtype)
    expected = Stream(layer()).step(np.array([1, 0, 1, 1, 0], np.float32))
    assert np.array_equal(Stream(layer()).step(x), expected)
    pool = Pool(layer())
    assert np.array_equal(pool.step([pool.open()], x[None])[0], expected)


def test_strided_inputs():
    wide = np.arange(10, dtype=np.float32)
    expected = Stream(layer()).step(wide[::2].copy())
    assert np.array_equal(Stream(layer()).step(wide[::2]), expected)
    assert np.array_equal(Stream(layer()).step(torch.from_numpy(wide)[::2]).numpy(), expected)
    tall = np.asfortranarray(np.stack([wide[::2], wide[::2]]))
    assert np.array_equal(Stream(layer()).step(tall)[0], expected)
    pool = Pool(layer())
    assert np.array_equal(pool.step(pool.open_many(2), tall)[1], expected)


@pytest.mark.parametrize("shape", [(5,), (2, 4), (2, 6), (1, 5), (3, 5), (2, 5, 1), (0, 5), ()])
def test_inputs_of_another_shape(shape):
    pool = Pool(layer())
    slots = pool.open_many(2)
    with pytest.raises(ValueError, match=r"x: expected \[2, 5\], got"):
        pool.step(slots, np.zeros(shape))


SLOTS = [
    -1,
    2,
    1 << 40,
    1 << 64,
    1 << 100,
    -(1 << 63),
    True,
    False,
    np.True_,
    0.0,
    1.5,
    np.float32(0),
    float("nan"),
    "0",
    None,
    [0],
    (1, 0),
    np.uint64((1 << 64) - 1),
    np.array([0.0]),
]


@pytest.mark.parametrize("slot", SLOTS, ids=repr)
def test_what_is_not_an_open_session(slot, tmp_path):
    pool = Pool(layer(), spill=tmp_path / "folder")
    slots = pool.open_many(2)
    pool.step(slots, np.ones((2, 5)))
    before = pool.state(slots)
    for act in (
        lambda: pool.step([slot], np.zeros((1, 5), np.float32)),
        lambda: pool.step([0, slot], np.zeros((2, 5), np.float32)),
        lambda: pool.state([slot]),
        lambda: pool.state([0, slot]),
        lambda: pool.set_state([slot], before.select([0])),
        lambda: pool.close(slot),
        lambda: pool.fork(slot),
        lambda: pool.spill([0, slot]),
        lambda: pool.save(tmp_path / "saved", [0, slot]),
    ):
        with pytest.raises(ValueError, match="^slots: ") as error:
            act()
        assert len(str(error.value)) < 300
    assert slot not in pool
    assert len(pool) == 2
    assert all(torch.equal(a, b) for a, b in zip(before, pool.state(slots), strict=True))
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("slots", [np.array([[0], [1]]), 0, np.array([True, False]), "01", {0: 1}])
def test_what_is_not_a_list_of_sessions(slots):
    pool = Pool(layer())
    pool.open_many(2)
    for act in (pool.state, lambda s: pool.step(s, np.zeros((2, 5)))):
        with pytest.raises(ValueError, match="^slots: expected whole numbers"):
            act(slots)


@pytest.mark.parametrize(
    "slots",
    [[2, 0], (2, 0), torch.tensor([2, 0]), np.array([2, 0], np.uint8), np.array([2, 9, 0])[::2]],
)
def test_sessions_in_other_types(slots):
    pool = Pool(layer())
    pool.open_many(3)
    y = pool.step(slots, np.eye(5)[:2])
    assert np.array_equal(y[0], Stream(layer()).step(np.eye(5)[0]))
    assert pool.state(slots).batch_size == 2
    pool.close(np.int16(1))
    assert np.int64(2) in pool
    assert pool.step([], np.zeros((0, 5))).shape == (0, 9)


@pytest.mark.parametrize("count", [-1, 2.0, True, "3", None, 1 << 40, float("inf")])
def test_counts(count):
    pool = Pool(layer())
    for act, name in (
        (lambda: pool.open_many(count), "count"),
        (lambda: Pool(layer(), count), "capacity"),
        (lambda: Stream(layer(), history=count), "history"),
        (lambda: Stream(layer()).rewind(count), "rewind"),
    ):
        with pytest.raises(ValueError, match=f"^{name}: expected a whole number"):
            act()
    assert len(pool) == 0


def test_repeated_sessions_are_not_set():
    pool = Pool(layer())
    slots = pool.open_many(2)
    state = pool.state(slots)
    with pytest.raises(ValueError, match="at most once"):
        pool.set_state([slots[0], slots[0]], state)
