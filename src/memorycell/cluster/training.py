"""Training by actors of a Ray cluster, one worker each: the batches, gradients and checkpoints of
`face.parallel_training`.

The machines of the cluster must have memorycell installed, and see the same files: the data and the
folder of the model file, where the checkpoint is. Progress goes to the logs of the actors.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memorycell.cluster.jobs import connected
from memorycell.errors import UserError
from memorycell.face.parallel_training import MAX_RESTARTS, Launch, train_job


def training_at(address: str) -> Launch:
    """What starts the workers of a training on the cluster at an address, see `jobs.work_at`."""

    def launch(job: Path, workers: int) -> None:
        with connected(address, workers) as ray:
            for restarts in range(MAX_RESTARTS + 1):
                if _train(ray, job, workers, restarts):
                    return

    return launch


def _train(ray: Any, job: Path, workers: int, restarts: int) -> bool:
    """Whether the training has ended: with a result or an error of the user, in the files of
    `parallel_training.work`. Otherwise a worker died.
    """
    content = json.loads(job.read_text())
    actor = ray.remote(num_cpus=1, max_restarts=0)(TrainingWorker)
    actors = [actor.remote() for _ in range(workers)]
    try:
        host, port = ray.get(actors[0].endpoint.remote())
        running = [
            one.train.remote(content, rank, workers, host, port, restarts)
            for rank, one in enumerate(actors)
        ]
        while running:
            (future,), running = ray.wait(running, num_returns=1)
            for name, text in ray.get(future).items():
                job.with_name(name).write_text(text)
                if name.startswith(("error", "failure")):
                    return name.startswith("error")
        return True
    except ray.exceptions.RayActorError:
        job.with_name(f"failure.{restarts}.0").write_text("its worker process was killed")
        return False
    finally:
        for one in actors:
            ray.kill(one)


class TrainingWorker:
    """A worker process of the cluster."""

    def endpoint(self) -> tuple[str, int]:
        """(address of this machine, a free port)"""
        import ray

        host = ray.util.get_node_ip_address()
        with socket.socket() as free:
            free.bind((host, 0))
            return host, free.getsockname()[1]

    def train(
        self,
        content: Mapping[str, Any],
        rank: int,
        workers: int,
        host: str,
        port: int,
        restarts: int,
    ) -> dict[str, str]:
        """The files that the driver writes next to the job: name -> text."""
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": "0",  # of the GPUs, Ray shows each actor its own
            "WORLD_SIZE": str(workers),
            "MASTER_ADDR": host,
            "MASTER_PORT": str(port),
            "TORCHELASTIC_RUN_ID": "ray",
            "TORCHELASTIC_RESTART_COUNT": str(restarts),
        }
        try:
            result = train_job(content, restarted=restarts > 0)
        except UserError as error:
            return {f"error.{rank}": str(error)}
        except Exception as error:
            return {f"failure.{restarts}.{rank}": f"{type(error).__name__}: {error}"}
        return {"result": json.dumps(result)} if rank == 0 else {}
