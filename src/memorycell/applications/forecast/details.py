"""Details of an evaluation: CRPS by lead time, classic methods, the direction of returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from memorycell.application.contract import Metrics, Record
from memorycell.application.rendering import table_text
from memorycell.applications.forecast import classic
from memorycell.models.quantiles import interval
from memorycell.tables.column_lists import split_names
from memorycell.training import metrics

if TYPE_CHECKING:
    from memorycell.applications.forecast.dataset import ForecastDataset
    from memorycell.applications.forecast.model import Forecaster

MAX_LEAD_TIMES = 8
"""Lead times whose CRPS is reported."""


def evaluation_details(dataset: ForecastDataset, model: Forecaster, split: str) -> Record:
    """`by_lead`: lead time -> CRPS of the model and of the best baseline; with the setting
    `classic`, `classic`: method -> metrics; for returns, `direction`.
    """
    at, codec = dataset.scored_origins(split), dataset.codec
    ours = dataset.quantiles(model, at)
    details: dict[str, Any] = {"by_lead": _by_lead(dataset, ours, at, split)}
    if advice := _advice(dataset, dataset.score(ours, at)["crps"], split):
        details["advice"] = advice
    if dataset.settings.classic:
        details["classic"] = _classic(dataset, model, at)
    if codec.returns is not None:
        names = dataset.series_names(at)
        details["direction"] = metrics.directional_accuracy(
            codec.unscale(dataset.history.future[at][..., None], names)[:, 0, 0, 0],
            interval(codec.unscale(ours, names))[1][:, 0, 0],
        )
    return details


def _advice(dataset: ForecastDataset, crps: float, split: str) -> str | None:
    """What to try where a baseline is better than the model."""
    scores, settings = _baselines(dataset, split), dataset.settings
    best = min(scores, key=lambda name: scores[name]["crps"], default=None)
    if best is None or crps <= scores[best]["crps"]:
        return None
    tries = []
    if dataset.codec.returns is None and settings.head != "counts":
        tries += ["normal=level"] if settings.normal != "level" else []
    if dataset.codec.inputs and not dataset.codec.known:
        tries.append("inputs=none")
    if (settings.window or 1) < (settings.horizon or 1):
        tries.append(f"window={settings.horizon}")
    options = " or ".join(f"--set {text}" for text in tries) or "longer training (--minutes)"
    return f"{best} is better than the model: use it, or try {options}"


def _baselines(dataset: ForecastDataset, split: str) -> Mapping[str, Metrics]:
    """Their metrics; none where the model is not compared with them."""
    return dataset.baselines(split) if dataset.with_baselines else {}


def _by_lead(
    dataset: ForecastDataset, ours: np.ndarray, at: np.ndarray, split: str
) -> dict[str, dict[str, float]]:
    horizon = ours.shape[1]
    leads = np.unique(np.linspace(1, horizon, min(horizon, MAX_LEAD_TIMES)).round().astype(int))
    methods = ["memorycell"]
    if scores := _baselines(dataset, split):
        methods.append(min(scores, key=lambda name: scores[name]["crps"]))
    total, count = np.zeros((len(leads), len(methods))), np.zeros((len(leads), 1))
    for part in dataset.chunks(at):
        truth = dataset.history.future[at[part]][:, leads - 1]
        known = ~np.isnan(truth)
        count[:, 0] += known.sum((0, 2))
        for j, name in enumerate(methods):
            quantiles = (
                ours[part] if j == 0 else dataset.baseline_quantiles(name, at[part])
            ).astype(np.float64)[:, leads - 1]
            for i in np.flatnonzero(known.any((0, 2))):
                score = metrics.crps(truth[:, i], quantiles[:, i])
                total[i, j] += score * known[:, i].sum()
    unit = 1.0 if dataset.scaled or dataset.codec.own else float(dataset.codec.std[0])
    means = unit * total / np.maximum(count, 1)
    return {
        str(lead): dict(zip(methods, row.tolist(), strict=True))
        for lead, row, known in zip(leads.tolist(), means, count[:, 0], strict=True)
        if known
    }


def _classic(dataset: ForecastDataset, model: Forecaster, at: np.ndarray) -> dict[str, Any]:
    """The metrics of the classic methods and of the model at the same origins, evenly spaced."""
    settings, level = dataset.settings, dataset.history.level
    count = min(settings.origins, len(at))
    origins = at[np.unique(np.linspace(0, len(at) - 1, count).round().astype(int))]
    ours = dataset.quantiles(model, origins)
    result: dict[str, Any] = {
        "origins": len(origins),
        "memorycell": dataset.score(ours, origins),
    }
    for method in split_names(settings.classic):
        quantiles = np.empty(ours.shape)
        for place, step in enumerate(origins):
            for k in range(level.shape[1]):
                quantiles[place, :, k] = classic.forecast(
                    method,
                    level[dataset.series.start[step] : step + 1, k],
                    horizon=settings.horizon or 1,
                    season=settings.season or 1,
                    quantiles=ours.shape[-1],
                )
        result[method] = dataset.score(quantiles, origins)
    return result


def render_details(result: Mapping[str, Any]) -> list[str]:
    """See `Application.render_details`."""
    blocks = []
    if len(result.get("by_lead", ())) > 1:
        blocks.append(_by_lead_table(result["by_lead"]))
    if "classic" in result:
        blocks.append(_classic_table(result["classic"], result["primary"]))
    if "advice" in result:
        blocks.append(str(result["advice"]))
    if "direction" in result:
        blocks.append(direction_text(result["direction"]))
    return blocks


def _by_lead_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    methods = sorted(next(iter(scores.values())), key=lambda name: name == "memorycell")
    rows = [[name, *(f"{by[name]:.3g}" for by in scores.values())] for name in methods]
    return table_text("CRPS by lead time in steps", ["method", *scores], rows)


def _classic_table(result: Mapping[str, Any], primary: str) -> str:
    scores = {name: values for name, values in result.items() if name != "origins"}
    methods = sorted(scores, key=lambda name: -scores[name][primary])
    return table_text(
        f"classic methods, refitted at each of {result['origins']} steps",
        ["method", *scores["memorycell"]],
        [[name, *(f"{value:.4g}" for value in scores[name].values())] for name in methods],
    )


def direction_text(direction: Mapping[str, float]) -> str:
    """How often up or down was predicted correctly, and whether that is skill."""
    low, high = direction["low"], direction["high"]
    if low <= 0.5 <= high:
        verdict = "no skill; the forecast is of the size of returns, not of their direction"
    else:
        verdict = f"{'better' if low > 0.5 else 'worse'} than chance"
    return (
        f"up or down: right {direction['accuracy']:.1%} of {direction['count']:,} times, 95%"
        f" interval {low:.1%} to {high:.1%}: {verdict}"
    )
