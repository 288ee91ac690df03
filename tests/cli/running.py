"""The command in a process of its own, and the settings of a model that trains in a second."""

import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-m", "memorycell"]
TINY = ["--set", "hidden=4", "--set", "horizon=4", "--set", "context=24", "--set", "epochs=2"]


def stream(model: Path, lines: list[str], *options: str) -> subprocess.CompletedProcess:
    words = [*COMMAND, "stream", str(model), *options]
    return subprocess.run(
        words, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False
    )
