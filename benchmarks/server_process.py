"""A server in a process of its own, on cores of its own, with its processor time and memory."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
START_TIMEOUT_S = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`command` with its output in `log`; `cores` are those it may run on."""

    def __init__(
        self, command: Sequence[str], port: int, log: Path, cores: set[int], ready: str
    ) -> None:
        self.command, self.port, self.log, self.cores = list(command), port, log, cores
        self.ready = f"http://127.0.0.1:{port}{ready}"
        self.start()

    def start(self) -> None:
        """Start it, again after `kill`, and wait until it answers."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command, stdout=output, stderr=output, env=environment
            )
        os.sched_setaffinity(self.process.pid, self.cores)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.ready, timeout=5) as reply:
                return reply.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def processor_seconds(self) -> float:
        """Of the process and its children, in steps of a hundredth."""
        return sum(processor_seconds(pid) for pid in self._processes())

    def memory_bytes(self) -> int:
        """Private memory in RAM, of the process and its children."""
        total = 0
        for pid in self._processes():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(("Private_Clean", "Private_Dirty")):
                    total += 1024 * int(line.split()[1])
        return total

    def _processes(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [self.process.pid, *map(int, children.read_text().split())]

    def kill(self) -> None:
        """As by kill -9: nothing is written or answered any more."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Ask it to end, and wait."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()


def processor_seconds(pid: int) -> float:
    """Of a process, in steps of a hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return TICK_S * (int(fields[11]) + int(fields[12]))


@contextlib.contextmanager
def running(
    command: Sequence[str], port: int, log: Path, cores: set[int], ready: str
) -> Iterator[Server]:
    server = Server(command, port, log, cores, ready)
    try:
        yield server
    finally:
        server.stop()
