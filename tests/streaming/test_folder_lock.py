"""One pool at a time writes to a folder: not after its shutdown, not from a forked child. What a
killed process leaves behind is removed.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import memorycell
from memorycell.errors import StateError, UserError
from memorycell.files import write_atomically
from memorycell.streaming.pool import Pool

ROUNDS = int(os.environ.get("MEMORYCELL_KILL_ROUNDS", "4"))
"""Of each kill -9 test; more by hand."""

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def layer() -> memorycell.LSTM:
    torch.manual_seed(0)
    return memorycell.LSTM(5, 9, batch_first=True)


def x(count: int = 1) -> np.ndarray:
    return np.ones((count, 5), np.float32)


def in_child(act) -> int:
    """The exit status of a forked child that runs `act`; 9 for an exception."""
    child = os.fork()
    if not child:
        try:
            os._exit(act())
        except BaseException:
            os._exit(9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def every_method(pool: Pool, folder: Path) -> dict:
    return {
        "open": pool.open,
        "open_many": lambda: pool.open_many(2),
        "fork": lambda: pool.fork(0),
        "close": lambda: pool.close(0),
        "step": lambda: pool.step([0], x()),
        "step tensor": lambda: pool.step([0], torch.ones(1, 5)),
        "state": lambda: pool.state([0]),
        "set_state": lambda: pool.set_state([0], layer().initial_state()),
        "save": lambda: pool.save(folder / "saved"),
        "load": lambda: pool.load(folder / "saved"),
        "spill": lambda: pool.spill([0]),
        "refresh": pool.refresh,
        "shutdown": pool.shutdown,
        "len": lambda: len(pool),
        "in": lambda: 0 in pool,
        "slots": lambda: pool.slots,
        "nbytes": lambda: pool.nbytes,
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("resident", [None, 2])
def test_after_a_shutdown_every_method_raises_and_nothing_is_written(tmp_path, resident):
    module, folder = layer(), tmp_path / "folder"
    pool = Pool(module, spill=folder, resident=resident)
    pool.open_many(2)
    pool.step([0, 1], x(2))
    pool.shutdown()
    other = Pool(module, spill=folder)
    other.step([0, 1], x(2))
    other.spill([0, 1])
    before, states = contents(folder), other.state([0, 1])
    for act in every_method(pool, tmp_path).values():
        with pytest.raises(StateError, match="was shut down"):
            act()
    assert contents(folder) == before
    assert not (tmp_path / "saved").exists()
    other.shutdown()
    again = Pool(module, spill=folder)
    assert all(torch.equal(a, b) for a, b in zip(states, again.state([0, 1]), strict=True))


def test_a_pool_may_be_shut_down_inside_its_context(tmp_path):
    with Pool(layer(), spill=tmp_path) as pool:
        pool.open()
        pool.shutdown()
    assert len(Pool(layer(), spill=tmp_path)) == 1


def test_a_shutdown_that_fails_keeps_the_sessions_and_the_folder(tmp_path, monkeypatch):
    pool = Pool(layer(), spill=tmp_path)
    slot = pool.open()
    pool.step([slot], x())

    def disk_full(*_arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", disk_full)
        with pytest.raises(UserError, match="No space left"):
            pool.shutdown()
    state = pool.state([slot])
    with pytest.raises(StateError, match="another pool uses this folder"):
        Pool(layer(), spill=tmp_path)
    pool.shutdown()
    again = Pool(layer(), spill=tmp_path).state([slot])
    assert all(torch.equal(a, b) for a, b in zip(state, again, strict=True))


def test_sessions_that_cannot_be_opened_leave_the_pool_as_it_was(tmp_path, monkeypatch):
    pool = Pool(layer(), 2, spill=tmp_path, resident=2)
    kept = pool.open_many(2)
    pool.step(kept, x(2))
    before = pool.state(kept)

    def disk_full(*_arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", disk_full)
        with pytest.raises(UserError, match="No space left"):
            pool.open_many(5)
    assert pool.slots.tolist() == kept.tolist()
    assert pool.open_many(5).tolist() == [2, 3, 4, 5, 6]
    assert all(torch.equal(a, b) for a, b in zip(before, pool.state(kept), strict=True))


@forks
def test_a_forked_child_neither_writes_nor_keeps_the_lock(tmp_path):
    module, folder = layer(), tmp_path / "folder"
    pool = Pool(module, spill=folder)
    pool.open_many(2)
    pool.spill([0])
    before = contents(folder)

    def child() -> int:
        refused = 0
        for act in every_method(pool, tmp_path).values():
            try:
                act()
            except StateError:
                refused += 1
        pool._folder.release()
        return 0 if refused == len(every_method(pool, tmp_path)) else 1

    assert in_child(child) == 0
    assert contents(folder) == before
    with pytest.raises(StateError, match="another pool uses"):  # the child did not unlock it
        Pool(module, spill=folder)
    pool.step([0, 1], x(2))


@forks
def test_the_child_of_a_killed_process_does_not_keep_its_folder_locked(tmp_path):
    program = f"""
import os, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_folder_lock import Pool, layer
pool = Pool(layer(), spill={str(tmp_path)!r})
pool.spill([pool.open()])
ready, done = os.pipe()
if not os.fork():
    os.write(done, b"x")
    while True:
        time.sleep(60)
os.read(ready, 1)
print("forked", flush=True)
time.sleep(600)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"forked\n"
        with pytest.raises(StateError, match="another pool uses"):
            Pool(layer(), spill=tmp_path)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert len(Pool(layer(), spill=tmp_path)) == 1
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the child too
        process.communicate()


# ---- temporary files -----------------------------------------------------------------------------


def test_temporary_files_of_killed_writers_are_removed(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    ours = folder / ".spill-000003.safetensors.0123abcd.part"
    others = [folder / name for name in (".notes.txt.0123abcd.part", "spill.part", ".x.part")]
    for path in (ours, *others):
        path.write_bytes(b"half")
    Pool(layer(), spill=folder)
    assert not ours.exists()
    assert all(path.exists() for path in others)
    saved = tmp_path / "my[1].state"
    orphan, unrelated = (
        tmp_path / ".my[1].state.00000000.part",
        tmp_path / ".my1.state.0000000f.part",
    )
    orphan.touch()
    unrelated.touch()
    write_atomically(saved, b"whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == [unrelated.name, "folder", saved.name]


@forks
def test_the_temporary_file_of_a_living_writer_stays(tmp_path):
    from memorycell.files import _temporary_file

    path = tmp_path / "state"
    with _temporary_file(path) as (descriptor, temporary):
        os.write(descriptor, b"mine")
        assert in_child(lambda: write_atomically(path, b"other") or 0) == 0
        assert temporary.read_bytes() == b"mine"
        os.replace(temporary, path)
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_is_flushed_after_the_file(tmp_path, monkeypatch):
    flushed = []
    fsync = os.fsync

    def recorded(descriptor):
        flushed.append(os.path.realpath(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", recorded)
    write_atomically(tmp_path / "file", b"x")
    assert flushed[0].endswith(".part")
    assert flushed[1:] == [str(tmp_path.resolve())]


# ---- kill -9 -------------------------------------------------------------------------------------

KILLED = """
import os, sys
import numpy as np, torch
sys.path.insert(0, sys.argv[1])
from test_folder_lock import Pool, layer
torch.set_num_threads(1)
module = layer()


def say(word, number):
    os.write(1, f"{word} {number}\\n".encode())  # a whole line or none


def spill(folder):
    pool = Pool(module, spill=folder)
    slots = pool.open_many(40)
    for number in range(100_000):
        pool.set_state(slots, marked(40, number))
        say("writing", number)
        pool.spill(slots)
        say("written", number)


def save(folder):
    os.makedirs(folder, exist_ok=True)
    for number in range(100_000):
        say("writing", number)
        marked(400, number).save(folder + "/live.state")
        say("written", number)


def marked(count, number):
    return memorycell.State(
        h=torch.full((1, count, 9), float(number)), c=torch.full((1, count, 9), float(number))
    )


import memorycell
for line in sys.stdin:
    what, folder = line.split()
    child = os.fork()
    if not child:
        {"spill": spill, "save": save}[what](folder)
    say("child", child)
    os.waitpid(child, 0)
    say("killed", child)
"""


@forks
@pytest.mark.parametrize("what", ["spill", "save"])
def test_kill_9_loses_nothing_and_leaves_nothing(tmp_path, what):
    """A program forks a child per round, which is killed after a random number of its lines."""
    program = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(Path(__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdin is not None
    assert program.stdout is not None
    rng = np.random.default_rng(0)
    orphans = 0
    try:
        for number in range(ROUNDS):
            folder = tmp_path / f"{what}{number}"
            print(what, folder, file=program.stdin, flush=True)
            limit, seen, child = int(rng.integers(2, 12)), 0, 0
            begun = written = -1
            for line in program.stdout:
                word, value = line.split()
                if word == "child":
                    child = int(value)
                elif word == "killed":
                    break
                else:
                    begun = int(value)
                    written = begun if word == "written" else written
                    seen += 1
                if child and seen >= limit and (written == begun or rng.random() < 0.8):
                    # At a random moment of a write: so many turns of an empty loop later.
                    for _ in range(int(rng.integers(0, 60_000))):
                        pass
                    os.kill(child, signal.SIGKILL)
                    limit = 1 << 60
            orphans += len(list(folder.glob(".*.part")))
            found = spilled_mark(folder) if what == "spill" else saved_mark(folder)
            assert found in (written, begun), number
            assert not list(folder.glob(".*.part")), number
    finally:
        program.stdin.close()
        program.stdout.close()
        program.wait()
    print(f"{what}: {ROUNDS} rounds, {orphans} temporary files were removed")


def spilled_mark(folder: Path) -> int:
    """The number that all 40 sessions of a folder are marked with."""
    with Pool(layer(), spill=folder) as pool:
        assert pool.slots.tolist() == list(range(40))
        values = torch.cat([part.reshape(-1) for part in pool.state(pool.slots)]).unique()
    assert len(values) == 1
    return int(values[0])


def saved_mark(folder: Path) -> int:
    """The number that a state file is marked with; it is then saved again."""
    state, _ = memorycell.State.load(folder / "live.state")
    assert state.batch_size == 400
    values = torch.cat([part.reshape(-1) for part in state]).unique()
    assert len(values) == 1
    state.save(folder / "live.state")
    return int(values[0])
