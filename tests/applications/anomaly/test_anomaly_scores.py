"""Scores, thresholds and metrics of anomaly detection against closed forms and other libraries."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.distributions import Categorical, StudentT
from typer.testing import CliRunner

from memorycell.applications.anomaly.codec import longest_run, run_lengths
from memorycell.applications.anomaly.columns import Columns, Recording
from memorycell.applications.anomaly.fitting import fit_codec
from memorycell.applications.anomaly.head import NextRow
from memorycell.applications.anomaly.model import Detector, DetectorConfig
from memorycell.applications.anomaly.row_scorer import RowScorer
from memorycell.applications.anomaly.score import exponential_average, normal_deviates
from memorycell.applications.anomaly.scoring import score_recording
from memorycell.models.quantiles import tail_quantile
from memorycell.streaming.stream import Stream
from memorycell.tables.times import TimeColumns
from memorycell.training import metrics

run = CliRunner().invoke


def test_head_likelihood_equals_torch_distributions():
    torch.manual_seed(0)
    head = NextRow(5, 3, (4, 2), window=2)
    torch.nn.init.normal_(head.recurrent.weight, std=0.4)
    hidden, window = torch.randn(2, 7, 5), torch.randn(2, 7, 2, 3)
    target = torch.cat(
        [torch.randn(2, 7, 3), torch.randint(0, 4, (2, 7, 1)), torch.randint(0, 2, (2, 7, 1))], -1
    )
    y = head(hidden, window)
    out = head.recurrent(hidden)
    mean = out[..., :3] + 0.5 * window[..., -1, :]
    expected = [-StudentT(5.0, mean, out[..., 3:6].exp()).log_prob(target[..., :3])]
    expected += [-Categorical(logits=out[..., 6:10]).log_prob(target[..., 3])[..., None]]
    expected += [-Categorical(logits=out[..., 10:]).log_prob(target[..., 4])[..., None]]
    torch.testing.assert_close(head.nats(y, target), torch.cat(expected, -1))
    target[0, 0] = torch.nan
    assert torch.equal(head.nats(y, target)[0, 0], torch.zeros(5))


def test_deviates_of_predicted_rows_are_normal():
    u = np.concatenate([np.linspace(-8, 8, 101), [100.0, -1000.0]])
    y = np.tile(np.array([[0.5, np.log(2.0)]], np.float32), (len(u), 1))
    found = normal_deviates(y, (0.5 + 2 * u)[:, None], np.zeros((len(u), 0), int), ())[:, 0]
    tail = stats.t(5).sf(np.abs(u))
    exact = np.sign(u) * stats.norm.isf(tail)
    np.testing.assert_allclose(found, exact, atol=0.03, rtol=0.03)  # Wallace's approximation


def test_category_deviate_has_its_density():
    y = np.array([[0.0, 0.0, np.log(0.25), np.log(0.75)]], np.float32)
    found = normal_deviates(y, np.array([[np.nan]]), np.array([[0]]), (2,))[0]
    assert np.isnan(found[0])
    assert found[1] ** 2 / 2 == pytest.approx(-np.log(0.25))


@pytest.mark.parametrize(
    "law", [stats.expon(), stats.genpareto(0.2), stats.uniform(), stats.chi2(8)]
)
def test_tail_quantile_extrapolates(law):
    rng = np.random.default_rng(0)
    found = [tail_quantile(law.rvs(1000, random_state=rng), 1e-3) for _ in range(60)]
    assert np.median(found) == pytest.approx(law.isf(1e-3), rel=0.12)
    many = law.rvs(200_000, random_state=rng)
    assert tail_quantile(many, 1e-3) == pytest.approx(law.isf(1e-3), rel=0.12)
    with pytest.raises(ValueError, match="20 values"):
        tail_quantile(many[:10], 1e-3)


def test_detection_metrics_by_hand():
    labels = [np.array([0, 0, 1, 1, 1, 0, 0, 1, 1, 0], bool)]
    flagged = [np.array([0, 1, 0, 1, 1, 1, 0, 0, 0, 0], bool)]
    found = metrics.detection_metrics(flagged, [np.arange(10.0)], labels)
    assert found["f1"] == pytest.approx(2 * 2 / (2 * 2 + 2 + 3))
    assert found["far"] == pytest.approx(2 / 5)
    assert found["mar"] == pytest.approx(3 / 5)
    assert (found["delay"], found["found"]) == (1.0, 0.5)


@given(st.lists(st.sampled_from([1.0, 2.0, float("nan")]), max_size=30))
def test_run_lengths(values):
    runs, count = [], 0
    for k, value in enumerate(values):
        count = 0 if np.isnan(value) else (count + 1 if k and values[k - 1] == value else 1)
        runs.append(count)
    assert run_lengths(np.array(values)).tolist() == runs
    assert longest_run(np.array(values)) == max(runs, default=0)


@settings(deadline=None, max_examples=15)
@given(
    st.integers(0, 2),
    st.sampled_from([0, 60, 100]),
    st.sampled_from([1, 7]),
    st.sampled_from([0, 50]),
    st.integers(0, 9),
)
def test_row_by_row_equals_full_sequence_for_any_model(categories, settle, smooth, adapt, seed):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    rows, columns = 130, 3
    values = rng.normal(size=(rows, columns)) * [1, 10, 1000] + [0, 5, 1e4]
    values[rng.random(values.shape) < 0.05] = np.nan
    words = np.array(["", "x", "y", "z"], object)[rng.integers(0, 4, (rows, categories))]
    time = np.arange(rows) * 1_000_000
    recording = Recording("", time, values, words, None, np.arange(rows))
    names = tuple(f"k{j}" for j in range(categories))
    codec = fit_codec(
        Columns(("a", "b", "c"), names, TimeColumns(("t",))), settle, [recording], [recording]
    )
    assert codec.gappy
    assert codec.sizes == (4,) * categories
    model = Detector(
        DetectorConfig(
            input_size=codec.input_size,
            columns=columns,
            sizes=codec.sizes,
            hidden_size=9,
            window=4,
            smooth=smooth,
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.center.fill_(0.2)
    model.threshold.fill_(4.0)
    full = score_recording(model.eval(), codec, recording, adapt=adapt)
    scorer = RowScorer(model, codec, Stream(model, history=0), adapt)
    choices = codec.category_ids(words)
    for k in range(rows):
        scored = scorer.step(values[k], choices[k], int(time[k]))
        if k < settle:
            assert scored is None
            continue
        assert scored.score == pytest.approx(full.scores[k], rel=2e-4, abs=2e-4)
        if not full.flagged[k]:
            scorer.adapt_level(values[k])
    assert scorer.threshold == pytest.approx(full.threshold, rel=1e-4)
    if not adapt:
        x, z, choices = codec.encode(recording)
        y = model.run(x)
        deviates = np.nan_to_num(normal_deviates(y[:-1], z[1:], choices[1:], codec.sizes))
        center = np.full(deviates.shape[1], 0.2)
        averaged = exponential_average(np.concatenate([center[None], deviates]), smooth, center)
        d = averaged - 0.2
        d[:, columns:] = np.maximum(d[:, columns:], 0)
        np.testing.assert_allclose(
            full.scores, 0.5 * (d**2).sum(1), rtol=1e-5, atol=1e-5
        )  # the inverse covariance is 1
