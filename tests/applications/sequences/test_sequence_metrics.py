"""Metrics of sequences against their definitions and known values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memorycell.applications.sequences import metrics
from memorycell.applications.sequences.sequence_set import Target


def test_nse_and_kge_by_their_definitions():
    truth = np.array([1.0, 2, 4, 8, 3])
    predicted = np.array([1.5, 2, 3, 7, 4])
    mean = 3.6
    expected = 1 - (0.25 + 0 + 1 + 1 + 1) / sum((y - mean) ** 2 for y in truth)
    assert metrics.nse(truth, predicted) == pytest.approx(expected)
    assert metrics.nse(truth, np.full(5, mean)) == pytest.approx(0)
    assert metrics.kge(truth, truth) == pytest.approx(1)
    # Twice the truth: r = 1, the ratios of deviations and of means are 2.
    assert metrics.kge(truth, 2 * truth) == pytest.approx(1 - 2**0.5)
    assert metrics.kge(truth, np.full(5, mean)) == pytest.approx(1 - 2**0.5)


def test_nse_and_kge_are_means_over_the_sequences():
    rng = np.random.default_rng(0)
    truth = [rng.gamma(2, size=(30, 1)), rng.gamma(2, 5, size=(20, 1)), np.full((5, 1), 3.0)]
    truth[0][:4] = np.nan
    points = [v + rng.normal(size=v.shape) for v in truth]
    points[0][:4] = 1e9  # at steps without a target nothing is scored
    prediction = [p[:, :, None] for p in points]
    result = metrics.evaluate(Target("step_number", ("y",), truth), prediction)
    first = metrics.nse(truth[0][4:, 0], points[0][4:, 0])
    second = metrics.nse(truth[1][:, 0], points[1][:, 0])
    assert result["nse"] == pytest.approx((first + second) / 2)  # the third never changes
    error = np.concatenate(
        [truth[0][4:] - points[0][4:], *(t - p for t, p in zip(truth[1:], points[1:], strict=True))]
    )
    assert result["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    assert result["mae"] == pytest.approx(np.abs(error).mean())
    assert result["crps"] == pytest.approx(result["mae"])
    assert "coverage" not in result


def test_quantiles_give_median_mean_interval_and_crps():
    truth = np.array([[0.0], [10.0]])
    quantiles = np.tile(np.array([-2.0, -1, 0, 1, 7]), (2, 1, 1))
    result = metrics.evaluate(Target("number", ("y",), truth), quantiles)
    assert result["mae"] == 5  # from the median 0
    assert result["rmse"] == pytest.approx(np.sqrt((1 + 81) / 2))  # from the mean 1
    assert result["coverage"] == 0.5
    # E|X - y| - E|X - X'| / 2 of the five outcomes (Gneiting & Raftery 2007)
    x = quantiles[0, 0]
    spread = np.abs(x[:, None] - x).mean() / 2
    expected = np.mean([np.abs(x - y).mean() - spread for y in (0, 10)])
    assert result["crps"] == pytest.approx(expected)
    assert result["r2"] == pytest.approx(1 - 82 / 50)


@settings(max_examples=12)
@given(st.integers(0, 1000), st.integers(2, 5))
def test_class_metrics_by_counting(seed, classes):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, 40)
    probability = rng.dirichlet(np.ones(classes), 40)
    predicted = probability.argmax(1)
    target = Target("class", tuple(f"c{k}" for k in range(classes)), truth)
    result = metrics.evaluate(target, probability)
    present = np.unique(truth)
    recall = [np.mean(predicted[truth == k] == k) for k in present]
    assert result["accuracy"] == pytest.approx(np.mean(predicted == truth))
    assert result["balanced_accuracy"] == pytest.approx(np.mean(recall))
    areas = []
    for k in present:
        if 0 < (truth == k).sum() < 40:
            a, b = probability[truth == k, k], probability[truth != k, k]
            areas.append(np.mean(a[:, None] > b) + np.mean(a[:, None] == b) / 2)
    assert result["auroc"] == pytest.approx(np.mean(areas))
    table = metrics.confusion(target, probability)
    assert sum(table[f"c{k}"][f"c{k}"] for k in range(classes)) == (predicted == truth).sum()
    shares = metrics.per_class(target, probability)
    assert sum(v["count"] for v in shares.values()) == 40
    assert shares["c0"]["recall"] == pytest.approx(
        np.mean(predicted[truth == 0] == 0) if (truth == 0).any() else 0
    )


def test_without_probabilities_only_the_class_counts():
    target = Target("class", ("a", "b"), np.array([0, 1, 1]))
    result = metrics.evaluate(target, np.eye(2)[[0, 1, 0]], probabilities=False)
    assert set(result) == {"error", "accuracy", "balanced_accuracy", "macro_f1"}
    assert result["balanced_accuracy"] == 0.75


def test_steps_without_a_class_are_left_out():
    values = [np.array([0, -1, 1]), np.array([-1, -1])]
    prediction = [np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8]]), np.full((2, 2), 0.5)]
    target = Target("step_class", ("a", "b"), values)
    assert metrics.evaluate(target, prediction)["accuracy"] == 1
    groups = metrics.per_group(target, prediction, ["p", "q"])
    assert groups["p"]["accuracy"] == 1
    assert np.isnan(groups["q"]["error"])


def test_labels():
    target = Target("labels", ("u", "v"), np.array([[1, 0], [1, 1], [0, 1]], np.float32))
    probability = np.array([[0.9, 0.2], [0.6, 0.4], [0.1, 0.7]])
    result = metrics.evaluate(target, probability)
    # u: 2 of 2 found, none wrong; v: 1 of 2 found, none wrong: F1 1 and 2/3
    assert result["macro_f1"] == pytest.approx(5 / 6)
    assert result["exact_match"] == pytest.approx(2 / 3)
    assert result["auroc"] == 1
    log = np.log([0.9, 0.8, 0.6, 0.4, 0.9, 0.7])
    assert result["log_loss"] == pytest.approx(-log.mean())
    assert metrics.per_class(target, probability)["v"]["recall"] == 0.5
