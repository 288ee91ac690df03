"""Metrics of predictions for sequences, each with its source where it is not common knowledge.

A prediction has, for N sequences of T_i steps, C classes or labels and K numbers:

    class        probabilities [N, C]
    labels       probabilities [N, C], of each label by itself
    number       quantiles [N, K, Q] at `models.quantiles.quantile_levels(Q)`; Q = 1: points
    step_class   N arrays [T_i, C]
    step_number  N arrays [T_i, K, Q]

Steps without a known target are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from memorycell.applications.sequences.sequence_set import Target
from memorycell.applications.sequences.splits import known_steps
from memorycell.models.quantiles import interval
from memorycell.training import metrics as common

Prediction: TypeAlias = np.ndarray | Sequence[np.ndarray]

MIN_PROBABILITY = 1e-12
INTERVAL_SHARE = 0.8
"""Nominal coverage of the interval of quantiles."""


def evaluate(
    target: Target, prediction: Prediction, *, probabilities: bool = True
) -> dict[str, float]:
    """Metric name -> value over all sequences.

    class, step_class    error, accuracy, balanced_accuracy, macro_f1, auroc (one against the rest,
                         mean over the classes that occur), log_loss in nats, calibration_error
    labels               error (1 - macro_f1), macro_f1, exact_match, auroc, log_loss
    number, step_number  mae, rmse, crps in the unit of the target, r2; coverage of the 80% interval
                         where there are quantiles; of several numbers the mean over them
    step_number          nse and kge too, the mean over the sequences

    probabilities   False: only the most likely class counts, and metrics of probabilities are left
                    out

    NaN where no target is known.
    """
    truth, predicted = _flat(target, prediction)
    if len(truth) == 0:
        return {"error" if target.is_class or target.kind == "labels" else "rmse": float("nan")}
    if target.is_class:
        return class_metrics(truth, predicted, probabilities=probabilities)
    if target.kind == "labels":
        return label_metrics(truth, predicted, probabilities=probabilities)
    result = number_metrics(truth, predicted)
    if target.kind == "step_number":
        result |= hydrology_metrics(target, prediction)
    return result


def per_class(target: Target, prediction: Prediction) -> dict[str, dict[str, float]]:
    """Class or label -> count, precision, recall, f1."""
    from sklearn.metrics import precision_recall_fscore_support

    truth, predicted = _flat(target, prediction)
    if target.is_class:
        scores = precision_recall_fscore_support(
            truth, predicted.argmax(1), labels=range(len(target.names)), zero_division=0.0
        )
    else:
        scores = precision_recall_fscore_support(truth > 0.5, predicted > 0.5, zero_division=0.0)
    precision, recall, f1, support = scores
    return {
        name: {
            "count": int(support[k]),
            "precision": float(precision[k]),
            "recall": float(recall[k]),
            "f1": float(f1[k]),
        }
        for k, name in enumerate(target.names)
    }


def per_group(
    target: Target,
    prediction: Prediction,
    groups: Sequence[str],
    *,
    probabilities: bool = True,
) -> dict[str, dict[str, float]]:
    """Group (or the name of each sequence) -> its count of sequences and metrics of `evaluate`."""
    members: dict[str, list[int]] = {}
    for k, name in enumerate(groups):
        members.setdefault(name, []).append(k)
    return {
        name: {
            "count": len(own),
            **evaluate(
                target.select(np.array(own)),
                prediction[own] if isinstance(prediction, np.ndarray) else _take(prediction, own),
                probabilities=probabilities,
            ),
        }
        for name, own in members.items()
    }


def confusion(target: Target, prediction: Prediction) -> dict[str, dict[str, int]]:
    """True class -> predicted class -> count, of a target of classes."""
    truth, predicted = _flat(target, prediction)
    return common.labelled_confusion(truth, predicted, target.names)


def class_metrics(
    truth: np.ndarray, probability: np.ndarray, *, probabilities: bool = True
) -> dict[str, float]:
    """Of classes: truth [n] int64, probability [n, C]; see `evaluate`."""
    from sklearn.metrics import recall_score

    log_p = np.log(np.clip(probability, MIN_PROBABILITY, None))
    result = common.classification_metrics(truth, log_p)
    present = np.unique(truth)
    balanced = recall_score(
        truth, probability.argmax(1), labels=present, average="macro", zero_division=0.0
    )
    result["balanced_accuracy"] = float(balanced)
    area = _auroc(truth[:, None] == present, probability[:, present])
    if not probabilities:
        return {k: v for k, v in result.items() if k not in ("log_loss", "calibration_error")}
    return result | ({} if area is None else {"auroc": area})


def label_metrics(
    truth: np.ndarray, probability: np.ndarray, *, probabilities: bool = True
) -> dict[str, float]:
    """Of several labels at once: truth [n, C] of 0 and 1, probability [n, C]; see `evaluate`."""
    from sklearn.metrics import f1_score

    chosen = probability > 0.5
    f1 = float(f1_score(truth > 0.5, chosen, average="macro", zero_division=0.0))
    result = {
        "error": 1 - f1,
        "macro_f1": f1,
        "exact_match": float((chosen == (truth > 0.5)).all(1).mean()),
    }
    if not probabilities:
        return result
    p = np.clip(probability, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    result["log_loss"] = float(-(truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean())
    area = _auroc(truth > 0.5, probability)
    return result | ({} if area is None else {"auroc": area})


def number_metrics(truth: np.ndarray, quantiles: np.ndarray) -> dict[str, float]:
    """Of numbers: truth [n, K] without NaN, quantiles [n, K, Q]; see `evaluate`. Squared errors are
    those of the mean of the quantiles, absolute ones those of the median.
    """
    low, median, high = interval(quantiles)
    error = truth - quantiles.mean(-1)
    deviation = truth - truth.mean(0)
    columns = [
        1 - (error[:, k] ** 2).sum() / spread if spread > 0 else float("nan")
        for k, spread in enumerate((deviation**2).sum(0))
    ]
    result = {
        "mae": common.mae(truth, median),
        "rmse": float(np.sqrt((error**2).mean(0)).mean()),
        "r2": float(np.mean(columns)),
        "crps": common.crps(truth, quantiles),
    }
    if quantiles.shape[-1] > 1:
        result["coverage"] = common.coverage(truth, low, high)
    return result


def hydrology_metrics(target: Target, prediction: Prediction) -> dict[str, float]:
    """Of numbers at every step: nse and kge of the mean of the quantiles, the mean over sequences
    and numbers, without those whose target never changes.
    """
    scores = []
    for truth, quantiles in zip(target.values, prediction, strict=True):
        known = known_steps(truth)
        point = quantiles.mean(-1)
        scores += [
            (nse(truth[known, k], point[known, k]), kge(truth[known, k], point[known, k]))
            for k in range(truth.shape[1])
            if known.sum() > 1 and np.ptp(truth[known, k]) > 0
        ]
    if not scores:
        return {}
    means = np.mean(scores, 0)
    return {"nse": float(means[0]), "kge": float(means[1])}


def nse(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Nash-Sutcliffe efficiency (Nash & Sutcliffe 1970, Journal of Hydrology 10:282): 1 - Σ(y - ŷ)²
    / Σ(y - ȳ)²; 1 is perfect, 0 as good as the mean. truth, predicted [T].
    """
    return float(1 - ((truth - predicted) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())


def kge(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Kling-Gupta efficiency (Gupta et al. 2009, Journal of Hydrology 377:80): 1 - √((r - 1)² +
    (α - 1)² + (β - 1)²), with the correlation r, α the ratio of the standard deviations and β that
    of the means, predicted over true. r is 0 for a constant prediction. truth, predicted [T].
    """
    spread = predicted.std()
    r = 0.0 if spread == 0 else float(np.corrcoef(truth, predicted)[0, 1])
    mean = truth.mean()
    beta = predicted.mean() / mean if mean != 0 else float("nan")
    return float(1 - np.sqrt((r - 1) ** 2 + (spread / truth.std() - 1) ** 2 + (beta - 1) ** 2))


def _auroc(truth: np.ndarray, scores: np.ndarray) -> float | None:
    """The mean area under the ROC curve of columns [n, C] with both outcomes; None: there are
    none.
    """
    from sklearn.metrics import roc_auc_score

    both = truth.any(0) & ~truth.all(0)
    if not both.any():
        return None
    areas = [roc_auc_score(truth[:, k], scores[:, k]) for k in np.flatnonzero(both)]
    return float(np.mean(areas))


def _flat(target: Target, prediction: Prediction) -> tuple[np.ndarray, np.ndarray]:
    """(truth, prediction) of the sequences, or of all steps with a known target."""
    if not target.every_step:
        return target.array, np.asarray(prediction)
    known = [known_steps(values) for values in target.values]
    truth = [v[k] for v, k in zip(target.values, known, strict=True)]
    predicted = [p[k] for p, k in zip(prediction, known, strict=True)]
    return np.concatenate(truth), np.concatenate(predicted)


def _take(prediction: Sequence[np.ndarray], own: Sequence[int]) -> list[np.ndarray]:
    return [prediction[k] for k in own]
