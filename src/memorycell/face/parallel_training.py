"""Training by several worker processes on this machine, which PyTorch's elastic launcher starts,
and starts again from the last checkpoint where one dies.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from memorycell.application import catalogue
from memorycell.application.contract import AnyApplication, Record
from memorycell.application.train_settings import TrainSettings
from memorycell.errors import UserError
from memorycell.face.following import followed, to_stderr
from memorycell.face.parent import end_with, environment, note_workers, threads_of
from memorycell.setting_fields import settings_from_json
from memorycell.training import loop, parallel
from memorycell.training.checkpoint import checkpoint_path, version_of
from memorycell.training.device import choose
from memorycell.training.events import Log, ignore
from memorycell.training.parallel import ALONE

MAX_WORKERS = 1024
MAX_RESTARTS = 3
LOOK_EVERY_S = 0.2
"""Seconds between two looks at the workers."""
OWN_STORES = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
"""Every start of the workers has a store of its own. By default all have that of the launcher (in
PyTorch 2.13), where workers that are started again may find the addresses of those that died.
"""
Launch: TypeAlias = Callable[[Path, int], None]
"""`launch`, or what replaces it on a cluster: runs the job in a file with a number of workers, and
starts them again where one dies; see `work` for the files that they write."""


def train_by_workers(
    application: AnyApplication,
    source: str | None,
    settings: Any,
    train_settings: TrainSettings,
    out: Path,
    workers: int,
    *,
    log: Log | None,
    launch: Launch | None = None,
    **options: Any,
) -> Record:
    """`loop.train` by `workers` processes, or for one in this process; its result.

    launch    replaces the processes of this machine, see `cluster.training`
    log       called with lines; worker processes print them on stderr. None: silent
    options   further ones of `loop.train`, as JSON values

    Raises `UserError` as `loop.train`, and where workers die too often.
    """
    if workers == 1 and launch is None:
        return train_part(
            application, source, settings, train_settings, out, log=log, joined=ALONE, **options
        )
    note_workers(workers, log or ignore)
    with tempfile.TemporaryDirectory(prefix="memorycell-training-") as folder:
        job = Path(folder) / "job.json"
        checkpoint = checkpoint_path(out, options.get("storage"))
        content = {
            "task": application.name,
            "source": source,
            "settings": dataclasses.asdict(settings),
            "train_settings": dataclasses.asdict(train_settings),
            "out": str(out),
            "options": options,
            "progress": log is not None,
            "parent": os.getpid(),
            "checkpoint": version_of(checkpoint),
        }
        job.write_text(json.dumps(content))
        (launch or launch_here)(job, workers)
        for error in sorted(Path(folder).glob("error.*"), key=lambda p: p.stat().st_mtime_ns):
            raise UserError(error.read_text())
        if not (result := Path(folder) / "result").exists():
            reasons = sorted(Path(folder).glob("failure.*"), key=lambda p: p.stat().st_mtime_ns)
            reason = f" ({reasons[0].read_text()})" if reasons else ""
            kept = (
                "; resume continues from the last epoch"
                if version_of(checkpoint) != content["checkpoint"]
                else ""
            )
            raise UserError(f"a worker died {MAX_RESTARTS + 1} times{reason}{kept}")
        record: Record = json.loads(result.read_text())
        return record


def launch_here(job: Path, workers: int) -> None:
    """Start the workers, and start them again where one dies, up to `MAX_RESTARTS` times."""
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=workers,
        logs_specs=DefaultLogsSpecs(log_dir=str(job.parent)),
        run_id=secrets.token_hex(8),
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=MAX_RESTARTS,
        monitor_interval=LOOK_EVERY_S,
        signals_to_handle="SIGQUIT",  # the others stay with whoever handles them
    )
    variables = {"TORCH_CPP_LOG_LEVEL": "ERROR", OWN_STORES: "1", **threads_of(workers)}
    with (
        contextlib.suppress(ChildFailedError),  # the workers say why, in files next to the job
        environment(variables, "TORCHELASTIC_SIGNALS_TO_HANDLE"),
    ):
        elastic_launch(config, sys.executable)("-m", __name__, str(job))


def work(job: Path) -> None:
    """What a worker process does: its part of the training that a file describes. Errors of the
    user are written next to the file, and end it without a restart.
    """
    content = json.loads(job.read_text())
    end_with(content["parent"])
    rank, restarted = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    if any(job.parent.glob("error.*")):
        return
    try:
        result = train_job(content, restarted=restarted > 0)
    except UserError as error:
        job.with_name(f"error.{rank}").write_text(str(error))
        return
    except Exception as error:
        job.with_name(f"failure.{restarted}.{rank}").write_text(f"{type(error).__name__}: {error}")
        if os.environ.get("MEMORYCELL_TRACEBACK"):
            raise
        os._exit(1)
    if rank == 0:
        job.with_name("result").write_text(json.dumps(result))


def train_job(content: Mapping[str, Any], *, restarted: bool) -> Record:
    """This worker's part of the training that the content of a job's file describes; its result is
    that of the first worker. A restarted one continues from the checkpoint of the run.
    """
    out, options = Path(content["out"]), dict(content["options"])
    checkpoint = checkpoint_path(out, options.get("storage"))
    if restarted and version_of(checkpoint) != content["checkpoint"]:
        options["resume"] = True
    application = catalogue.load(content["task"])
    return train_part(
        application,
        content["source"],
        settings_from_json(application.settings, content["settings"]),
        settings_from_json(TrainSettings, content["train_settings"]),
        out,
        log=to_stderr if content["progress"] else None,
        **options,
    )


def train_part(
    application: AnyApplication,
    *arguments: Any,
    log: Log | None = None,
    joined: parallel.Workers | None = None,
    **options: Any,
) -> Record:
    """`loop.train` as one of several worker processes; only the first logs, and returns the result.

    joined   the workers; None: those that `torch.distributed.run` describes in the environment
    """
    tensorboard = options.pop("tensorboard", None)
    device = choose(options.pop("device", None))
    workers = joined or parallel.join(device)
    try:
        with followed(application, log if workers.first else None) as (log_line, on_event):
            result = loop.train(
                application,
                *arguments,
                device=device,
                tensorboard=None if tensorboard is None else Path(tensorboard),
                workers=workers,
                log=log_line,
                on_event=on_event,
                **options,
            )
        return result if joined else workers.from_first(result)
    finally:
        if joined is None:
            parallel.leave()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
