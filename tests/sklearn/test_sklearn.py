"""scikit-learn's own checks, and its tools around our estimators."""

import pickle
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from memorycell.errors import UserError
from memorycell.sklearn import (
    AnomalyDetector,
    Forecaster,
    SequenceClassifier,
    SequenceRegressor,
)

FEW = "the data of this check have 20 to 40 rows; a detector needs 40"
ORDER = "rows are steps in time: a forecast depends on the rows before it, and on their order"
FORECASTER_FAILS = {
    "check_methods_sample_order_invariance": ORDER,
    "check_methods_subset_invariance": ORDER,
    "check_fit2d_1feature": "10 rows are too few to train, validate and test",
}
DETECTOR_FAILS = {
    "check_fit_score_takes_y": FEW,
    "check_estimators_overwrite_params": FEW,
    "check_dont_overwrite_parameters": FEW,
    "check_estimators_fit_returns_self": FEW,
    "check_readonly_memmap_input": FEW,
    "check_n_features_in_after_fitting": FEW,
    "check_estimators_dtypes": FEW,
    "check_pipeline_consistency": FEW,
    "check_estimators_pickle": FEW,
    "check_f_contiguous_array_estimator": FEW,
    "check_classifier_data_not_an_array": FEW,
    "check_methods_sample_order_invariance": FEW,
    "check_methods_subset_invariance": FEW,
    "check_fit2d_1feature": FEW,
    "check_dict_unchanged": FEW,
    "check_fit2d_predict1d": FEW,
}
SMALL = {"hidden": 2, "epochs": 1}
FORECASTER = Forecaster(
    0,
    1,
    **SMALL,
    window=1,
    settings={"context": 2, "season": 1, "bptt": 16, "calendar": "none", "normal": "no"},
)
DETECTOR = AnomalyDetector(**SMALL, window=2, smooth=1)


SEQUENCES = {"members": 1, "augment": "none", "pooling": "last", "settings": {"patch": 1}}


@parametrize_with_checks([FORECASTER], expected_failed_checks=lambda _: FORECASTER_FAILS)
def test_scikit_learns_checks_of_a_forecaster(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([DETECTOR], expected_failed_checks=lambda _: DETECTOR_FAILS)
def test_scikit_learns_checks_of_a_detector(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [SequenceClassifier(**SMALL, **SEQUENCES), SequenceRegressor(**SMALL, **SEQUENCES)],
    expected_failed_checks=lambda estimator: {
        "check_classifiers_train": "one epoch of two units learns little",
        "check_regressors_train": "one epoch of two units learns little",
    },
)
def test_scikit_learns_checks_of_sequences(estimator, check):
    check(estimator)


# ---- a forecaster --------------------------------------------------------------------------------

ROWS, HORIZON = 120, 3


def table(rows=ROWS, seed=0):
    rng = np.random.default_rng(seed)
    load = 20 + 5 * np.sin(np.arange(rows) * 2 * np.pi / 12) + rng.normal(size=rows) / 4
    return pl.DataFrame(
        {
            "time": [datetime(2026, 1, 1) + timedelta(hours=k) for k in range(rows)],
            "load": load,
            "price": 2 * load + rng.normal(size=rows),
        }
    )


@pytest.fixture(scope="module")
def forecaster():
    return Forecaster(
        ["load", "price"], HORIZON, hidden=8, epochs=2, settings={"context": 12, "bptt": 24}
    ).fit(table())


def test_a_row_of_predict_is_the_forecast_after_that_row(forecaster):
    frame = table(60, seed=1)
    found = forecaster.predict(frame)
    assert forecaster.outputs_ == [f"{c}+{k}" for c in ("load", "price") for k in (1, 2, 3)]
    assert found.shape == (60, forecaster.n_outputs_)
    assert list(forecaster.feature_names_in_) == ["time", "load", "price"]
    assert forecaster.n_features_in_ == 3
    for row in (10, 59):
        alone = forecaster.model_.predict(frame[: row + 1])
        np.testing.assert_allclose(found[row], alone["median"], rtol=1e-4)
    pandas = frame.to_pandas()
    np.testing.assert_array_equal(forecaster.predict(pandas), found)


def test_the_score_is_r2_of_the_next_values(forecaster):
    frame = table(60, seed=1)
    found = forecaster.predict(frame)[: 60 - HORIZON]
    truth = np.stack(
        [frame[c].to_numpy()[k : 60 - HORIZON + k] for c in ("load", "price") for k in (1, 2, 3)], 1
    )
    assert forecaster.score(frame) == pytest.approx(r2_score(truth, found))
    padded = np.concatenate([truth, np.full((HORIZON, 6), np.nan)])
    assert forecaster.score(frame, padded) == pytest.approx(r2_score(truth, found))
    with pytest.raises(ValueError, match=r"y: expected the next values \[60, 6\], got \[60, 1\]"):
        forecaster.score(frame, np.zeros(60))
    with pytest.raises(UserError, match="fewer than two rows"):
        forecaster.score(frame[:3])


def test_copies(forecaster):
    frame = table(30, seed=2)
    other = pickle.loads(pickle.dumps(forecaster))
    np.testing.assert_array_equal(other.predict(frame), forecaster.predict(frame))
    fresh = clone(forecaster)
    assert fresh.get_params() == forecaster.get_params()
    with pytest.raises(NotFittedError):
        fresh.predict(frame)
    assert fresh.set_params(horizon=5).horizon == 5


def test_known_futures_are_the_next_rows():
    rng = np.random.default_rng(0)
    known = rng.normal(size=200)
    # The future of the second column decides the first one.
    X = np.stack([np.concatenate([[0.0], 3 * known[1:]]) + 10, known], 1)
    model = Forecaster(
        0, 2, known="x1", hidden=8, epochs=12, lr=0.02, settings={"context": 4, "bptt": 24}
    ).fit(X)
    found = model.predict(X)
    assert np.isnan(found).any(1).tolist() == [False] * 198 + [True] * 2
    assert model.score(X) > 0.8
    changed = X.copy()
    changed[101:] += [0, 5]
    other = model.predict(changed)
    assert (other[99] != found[99]).all() | (other[100] != found[100]).any()
    np.testing.assert_allclose(other[:98], found[:98], rtol=1e-5)


def test_in_a_pipeline_a_search_and_splits_by_time():
    X = table(150).select("load", "price").to_numpy()
    base = Forecaster(0, 2, epochs=1, hidden=2, settings={"context": 4, "bptt": 24})
    pipe = make_pipeline(StandardScaler(), base)
    search = GridSearchCV(
        pipe, {"forecaster__hidden": [2, 6]}, cv=TimeSeriesSplit(2, test_size=30)
    ).fit(X)
    assert search.best_params_["forecaster__hidden"] in (2, 6)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(X).shape == (150, 2)
    scores = cross_val_score(base, table(150).to_pandas().set_index("time"), cv=TimeSeriesSplit(2))
    assert scores.shape == (2,)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("params", "X", "words"),
    [
        ({}, np.random.default_rng(0).normal(size=(60, 2)), "which column should be forecast"),
        ({"target": 5}, np.zeros((60, 2)), "column 5: X has 2 columns"),
        ({"target": "z"}, np.zeros((60, 2)), "no column 'z'"),
        ({"target": 0, "settings": {"hiden": 3}}, np.zeros((60, 2)), "hiden.*hidden"),
        ({"target": 0, "device": "tpu"}, np.random.default_rng(0).normal(size=(60, 2)), "device"),
        ({"target": 0}, np.full((60, 2), np.inf), "infinity"),
        ({"target": 0}, np.zeros(60), "2D array"),
    ],
)
def test_what_cannot_be_fitted(params, X, words):
    with pytest.raises(ValueError, match=words):
        Forecaster(**params).fit(X)


def test_other_columns_than_in_fit(forecaster):
    with pytest.raises(ValueError, match="feature names should match"):
        forecaster.predict(table().rename({"price": "cost"}))
    with (
        pytest.warns(UserWarning, match="fitted with feature names"),
        pytest.raises(ValueError, match="X has 2 features.*expecting 3"),
    ):
        forecaster.predict(np.zeros((20, 2)))


# ---- a detector ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector():
    return AnomalyDetector(["load", "price"], hidden=8, epochs=3, smooth=1).fit(table(300))


def test_a_detector_finds_what_the_rows_before_do_not_lead_to_expect(detector):
    frame = table(200, seed=5)
    labels = np.ones(200, int)
    for row in (90, 130, 170):
        frame[row, "load"] += 30
        labels[row] = -1
    found = detector.predict(frame)
    assert (found[labels == -1] == -1).all()
    assert (found == -1).mean() < 0.1
    decision = detector.decision_function(frame)
    np.testing.assert_array_equal(found, np.where(decision < 0, -1, 1))
    np.testing.assert_allclose(detector.score_samples(frame), decision + detector.offset_)
    assert detector.score(frame, labels) > 0.9
    assert detector.score(frame, labels == -1) == detector.score(frame, labels)
    assert detector.score(frame) < detector.score(table(200, seed=5))
    own = detector.model_.predict(frame)
    np.testing.assert_allclose(decision[90], own["threshold"][90] - own["score"][90])


def test_a_detector_is_copied_as_others_are(detector):
    frame = table(100, seed=6)
    other = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(other.score_samples(frame), detector.score_samples(frame))
    np.testing.assert_array_equal(
        detector.predict(frame.to_pandas()), detector.predict(frame.to_arrow().to_pandas())
    )
    assert clone(detector).get_params() == detector.get_params()


# ---- sequences -----------------------------------------------------------------------------------


def ramps(count=30, features=1, seed=0, lengths=None):
    """Ramps up or down, in noise; how steep they are is the number."""
    rng = np.random.default_rng(seed)
    slope = np.where(np.arange(count) % 2, 1, -1) * rng.uniform(1, 2, count)
    sizes = np.full(count, 12) if lengths is None else rng.integers(*lengths, count)
    X = [
        s * np.linspace(0, 1, n)[:, None] + rng.normal(size=(n, features)) / 10
        for s, n in zip(slope, sizes, strict=True)
    ]
    return X, slope


TINY = {"hidden": 4, "members": 1, "augment": "none", "lr": 0.02}
RIDGE = "ignore:.*(Singular matrix|ill-conditioned):Warning"  # the baselines' few sequences


@pytest.mark.filterwarnings(RIDGE)
def test_classes_of_sequences_of_any_length():
    X, slope = ramps(features=2, lengths=(8, 15))
    y = np.where(slope > 0, "up", "down")
    model = SequenceClassifier(epochs=8, **TINY).fit(X, y)
    assert model.classes_.tolist() == ["down", "up"]
    assert model.n_features_in_ == 2
    other, other_slope = ramps(20, features=2, seed=1, lengths=(8, 15))
    p = model.predict_proba(other)
    assert p.shape == (20, 2)
    np.testing.assert_allclose(p.sum(1), 1)
    truth = np.where(other_slope > 0, "up", "down")
    np.testing.assert_array_equal(model.predict(other), model.classes_[p.argmax(1)])
    assert model.score(other, truth) > 0.9
    assert (
        pickle.loads(pickle.dumps(model)).predict(other).tolist() == model.predict(other).tolist()
    )
    with pytest.raises(ValueError, match="sequence 0 has 1 features.*expecting 2"):
        model.predict([x[:, :1] for x in other])


@pytest.mark.filterwarnings(RIDGE)
def test_numbers_of_sequences():
    X, slope = ramps()
    flat = np.concatenate(X, 1).T  # [N, T]
    numbers = np.stack([slope, 10 - slope], 1)
    model = SequenceRegressor(epochs=20, **TINY).fit(flat, numbers)
    assert model.n_features_in_ == 12
    assert model.predict(flat).shape == (30, 2)
    assert model.score(flat, numbers) > 0.5
    np.testing.assert_allclose(model.predict(flat[:3]), model.predict(flat)[:3], rtol=1e-4)
    with pytest.raises(ValueError, match="expecting 12 features"):
        model.predict(flat[:, :5])


@pytest.mark.parametrize(
    ("estimator", "y", "words"),
    [
        (SequenceClassifier(), None, "requires y"),
        (SequenceClassifier(), ["a"] * 30, "one class"),
        (SequenceClassifier(), ["a", "b"], "inconsistent numbers of samples"),
        (SequenceClassifier(), np.linspace(0, 1, 30), "label type"),
        (SequenceRegressor(), [np.nan] * 30, "NaN"),
        (SequenceRegressor(), ["x"] * 30, "numeric"),
    ],
)
def test_targets_that_cannot_be_used(estimator, y, words):
    with pytest.raises(ValueError, match=words):
        estimator.fit(np.concatenate(ramps()[0], 1).T, y)
