"""Checkpoints in a storage: a folder, or a URL that fsspec knows."""

import os

import fsspec
import pytest
import torch

from memorycell.application import catalogue
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.forecast.settings import ForecastSettings
from memorycell.errors import UserError
from memorycell.training.checkpoint import check_storage, checkpoint_path, version_of
from memorycell.training.events import Epoch
from memorycell.training.loop import train

SMALL = ForecastSettings(
    target="y", hidden=4, horizon=4, context=24, dropout=0.1, bptt=48, lanes=3, window=6,
    inputs="none", calendar="none", linear="trained",
)  # fmt: skip
HOW = TrainSettings(epochs=3, lr=0.02)


def run(data, out, stop_after=None, **options):
    """(the result, None if stopped; the losses of the epochs)"""
    losses = []

    def on_event(event):
        if isinstance(event, Epoch):
            losses.append(event.loss)
        elif len(losses) == stop_after:
            raise KeyboardInterrupt

    try:
        task = catalogue.load("forecast")
        return train(task, str(data), SMALL, HOW, out, on_event=on_event, **options), losses
    except KeyboardInterrupt:
        return None, losses


@pytest.fixture(params=["memory", "file", "folder"])
def storage(request, tmp_path):
    """A storage, and what is in it."""
    url = {
        "memory": "memory://checkpoints/runs",
        "file": (tmp_path / "kept" / "runs").as_uri(),
        "folder": str(tmp_path / "kept" / "runs"),
    }[request.param]
    system, path = fsspec.core.url_to_fs(url)
    yield url, lambda: [p.rsplit("/", 1)[-1] for p in system.ls(path, detail=False)]
    if request.param == "memory":
        system.rm("/checkpoints", recursive=True)


def test_an_interrupted_run_resumes_from_a_storage(hourly, tmp_path, storage):
    url, names = storage
    whole, expected = run(hourly, tmp_path / "whole.safetensors")
    out = tmp_path / "parts.safetensors"
    stopped, first = run(hourly, out, stop_after=1, storage=url)
    assert stopped is None
    assert names() == ["parts.safetensors.resume"]
    assert not out.with_name(f"{out.name}.resume").exists()
    torch.manual_seed(99)
    resumed, rest = run(hourly, out, storage=url, resume=True)
    assert first + rest == expected
    assert resumed["metrics"] == whole["metrics"]
    assert names() == []


def test_versions_differ(tmp_path, storage):
    url, _ = storage
    out = tmp_path / "m.safetensors"
    check_storage(out, url)
    checkpoint = checkpoint_path(out, url)
    assert version_of(checkpoint) is None
    seen = set()
    for content in (b"1", b"2", b"22"):
        checkpoint.write_bytes(content)
        assert checkpoint.read_bytes() == content
        seen.add(version_of(checkpoint))
    assert len(seen) == 3
    checkpoint.unlink()
    checkpoint.unlink(missing_ok=True)
    assert not checkpoint.exists()


def test_a_storage_that_cannot_be_used_is_named_before_training(hourly, tmp_path):
    (tmp_path / "file").write_text("")
    under_a_file = tmp_path / "file" / "runs"
    for storage, words in (
        ("nosuch://runs", r"nosuch://runs/m.safetensors.*.resume: cannot be used \(Protocol not"),
        (under_a_file.as_uri(), r"file://.*/file/runs/m.safetensors.*: cannot be written"),
        (str(under_a_file), r"/file/runs: cannot be created"),
    ):
        with pytest.raises(UserError, match=words) as refused:
            run(hourly, tmp_path / "m.safetensors", storage=storage)
        assert "\n" not in str(refused.value)
    assert "m.safetensors" not in os.listdir(tmp_path)


def test_a_checkpoint_in_a_storage_that_is_missing_or_cut(hourly, tmp_path, storage):
    url, _ = storage
    out = tmp_path / "m.safetensors"
    check_storage(out, url)
    with pytest.raises(UserError, match=r"runs/m.safetensors.resume: nothing to resume"):
        run(hourly, out, storage=url, resume=True)
    run(hourly, out, stop_after=1, storage=url)
    checkpoint = checkpoint_path(out, url)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"runs/m.safetensors.resume: damaged \("):
        run(hourly, out, storage=url, resume=True)
