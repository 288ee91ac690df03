"""Jobs for worker processes on this machine: `work` runs them, also where a worker is killed.

A worker is `python -m memorycell.face.workers FUNCTION PARENT`. It reads one job per line from
stdin and answers each with a line on stdout, as JSON; so it starts from notebooks and from scripts
without a main guard, and ends with the program that started it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeAlias

from memorycell.errors import UserError
from memorycell.face.parent import end_with, threads_of

Job: TypeAlias = dict[str, Any]
"""JSON values."""
WAIT: Job = {}
"""Instead of a job: there may be one later."""
WAIT_S = 0.5


@dataclass(frozen=True)
class Answer:
    """What became of a job.

    result   what the function returned
    error    the message of a `UserError`, or of an unexpected error
    died     the worker was killed, or its process ended by itself
    """

    result: Any = None
    error: str | None = None
    died: bool = False


Work: TypeAlias = Callable[
    [str, int, Callable[[], Job | None], Callable[[Job, Answer], None]], None
]
"""`work`, or what replaces it on a cluster."""


def work(
    function: str,
    workers: int,
    next_job: Callable[[], Job | None],
    on_answer: Callable[[Job, Answer], None],
) -> None:
    """Run jobs by worker processes until `next_job` gives None.

    function    "module:name" of a function from a job to a JSON value
    next_job    the next job, `WAIT`, or None; called by one thread at a time, as is `on_answer`

    An exception of either, and KeyboardInterrupt, kills the workers and is passed on.
    """
    lock, failed = threading.Lock(), threading.Event()
    errors: list[BaseException] = []
    processes = [_Worker(function, workers) for _ in range(workers)]

    def follow(worker: _Worker) -> None:
        try:
            while not failed.is_set():
                with lock:
                    job = next_job()
                if job is None:
                    return
                if job is WAIT:
                    failed.wait(WAIT_S)
                    continue
                answer = worker.run(job)
                with lock:
                    if not failed.is_set():
                        on_answer(job, answer)
        except BaseException as error:
            errors.append(error)
            failed.set()

    threads = [threading.Thread(target=follow, args=[w], daemon=True) for w in processes]
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) and not failed.is_set():
            for thread in threads:
                thread.join(0.1)
    finally:
        failed.set()
        for worker in processes:
            worker.kill()
        for thread in threads:
            thread.join()
        for worker in processes:
            worker.end()
    if errors:
        raise errors[0]


class _Worker:
    """A worker process; started with its first job, and again after it died."""

    def __init__(self, function: str, workers: int) -> None:
        self._words = [sys.executable, "-m", __name__, function, str(os.getpid())]
        self._variables = threads_of(workers)
        self._process: subprocess.Popen[str] | None = None
        self._killed = False

    def run(self, job: Job) -> Answer:
        """Give a job to the process, and wait for the answer."""
        if self._process is None:
            self._process = self._started()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if line.endswith("\n"):
            return Answer(**json.loads(line))
        self.end()
        return Answer(error="its worker process was killed", died=True)

    def kill(self) -> None:
        """End the process for good."""
        self._killed = True
        process = self._process
        if process is not None:
            process.kill()

    def _started(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self._words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, **self._variables},
        )
        if self._killed:
            process.kill()
        return process

    def end(self) -> None:
        """End the process, if there is one, and close its pipes."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with process:  # closes and waits
                pass


def _serve(function: str, parent: int) -> None:
    """What a worker process does."""
    end_with(parent)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print
    module, _, name = function.partition(":")
    run = getattr(import_module(module), name)
    for line in sys.stdin:
        answer: dict[str, Any]
        try:
            answer = {"result": run(json.loads(line))}
        except UserError as error:
            answer = {"error": str(error)}
        except Exception as error:
            if os.environ.get("MEMORYCELL_TRACEBACK"):
                raise
            answer = {"error": f"internal error ({type(error).__name__}: {error})"[:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
