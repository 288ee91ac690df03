"""`memorycell serve` in a process of its own, for tests in a browser."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from free_ports import free_port

PATIENCE_S = 240
"""What the server may take to start or to end on a machine that is busy."""


class Server:
    """A server on a free port; its output is in server.log of the folder."""

    def __init__(
        self, folder: Path, files: Sequence[Path | str], options: Sequence[str] = ()
    ) -> None:
        self.folder, self.files, self.options = folder, files, options
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        command = [
            sys.executable,
            "-m",
            "memorycell",
            "serve",
            *map(str, self.files),
            *self.options,
        ]
        command += ["--port", str(self.port), "--state", str(self.folder / "state")]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                self.get("/readyz")
                return
            except OSError:
                time.sleep(0.2)
            if self.process.poll() is not None:
                break
        raise RuntimeError((self.folder / "server.log").read_text())

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it with a signal."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(PATIENCE_S)

    def get(self, path: str) -> Any:
        """The JSON at a path."""
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE_S) as reply:
            body = reply.read()
        return json.loads(body) if body[:1] in (b"{", b"[") else body
