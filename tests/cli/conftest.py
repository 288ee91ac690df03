"""For the tests of the command line: a model trained on hourly rows."""

from pathlib import Path

import pytest
from running import TINY

from memorycell.cli.verbs import app


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A small model file, trained on `hourly` rows."""
    folder = tmp_path_factory.mktemp("cli")
    rows = ["time,y,x"] + [
        f"2024-01-{1 + k // 24:02d} {k % 24:02d}:00:00,{k % 24 + (k * 7) % 5},{k % 3}"
        for k in range(500)
    ]
    (folder / "rows.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(SystemExit) as end:
        app(
            [
                "train",
                "forecast",
                str(folder / "rows.csv"),
                "--set",
                "target=y",
                *TINY,
                "--out",
                str(folder / "m.safetensors"),
            ]
        )
    assert not end.value.code
    return folder / "m.safetensors"
