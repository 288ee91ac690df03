"""The study of a search: trials in a database that worker processes and other machines share."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import socket
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from memorycell.application.search_space import SearchSpace, Uniform, Value
from memorycell.errors import UserError

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

HEARTBEAT_S, GRACE_S = 4, 16
"""A trial without a sign of life for longer is run again, on any machine."""
MAX_RETRIES = 3
MIN_PRUNING_EPOCHS, REDUCTION = 6, 3
"""Successive halving: after 6, 18, 54, … epochs the best third of the trials continues."""
IDENTITY = "identity"


def check_package() -> None:
    """Raises `UserError` where Optuna is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import optuna
    except ModuleNotFoundError:
        raise UserError("tune needs a package: pip install 'memorycell[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def open_study(storage: str, name: str, seed: int, trials: int) -> Study:
    """The study of a name in a database, which is made where it is missing.

    storage   URL: sqlite:///file.db, postgresql://…
    trials    planned; the first half, at most ten, is sampled at random

    Raises `UserError` for a database that cannot be used.
    """
    check_package()
    import optuna
    import sqlalchemy.exc

    options = {"connect_args": {"timeout": 60}} if storage.startswith("sqlite") else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that heartbeats are experimental
            database = optuna.storages.RDBStorage(
                storage,
                engine_kwargs=options,
                heartbeat_interval=HEARTBEAT_S,
                grace_period=GRACE_S,
                heartbeat_stale_trial_callback=retry,
            )
            return optuna.create_study(
                storage=database,
                study_name=name,
                direction="minimize",
                load_if_exists=True,
                sampler=_sampler(seed, min(10, max(trials // 2, 1))),
                pruner=optuna.pruners.SuccessiveHalvingPruner(MIN_PRUNING_EPOCHS, REDUCTION),
            )
    except (
        sqlalchemy.exc.SQLAlchemyError,
        optuna.exceptions.StorageInternalError,
        ImportError,
        ValueError,
        RuntimeError,
    ) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UserError(f"--storage {storage}: cannot be used ({reason})") from None


def check_identity(study: Study, identity: Mapping[str, Any], storage: str) -> None:
    """Note what a study searches. Raises `UserError` for a study of another search."""
    given = json.loads(json.dumps(identity))
    known = study.user_attrs.get(IDENTITY)
    if known is None:
        study.set_user_attr(IDENTITY, given)
    elif known != given:
        differing = [key for key in given if known.get(key) != given[key]]
        raise UserError(
            f"--storage {storage}: holds a search with other {' and '.join(differing)}; use the"
            " same, or name another"
        )


def suggest(trial: Trial, space: SearchSpace) -> dict[str, Value]:
    """The settings of a trial."""
    values: dict[str, Value] = {}
    for key, d in space.items():
        if not isinstance(d, Uniform):
            values[key] = trial.suggest_categorical(key, list(d.values))
        elif d.whole:
            values[key] = trial.suggest_int(key, int(d.low), int(d.high), log=d.log)
        else:
            values[key] = trial.suggest_float(key, d.low, d.high, log=d.log)
    return values


def process_name() -> str:
    """This process, for whoever looks whether it is alive."""
    return f"{socket.gethostname()}:{os.getpid()}"


def retry_dead_trials(study: Study) -> None:
    """Run the trials again whose process was killed: those of this machine at once, those of others
    when their heartbeat has stopped.
    """
    import optuna

    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        host, _, pid = trial.user_attrs.get("process", "").rpartition(":")
        if host == socket.gethostname() and not _is_alive(int(pid)):
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError, ValueError):
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                retry(study, study.get_trials(deepcopy=False)[trial.number])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optuna.storages.fail_stale_trials(study)


def finished(study: Study) -> list[FrozenTrial]:
    """The trials that have ended, without those that were run again."""
    repeated = {n for t in study.get_trials(deepcopy=False) for n in _earlier(t)}
    return [
        t
        for t in study.get_trials(deepcopy=False)
        if t.state.is_finished() and t.number not in repeated
    ]


def waiting_or_running(study: Study) -> tuple[int, int]:
    """(trials that wait for a worker, trials that run)"""
    states = [t.state.name for t in study.get_trials(deepcopy=False)]
    return states.count("WAITING"), states.count("RUNNING")


def importance(study: Study) -> dict[str, float]:
    """Setting -> its share of the variance of good trials (PED-ANOVA, Watanabe et al. 2023,
    arXiv:2304.10255); empty where there are too few trials.
    """
    import optuna.importance as optuna_importance

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return optuna_importance.get_param_importances(
                study, evaluator=optuna_importance.PedAnovaImportanceEvaluator()
            )
        except (ValueError, RuntimeError):
            return {}


def _earlier(trial: FrozenTrial) -> list[int]:
    """The numbers of the killed trials that a trial repeats."""
    history: list[int] = trial.system_attrs.get("retry_history", [])
    return history


def retry(study: Study, trial: FrozenTrial) -> None:
    """Queue a trial again, without what its process noted."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this is experimental
        again = optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES)
    trial = copy.copy(trial)
    trial.user_attrs = {}
    again(study, trial)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _sampler(seed: int, random_trials: int) -> BaseSampler:
    """TPE (Bergstra et al. 2011), each trial with its own seed: a search that was interrupted
    continues as it would have.
    """
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler, TPESampler
    from optuna.trial import TrialState

    class SeededByTrial(BaseSampler):
        def __init__(self) -> None:
            self._tpe = TPESampler(seed=seed)

        def before_trial(self, study: Study, trial: FrozenTrial) -> None:
            first = min([*_earlier(trial), trial.number])
            before = study.get_trials(deepcopy=False)[:first]
            self._tpe = TPESampler(
                seed=seed + first - sum(1 for t in before if _earlier(t)),
                n_startup_trials=random_trials,
                multivariate=True,
                warn_independent_sampling=False,
            )
            self._tpe.before_trial(study, trial)

        def infer_relative_search_space(
            self, study: Study, trial: FrozenTrial
        ) -> dict[str, BaseDistribution]:
            return self._tpe.infer_relative_search_space(study, trial)

        def sample_relative(
            self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
        ) -> dict[str, Any]:
            return self._tpe.sample_relative(study, trial, search_space)

        def sample_independent(self, study: Study, trial: FrozenTrial, *about: Any) -> Any:
            return self._tpe.sample_independent(study, trial, *about)

        def after_trial(
            self, study: Study, trial: FrozenTrial, state: TrialState, values: Any
        ) -> None:
            self._tpe.after_trial(study, trial, state, values)

    return SeededByTrial()
