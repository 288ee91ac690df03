"""Pool: every session is bitwise equal to its own stream, in memory or on disk; a crash loses no
written session.
"""

import gc
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import memorycell
from memorycell.applications.forecast.model import Forecaster, ForecasterConfig
from memorycell.errors import StateError
from memorycell.ops import binding
from memorycell.streaming.pool import Pool
from memorycell.streaming.stream import Stream

PRECISIONS = ["float32", "bfloat16", "int8"] if binding.engine is not None else ["float32"]
exact = pytest.mark.skipif(
    binding.engine is None, reason="bitwise equality needs the native engine"
)


def layer(hidden: int = 9, **options) -> memorycell.LSTM:
    torch.manual_seed(0)
    return memorycell.LSTM(5, hidden, batch_first=True, **options)


def model() -> Forecaster:
    torch.manual_seed(0)
    made = Forecaster(
        ForecasterConfig(input_size=5, hidden_size=9, horizon=3, window=4, num_layers=2)
    )
    for parameter in made.head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 5)).astype(np.float32)


@exact
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("make", [layer, model, lambda: memorycell.GRU(5, 7, 2, batch_first=True)])
def test_any_subset_is_bitwise_equal_to_streams(make, precision):
    module = make()
    pool = Pool(module, 1, precision)
    slots = np.array(
        [pool.open() for _ in range(150)]
    )  # grows eight times; more than one chunk of the engine
    alone = [Stream(module, precision) for _ in slots]
    rng = np.random.default_rng(0)
    for count in (1, 2, 7, 150, 97, 150, 6):
        chosen = rng.permutation(150)[:count]
        x = rows(count, count)
        y = pool.step(slots[chosen], x)
        for k, row, mine in zip(chosen, x, y, strict=True):
            assert np.array_equal(alone[k].step(row), mine)
    for k in (0, 17, 149):
        for mine, theirs in zip(pool.state([slots[k]]), alone[k].state, strict=True):
            assert torch.equal(mine, theirs)


def test_sessions_open_close_and_fork():
    pool = Pool(layer(), 2)
    a, b = pool.open(), pool.open()
    pool.step([a, b], rows(2))
    c = pool.fork(a)
    assert len(pool) == 3
    assert all(torch.equal(x, y) for x, y in zip(pool.state([a]), pool.state([c]), strict=True))
    pool.close(a)
    assert a not in pool
    assert sorted(pool.slots) == sorted([b, c])
    again = pool.open()
    assert again == a  # a slot is reused, with a zero state
    assert not any(part.any() for part in pool.state([again]))
    pool.set_state([again], pool.state([b]))
    x = rows(1)
    assert np.array_equal(pool.step([again], x), pool.step([b], x))
    assert isinstance(pool.step([b], torch.randn(1, 5)), torch.Tensor)


def test_the_block_doubles_and_memory_is_as_documented():
    pool = Pool(layer(), 64)
    assert pool.nbytes == 64 * (4 * pool.width + 24)
    for _ in range(65):
        pool.open()
    assert pool.nbytes == 128 * (4 * pool.width + 24)


def test_open_many(tmp_path):
    pool = Pool(layer(), 2, spill=tmp_path, resident=3)
    first = pool.open_many(8)
    for slot in first[2:5]:
        pool.close(slot)
    later = pool.open_many(5)
    assert sorted([*first[[0, 1, 5, 6, 7]], *later]) == list(range(10))
    assert not any(part.any() for part in pool.state(pool.slots))
    assert pool.open_many(0).tolist() == []


def test_errors_name_the_slot_and_change_nothing():
    pool = Pool(layer(), 4)
    a, b = pool.open(), pool.open()
    pool.close(b)
    before = pool.state([a])
    for slots, words in (
        ([a, b], f"slots: {b} is not open"),
        ([a, -1], "-1 is not open"),
        ([a, 99], "99 is not open"),
    ):
        with pytest.raises(ValueError, match=words):
            pool.step(slots, rows(2))
    with pytest.raises(ValueError, match="expected each slot at most once"):
        pool.step([a, a], rows(2))
    with pytest.raises(ValueError, match=r"x: expected \[1, 5\], got \[1, 4\]"):
        pool.step([a], rows(1)[:, :4])
    with pytest.raises(ValueError, match="is not open"):
        pool.close(b)
    with pytest.raises(StateError, match="expected h="):
        pool.set_state([a], layer(4).initial_state())
    with pytest.raises(ValueError, match="no folder"):
        pool.spill([a])
    with pytest.raises(ValueError, match="resident"):
        Pool(layer(), 4, resident=2)
    with pytest.raises(ValueError, match="needs the future"):
        Pool(layer(bidirectional=True))
    assert all(torch.equal(x, y) for x, y in zip(before, pool.state([a]), strict=True))


def test_save_and_load_one_or_all(tmp_path):
    module = layer()
    pool = Pool(module, 4)
    slots = [pool.open() for _ in range(5)]
    pool.step(slots, rows(5))
    pool.save(tmp_path / "all")
    pool.save(tmp_path / "one", [slots[3]])
    other = Pool(module, 1)
    loaded = other.load(tmp_path / "all") + other.load(tmp_path / "one")
    expected = pool.state([*slots, slots[3]])
    assert all(torch.equal(x, y) for x, y in zip(expected, other.state(loaded), strict=True))
    with pytest.raises(StateError, match="other weights or another precision"):
        Pool(layer(10)).load(tmp_path / "all")
    if binding.engine is not None:
        with pytest.raises(StateError, match="another precision"):
            Pool(module, precision="int8").load(tmp_path / "all")
    (tmp_path / "all").write_bytes((tmp_path / "all").read_bytes()[:-9])
    with pytest.raises(StateError, match="damaged"):
        other.load(tmp_path / "all")
    assert len(other) == 6


# ---- spilled to disk -----------------------------------------------------------------------------


def test_ten_thousand_sessions_are_restored_exactly(tmp_path):
    """Opened, stepped 100 times in random subsets, spilled and restored, with the documented use of
    memory.
    """
    module = layer(16)
    rng = np.random.default_rng(0)
    tracemalloc.start()
    pool = Pool(module, 64, spill=tmp_path)
    slots = pool.open_many(10_000)
    for _ in range(100):
        chosen = rng.permutation(slots)[:300]
        pool.step(chosen, rng.normal(size=(300, 5)).astype(np.float32))
    room = 10_000
    expected_bytes = room * (4 * pool.width + 24 + 16)
    assert pool.nbytes == expected_bytes
    assert tracemalloc.get_traced_memory()[1] < 1.2 * expected_bytes
    states = pool.state(slots)
    tracemalloc.reset_peak()
    base = tracemalloc.get_traced_memory()[0]
    pool.spill(slots)
    assert tracemalloc.get_traced_memory()[1] - base < 12e6
    tracemalloc.stop()
    assert all(torch.equal(a, b) for a, b in zip(states, pool.state(slots), strict=True))
    pool.step(slots[:50], rows(50))  # some are read back, and spilled again
    before = pool.state(slots)
    pool.shutdown()
    again = Pool(module, 64, spill=tmp_path)
    assert np.array_equal(again.slots, slots)
    assert all(torch.equal(a, b) for a, b in zip(before, again.state(slots), strict=True))


@exact
def test_idle_sessions_are_spilled_automatically(tmp_path):
    module = model()
    pool, alone = (
        Pool(module, 2, spill=tmp_path, resident=7),
        [Stream(module, history=0) for _ in range(30)],
    )
    slots = [pool.open() for _ in range(30)]
    rng = np.random.default_rng(0)
    for k in range(60):
        chosen = rng.permutation(30)[: rng.integers(1, 8)]
        x = rows(len(chosen), k)
        for c, row, y in zip(chosen, x, pool.step(np.array(slots)[chosen], x), strict=True):
            assert np.array_equal(alone[c].step(row), y)
        if k == 30:  # fork and close sessions that may be spilled
            slots[3], old = pool.fork(slots[3]), slots[3]
            pool.close(old)
    assert len(pool) == 30
    assert pool.nbytes < 7 * 4 * pool.width + 100 * 40
    with pytest.raises(ValueError, match="at most 7 are kept in memory"):
        pool.step(slots[:8], rows(8))


@settings(max_examples=25, deadline=None)
@given(actions=st.lists(st.tuples(st.sampled_from("oosfcdr"), st.integers(0, 8)), max_size=40))
def test_a_folder_restores_what_was_written(tmp_path_factory, actions):
    """o open, s step, f fork, c close, d spill (and record), r continue in a new pool as after a
    crash.
    """
    folder = tmp_path_factory.mktemp("spill")
    module = layer(3)
    pool = Pool(module, 1, spill=folder)
    written: dict[int, tuple] = {}
    closed: set[int] = set()

    def states() -> dict[int, tuple]:
        return {
            s: tuple(part.numpy().tobytes() for part in pool.state([s]))
            for s in pool.slots.tolist()
        }

    for number, (action, pick) in enumerate(actions):
        slots = pool.slots.tolist()
        slot = slots[pick % len(slots)] if slots else None
        if action == "o":
            pool.open()
        elif slot is not None and action == "s":
            pool.step([slot], rows(1, number))
        elif slot is not None and action == "f":
            pool.fork(slot)
        elif slot is not None and action == "c":
            pool.close(slot)
            closed.add(slot)
        elif action == "d":
            pool.spill(slots)  # everything, including the sessions closed since
            written, closed = states(), set()
        elif action == "r":
            pool._folder.release()  # as the system does when the process ends
            pool = Pool(module, 1, spill=folder)
            # Sessions closed after the last file was written may be open again, in their old state.
            found = states()
            assert (
                {k: v for k, v in written.items() if k not in closed}.items()
                <= found.items()
                <= written.items()
            )
            written, closed = found, set()


KILLED = """
import sys, numpy as np, memorycell, torch
from memorycell.streaming.pool import Pool
torch.manual_seed(0)
pool = Pool(memorycell.LSTM(5, 64, batch_first=True), 16, spill=sys.argv[1])
slots = np.array([pool.open() for _ in range(2000)])
rng = np.random.default_rng(0)
for number in range(10_000):
    chosen = rng.permutation(slots)[:400]
    pool.step(chosen, rng.normal(size=(400, 5)).astype(np.float32))
    np.save(f"{sys.argv[2]}/states-{number}.npy", pool.stepper.layout.rows(pool.state(chosen)))
    np.save(f"{sys.argv[2]}/slots-{number}.npy", chosen)
    print("writing", number, flush=True)
    pool.spill(chosen)
    print("written", number, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_no_written_session_is_lost_when_killed_during_a_spill(tmp_path):
    for wait in (0.0, 0.002, 0.01):
        folder, records = tmp_path / f"f{wait}", tmp_path / f"n{wait}"
        records.mkdir()
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, folder, records], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        done = -1
        for line in process.stdout:
            word, number = line.split()
            if word == "written":
                done = int(number)
            elif done >= 4:
                break
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        rest, _ = process.communicate()
        done = max(
            [
                done,
                *(
                    int(line.split()[1])
                    for line in rest.splitlines()
                    if line.startswith("written ")
                ),
            ]
        )
        expected: dict[int, bytes] = {}
        for number in range(done + 1):
            expected |= written_in(records, number)
        begun = written_in(records, done + 1)  # complete on disk or absent
        torch.manual_seed(0)
        pool = Pool(memorycell.LSTM(5, 64, batch_first=True), 16, spill=folder)
        slots = pool.slots
        found = dict(
            zip(
                slots.tolist(),
                (row.tobytes() for row in pool.stepper.layout.rows(pool.state(slots))),
                strict=True,
            )
        )
        assert found in (expected, expected | begun)
        pool.shutdown()


def written_in(records: Path, number: int) -> dict[int, bytes]:
    """What a round of the program above wrote; nothing if it did not reach it."""
    try:
        slots, states = (
            np.load(records / f"slots-{number}.npy"),
            np.load(records / f"states-{number}.npy"),
        )
    except (OSError, ValueError, EOFError):
        return {}
    return dict(zip(slots.tolist(), (row.tobytes() for row in states), strict=True))


def test_a_damaged_file_is_reported_and_the_pool_is_unchanged(tmp_path):
    module = layer()
    pool = Pool(module, 4, spill=tmp_path)
    slots = [pool.open() for _ in range(4)]
    pool.step(slots, rows(4))
    pool.spill(slots[:3])
    (path,) = tmp_path.glob("spill-*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + b"abc")
    kept = pool.state([slots[3]])
    with pytest.raises(
        StateError, match=r"spill-000001.safetensors: the state of session \d is damaged; close it"
    ):
        pool.step(slots, rows(4))
    path.write_bytes(whole[:-40])
    with pytest.raises(StateError, match="damaged"):
        pool.step(slots, rows(4))
    assert all(torch.equal(a, b) for a, b in zip(kept, pool.state([slots[3]]), strict=True))
    with pytest.raises(StateError, match="another pool uses this folder"):
        Pool(module, 4, spill=tmp_path)
    pool._folder.release()
    with pytest.raises(StateError, match="damaged, or not sessions of this model"):
        Pool(module, 4, spill=tmp_path)
    path.write_bytes(whole)
    with pytest.raises(StateError, match="not sessions of this model"):
        Pool(layer(10), 4, spill=tmp_path)
    torch.manual_seed(1)
    with pytest.raises(StateError, match="other weights or another precision"):
        Pool(memorycell.LSTM(5, 9, batch_first=True), 4, spill=tmp_path)
    assert len(Pool(module, 4, spill=tmp_path)) == 3


def test_a_pool_as_a_context_manager(tmp_path):
    module = layer()
    with Pool(module, 4, spill=tmp_path) as pool:
        slots = [pool.open() for _ in range(3)]
        pool.step(slots, rows(3))
        states = pool.state(slots)
    with Pool(module, 4, spill=tmp_path) as again:
        assert all(torch.equal(a, b) for a, b in zip(states, again.state(slots), strict=True))
        again.step(slots, rows(3))
    with pytest.raises(ValueError, match="9 is not open"), Pool(module, 4, spill=tmp_path) as pool:
        pool.step([pool.open(), 9], rows(2))
    assert len(Pool(module, 4, spill=tmp_path)) == 4
    with Pool(module, 4) as pool:
        pool.open()


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_an_unusable_folder_is_reported(tmp_path):
    (tmp_path / "lock").mkdir()  # the lock file cannot be opened
    with pytest.raises(StateError, match="cannot be used to spill to"):
        Pool(layer(), 4, spill=tmp_path)
    gc.collect()
    (tmp_path / "lock").rmdir()
    (tmp_path / "spill-x.safetensors").touch()
    with pytest.raises(StateError, match="spill-x.safetensors: not a name of a spill file"):
        Pool(layer(), 4, spill=tmp_path)
    (tmp_path / "spill-x.safetensors").unlink()
    assert len(Pool(layer(), 4, spill=tmp_path)) == 0


def test_outdated_files_are_deleted(tmp_path):
    pool = Pool(layer(), 4, spill=tmp_path)
    slots = [pool.open() for _ in range(20)]
    for number in range(40):
        pool.step(slots[: 3 + number % 5], rows(3 + number % 5))
        pool.spill(slots[: 3 + number % 5])
    assert len(list(tmp_path.glob("spill-*"))) < 8
    for slot in slots:
        pool.close(slot)
    pool.spill([])
    assert len(list(tmp_path.glob("spill-*"))) == 1
    pool.shutdown()
    assert len(Pool(layer(), 4, spill=tmp_path)) == 0
