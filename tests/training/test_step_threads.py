"""Small training steps run on one thread; what the user has set is kept."""

import pytest
import torch
from sequence_data import TINY, write_table
from torch import nn

from memorycell.application.train_settings import TrainSettings
from memorycell.applications.sequences import APPLICATION
from memorycell.applications.sequences.settings import SequencesSettings
from memorycell.face import parent
from memorycell.training import loop
from memorycell.training import threads as tested
from memorycell.training.threads import MIN_SHARED_WORK, VARIABLES, StepThreads

MODEL = nn.Linear(100, 10, bias=False)
SMALL, LARGE = 10, int(MIN_SHARED_WORK / (6 * 1000)) + 1


@pytest.fixture(autouse=True)
def two_processors(monkeypatch):
    for name in (*VARIABLES, *parent.THREADS, tested.SHARE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tested, "processors", lambda: 2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_small_steps_run_on_one_thread_and_large_ones_on_all():
    with StepThreads(MODEL) as threads:
        found = []
        for steps in (SMALL, LARGE, LARGE - 1, LARGE):
            threads.choose(steps)
            found.append(torch.get_num_threads())
    assert found == [1, 2, 1, 2]
    assert torch.get_num_threads() == 2


def test_the_number_is_restored_after_an_error():
    def interrupted():
        with StepThreads(MODEL) as threads:
            threads.choose(SMALL)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("name", VARIABLES)
def test_a_number_in_the_environment_is_kept(monkeypatch, name):
    monkeypatch.setenv(name, "2")
    with StepThreads(MODEL) as threads:
        threads.choose(SMALL)
        assert torch.get_num_threads() == 2


def test_the_share_of_a_worker_is_not_a_choice_of_the_user(monkeypatch):
    monkeypatch.setattr(parent, "cores", lambda: 4)
    assert parent.threads_of(1) == {}
    for name, value in parent.threads_of(2).items():
        monkeypatch.setenv(name, value)
    with StepThreads(MODEL) as threads:
        threads.choose(SMALL)
        assert torch.get_num_threads() == 1
        threads.choose(LARGE)
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_number_in_the_environment_holds_for_all_libraries_of_a_worker(monkeypatch, workers):
    for name in parent.THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    others = [name for name in parent.THREADS if name != "OMP_NUM_THREADS"]
    assert parent.threads_of(workers) == dict.fromkeys(others, "1")


def test_a_number_that_was_set_is_kept():
    torch.set_num_threads(3)
    with StepThreads(MODEL) as threads:
        threads.choose(SMALL)
        assert torch.get_num_threads() == 3


def test_nothing_changes_outside_a_run():
    StepThreads(MODEL).choose(SMALL)
    assert torch.get_num_threads() == 2


def test_training_runs_small_steps_on_one_thread(tmp_path):
    table = write_table(tmp_path / "t.csv", count=20, seed=0)
    settings = SequencesSettings(
        sequence="recording", time="step", target="y", static="site", members=1, **TINY
    )
    seen = set()
    loop.train(
        APPLICATION,
        str(table),
        settings,
        TrainSettings(epochs=1),
        tmp_path / "m.safetensors",
        on_event=lambda event: seen.add(torch.get_num_threads()),
    )
    assert seen == {1}
    assert torch.get_num_threads() == 2
