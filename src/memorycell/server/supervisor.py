"""Several worker processes behind one port, and what starts them again.

Each worker is a complete server. It accepts connections on its own socket of the public port
(SO_REUSEPORT: the system spreads connections over them) and, for its peers, on a Unix socket in a
folder that only this user may enter. The supervisor holds the public sockets, so that connections
wait, and are not refused, while their worker is started again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from dataclasses import asdict, replace
from typing import Any

import orjson

from memorycell.errors import UserError
from memorycell.server.config import ServerConfig
from memorycell.server.listening import announce, listen
from memorycell.server.redistributing import distribute

LOG = logging.getLogger("memorycell.server")
MAX_PAUSE_S = 5.0
STEADY_S = 10.0
"""A worker that ran for so long is started again at once."""
MAX_PATH = 90
"""Of a folder of Unix sockets; the system limits their paths to about 100 bytes."""
GRACE_S = 2.0
"""Beyond `drain_s`, after which a worker is killed."""


def run_workers(config: ServerConfig) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises `UserError` where it cannot start."""
    if not hasattr(socket, "SO_REUSEPORT") or not hasattr(socket, "AF_UNIX"):
        raise UserError("workers: not on this system; start one server per port instead")
    with listen(config):  # refuses a port that another server shares
        pass
    sockets: list[socket.socket] = []
    folder = tempfile.mkdtemp(prefix="memorycell-")
    if len(folder) > MAX_PATH:
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix="memorycell-", dir="/tmp")
    try:
        for _ in range(config.workers):
            sockets.append(listen(config, shared=True))
            config = replace(config, port=sockets[0].getsockname()[1])
        distribute(config)
        asyncio.run(_Supervisor(config, sockets, folder).run())
    finally:
        for one in sockets:
            one.close()
        shutil.rmtree(folder, ignore_errors=True)


class _Supervisor:
    def __init__(self, config: ServerConfig, sockets: list[socket.socket], folder: str) -> None:
        self._config, self._sockets, self._folder = config, sockets, folder
        self._secret = secrets.token_hex(32)
        self._ending = asyncio.Event()
        self._running: dict[int, asyncio.subprocess.Process] = {}

    async def run(self) -> None:
        """Start the workers, keep them running, and end them."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        keepers: list[asyncio.Task[None]] = []
        try:
            if self._config.demo:
                await self._train_demos()
            models = await self._start_all()
            if models is not None:
                announce(self._config, self._sockets[0], models)
                numbers = range(self._config.workers)
                keepers = [asyncio.create_task(self._keep(number)) for number in numbers]
                await self._ending.wait()
        finally:
            self._ending.set()
            for task in keepers:
                task.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            await self._end()

    async def _train_demos(self) -> None:
        """Train the models of --demo, once, until it is done or the server is to end."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "memorycell.server.demo_first", self._config.log),
            stdin=asyncio.subprocess.DEVNULL,
        )
        done = asyncio.ensure_future(process.wait())
        ending = asyncio.ensure_future(self._ending.wait())
        both: list[asyncio.Future[Any]] = [done, ending]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if not done.done():
            process.terminate()
            await asyncio.wait([done], timeout=GRACE_S)
        if not done.done():
            process.kill()
            await done
        elif process.returncode and not self._ending.is_set():
            LOG.warning("demo: the training ended with status %d", process.returncode)

    async def _start_all(self) -> list[str] | None:
        """The names of the models; None where the server is to end before. Raises `UserError`."""
        if self._ending.is_set():
            return None
        starts = asyncio.gather(*(self._start(number) for number in range(self._config.workers)))
        ending = asyncio.ensure_future(self._ending.wait())
        both: list[asyncio.Future[Any]] = [starts, ending]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if starts.done():
            return starts.result()[0]
        starts.cancel()
        return None

    async def _start(self, worker: int) -> list[str]:
        """Start a worker; the names of its models. Raises `UserError`."""
        descriptor = self._sockets[worker].fileno()
        plan = {
            "config": asdict(self._config),
            "fd": descriptor,
            "place": {
                "worker": worker,
                "workers": self._config.workers,
                "folder": self._folder,
                "secret": self._secret,
            },
        }
        cores = (os.cpu_count() or 1) // self._config.workers
        environment = {"OMP_NUM_THREADS": str(max(1, cores)), **os.environ}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "memorycell.server.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(descriptor,),
            env=environment,
        )
        self._running[worker] = process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(orjson.dumps(plan) + b"\n")
        answer = await process.stdout.readline()
        content = orjson.loads(answer) if answer.strip() else {}
        if "ready" in content:
            models: list[str] = content["ready"]
            return models
        raise UserError(content.get("error") or f"worker {worker} could not be started")

    async def _keep(self, worker: int) -> None:
        """Start a worker again whenever it ends."""
        pause = 0.0
        while True:
            began, process = time.monotonic(), self._running[worker]
            status = await process.wait()
            steady = time.monotonic() - began > STEADY_S
            pause = 0.0 if steady else min(MAX_PAUSE_S, 2 * pause + 0.1)
            how = f"signal {-status}" if status < 0 else f"status {status}"
            LOG.warning("worker %d ended (%s) and is started again", worker, how)
            await asyncio.sleep(pause)
            try:
                await self._start(worker)
                LOG.info("worker %d is back", worker)
            except UserError as error:
                LOG.error("worker %d: %s", worker, error)

    async def _end(self) -> None:
        """Ask the workers to end, for `drain_s` seconds."""
        living = [one for one in self._running.values() if one.returncode is None]
        for process in living:
            process.send_signal(signal.SIGTERM)
        waits = [asyncio.create_task(process.wait()) for process in living]
        if waits:
            _, late = await asyncio.wait(waits, timeout=self._config.drain_s + GRACE_S)
            for process in living:
                if late and process.returncode is None:
                    LOG.warning("a worker did not end in time and is killed")
                    process.kill()
            await asyncio.gather(*waits)
