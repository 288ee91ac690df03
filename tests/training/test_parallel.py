"""Data-parallel training: the parts of a batch sum to its loss and gradients for every task, and
worker processes reach the losses of the plain loop, also where one is killed.
"""

import importlib.util
import os
import signal
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

import memorycell
from memorycell.application import catalogue
from memorycell.errors import UserError
from memorycell.face import parallel_training
from memorycell.models.batches import LaneBatch, PaddedBatch, rows_of, take_rows
from memorycell.setting_fields import parse_settings
from memorycell.training.parallel import OwnBatches, Workers

for package in ("polars", "sklearn", "regex", "kaldi_native_fbank", "PIL", "symusic"):
    pytest.importorskip(package)


def small_data():
    """tests/cli/untrained.py, which has data of every task."""
    path = Path(__file__).parents[1] / "cli" / "untrained.py"
    spec = importlib.util.spec_from_file_location("small_data_of_every_task", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DATA = small_data()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel")
    DATA.write_data(folder)
    return folder


def gradients(model):
    return [None if p.grad is None else p.grad.clone() for p in model.parameters()]


def check_parts(model, batch, count):
    """The shares of `count` workers sum to the loss and the gradients of the batch."""
    model.zero_grad()
    loss, _ = model.loss(batch, None)
    loss.backward()
    expected = gradients(model)
    model.zero_grad()
    shares = [Workers(k, count).loss(model, batch, None, nullcontext())[0] for k in range(count)]
    sum(shares).backward()
    assert sum(shares).item() == pytest.approx(loss.item(), rel=1e-5, abs=1e-6)
    for (name, _), ours, theirs in zip(
        model.named_parameters(), gradients(model), expected, strict=True
    ):
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-6, msg=name)


@pytest.mark.parametrize("task", list(DATA.DATA))
def test_parts_of_a_batch_sum_to_its_loss(folder, task):
    application = catalogue.load(task)
    pairs = DATA.SETTINGS[task] | ({"lanes": "5", "bptt": "24"} if task == "forecast" else {})
    (settings,) = parse_settings([application.settings()], pairs)
    dataset = application.prepare(str(folder / DATA.DATA[task]), settings)
    torch.manual_seed(0)
    model = dataset.build().eval()  # without noise
    with torch.no_grad():  # several start at zero, where gradients vanish
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch = max(dataset.batches(1), key=rows_of)
    assert rows_of(batch) > 1
    check_parts(model, batch, 2)
    check_parts(model, batch, 3)
    check_parts(model, take_rows(batch, slice(0, 1)), 2)  # a worker without rows


@pytest.fixture
def mapped(hourly, tmp_path, monkeypatch):
    """A pattern of files with the hourly rows, a fifth of the targets missing."""
    import polars as pl

    monkeypatch.setenv("MEMORYCELL_CACHE", str(tmp_path / "cache"))
    frame = pl.read_csv(hourly, try_parse_dates=True).select("time", "y")
    gaps = pl.int_range(pl.len()).is_between(100, 200)
    frame = frame.with_columns(pl.when(~gaps).then("y").alias("y"))
    (tmp_path / "rows").mkdir()
    for k in range(2):
        frame.slice(250 * k, 250).write_parquet(tmp_path / "rows" / f"{k}.parquet")
    return str(tmp_path / "rows" / "*.parquet")


@pytest.mark.parametrize("count", [2, 3, 7])
def test_rows_that_a_worker_makes_are_those_of_the_batch(mapped, count):
    """Without the others, and their weighted losses sum to that of the batch; more workers than
    lanes too.
    """
    application = catalogue.load("forecast")
    (settings,) = parse_settings([application.settings()], {k: str(v) for k, v in SMALL.items()})
    dataset = application.prepare(mapped, settings)
    assert isinstance(dataset, OwnBatches)
    torch.manual_seed(0)
    model = dataset.build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    workers = [Workers(k, count) for k in range(count)]
    every = [dataset.own_batches(4, one.rows) for one in workers]
    uneven = 0
    for batch, *parts in zip(dataset.batches(4), *every, strict=True):
        shares = []
        for one, own in zip(workers, parts, strict=True):
            for ours, theirs in zip(own[:3], take_rows(batch, one.rows)[:3], strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
            assert own.carry == batch.carry
            shares.append(one.loss(model, own, None, nullcontext(), own=True))
        known = sum(weight for _, _, weight in shares)
        expected = model.loss(batch, None)[0].item()
        assert sum(loss for loss, _, _ in shares).item() / known == pytest.approx(
            expected, rel=1e-5
        )
        uneven += len({weight for _, _, weight in shares}) > 1
    assert uneven


def test_members_of_a_sequence_model_are_weighted_each_on_its_own():
    from memorycell.applications.sequences.model import (
        SequenceBatch,
        SequenceModel,
        SequenceModelConfig,
    )

    torch.manual_seed(0)
    config = SequenceModelConfig(
        hidden_size=5, input_size=3, outputs=4, target="class", members=3, pooling="mean"
    )
    model = SequenceModel(config).eval()
    weight = torch.tensor([[1.0, 0, 1], [0, 1, 1], [1, 0, 0], [1, 0, 1], [1, 0, 0]])
    lengths = torch.tensor([7, 3, 5, 7, 1])
    batch = SequenceBatch(torch.randn(5, 7, 3), lengths, torch.tensor([0, 3, 1, 2, 0]), weight)
    for count in (2, 3, 5, 7):
        check_parts(model, batch, count)


def test_rows_without_known_targets_do_not_make_the_loss_nan():
    from memorycell.language.model import LanguageConfig, LanguageModel

    torch.manual_seed(0)
    model = LanguageModel(LanguageConfig(hidden_size=4, vocabulary=9, embedding_size=4)).eval()
    x = torch.randint(0, 9, (3, 5))
    target = torch.full((3, 5), -100)
    target[0] = x[0]
    check_parts(model, LaneBatch(x, target, torch.zeros(3, 5, dtype=torch.bool), False), 3)


def test_rows_of_a_batch():
    batch = PaddedBatch(torch.arange(12).view(4, 3), torch.tensor([3, 2, 1, 3]), torch.arange(4))
    assert rows_of(batch) == 4
    part = take_rows(batch, slice(1, None, 2))
    assert part.target.tolist() == [1, 3]
    assert part.x.is_contiguous()
    assert part.carry is False


# ---- processes ---------------------------------------------------------------------------------

SMALL = {
    "target": "y",
    "hidden": 6,
    "horizon": 4,
    "context": 24,
    "window": 6,
    "inputs": "none",
    "calendar": "none",
    "linear": "trained",
    "bptt": 24,
    "lanes": 5,
    "dropout": 0.0,
}


def kill_a_child(parent: int) -> None:
    """kill -9 the last process that another one started."""
    children = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            children.append((int(fields[19]), int(status.parent.name)))  # its start, its id
    os.kill(max(children)[1], signal.SIGKILL)


def when(condition, action) -> threading.Thread:
    """Do something as soon as a condition holds."""

    def follow() -> None:
        end = time.monotonic() + 300
        while not condition() and time.monotonic() < end:
            time.sleep(0.005)
        action()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    return thread


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def test_two_workers_have_the_losses_of_one(hourly, tmp_path):
    out = tmp_path / "two.safetensors"
    settings = {**SMALL, "epochs": 16, "patience": 16}
    one = memorycell.train("forecast", hourly, progress=False, **settings)
    two = memorycell.train("forecast", hourly, out=out, workers=2, progress=False, **settings)
    check_losses(one, two)
    assert not out.with_name(out.name + ".resume").exists()


def check_losses(one, two):
    """The losses and metrics of two workers are those of one, but for rounding."""
    losses = [[entry["loss"] for entry in trained.history] for trained in (one, two)]
    assert len(losses[0]) == 16
    np.testing.assert_allclose(losses[1], losses[0], atol=1e-4)  # 48 steps
    assert two.metrics == pytest.approx(one.metrics, rel=1e-3)


@pytest.mark.slow
def test_two_workers_that_make_their_own_rows_have_the_losses_of_one(mapped, monkeypatch):
    settings = {**SMALL, "epochs": 16, "patience": 16}
    one = memorycell.train("forecast", mapped, progress=False, **settings)
    two = memorycell.train("forecast", mapped, workers=2, progress=False, **settings)
    check_losses(one, two)


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("at_a_url", [False, True])
def test_two_workers_have_the_losses_of_one_though_one_is_killed(hourly, tmp_path, at_a_url):
    out = tmp_path / "two.safetensors"
    settings = {**SMALL, "epochs": 16, "patience": 16}
    one = memorycell.train("forecast", hourly, progress=False, **settings)
    checkpoint = out.with_name(out.name + ".resume")
    if at_a_url:
        checkpoint = tmp_path / "kept" / "runs" / checkpoint.name
        settings["storage"] = checkpoint.parent.as_uri()
    killer = when(checkpoint.exists, lambda: kill_a_child(os.getpid()))
    two = memorycell.train("forecast", hourly, out=out, workers=2, progress=False, **settings)
    assert not killer.is_alive()
    check_losses(one, two)
    assert not checkpoint.exists()


RESTARTED = """
import os, sys, time
from pathlib import Path
import torch
import torch.distributed as dist
from memorycell.training import parallel

job, restarts = Path(sys.argv[1]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
rank = int(os.environ["RANK"])
if restarts and rank:
    time.sleep(2)  # the other one looks for it before it is there
workers = parallel.join(torch.device("cpu"))
total = torch.ones(())
dist.all_reduce(total)
if not restarts:
    os._exit(1)
if not rank:
    job.with_name("result").write_text(f"{int(total)} workers after {restarts} restarts")
dist.barrier()
parallel.leave()
"""


@pytest.mark.slow
def test_workers_that_are_started_again_find_each_other(tmp_path, monkeypatch):
    """And not the addresses of those that died."""
    (tmp_path / "restarted_worker.py").write_text(RESTARTED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(parallel_training, "__name__", "restarted_worker")
    (tmp_path / "job").mkdir()
    parallel_training.launch_here(tmp_path / "job" / "job.json", 2)
    assert (tmp_path / "job" / "result").read_text() == "2 workers after 1 restarts"


@pytest.mark.slow
@needs_proc
def test_a_killed_run_of_workers_has_exactly_the_losses_of_another(hourly, tmp_path):
    settings = {**SMALL, "epochs": 16, "patience": 16, "dropout": 0.3}
    whole = memorycell.train("forecast", hourly, workers=2, progress=False, **settings)
    out = tmp_path / "killed.safetensors"
    checkpoint = out.with_name(out.name + ".resume")
    killer = when(checkpoint.exists, lambda: kill_a_child(os.getpid()))
    killed = memorycell.train("forecast", hourly, out=out, workers=2, progress=False, **settings)
    assert not killer.is_alive()
    assert killed.history == whole.history
    assert killed.metrics == whole.metrics


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        # Every step multiplies the weights by 1 - 10 · 1000.
        ({"lr": 10.0, "weight_decay": 1000.0}, r"training diverged in epoch \d+: .* lr"),
        ({"target": "nothing"}, "no column 'nothing'"),
    ],
)
def test_an_error_of_the_user_in_a_worker_is_one_error(settings, words, hourly):
    with pytest.raises(UserError, match=words):
        memorycell.train("forecast", hourly, workers=2, progress=False, **{**SMALL, **settings})
