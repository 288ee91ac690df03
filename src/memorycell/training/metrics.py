"""Measures: one function each, with its equation, unit and source. NaN in a forecast's `truth`
means unknown: left out.
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
    """Mean absolute scaled error: MAE over the mean |y_t - y_{t-m}| of the training data. Hyndman &
    Koehler (2006).
    """
    return mae(truth, point) / naive_error


def crps(truth: np.ndarray, quantiles: np.ndarray) -> float:
    """Continuous ranked probability score, in the unit of y; lower is better. Matheson & Winkler
    (1976).

    truth [...], quantiles [..., K] at `quantile_levels(K)`. For K equally likely outcomes q_k

        CRPS = 2/K · Σ_k max(τ_k (y - q_k), (τ_k - 1)(y - q_k))

    is exact (Bröcker 2012, QJRMS 138:1611); for a single outcome it is |y - q|.
    """
    levels = np.array(quantile_levels(quantiles.shape[-1]), dtype=quantiles.dtype)
    error = truth[..., None] - quantiles
    return _mean_of_known(2 * np.maximum(levels * error, (levels - 1) * error).mean(-1), truth)


def coverage(truth: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Share of the known values that lie in [low, high]; 0.8 is right for an 80% interval."""
    known = ~np.isnan(truth)
    return float(((truth >= low) & (truth <= high))[known].mean())


def direction(truth: np.ndarray, point: np.ndarray) -> dict[str, float]:
    """How often the sign of a forecast is right, of those [N] that say up or down and came true as
    one of them: `accuracy`, Wilson's (1927) 95% interval `low` … `high`, and `count`. There is no
    skill where the interval holds one half.
    """
    kept = (truth != 0) & (point != 0) & ~np.isnan(truth)
    n = int(kept.sum())
    if n == 0:
        return {"accuracy": 0.5, "low": 0.0, "high": 1.0, "count": 0}
    p, z = float((np.sign(truth[kept]) == np.sign(point[kept])).mean()), 1.96
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * float(np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)))
    return {"accuracy": p, "low": middle - half, "high": middle + half, "count": n}


def _mean_of_known(score: np.ndarray, truth: np.ndarray) -> float:
    """The mean where the truth is known; a forecast that is NaN there makes it NaN."""
    return float(score[~np.isnan(truth)].mean())


# ---- classes -------------------------------------------------------------------------------------


def accuracy(truth: np.ndarray, log_p: np.ndarray) -> float:
    """Share of examples whose likeliest class is the true one. truth [N] int, log_p [N, classes]."""
    return float((log_p.argmax(1) == truth).mean())


def macro_f1(truth: np.ndarray, log_p: np.ndarray) -> float:
    """The mean over the classes of F1 = 2 TP / (2 TP + FP + FN); a class that neither occurs nor is
    answered is left out.
    """
    table = confusion(truth, log_p.argmax(1), log_p.shape[1])
    both = table.sum(0) + table.sum(1)
    f1 = 2 * np.diag(table) / np.maximum(both, 1)
    return float(f1[both > 0].mean())


def log_loss(truth: np.ndarray, log_p: np.ndarray) -> float:
    """Mean negative log-likelihood of the true class, in nats."""
    return float(-log_p[np.arange(len(truth)), truth].mean())


def calibration_error(truth: np.ndarray, log_p: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: the mean difference between how sure the answers are and how
    often they are right, over bins of equally sure ones, each weighted by its size. Naeini, Cooper
    & Hauskrecht (2015).
    """
    sure = np.exp(log_p.max(1))
    right = log_p.argmax(1) == truth
    place = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [
        abs(sure[place == k].mean() - right[place == k].mean()) * (place == k).mean()
        for k in np.unique(place)
    ]
    return float(np.sum(gaps))


def confusion(truth: np.ndarray, answer: np.ndarray, classes: int) -> np.ndarray:
    """[classes, classes] int64: rows are the true class, columns the answer."""
    return np.bincount(truth * classes + answer, minlength=classes * classes).reshape(
        classes, classes
    )


def confusion_of(
    truth: np.ndarray, log_p: np.ndarray, labels: Sequence[str]
) -> dict[str, dict[str, int]]:
    """The confusion table by name: what it was -> what was answered -> how often."""
    table = confusion(truth, log_p.argmax(1), len(labels))
    return {
        a: dict(zip(labels, map(int, row), strict=True))
        for a, row in zip(labels, table, strict=True)
    }


def of_classes(truth: np.ndarray, log_p: np.ndarray) -> dict[str, float]:
    """Error (1 - accuracy), accuracy, macro_f1, log_loss (nats), calibration_error."""
    right = accuracy(truth, log_p)
    return {
        "error": 1 - right,
        "accuracy": right,
        "macro_f1": macro_f1(truth, log_p),
        "log_loss": log_loss(truth, log_p),
        "calibration_error": calibration_error(truth, log_p),
    }


def of_answers(truth: np.ndarray, answers: np.ndarray, classes: int) -> dict[str, float]:
    """The same of answers [N] int64 without probabilities: error, accuracy, macro_f1."""
    found = of_classes(truth, np.eye(classes)[answers])
    return {name: found[name] for name in ("error", "accuracy", "macro_f1")}


def of_texts(said: Sequence[str], read: Sequence[str]) -> dict[str, float]:
    """Error and cer, the share of characters that are wrong, and wer, that of words: the fewest
    insertions, deletions and replacements that make one of the other, over the length of what was
    said (jiwer; Levenshtein 1966). May exceed 1.
    """
    import jiwer

    said = [text or " " for text in said]
    cer = float(jiwer.cer(list(said), list(read)))
    return {"error": cer, "cer": cer, "wer": float(jiwer.wer(list(said), list(read)))}


# ---- anomalies -----------------------------------------------------------------------------------


def of_detection(
    flagged: Sequence[np.ndarray], scores: Sequence[np.ndarray], labels: Sequence[np.ndarray]
) -> dict[str, float]:
    """How well the rows of several recordings were flagged; each argument holds an array a
    recording.

    f1      2 TP / (2 TP + FP + FN), over all rows together
    far     false alarm rate: the share of normal rows that are flagged; mar: the share of anomalous
            rows that are missed
    auc_pr  area under precision over recall, as the threshold on scores varies (average precision)
    delay   rows from where a stretch of anomalous rows begins to the first that is flagged, in the
            mean of those found
    found   the share of stretches of which a row is flagged

    f1, far and mar as in SKAB (Katser & Kozitsin 2020). 0 where there is nothing to take a share
    of.
    """
    from sklearn.metrics import average_precision_score

    told, truth = np.concatenate(flagged).astype(bool), np.concatenate(labels).astype(bool)
    hit, false, missed = (int(x.sum()) for x in (told & truth, told & ~truth, ~told & truth))
    delays, stretches = [], 0
    for own, label in zip(flagged, labels, strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], label.astype(np.int8), [0]])))
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            stretches += 1
            if own[begin:end].any():
                delays.append(int(np.argmax(own[begin:end])))
    return {
        "f1": 2 * hit / max(2 * hit + false + missed, 1),
        "far": false / max(int((~truth).sum()), 1),
        "mar": missed / max(int(truth.sum()), 1),
        "auc_pr": (
            float(average_precision_score(truth, np.concatenate(scores))) if truth.any() else 0.0
        ),
        "delay": float(np.mean(delays)) if delays else 0.0,
        "found": len(delays) / max(stretches, 1),
    }
