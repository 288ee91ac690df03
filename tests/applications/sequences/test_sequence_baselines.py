"""The baselines of sequences against plain loops, known models and data that they can learn."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from memorycell.applications.sequences import baselines
from memorycell.applications.sequences.arrays import from_arrays
from memorycell.applications.sequences.baselines_inputs import EncodedSteps, StepEncoder
from memorycell.applications.sequences.baselines_linear import ALPHAS, Ridge, window_features
from memorycell.applications.sequences.nearest import NearestDtw, dtw_distances, resample
from memorycell.applications.sequences.random_convolutions import KERNELS, RandomConvolutions
from memorycell.applications.sequences.sequence_set import Channel, SequenceSet, Target
from memorycell.applications.sequences.splits import select_part, split_spans


def encoded(sequences) -> EncodedSteps:
    starts = np.cumsum([0, *map(len, sequences)])
    flat = np.concatenate(sequences).astype(np.float32)
    empty = np.zeros((len(sequences), 0), np.float32)
    return EncodedSteps(flat, starts, empty, empty)


def dtw(query, known, band) -> float:
    """By the definition, a cell at a time."""
    steps, size = len(query), len(known)
    width = max(band, 1 / max(min(steps, size) - 1, 1))
    cost = np.full((steps + 1, size + 1), np.inf)
    cost[0, 0] = 0
    for s, t in itertools.product(range(steps), range(size)):
        if abs(s / max(steps - 1, 1) - t / max(size - 1, 1)) <= width + 1e-9:
            before = min(cost[s, t + 1], cost[s + 1, t], cost[s, t])
            cost[s + 1, t + 1] = ((query[s] - known[t]) ** 2).sum() + before
    return cost[steps, size] / (steps + size)


@settings(max_examples=25)
@given(
    st.integers(1, 25),
    st.integers(1, 25),
    st.sampled_from([0.05, 0.1, 0.4, 1.0]),
    st.integers(0, 99),
)
def test_dtw_is_its_recursion(steps, size, band, seed):
    rng = np.random.default_rng(seed)
    channels = int(rng.integers(1, 4))
    queries = rng.normal(size=(channels, steps, 2)).astype(np.float32)
    known = rng.normal(size=(channels, size, 3)).astype(np.float32)
    found = dtw_distances(queries, known, band)
    for i, j in itertools.product(range(2), range(3)):
        expected = dtw(queries[:, :, i].T, known[:, :, j].T, band)
        assert found[i, j] == pytest.approx(expected, rel=1e-4)


def test_the_nearest_of_different_lengths():
    rng = np.random.default_rng(0)
    known = [rng.normal(size=(n, 2)).astype(np.float32) for n in rng.integers(3, 30, 40)]
    queries = [rng.normal(size=(n, 2)).astype(np.float32) for n in rng.integers(3, 30, 15)]
    found, distance = NearestDtw(known).nearest(queries)
    for query, k, least in zip(queries, found, distance, strict=True):
        expected = [dtw(query, other, 0.1) for other in known]
        assert k == int(np.argmin(expected))
        assert least == pytest.approx(min(expected), rel=1e-4)
    own, zero = NearestDtw(known).nearest(known)
    np.testing.assert_array_equal(own, np.arange(40))
    np.testing.assert_array_equal(zero, 0)
    other, _ = NearestDtw(known).nearest(known, leave_out=True)
    assert (other != np.arange(40)).all()


def test_resampling_keeps_lines_and_ends():
    line = np.linspace(0, 6, 7)[:, None] * [1.0, -2]
    np.testing.assert_allclose(resample(line, 13)[:, 0], np.linspace(0, 6, 13), rtol=1e-6)
    np.testing.assert_allclose(resample(line, 4)[-1], [6, -12])
    np.testing.assert_array_equal(resample(np.ones((1, 2)), 3), np.ones((3, 2)))


def test_random_convolutions_are_shares_of_convolutions_above_their_biases():
    rng = np.random.default_rng(0)
    train = encoded([rng.normal(size=(40, 1)) for _ in range(6)])
    model = RandomConvolutions(84 * 4, seed=3).fit(train)
    one = rng.normal(size=40).astype(np.float32)
    features = model.transform(encoded([one[:, None]]))[0]
    column = 0
    for number, (dilation, _, biases) in enumerate(model._groups):
        for kernel, places in enumerate(KERNELS):
            weights = np.full(9, -1.0)
            weights[list(places)] = 2
            spread = np.zeros(8 * dilation + 1)
            spread[::dilation] = weights
            padded = (number + kernel) % 2 == 0
            response = np.correlate(
                np.pad(one, 4 * dilation) if padded else one, spread, mode="valid"
            )
            for bias in biases[kernel]:
                assert features[column] == pytest.approx((response > bias).mean(), abs=0.03)
                column += 1
    assert column == len(features)


def test_random_convolutions_of_any_lengths_and_seeds():
    rng = np.random.default_rng(0)
    data = encoded([rng.normal(size=(n, 3)) for n in (3, 9, 50, 50, 12)])
    model = RandomConvolutions(84 * 3, seed=1).fit(data)
    whole = model.transform(data)
    assert np.isfinite(whole).all()
    alone = np.concatenate([model.transform(encoded([data.sequence(k)])) for k in range(5)])
    np.testing.assert_array_equal(whole, alone)
    again = RandomConvolutions(84 * 3, seed=1).fit(data).transform(data)
    np.testing.assert_array_equal(whole, again)


@pytest.mark.parametrize(("count", "width"), [(60, 10), (30, 80)])
def test_ridge_is_that_of_scikit_learn(count, width):
    rng = np.random.default_rng(count)
    x = rng.normal(1, 3, size=(count, width))
    y = x[:, :3] @ rng.normal(size=(3, 2)) + rng.normal(size=(count, 2))
    scaler = StandardScaler().fit(x)
    expected = RidgeCV(ALPHAS).fit(scaler.transform(x), y)
    new = rng.normal(1, 3, size=(9, width))
    ours = Ridge().fit(x, y)
    np.testing.assert_allclose(
        ours.predict(new), expected.predict(scaler.transform(new)), rtol=1e-6
    )
    quantiles = ours.quantiles(new)
    assert (np.diff(quantiles, axis=-1) >= 0).all()


def test_window_features_hold_the_past_alone():
    data = encoded([np.arange(1, 5)[:, None], np.arange(10, 13)[:, None]])
    found = window_features(data, np.array([0, 2, 4, 6]), 3)
    np.testing.assert_array_equal(found, [[1, 0, 0], [3, 2, 1], [10, 0, 0], [12, 11, 10]])


def test_inputs_are_filled_scaled_and_one_hot():
    nan = np.nan
    values = [np.array([[nan, 0], [2, 1], [nan, nan]]), np.array([[nan, 1], [4.0, 1]])]
    data = SequenceSet("mem", ["a", "b"], [Channel("x"), Channel("m", ("no", "yes"))], values, None)
    encoder = StepEncoder.fit(data)  # of x: mean 3, deviation 1
    flat = encoder.encode(data).flat
    np.testing.assert_array_equal(flat[:, 0], [-1, -1, -1, 1, 1])
    np.testing.assert_array_equal(flat[:, 1:], [[1, 0], [0, 1], [0, 1], [0, 1], [0, 1]])
    other = SequenceSet(
        "mem", ["c"], [Channel("x"), Channel("m", ("yes",))], [np.array([[3.0, 0]])], None
    )
    np.testing.assert_array_equal(encoder.encode(other).flat, [[0, 0, 1]])


@pytest.fixture
def few_features(monkeypatch):
    monkeypatch.setattr(baselines, "FEATURES", 84 * 4)


def waves(count, seed) -> SequenceSet:
    """Two classes that differ in frequency; lengths and phases vary."""
    rng = np.random.default_rng(seed)
    classes = np.arange(count) % 2
    series = [
        np.sin(np.arange(rng.integers(25, 35)) * (0.4 + 0.5 * k) + rng.uniform(0, 6))[:, None]
        + rng.normal(0, 0.1)
        for k in classes
    ]
    return from_arrays(series, np.array(["slow", "fast"])[classes])


def test_baselines_learn_classes(few_features):
    fitted = baselines.fit(waves(40, 0))
    result = fitted.evaluate(waves(20, 1))
    assert result["most frequent class"]["accuracy"] == 0.5
    assert result["1-NN DTW"]["accuracy"] >= 0.8
    assert result["summary features"]["accuracy"] == 1
    assert result["random convolutions"]["accuracy"] == 1
    assert "log_loss" in result["summary features"]
    assert "log_loss" not in result["1-NN DTW"]
    again = baselines.fit(waves(40, 0)).predict(waves(20, 1))
    for name, prediction in fitted.predict(waves(20, 1)).items():
        np.testing.assert_array_equal(prediction, again[name])


def test_baselines_of_numbers_and_labels(few_features):
    data, test = waves(40, 0), waves(20, 1)
    for own in (data, test):
        level = np.array([[v.mean(), v.std()] for v in own.values])
        own.target = Target("number", ("mean", "std"), level)
    result = baselines.fit(data).evaluate(test)
    assert result["summary features"]["r2"] > 0.95
    assert result["mean"]["r2"] <= 0
    assert 0.6 <= result["mean"]["coverage"] <= 1
    for own in (data, test):
        own.target = Target("labels", ("u", "v"), (own.target.array > [0, 0.7]).astype(np.float32))
    result = baselines.fit(data).evaluate(test)
    assert result["summary features"]["macro_f1"] > 0.85


def test_many_training_sequences_are_subsampled_with_a_note(monkeypatch, few_features):
    monkeypatch.setattr(baselines, "MAX_DTW_CELLS", 3e4)
    fitted = baselines.fit(waves(40, 0))
    fitted.evaluate(waves(10, 1))
    assert any("of 40 training sequences, to save time" in note for note in fitted.notes)


def test_steps_from_a_window_of_inputs():
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(300, 2)) for _ in range(3)]
    lag = [np.concatenate([[0, 0], v[:-2, 0]]) for v in values]  # the input two steps ago
    target = [(k + own * (k + 1))[:, None] for k, own in enumerate(lag)]
    data = SequenceSet(
        "mem",
        ["a", "b", "c"],
        [Channel("x"), Channel("z")],
        values,
        Target("step_number", ("y",), target),
    )
    spans = split_spans(data, (0.6, 0.1, 0.3))
    fitted = baselines.fit(select_part(data, spans, 0))
    result = fitted.evaluate(select_part(data, spans, 2))
    assert result["mean"]["nse"] < 0.05
    assert result["ridge of each sequence"]["nse"] > 0.99
    assert 0.3 < result["ridge from a window"]["nse"] < 0.95  # the sequences differ
    moved = [np.where(np.isnan(t), -1, t > 1).astype(np.int64)[:, 0] for t in target]
    data.target = Target("step_class", ("low", "high"), moved)
    result = baselines.fit(select_part(data, spans, 0)).evaluate(select_part(data, spans, 2))
    assert result["ridge of each sequence"]["accuracy"] > result["most frequent class"]["accuracy"]
