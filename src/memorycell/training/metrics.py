"""Evaluation metrics, each with its equation, unit and source. Where a forecast's `truth` is NaN,
the value is unknown and excluded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memorycell.models.quantiles import quantile_levels


def mae(truth: np.ndarray, point: np.ndarray) -> float:
    """Mean absolute error, mean |y - ŷ|, in the unit of y."""
    return _mean_of_known(np.abs(truth - point), truth)


def mse(truth: np.ndarray, point: np.ndarray) -> float:
    """Mean squared error, mean (y - ŷ)², in the unit of y squared."""
    return _mean_of_known((truth - point) ** 2, truth)


def mase(truth: np.ndarray, point: np.ndarray, naive_error: float) -> float:
    """Mean absolute scaled error: MAE divided by the mean |y_t - y_{t-m}| of the training data
    (Hyndman & Koehler 2006).
    """
    return mae(truth, point) / naive_error


def crps(truth: np.ndarray, quantiles: np.ndarray) -> float:
    """Continuous ranked probability score, in the unit of y; lower is better (Matheson & Winkler
    1976).

    truth [...], quantiles [..., K] at `quantile_levels(K)`. For K equally likely outcomes q_k

        CRPS = 2/K · Σ_k max(τ_k (y - q_k), (τ_k - 1)(y - q_k))

    is exact (Bröcker 2012, QJRMS 138:1611). For a single outcome it is |y - q|.
    """
    levels = np.array(quantile_levels(quantiles.shape[-1]), dtype=quantiles.dtype)
    error = truth[..., None] - quantiles
    return _mean_of_known(2 * np.maximum(levels * error, (levels - 1) * error).mean(-1), truth)


def coverage(truth: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Share of the known values in [low, high]; the ideal for an 80% interval is 0.8."""
    known = ~np.isnan(truth)
    return float(((truth >= low) & (truth <= high))[known].mean())


def directional_accuracy(truth: np.ndarray, point: np.ndarray) -> dict[str, float]:
    """How often the sign of a forecast [N] is right: `accuracy`, its 95% interval (Wilson 1927)
    `low` … `high`, and `count`. Pairs with a zero are excluded. An interval that contains 0.5 shows
    no skill.
    """
    used = (truth != 0) & (point != 0) & ~np.isnan(truth)
    n = int(used.sum())
    if n == 0:
        return {"accuracy": 0.5, "low": 0.0, "high": 1.0, "count": 0}
    p, z = float((np.sign(truth[used]) == np.sign(point[used])).mean()), 1.96
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * float(np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)))
    return {"accuracy": p, "low": middle - half, "high": middle + half, "count": n}


def _mean_of_known(score: np.ndarray, truth: np.ndarray) -> float:
    """The mean where the truth is known; NaN if the forecast is NaN there."""
    return float(score[~np.isnan(truth)].mean())


# ---- classes -------------------------------------------------------------------------------------


def accuracy(truth: np.ndarray, log_p: np.ndarray) -> float:
    """Share of examples whose most likely class is true. truth [N] int, log_p [N, classes]."""
    return float((log_p.argmax(1) == truth).mean())


def macro_f1(truth: np.ndarray, log_p: np.ndarray) -> float:
    """The mean over the classes of F1 = 2 TP / (2 TP + FP + FN), without classes that neither occur
    nor are predicted.
    """
    table = confusion_matrix(truth, log_p.argmax(1), log_p.shape[1])
    both = table.sum(0) + table.sum(1)
    f1 = 2 * np.diag(table) / np.maximum(both, 1)
    return float(f1[both > 0].mean())


def log_loss(truth: np.ndarray, log_p: np.ndarray) -> float:
    """Mean negative log-likelihood of the true class, in nats."""
    return float(-log_p[np.arange(len(truth)), truth].mean())


def calibration_error(truth: np.ndarray, log_p: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: |confidence - accuracy| over equal-width bins of confidence,
    weighted by the size of each bin (Naeini, Cooper & Hauskrecht 2015).
    """
    confidence = np.exp(log_p.max(1))
    correct = log_p.argmax(1) == truth
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[bin_of == k].mean() - correct[bin_of == k].mean()) * (bin_of == k).mean()
        for k in np.unique(bin_of)
    ]
    return float(np.sum(gaps))


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """[classes, classes] int64: rows are true classes, columns predicted ones."""
    return np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(
        classes, classes
    )


def labelled_confusion(
    truth: np.ndarray, log_p: np.ndarray, labels: Sequence[str]
) -> dict[str, dict[str, int]]:
    """The confusion matrix by label: true class -> predicted class -> count."""
    table = confusion_matrix(truth, log_p.argmax(1), len(labels))
    return {
        a: dict(zip(labels, map(int, row), strict=True))
        for a, row in zip(labels, table, strict=True)
    }


def classification_metrics(truth: np.ndarray, log_p: np.ndarray) -> dict[str, float]:
    """Error (1 - accuracy), accuracy, macro_f1, log_loss (nats), calibration_error."""
    correct = accuracy(truth, log_p)
    return {
        "error": 1 - correct,
        "accuracy": correct,
        "macro_f1": macro_f1(truth, log_p),
        "log_loss": log_loss(truth, log_p),
        "calibration_error": calibration_error(truth, log_p),
    }


def prediction_metrics(truth: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, float]:
    """error, accuracy and macro_f1 of predicted classes [N] int64 without probabilities."""
    values = classification_metrics(truth, np.eye(classes)[predicted])
    return {name: values[name] for name in ("error", "accuracy", "macro_f1")}


def transcription_metrics(references: Sequence[str], texts: Sequence[str]) -> dict[str, float]:
    """Cer (also named error), the character error rate, and wer, the word error rate: insertions,
    deletions and substitutions over the length of the references (jiwer; Levenshtein 1966). May
    exceed 1.
    """
    import jiwer

    references = [text or " " for text in references]
    cer = float(jiwer.cer(list(references), list(texts)))
    return {"error": cer, "cer": cer, "wer": float(jiwer.wer(list(references), list(texts)))}


# ---- anomalies -----------------------------------------------------------------------------------


def detection_metrics(
    flagged: Sequence[np.ndarray], scores: Sequence[np.ndarray], labels: Sequence[np.ndarray]
) -> dict[str, float]:
    """Metrics of anomaly detection; each argument holds one array [rows] per recording.

    f1      2 TP / (2 TP + FP + FN), over all rows together
    far     false alarm rate: the share of normal rows that are flagged
    mar     missed alarm rate: the share of anomalous rows that are not flagged
    auc_pr  area under the precision-recall curve of the scores (average precision)
    delay   mean number of rows from the start of an anomaly to its first flagged row, over the
            detected anomalies
    found   the share of anomalies with a flagged row; consecutive anomalous rows are one anomaly

    f1, far and mar as in SKAB (Katser & Kozitsin 2020). 0 where the denominator is 0.
    """
    from sklearn.metrics import average_precision_score

    alarm, truth = np.concatenate(flagged).astype(bool), np.concatenate(labels).astype(bool)
    hit, false, missed = (int(x.sum()) for x in (alarm & truth, alarm & ~truth, ~alarm & truth))
    delays, anomalies = [], 0
    for flags, label in zip(flagged, labels, strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], label.astype(np.int8), [0]])))
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            anomalies += 1
            if flags[begin:end].any():
                delays.append(int(np.argmax(flags[begin:end])))
    return {
        "f1": 2 * hit / max(2 * hit + false + missed, 1),
        "far": false / max(int((~truth).sum()), 1),
        "mar": missed / max(int(truth.sum()), 1),
        "auc_pr": (
            float(average_precision_score(truth, np.concatenate(scores))) if truth.any() else 0.0
        ),
        "delay": float(np.mean(delays)) if delays else 0.0,
        "found": len(delays) / max(anomalies, 1),
    }
