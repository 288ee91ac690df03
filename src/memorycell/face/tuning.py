"""Searches of settings: `memorycell.tune`."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from memorycell.application import catalogue
from memorycell.application.contract import AnyApplication
from memorycell.application.search_space import Distribution, SearchSpace
from memorycell.application.train_settings import TrainSettings
from memorycell.errors import UserError, counted
from memorycell.face import tuning_space, tuning_study
from memorycell.face.advice import with_arguments
from memorycell.face.following import to_stderr
from memorycell.face.memory import as_source
from memorycell.face.options import check_range, with_options
from memorycell.face.parallel_training import MAX_WORKERS
from memorycell.face.parent import note_workers
from memorycell.face.train import train_model
from memorycell.face.trained import Trained
from memorycell.face.tuning_trial import ERROR, FUNCTION, selection_metric
from memorycell.face.workers import WAIT, Answer, Job, Work, work
from memorycell.training.device import choose
from memorycell.training.events import Log, ignore

if TYPE_CHECKING:
    from optuna import Study

MAX_TRIALS = 100_000
MAX_DEATHS = 2 * (tuning_study.MAX_RETRIES + 1)
"""Killed processes per worker with no trial in between, after which a search ends."""
MAX_LATE_TRIALS = 3
"""Trials without a result, after which none is begun when the time is over."""
BEST = 3
"""Settings that are repeated with further seeds."""


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """How settings are searched.

    trials    runs with settings of their own, the first with the defaults
    seeds     runs of each of the three best settings, whose mean decides; 1: no repetition
    workers   processes that train at the same time, each on its share of the cores
    minutes   no run begins, and the running ones end, when they are over; then the winner is
              trained. None: no limit
    storage   URL of the database of the trials; by default an SQLite file next to the model file
    """

    trials: int = 20
    seeds: int = 3
    workers: int = 1
    minutes: float | None = None
    storage: str | None = None

    def __post_init__(self) -> None:
        check_range("trials", self.trials, 1, MAX_TRIALS)
        check_range("seeds", self.seeds, 1, 100)
        check_range("workers", self.workers, 1, MAX_WORKERS)
        check_range("minutes", self.minutes, 0.01, 100_000)


@with_arguments
def tune(
    task: str,
    data: Any = None,
    *,
    out: str | Path | None = None,
    space: Mapping[str, Distribution | str | Sequence[Any]] | str | Path | None = None,
    trials: int = 20,
    seeds: int = 3,
    workers: int = 1,
    minutes: float | None = None,
    storage: str | None = None,
    device: str | None = None,
    progress: bool = True,
    **settings: Any,
) -> Trained:
    """Search settings on the validation split, train a model with the best, and score it once on
    the test split. `Trained.search` has the trials.

    task, data, out, device, progress   as in `memorycell.train`
    space      setting -> "loguniform(1e-3,1e-2)", "uniform(0,0.5)", "logint(32,256)", "int(1,3)",
               "choice(lstm,gru)" or a list of choices; or a TOML file of these. It is added to the
               task's own search space
    trials, seeds, workers, minutes, storage   see `SearchOptions`
    settings   that are not searched, by name

    The search continues where an interrupted one with the same arguments and the same `out` or
    `storage` ended. Raises `UserError`.
    """
    application = catalogue.load(task)
    options = SearchOptions(trials, seeds, workers, minutes, storage)
    own, train_settings = with_options(
        [application.settings(), application.training], settings, task
    )
    given = tuning_space.read_toml(Path(space)) if isinstance(space, (str, Path)) else space or {}
    found = tuning_space.search_space(application, given, own, train_settings, list(settings))
    with contextlib.nullcontext(out) if out is not None else TemporaryDirectory() as place:
        path = Path(place) if out is not None else Path(place) / f"{task}.safetensors"
        log = to_stderr if progress else None
        trained = tune_model(
            application, data, own, train_settings, found, path, options, device=device, log=log
        )
    if out is None:
        trained.forget_path()
    return trained


def tune_model(
    application: AnyApplication,
    data: Any,
    settings: Any,
    train_settings: TrainSettings,
    space: SearchSpace,
    out: Path,
    options: SearchOptions,
    *,
    device: str | None = None,
    log: Log | None = None,
    run_jobs: Work | None = None,
) -> Trained:
    """`tune` with the settings as the application's types.

    log        called with lines on the trials; None: silent
    run_jobs   replaces the processes of this machine, see `cluster.jobs`
    """
    tuning_study.check_package()
    choose(device)
    storage = options.storage or f"sqlite:///{out}.trials.db"
    end = None if options.minutes is None else time.time() + 60 * options.minutes
    with as_source(application, data, settings) as source:
        study = (storage, f"memorycell {application.name}", train_settings.seed, options.trials)
        job = {
            "task": application.name,
            "source": source,
            "settings": dataclasses.asdict(settings),
            "train_settings": dataclasses.asdict(train_settings),
            "space": tuning_space.to_json(space),
            "study": study,
            "minutes": _trial_minutes(application, train_settings, options),
            "device": device,
            "end": end,
        }
        identity = {key: job[key] for key in ("task", "settings", "train_settings", "space")}
        search = _Search(
            application, tuning_study.open_study(*study), job, options, log or ignore, run_jobs
        )
        tuning_study.check_identity(search.study, identity, storage)
        try:
            record = search.run(space)
        except UserError:
            if options.storage is None and not tuning_study.finished(search.study):
                Path(f"{out}.trials.db").unlink(missing_ok=True)  # nothing was found
            raise
        own, how = with_options([settings, train_settings], record["best"], application.name)
        search.log(f"trains the model with the best settings: {_settings_text(record['best'])}")
        return train_model(application, data, own, how, out, device=device, search=record, log=log)


def _trial_minutes(
    application: AnyApplication, train_settings: TrainSettings, options: SearchOptions
) -> float | None:
    """The training time of a trial; None: by epochs or steps, as the settings say."""
    if train_settings.epochs is not None or train_settings.steps is not None:
        return None
    if application.minutes is None:
        return None
    if options.minutes is None:
        return application.minutes
    return min(application.minutes, options.minutes * options.workers / options.trials)


class _Search:
    """A search while it runs."""

    def __init__(
        self,
        application: AnyApplication,
        study: Study,
        job: dict[str, Any],
        options: SearchOptions,
        log: Log,
        run_jobs: Work | None,
    ) -> None:
        self.application, self.study, self.job = application, study, job
        self.run_jobs = run_jobs or work
        self.options, self.log = options, log
        self.metric = selection_metric(application)
        self.end: float | None = job["end"]
        self.running = self.deaths = 0
        self.logged: set[int] = set()
        self.began, self.done_before = time.monotonic(), 0

    def run(self, space: SearchSpace) -> dict[str, Any]:
        """Run the trials and repeat the best. Returns the record of the search."""
        note_workers(self.options.workers, self.log)
        tuning_study.retry_dead_trials(self.study)
        done = tuning_study.finished(self.study)
        self.logged |= {trial.number for trial in done}
        self.done_before = len(done)
        self.log(f"searches {', '.join(f'{k} {v}' for k, v in space.items())}")
        if done:
            self.log(f"continues the search: {len(done)} of {self.options.trials} trials are done")
        elif not self.study.get_trials(deepcopy=False):
            self._queue_defaults(space)
        self.run_jobs(FUNCTION, self.options.workers, self._next_trial, self._on_trial)
        best = self._best()
        repeats = self._missing_repeats(best)
        if repeats:
            further = self.options.seeds - 1
            seeds = counted(further, "further seeds")
            self.log(f"repeats the best {len(best)} with {seeds}")
            self.run_jobs(
                FUNCTION, self.options.workers, lambda: self._next_repeat(repeats), self._on_repeat
            )
        return self._record(space, best)

    def _queue_defaults(self, space: SearchSpace) -> None:
        """The first trial has the task's own settings, where they are in the space."""
        known = {**self.job["settings"], **self.job["train_settings"]}
        defaults = {key: known[key] for key in space}
        if all(value in space[key] for key, value in defaults.items()):
            self.study.enqueue_trial(defaults)

    def _is_over(self) -> bool:
        return self.end is not None and time.time() > self.end

    def _next_trial(self) -> Job | None:
        """A trial for a worker, where there is one to run."""
        finished = tuning_study.finished(self.study)
        done, complete = len(finished), any(t.state.name == "COMPLETE" for t in finished)
        waiting, running = tuning_study.waiting_or_running(self.study)
        enough = complete or running or self.running or done >= MAX_LATE_TRIALS
        if done >= self.options.trials or (self._is_over() and enough):
            return None
        beginning = max(self.running - running, 0)  # local ones that are not in the database yet
        waiting = max(waiting - beginning, 0)
        if waiting or done + running + beginning < self.options.trials:
            self.running += 1
            return self.job
        if running > self.running:  # on another machine, or its heartbeat has stopped
            tuning_study.retry_dead_trials(self.study)
        return WAIT

    def _on_trial(self, job: Job, answer: Answer) -> None:
        self.running -= 1
        if answer.died:
            tuning_study.retry_dead_trials(self.study)
            self.log("a worker was killed; its trial is run again")
            self.deaths += 1
            if self.deaths > MAX_DEATHS * self.options.workers:
                raise UserError("tune: the workers are killed again and again; is memory short?")
            return
        self.deaths = 0
        if answer.error or "stop" in answer.result:
            raise UserError(answer.error or answer.result["stop"])
        done = tuning_study.finished(self.study)
        for trial in done:
            if trial.number not in self.logged:
                self.logged.add(trial.number)
                line = f"trial {len(self.logged)}/{self.options.trials}  {self._outcome(trial)}"
                best = min((t.value for t in done if t.value is not None), default=math.inf)
                settings = _settings_text(trial.params)
                self.log(f"{line} (best {best:.4g})  {settings}  {self._time_left()}")

    def _time_left(self) -> str:
        """The time since the start, and what the other trials will take at this speed."""
        now = time.monotonic() - self.began
        left = self.options.trials - len(self.logged)
        left_s = now / max(len(self.logged) - self.done_before, 1) * left
        if self.end is not None:
            left_s = min(left_s, max(self.end - time.time(), 0))
        return f"{now:.0f} s, {left_s:.0f} s left"

    def _outcome(self, trial: Any) -> str:
        reached = sorted(trial.intermediate_values.items())
        if trial.state.name == "COMPLETE":
            return f"{self.metric} {trial.value:.4g}"
        value = f"{self.metric} {reached[-1][1]:.4g}, " if reached else ""
        epoch = reached[-1][0] if reached else 0
        return value + str(trial.user_attrs.get(ERROR, f"pruned after epoch {epoch}"))

    def _best(self) -> list[Any]:
        """The best trials, best first. Raises `UserError` where none has ended."""
        complete = [t for t in tuning_study.finished(self.study) if t.state.name == "COMPLETE"]
        if not complete:
            raise UserError("tune: no trial has ended; give it more minutes, or a smaller space")
        return sorted(complete, key=lambda t: (t.value, t.number))[:BEST]

    def _key(self, trial: Any, seed: int) -> str:
        return f"trial {trial.number} seed {seed}"

    def _further_seeds(self) -> range:
        first = int(self.job["train_settings"]["seed"])
        return range(first + 1, first + self.options.seeds)

    def _missing_repeats(self, best: Sequence[Any]) -> list[Job]:
        known = self.study.user_attrs
        return [
            {**self.job, "values": trial.params, "seed": seed, "key": self._key(trial, seed)}
            for seed in self._further_seeds()
            for trial in best
            if self._key(trial, seed) not in known
        ]

    def _next_repeat(self, jobs: list[Job]) -> Job | None:
        return None if self._is_over() or not jobs else jobs.pop(0)

    def _on_repeat(self, job: Job, answer: Answer) -> None:
        if answer.died:
            raise UserError(f"{job['key']}: {answer.error}; start again to continue")
        if answer.error:
            raise UserError(answer.error)
        value = answer.result["value"]
        reached = "no value" if value is None else f"{self.metric} {value:.4g}"
        self.log(f"seed {job['seed']}  {reached}  {_settings_text(job['values'])}")

    def _record(self, space: SearchSpace, best: Sequence[Any]) -> dict[str, Any]:
        """What the model file says of the search."""
        known = self.study.user_attrs
        ranked = []
        for trial in best:
            keys = [self._key(trial, seed) for seed in self._further_seeds()]
            values = [trial.value, *(known[key] for key in keys if key in known)]
            ranked.append({"trial": trial.number, "settings": trial.params, "values": values})
        if len({len(r["values"]) for r in ranked}) == 1:  # else the time was over before all seeds
            ranked.sort(key=lambda r: sum(r["values"]))
        trials = tuning_study.finished(self.study)
        record: dict[str, Any] = {
            "metric": self.metric,
            "space": {key: str(value) for key, value in space.items()},
            "best": ranked[0]["settings"],
            "value": sum(ranked[0]["values"]) / len(ranked[0]["values"]),
            "repeated": ranked,
            "importance": tuning_study.importance(self.study),
            "trials": [
                {
                    "trial": t.number,
                    "state": t.state.name.lower(),
                    "value": t.value if t.state.name == "COMPLETE" else None,
                    "epochs": max(t.intermediate_values, default=0),
                    "settings": t.params,
                }
                for t in trials
            ],
        }
        return record


def _settings_text(settings: Mapping[str, Any]) -> str:
    return "  ".join(f"{key}={_value_text(value)}" for key, value in settings.items())


def _value_text(value: Any) -> str:
    """As --set reads it."""
    if value is None:
        return "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
