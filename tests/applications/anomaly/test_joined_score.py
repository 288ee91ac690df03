"""The score of surprise and static deviation together, against closed forms and other libraries."""

from dataclasses import replace

import msgspec
import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import mahalanobis

from memorycell.applications.anomaly.augmentation import random_drift
from memorycell.applications.anomaly.columns import Columns, Recording
from memorycell.applications.anomaly.fitting import fit_codec
from memorycell.applications.anomaly.model import Detector, DetectorConfig
from memorycell.applications.anomaly.prepare import prepare
from memorycell.applications.anomaly.row_scorer import RowScorer
from memorycell.applications.anomaly.score import ScoreFunction
from memorycell.applications.anomaly.score_fitting import fit_score, held_out_scores
from memorycell.applications.anomaly.scoring import score_recording
from memorycell.applications.anomaly.settings import AnomalySettings
from memorycell.errors import DataError
from memorycell.models.quantiles import tail_quantile
from memorycell.streaming.stream import Stream
from memorycell.tables.times import TimeColumns

COLUMNS = 3
SCORE = ("center", "inverse")


def random_covariance(rng, size=COLUMNS):
    root = rng.normal(size=(size, 2 * size))
    return root @ root.T / size


def detector(rng, **values):
    torch.manual_seed(int(rng.integers(1000)))
    config = DetectorConfig(
        input_size=2 * COLUMNS, columns=COLUMNS, hidden_size=7, window=4, **values
    )
    model = Detector(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    for name in ("", "static_") if config.static else ("",):
        for center, inverse in zip(
            model.get_buffer(f"{name}center").view(-1, COLUMNS),
            model.get_buffer(f"{name}inverse").view(-1, COLUMNS, COLUMNS),
            strict=True,
        ):
            center.copy_(torch.from_numpy(rng.normal(size=COLUMNS)))
            inverse.copy_(torch.from_numpy(np.linalg.inv(random_covariance(rng))))
    return model


def of_one_scale(model, scale):
    """The model with one time constant of its score alone."""
    config = replace(model.config, smooth=model.config.smooth * 2**scale, scales=1)
    one, own = Detector(config).eval(), model.state_dict()
    score = {name: value[scale] for name, value in own.items() if name.endswith(SCORE)}
    one.load_state_dict({**own, **score})
    return one


@pytest.mark.parametrize("weight", [0.3, 0.5, 1.0])
def test_the_score_is_the_weighted_geometric_mean(weight):
    rng = np.random.default_rng(1)
    model = detector(rng, static=weight)
    averaged = rng.normal(size=(5, 2 * COLUMNS))
    contributions = ScoreFunction(model).contributions(averaged)
    assert contributions.shape == (5, COLUMNS)
    for row, own in zip(averaged, contributions, strict=True):
        surprise, static = (
            0.5 * mahalanobis(row[part], center.numpy(), inverse.numpy()) ** 2
            for part, center, inverse in (
                (slice(0, COLUMNS), model.center, model.inverse),
                (slice(COLUMNS, None), model.static_center, model.static_inverse),
            )
        )
        assert own.sum() == pytest.approx(surprise ** (1 - weight) * static**weight, rel=1e-5)


@pytest.mark.parametrize("static", [0.0, 0.5])
def test_the_score_of_several_averages_is_the_geometric_mean_of_theirs(recorded, static):
    _, codec, recording, settle = recorded
    rng = np.random.default_rng(7)
    model = wide_detector(rng, codec, static=static, own_score=False, smooth=3, scales=3)
    full = score_recording(model, codec, recording)
    each = [score_recording(of_one_scale(model, r), codec, recording) for r in range(3)]
    expected = stats.gmean([one.scores for one in each])
    np.testing.assert_allclose(full.scores, expected, rtol=1e-9, atol=1e-9)
    assert expected.std() > 0.1  # a score that varies
    shares = [one.contributions[1:] / one.scores[1:, None] for one in each]  # the first is 0
    np.testing.assert_allclose(
        full.contributions[1:], np.mean(shares, 0) * expected[1:, None], rtol=1e-9, atol=1e-12
    )
    averaged = own_averages(model, codec, recording)
    refitted = ScoreFunction(model).refitted(averaged)
    for r in range(3):
        one = of_one_scale(model, r)
        own = ScoreFunction(one).refitted(own_averages(one, codec, recording))
        kinds = len(own.distributions)
        for found, alone in zip(
            refitted.distributions[kinds * r : kinds * (r + 1)], own.distributions, strict=True
        ):
            np.testing.assert_allclose(found.center, alone.center)
            np.testing.assert_allclose(found.covariance, alone.covariance, rtol=1e-9)
    if settle:
        rows = averaged[min(20, settle // 4) : settle]
        assert full.threshold == pytest.approx(
            tail_quantile(ScoreFunction(model).scores(rows), 1e-3)
        )


@pytest.mark.parametrize("static", [0.0, 0.4])
def test_the_fit_of_several_averages_is_that_of_each(static):
    rng = np.random.default_rng(5)
    model = detector(rng, static=static, smooth=4, scales=2)
    features = rng.normal(size=(80, (1 + (static > 0)) * COLUMNS)) * 0.2
    fit_score(model, [ScoreFunction(model).averaged(features)])
    for r in range(2):
        one = of_one_scale(model, r)
        fit_score(one, [ScoreFunction(one).averaged(features)])
        for name, value in one.state_dict().items():
            if name.endswith(SCORE):
                torch.testing.assert_close(value, model.get_buffer(name)[r])


def test_a_column_that_deviates_in_both_ways_is_the_largest_contribution():
    model = detector(np.random.default_rng(0), static=0.5)
    for name in ("center", "static_center"):
        getattr(model, name).zero_()
    for name in ("inverse", "static_inverse"):
        getattr(model, name).copy_(torch.eye(COLUMNS))
    averaged = np.array([0.1, 3.0, 0.1, 0.1, 4.0, 0.2])
    contributions = ScoreFunction(model).contributions(averaged)
    assert contributions[1] > 0.95 * contributions.sum()


def test_distributions_of_a_recording_shrink_towards_those_of_training():
    rng = np.random.default_rng(2)
    model = detector(rng, static=0.5)
    rows = rng.normal(size=(40, 2 * COLUMNS)) * 3 + 1
    score = ScoreFunction(model).refitted(rows)
    for one, part, inverse in (
        (score.surprise, rows[:, :COLUMNS], model.inverse),
        (score.static, rows[:, COLUMNS:], model.static_inverse),
    ):
        trained = np.linalg.inv(inverse.numpy().astype(float))
        own = sum(np.outer(d, d) for d in part - part.mean(0))  # 40 times their covariance
        expected = (own + COLUMNS * trained) / (40 + COLUMNS)
        np.testing.assert_allclose(one.center, part.mean(0))
        np.testing.assert_allclose(one.covariance, expected, rtol=1e-4, atol=1e-5)
    one_row = ScoreFunction(model).refitted(rows[:1])
    assert np.isfinite(one_row.scores(rows)).all()


def test_each_half_is_scored_by_the_distributions_of_the_other():
    rng = np.random.default_rng(3)
    score = ScoreFunction(detector(rng, static=0.5))
    rows = rng.normal(size=(50, 2 * COLUMNS))
    rows[25:] += 4.0  # a drift that a fit on all rows would call normal
    expected = [
        score.refitted(rows[25:]).scores(rows[:25]),
        score.refitted(rows[:25]).scores(rows[25:]),
    ]
    scores = held_out_scores(score, rows)
    np.testing.assert_allclose(scores, np.concatenate(expected))
    assert scores.min() > 3 * np.median(score.refitted(rows).scores(rows))


@pytest.fixture(
    params=[
        (0, 0.5, False, 1),
        (60, 0.5, True, 1),
        (60, 0.0, True, 1),
        (100, 0.4, True, 1),
        (0, 0.0, False, 3),
        (60, 0.5, True, 3),
    ]
)
def recorded(request):
    """(model, codec, recording, settling rows)"""
    settle, static, own, scales = request.param
    rng = np.random.default_rng(settle)
    values = rng.normal(size=(150, COLUMNS)) * [1, 10, 1000] + [0, 5, 1e4]
    values[rng.random(values.shape) < 0.05] = np.nan
    values[120, 1] = 1e5  # further off than the model reads
    time = np.arange(150) * 1_000_000
    words = np.empty((150, 0), object)
    recording = Recording("", time, values, words, None, np.arange(150))
    columns = Columns(("a", "b", "c"), (), TimeColumns(("t",)))
    codec = fit_codec(columns, settle, [recording], [recording])
    model = wide_detector(rng, codec, static=static, own_score=own, smooth=5, scales=scales)
    return model, codec, recording, settle


def wide_detector(rng, codec, **values):
    model = detector(rng, **values)
    wide = Detector(replace(model.config, input_size=codec.input_size)).eval()
    weights = wide.state_dict()
    own_weights = {n: v for n, v in model.state_dict().items() if weights[n].shape == v.shape}
    wide.load_state_dict({**weights, **own_weights})
    wide.threshold.fill_(4.0)
    return wide


def steps(scorer, recording, rows):
    none = np.empty(0, np.int64)
    return [scorer.step(recording.values[k], none, int(recording.time[k])) for k in rows]


def test_live_scores_equal_those_of_the_recording(recorded):
    model, codec, recording, settle = recorded
    full = score_recording(model, codec, recording)
    scorer = RowScorer(model, codec, Stream(model, history=0))
    live = steps(scorer, recording, range(150))
    assert all(one is None for one in live[:settle])
    scores = [one.score for one in live[settle:]]
    np.testing.assert_allclose(scores, full.scores[settle:], rtol=2e-4, atol=2e-4)
    assert scorer.threshold == pytest.approx(full.threshold, rel=1e-4)
    if settle:
        averaged = own_averages(model, codec, recording)[min(20, settle // 4) : settle]
        held_out = held_out_scores(ScoreFunction(model), averaged)
        assert full.threshold == pytest.approx(tail_quantile(held_out, model.config.budget))


def own_averages(model, codec, recording):
    x, z, choices = codec.encode(recording)
    filled = z.copy()
    filled[np.abs(z) > 1000] = np.nan
    filled = pl.DataFrame(filled).fill_nan(None).fill_null(strategy="forward").fill_null(0.0)
    return ScoreFunction(model).averages(model.run(x), z, filled.to_numpy(), choices)


def test_a_snapshot_has_the_distributions_of_the_recording(recorded):
    model, codec, recording, settle = recorded
    for cut in (30, 130):
        first = RowScorer(model, codec, Stream(model, history=0))
        steps(first, recording, range(cut))
        second = RowScorer(model, codec, first.stream.fork())
        second.restore(
            msgspec.convert(msgspec.to_builtins(first.snapshot()), type(first.snapshot()))
        )
        for one, other in zip(
            steps(first, recording, range(cut, 150)),
            steps(second, recording, range(cut, 150)),
            strict=True,
        ):
            assert (one is None) == (other is None)
            assert one is None or one.score == other.score
        assert first.threshold == second.threshold
        assert bool(first.snapshot().own) == (settle > 0)


def test_a_damaged_distribution_is_refused(recorded):
    model, codec, recording, settle = recorded
    scorer = RowScorer(model, codec, Stream(model, history=0))
    steps(scorer, recording, range(130))
    saved, again = scorer.snapshot(), RowScorer(model, codec, scorer.stream.fork())
    if not settle:
        center = tuple([0.0] * COLUMNS)
        with pytest.raises(ValueError, match="cannot have"):
            again.restore(replace(saved, own=((center, tuple(np.eye(COLUMNS).ravel())),)))
        return
    (center, matrix), *rest = saved.own
    negative, skewed = tuple(-v for v in matrix), (matrix[0], matrix[1] + 1, *matrix[2:])
    for wrong in ((center, negative), (center, skewed), (center, matrix[1:]), (center[1:], matrix)):
        with pytest.raises(ValueError, match="covariance|distribution"):
            again.restore(replace(saved, own=(wrong, *rest)))
        assert again.rows == 0


def test_a_covariance_without_an_inverse_is_one_line(recorded):
    model, codec, recording, _ = recorded
    model.inverse.zero_()
    if not model.config.own_score:  # nothing is fitted again
        assert np.isfinite(score_recording(model, codec, recording).scores).all()
        return
    with pytest.raises(DataError, match="train the model again"):
        score_recording(model, codec, recording)


def test_files_of_earlier_versions_have_the_surprise_alone():
    config = DetectorConfig(input_size=6, columns=3, hidden_size=4)
    assert (config.static, config.own_score) == (0.0, False)
    assert not any(name.startswith("static") for name in Detector(config).state_dict())
    with pytest.raises(ValueError, match="static: expected a number from 0 to 1"):
        DetectorConfig(input_size=6, columns=3, hidden_size=4, static=1.5)
    assert config.scales == 1
    assert Detector(config).center.shape == (3,)
    with pytest.raises(ValueError, match="scales: expected 1 to 12, got 13"):
        DetectorConfig(input_size=6, columns=3, hidden_size=4, scales=13)
    with pytest.raises(ValueError, match="own_score: expected true or false"):
        DetectorConfig(input_size=6, columns=3, hidden_size=4, own_score=2)


def test_a_level_that_its_prediction_follows_is_found(tmp_path):
    """A reading that wanders so slowly that its last value predicts it, and a fault that creeps in:
    every change is as expected, the level is not.
    """
    rng = np.random.default_rng(0)
    size, fault = 4000, np.zeros(4000, bool)
    readings = np.zeros((size, 2))
    for t in range(1, size):
        readings[t] = 0.98 * readings[t - 1] + 0.2 * rng.normal(size=2)
    fault[3200:3700] = True
    readings[3200:3700, 0] += 6 * np.minimum(np.arange(500) / 100, 1)
    readings[3700:, 0] += 6 * np.exp(-np.arange(300) / 40)
    frame = pl.DataFrame({"a": readings[:, 0], "b": readings[:, 1], "fault": fault.astype(int)})
    frame.write_csv(tmp_path / "m.csv")
    auc = []
    for static in (0.0, 0.5):
        settings = AnomalySettings(label="fault", static=static)
        dataset = prepare(str(tmp_path / "m.csv"), settings)
        model = dataset.build().eval()
        with torch.no_grad():
            model.head.own.zero_()[:, -1] = 1.0  # the last value, all but the best
            scale = torch.tensor(0.2 / np.array(dataset.codec.std))
            model.head.recurrent.bias[2:4] = torch.log(scale)
        dataset.fit_score(model)
        auc.append(dataset.evaluate(model, "test")["auc_pr"])
    assert auc[1] > auc[0] + 0.1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (10, 1)),
        ({"settle": 60}, (5, 4)),
        ({"settle": 60, "smooth": 15}, (15, 1)),
        ({"settle": 60, "smooth": 7, "scales": 2}, (7, 2)),
        ({"scales": 3}, (10, 3)),
    ],
)
def test_averages_by_default(settings, expected):
    config = AnomalySettings(**settings).model_config(2, 1, ())
    assert (config.smooth, config.scales) == expected
    of_events = AnomalySettings(**settings).model_config(5, 1, (3,))
    if "smooth" not in settings and "scales" not in settings:
        assert (of_events.smooth, of_events.scales) == (1, 1)


def test_segments_drift_between_half_and_twice_the_scale():
    rng, scale = np.random.default_rng(0), np.full(2000, 3.0)
    first = [random_drift(9, scale, rng)[0] for _ in range(300)]  # of variance 2 s²
    octaves = np.log2([np.sqrt(np.mean(row**2) / 2) / 3 for row in first])
    assert octaves.min() == pytest.approx(-1, abs=0.1)
    assert octaves.max() == pytest.approx(1, abs=0.1)
    assert stats.kstest(octaves, stats.uniform(-1, 2).cdf).pvalue > 0.01
