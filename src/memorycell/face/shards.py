"""Work on many files: one file is one job for a worker process, and is done or not."""

from __future__ import annotations

import glob
import io
import json
import os
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from memorycell.application.contract import AnyApplication, Record
from memorycell.errors import UserError, counted
from memorycell.face.options import check_range
from memorycell.face.parallel_training import MAX_WORKERS
from memorycell.face.parent import note_workers
from memorycell.face.trained import Trained, load
from memorycell.face.workers import Answer, Job, Work, work
from memorycell.files import make_folder, remove_orphans, write_atomically
from memorycell.reading import read_text
from memorycell.setting_fields import settings_from_json
from memorycell.training.events import Log, ignore

FUNCTION = f"{__name__}:predict_file"
MAX_ATTEMPTS = 2
"""Of a file whose worker was killed, by lack of memory for instance."""
SIGNATURE = "predictions.json"
"""The file in the folder of results that says which model and options they are from."""
MAX_LISTED = 20
"""Failed files that are listed."""
LINE_EVERY_S = 2.0


@dataclass
class ShardResults:
    """What became of the files.

    written   files of results that were written
    skipped   those that an earlier run had written
    failed    input file -> reason
    targets   the files of results of all inputs, of the failed ones too
    """

    written: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    targets: list[Path] = field(default_factory=list)

    def to_json(self) -> Record:
        """Counts, and the reasons of the failed files."""
        return {
            "files": len(self.written) + len(self.skipped) + len(self.failed),
            "written": len(self.written),
            "skipped": len(self.skipped),
            "failed": [{"file": name, "reason": why} for name, why in self.failed.items()],
            "seconds": round(self.seconds, 2),
        }

    def __str__(self) -> str:
        """Counts, and the failed files with their reasons."""
        lines = [f"failed: {name}: {why}" for name, why in list(self.failed.items())[:MAX_LISTED]]
        if len(self.failed) > MAX_LISTED:
            lines.append(f"and {len(self.failed) - MAX_LISTED:,} more")
        counts = f"{counted(len(self.written), 'files')} written"
        counts += f", {len(self.skipped):,} were done before" if self.skipped else ""
        counts += f", {len(self.failed):,} failed" if self.failed else ""
        return "\n".join([*lines, f"{counts}  ({self.seconds:.0f} s)"])


def predict_files(
    model: Trained,
    inputs: str | Sequence[str | Path],
    out: str | Path,
    options: Any,
    *,
    workers: int = 1,
    log: Log = ignore,
    run_jobs: Work | None = None,
) -> ShardResults:
    """Predict each file and write the results of each into the folder `out`.

    model     with its file: workers load it once each
    inputs    a pattern such as "rows/*.parquet", or paths
    options   of the application's `predict`, as its type

    A table of results is Parquet, another result JSON; the names are those of the inputs, in
    folders below `out` as theirs. A result is written completely or not at all. Files that have a
    newer result by the same model and options are skipped, so that an interrupted run continues.
    `run_jobs` replaces the processes of this machine, see `cluster.jobs`.

    Raises `UserError` where nothing matches, or `out` holds results of another model.
    """
    suffix = ".json" if model.application.columns is None else ".parquet"
    return run_files(
        model,
        inputs,
        Path(out),
        suffix,
        FUNCTION,
        asdict(options),
        workers=workers,
        log=log,
        run_jobs=run_jobs,
    )


def run_files(
    model: Trained,
    inputs: str | Sequence[str | Path],
    out: Path,
    suffix: str,
    function: str,
    options: Record,
    *,
    workers: int,
    log: Log,
    run_jobs: Work | None,
) -> ShardResults:
    """Run `function`, "module:name", on each file, whose result it writes to the job's target: a
    file with `suffix` in the folder `out`. Files that have a newer result are skipped.

    Raises `UserError` where nothing matches, or `out` holds results of another model or options.
    """
    began = time.monotonic()
    check_range("workers", workers, 1, MAX_WORKERS)
    if model.path is None:
        raise UserError("many files: the model has no file; save it first")
    targets = _targets(_matching(inputs), out, suffix)
    _sign(model, function, options, make_folder(out))
    note_workers(workers, log)
    results = ShardResults(targets=list(targets.values()))
    jobs: deque[Job] = deque()
    for source, target in targets.items():
        if target.exists() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns:
            results.skipped.append(str(target))
            continue
        jobs.append(
            {
                "model": str(model.path),
                "source": str(source),
                "target": str(target),
                "options": options,
                "attempt": 1,
            }
        )
    for folder in {target.parent for target in targets.values()}:
        make_folder(folder)
        remove_orphans(folder, "|".join(re.escape(t.name) for t in targets.values()))
    progress = _progress(len(jobs), log)

    def on_answer(job: Job, answer: Answer) -> None:
        if answer.died and job["attempt"] < MAX_ATTEMPTS:
            log(f"{job['source']}: {answer.error}; again")
            jobs.append({**job, "attempt": job["attempt"] + 1})
            return
        if answer.error is not None:
            results.failed[job["source"]] = answer.error.removeprefix(f"{job['source']}: ")
        else:
            results.written.append(job["target"])
        progress(len(results.written) + len(results.failed))

    (run_jobs or work)(
        function,
        min(workers, max(len(jobs), 1)),
        lambda: jobs.popleft() if jobs else None,
        on_answer,
    )
    results.failed = dict(sorted(results.failed.items()))
    results.seconds = time.monotonic() - began
    return results


def predict_file(job: Mapping[str, Any]) -> None:
    """A job of `predict_files`: predict one file and write the result."""
    model = loaded(job["model"])
    application = model.application
    options = settings_from_json(application.predict_options, job["options"])
    given = _input(application, Path(job["source"]))
    content: str | bytes
    if application.columns is None:
        content = json.dumps(model.predict_record(given, options), ensure_ascii=False) + "\n"
    else:
        with model.input(given) as source:
            record = model.predict_record(source, options)
        content = _parquet(application.columns(model, record))
    write_atomically(Path(job["target"]), content)


@lru_cache(maxsize=1)
def loaded(path: str) -> Trained:
    """The model of a job; a worker loads it once."""
    return load(path)


def _input(application: AnyApplication, source: Path) -> Any:
    """What an application reads from a file: its path; where it reads texts, those of a table or of
    a text file.
    """
    if application.predict_reads == "file":
        return str(source)
    if source.suffix.lower() == ".parquet":
        import polars as pl

        try:
            return pl.read_parquet(source)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise UserError(f"{source}: cannot be read ({str(error).splitlines()[0]})") from None
    return read_text(source)


def _parquet(columns: Mapping[str, Sequence[object]]) -> bytes:
    import polars as pl

    data = io.BytesIO()
    pl.DataFrame(columns).write_parquet(data)
    return data.getvalue()


def _matching(inputs: str | Sequence[str | Path]) -> list[Path]:
    """The files, sorted. Raises `UserError` where there is none."""
    names = glob.glob(inputs, recursive=True) if isinstance(inputs, str) else inputs
    paths = sorted(path for path in map(Path, names) if path.is_file())
    if not paths:
        raise UserError(f"--input {inputs}: no file matches")
    return paths


def _targets(sources: Sequence[Path], out: Path, suffix: str) -> dict[Path, Path]:
    """Input file -> file of its results."""
    top = Path(os.path.commonpath([source.absolute().parent for source in sources]))
    targets: dict[Path, Path] = {}
    for source in sources:
        name = source.name if source.suffix == suffix else source.name + suffix
        target = out / source.absolute().parent.relative_to(top) / name
        if target.exists() and target.samefile(source):
            raise UserError(f"--out {out}: results would replace the inputs; name another folder")
        if target in targets.values():
            raise UserError(f"{source}: another input has the same name of results, {name}")
        targets[source] = target
    return targets


def _sign(model: Trained, function: str, options: Record, out: Path) -> None:
    """Note which model and options the results in a folder are from. Raises `UserError` where they
    are from others.
    """
    import hashlib

    assert model.path is not None
    digest = hashlib.sha256(Path(model.path).read_bytes()).hexdigest()
    signature = {"model_sha256": digest, "task": model.task, "options": options}
    if function != FUNCTION:
        signature["function"] = function
    path = out / SIGNATURE
    if not path.exists():
        write_atomically(path, json.dumps(signature) + "\n")
        return
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = None
    if known != json.loads(json.dumps(signature)):
        raise UserError(
            f"{path}: the results in this folder are from another model or other options; name"
            " another folder, or delete it"
        )


def _progress(count: int, log: Log) -> Callable[[int], None]:
    """Logs how many files are done, every few seconds."""
    began = last = time.monotonic()

    def show(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < LINE_EVERY_S and done < count:
            return
        last = now
        speed = done / max(now - began, 1e-9)
        log(f"{done:,}/{count:,} files  {speed:.2g} files/s  {(count - done) / speed:.0f} s left")

    return show
