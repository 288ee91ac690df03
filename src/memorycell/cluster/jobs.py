"""`face.workers.work` by actors of a Ray cluster: the same functions, jobs and answers.

The machines of the cluster must have memorycell installed, and see the same files.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from typing import Any

from memorycell.errors import UserError
from memorycell.face.workers import WAIT, WAIT_S, Answer, Job, Work

CONNECT_S = 5.0
"""To wait for an answer; Ray itself waits for minutes."""
VERSIONS = "Version mismatch: "
"""How Ray begins to say that a cluster has another version of Ray or Python."""


def work_at(address: str) -> Work:
    """`work` by actors of the cluster at an address: auto, HOST:PORT or ray://HOST:PORT; "local":
    of a cluster on this machine, on the loopback interface, which ends with the work.
    """

    def work(
        function: str,
        workers: int,
        next_job: Callable[[], Job | None],
        on_answer: Callable[[Job, Answer], None],
    ) -> None:
        with connected(address, workers) as ray:
            _run(ray, function, workers, next_job, on_answer)

    return work


def _run(
    ray: Any,
    function: str,
    workers: int,
    next_job: Callable[[], Job | None],
    on_answer: Callable[[Job, Answer], None],
) -> None:
    runner = ray.remote(num_cpus=1, max_restarts=0)(Runner)
    own = version("memorycell")
    idle = [runner.remote(function, own) for _ in range(workers)]
    running: dict[Any, tuple[Any, Job]] = {}
    ended = False
    while running or not ended:
        while idle and not ended:
            job = next_job()
            if job is WAIT:
                break
            if job is None:
                ended = True
                break
            actor = idle.pop()
            running[actor.run.remote(job)] = (actor, job)
        done, _ = ray.wait(list(running), timeout=WAIT_S) if running else ([], [])
        for future in done:
            actor, job = running.pop(future)
            try:
                answer = Answer(**ray.get(future))
                idle.append(actor)
            except ray.exceptions.RayActorError:
                answer = Answer(error="its worker process was killed", died=True)
                idle.append(runner.remote(function, own))
            on_answer(job, answer)
            ended = False  # a job whose worker died may come again


class Runner:
    """A worker process of the cluster.

    driver   the version of memorycell that gives it jobs
    """

    def __init__(self, function: str, driver: str) -> None:
        module, _, name = function.partition(":")
        self._run = getattr(import_module(module), name)
        self._driver = driver

    def run(self, job: Job) -> dict[str, Any]:
        """The fields of an `Answer`."""
        if (own := version("memorycell")) != self._driver:
            return {
                "error": f"memorycell {own} is on {socket.gethostname()}, and {self._driver} here;"
                " install the same version"
            }
        try:
            return {"result": self._run(job)}
        except UserError as error:
            return {"error": str(error)}
        except Exception as error:
            return {"error": f"internal error ({type(error).__name__}: {error})"[:300]}


@contextlib.contextmanager
def connected(address: str, workers: int) -> Iterator[Any]:
    """The module ray, connected; with the connection that this program already has, where it has
    one. Raises `UserError` where no Ray answers.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # no telemetry
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError("--address needs a package: pip install 'memorycell[ray]'") from None
    if ray.is_initialized():  # the connection of the caller's own program
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options |= {"_node_ip_address": "127.0.0.1", "num_cpus": workers}
        options |= {"include_dashboard": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _check_answers(address)
        except (ValueError, OSError) as error:
            raise _refusal(address, f"no Ray there ({_first_line(error)})") from None
        try:
            with _kept_handler():
                ray.init(address=address, **options)
        except (RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
            # What is left of the attempt ends this process a minute after that cluster has ended.
            ray.shutdown()
            text = " ".join(str(error).split())
            if VERSIONS in text:
                text = text.removeprefix(VERSIONS)
                problem = f"other versions there ({text}); install the same ones here and there"
            elif address in ("auto", "local"):
                problem = f"no Ray there ({_first_line(error)})"
            else:
                problem = (
                    f"Ray cannot connect there ({_first_line(error)}); a cluster that asks for a"
                    " token needs RAY_AUTH_MODE=token and its token in RAY_AUTH_TOKEN"
                )
            raise _refusal(address, problem) from None
        try:
            yield ray
        finally:
            ray.shutdown()


def _refusal(address: str, problem: str) -> UserError:
    return UserError(f"--address {address}: {problem}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no answer").splitlines()[0][:120]


def _check_answers(address: str) -> None:
    """Raises OSError or ValueError where nothing listens at HOST:PORT."""
    if address not in ("auto", "local"):
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host, int(port)), CONNECT_S).close()


@contextlib.contextmanager
def _kept_handler() -> Iterator[None]:
    """Ray replaces the handler of SIGTERM."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, before)
