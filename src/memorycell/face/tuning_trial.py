"""One training run of a search, as a worker process does it: on training and validation splits."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from memorycell.application import catalogue
from memorycell.application.contract import AnyApplication
from memorycell.application.train_settings import TrainSettings
from memorycell.errors import UserError
from memorycell.face import tuning_study
from memorycell.face.options import with_options
from memorycell.face.tuning_space import from_json
from memorycell.setting_fields import settings_from_json
from memorycell.training.device import choose
from memorycell.training.events import Epoch, Step
from memorycell.training.run import Run

if TYPE_CHECKING:
    from optuna import Trial

FINGERPRINT = "fingerprint"
ERROR = "error"
"""The note of a trial with the reason why it has no value."""
FUNCTION = f"{__name__}:run"

OnEpoch = Callable[[int, float], None]
"""Called after every epoch with its number and the validation metric."""


class Stopped(Exception):
    """A run ends early: the time of the search is over, or the data have changed.

    best   the best validation metric until then; infinite where there is none
    """

    def __init__(self, best: float = math.inf) -> None:
        super().__init__()
        self.best = best


def run(job: Mapping[str, Any]) -> dict[str, Any]:
    """A job of `tuning.tune`: the next trial of a study, or one with given settings and seed.

    Returns {"number"} of the trial, with the reason as "stop" where no other can succeed; or
    {"value"}, None where the time was over.
    """
    return _repeat(job) if "seed" in job else _trial(job)


def selection_metric(application: AnyApplication) -> str:
    """The validation metric that a search minimises."""
    return application.selection_metric or application.metric.name


def _trial(job: Mapping[str, Any]) -> dict[str, Any]:
    import optuna

    application = catalogue.load(job["task"])
    space = from_json(job["space"])
    study = tuning_study.open_study(*job["study"])
    done: dict[str, Any] = {}

    def objective(trial: Trial) -> float:
        done["number"] = trial.number
        trial.set_user_attr("process", tuning_study.process_name())
        values = tuning_study.suggest(trial, space)

        def on_epoch(epoch: int, value: float) -> None:
            trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        def check_data(fingerprint: str) -> None:
            known = study.user_attrs.get(FINGERPRINT)
            if known is None:
                study.set_user_attr(FINGERPRINT, fingerprint)
            elif known != fingerprint:
                done["stop"] = (
                    "the data have changed since the search began; name another --storage"
                )
                raise Stopped

        def has_result() -> bool:
            return any(t.state.name == "COMPLETE" for t in tuning_study.finished(study))

        try:
            return train(application, job, values, on_epoch, check_data, has_result)
        except Stopped as stopped:
            if math.isinf(stopped.best) or has_result():
                raise
            return stopped.best  # of the epochs until then: the search has no other result
        except Diverged as error:
            trial.set_user_attr(ERROR, str(error))
        except UserError as error:
            if not any(t.value is not None for t in study.get_trials(deepcopy=False)):
                done["stop"] = str(error)  # the data, or what is not searched
                raise Stopped from None
            trial.set_user_attr(ERROR, str(error))
            raise
        raise optuna.TrialPruned

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that heartbeats are experimental
        try:
            study.optimize(objective, n_trials=1, catch=(UserError,))
        except Stopped:
            tuning_study.retry(study, study.get_trials(deepcopy=False)[done["number"]])
    return done


def _repeat(job: Mapping[str, Any]) -> dict[str, Any]:
    application = catalogue.load(job["task"])
    try:
        value = train(application, job, {**job["values"], "seed": job["seed"]})
    except (Stopped, Diverged):
        return {"value": None}
    tuning_study.open_study(*job["study"]).set_user_attr(job["key"], value)
    return {"value": value}


class Diverged(Exception):
    """Training reached no finite loss, or could not continue."""


def train(
    application: AnyApplication,
    job: Mapping[str, Any],
    values: Mapping[str, Any],
    on_epoch: OnEpoch = lambda epoch, value: None,
    check_data: Callable[[str], None] = lambda fingerprint: None,
    has_result: Callable[[], bool] = lambda: True,
) -> float:
    """The best validation metric of a run with the job's settings but for `values`.

    check_data   called with the fingerprint of the data
    has_result   whether the search has one; until then the first epoch is finished, however late

    Raises `UserError` for data or settings that cannot be used, `Diverged`, and `Stopped`.
    """
    defaults = [
        settings_from_json(application.settings, job["settings"]),
        settings_from_json(TrainSettings, job["train_settings"]),
    ]
    settings, train_settings = with_options(defaults, values, application.name)
    dataset = application.prepare(job["source"], settings)
    check_data(str(dataset.info()["fingerprint"]))
    metric = selection_metric(application)
    minutes, end = job["minutes"], job["end"]
    budget_s = None if minutes is None else 60 * minutes
    run = Run(dataset, train_settings, metric, None, budget_s, choose(job["device"]))

    def on_event(event: Step | Epoch) -> None:
        over = end is not None and time.time() > end
        if isinstance(event, Epoch):
            on_epoch(event.epoch, event.valid[metric])
        elif over and (math.isfinite(run.progress.best) or has_result()):
            raise Stopped(run.progress.best)

    try:
        run.fit(on_event, lambda better: None)
    except UserError as error:
        raise Diverged(str(error)) from None
    return run.progress.best
