"""The comparison of a model with the baselines, made in training or when it is asked for."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from memorycell.application.contract import Metrics
from memorycell.application.rendering import comparison_text
from memorycell.errors import UserError

if TYPE_CHECKING:
    from memorycell.face.trained import Trained

COMPARED = "compared"
"""In `ModelFile.info`, False: the baselines were left out in training."""
NOT_COMPARED = "baselines: not computed in training; .baselines computes them"


def comparison(model: Trained) -> dict[str, Any]:
    """What `application.rendering` draws: the metrics of a model and of the baselines, as far as
    they were computed.
    """
    return {
        "task": model.task,
        "primary": model.primary,
        "higher": model.higher_is_better,
        "metrics": model.metrics,
        "baselines": dict(model.info.get("baselines") or {}),
        "skill": model.info.get("skill"),
    }


def is_compared(model: Trained) -> bool:
    """Whether the model was compared with the baselines."""
    return model.info.get(COMPARED) is not False


def model_text(model: Trained) -> str:
    """The metrics of a model below those of the baselines."""
    if not model.metrics:
        return f"<memorycell {model.task}>"
    text = comparison_text(comparison(model))
    return text if is_compared(model) else f"{text}\n{NOT_COMPARED}"


def compare_now(model: Trained) -> None:
    """Compute the baselines that were left out in training, on the model's own data, and store
    them in `info`. Warns where these are not available, and for a model that was loaded: a server,
    say, must not begin to read and fit.
    """
    if is_compared(model):
        return
    try:
        if model.result is None:
            raise UserError("it was loaded from a file")
        found, skill = _own_baselines(model)
    except UserError as error:
        warnings.warn(
            f"no baselines: they were left out in training ({error}); evaluate(data) compares",
            stacklevel=3,
        )
        return
    model.info.pop(COMPARED)
    for record in (model.info, model.result):
        if record is not None:
            record |= {"baselines": found, "skill": skill}


def _own_baselines(model: Trained) -> tuple[dict[str, Metrics], float | None]:
    """Of the test split, and the skill. Those that the model file does not hold are fitted on the
    training split, which is prepared again.
    """
    from memorycell.training import loop

    application = model.application
    with model.own_file() as file:
        dataset = application.reopen(None, file)
        metric = dataset.metric(application.metric)
        found = loop.test_baselines(dataset, metric)
        if not found:
            settings = model.typed_settings(application.settings)
            found = loop.test_baselines(application.prepare(file.data, settings), metric)
    return found, loop.skill(metric, model.metrics, found)
