"""Shared by all tests: one thread, reproducible examples, a small series that trains fast."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
settings.register_profile(
    "tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")


@pytest.fixture
def hourly(tmp_path: Path) -> Path:
    """500 hours with a daily cycle, a covariate and noise; columns time, y, x, note."""
    rng = np.random.default_rng(0)
    lines = ["time,y,x,note"]
    level = 0.0
    for hour in range(500):
        level = 0.8 * level + rng.normal()
        y = 20 + 5 * math.sin(2 * math.pi * hour / 24) + level
        moment = np.datetime64("2024-01-01T00:00:00") + np.timedelta64(hour, "h")
        lines.append(f"{str(moment).replace('T', ' ')},{y:.4f},{level + rng.normal():.4f},fine")
    path = tmp_path / "hourly.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def glucose() -> Path:
    """The glucose readings, or a skip that says why."""
    from memorycell.application.datasets import named_dataset
    from memorycell.errors import DataError

    try:
        return named_dataset("glucose").find()
    except DataError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def public_data() -> Path:
    """The first folder of MEMORYCELL_DATA, or a skip."""
    folder = os.environ.get("MEMORYCELL_DATA", "").split(":")[0]
    if not folder:
        pytest.skip("MEMORYCELL_DATA names no folder")
    return Path(folder)


@pytest.fixture
def memorycell(capsys):
    """Run a command in this process: (status, stdout, stderr)."""

    from memorycell.cli.verbs import app

    def run(*words) -> tuple[int, str, str]:
        try:
            app([str(w) for w in words], prog_name="memorycell")
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
