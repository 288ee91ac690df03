"""Moving digits, metrics and baselines of frames against formulas written as loops."""

import numpy as np
import pytest

pytest.importorskip("av", reason="pip install 'memorycell[video]'")
pytest.importorskip("PIL", reason="pip install 'memorycell[video]'")


from video_clips import shifting

from memorycell.application import catalogue
from memorycell.applications.video import baselines, metrics
from memorycell.applications.video.digits import moving_digits, read_digits, split_digits
from memorycell.applications.video.public_data import MOVING_DIGITS

APPLICATION = catalogue.load("video")


def test_digits_bounce_and_keep_their_brightness():
    digits = np.zeros((3, 14, 14), np.float32)
    digits[:, 4:10, 4:10] = 1
    clips = moving_digits(digits, 6, 40, 32, 0)
    assert clips.shape == (6, 40, 32, 32)
    assert (clips.reshape(6, 40, -1).sum(2) <= 2 * 36 * 255).all()
    assert (clips.reshape(6, 40, -1).sum(2) >= 36 * 255).all()  # whole digits, also at the border
    np.testing.assert_array_equal(clips, moving_digits(digits, 6, 40, 32, 0))
    assert (clips != moving_digits(digits, 6, 40, 32, 1)).any()
    centres = [np.argwhere(frame).mean(0) for frame in moving_digits(digits[:1], 1, 30, 32, 5)[0]]
    moves = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    assert moves.max() <= 2 * 0.1 * (32 - 14)


def test_digits_of_scikit_learn_are_split_before_they_move(monkeypatch):
    monkeypatch.delenv("MEMORYCELL_DATA", raising=False)
    parts = split_digits(read_digits(MOVING_DIGITS.find()), 32)
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 1437,
        "valid": 180,
        "test": 180,
    }
    assert parts["train"].shape[1:] == (14, 14)
    assert 0 <= parts["train"].min() <= parts["train"].max() <= 1


@pytest.mark.data
def test_baselines_of_the_public_sets(public_data):
    """The figures of the docs, which depend on no training."""
    dataset = APPLICATION.prepare("pedestrians", APPLICATION.settings())
    scores = dataset.baselines("test")
    assert scores["last frame"]["mse"] == pytest.approx(14.11e-4, rel=1e-3)
    assert scores["ridge"]["mse"] == pytest.approx(10.48e-4, rel=5e-3)
    assert dataset.evaluate(dataset.build(), "test")["mse"] < 10e-4  # its linear part alone


def test_ssim_is_the_papers_formula_by_loops():
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 15, 13)).astype(np.float32)
    at = np.arange(11) - 5
    window = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for r in range(15 - 10):
        for c in range(13 - 10):
            a, b = x[r : r + 11, c : c + 11], y[r : r + 11, c : c + 11]
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            cov = (window * (a - ma) * (b - mb)).sum()
            values.append(
                (2 * ma * mb + 1e-4)
                * (2 * cov + 9e-4)
                / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
            )
    assert metrics.ssim(x, y) == pytest.approx(np.mean(values), abs=1e-6)
    assert metrics.ssim(x[:5, :7], x[:5, :7]) == pytest.approx(1)


def test_frame_metrics_and_average_precision():
    truth = np.array([[[0.0, 1.0], [1.0, 0.0]]])
    found = metrics.frame_metrics(truth, np.full((1, 2, 2), 0.5))
    assert found["mse"] == pytest.approx(0.25)
    assert found["se"] == pytest.approx(1.0)
    assert found["bce"] == pytest.approx(4 * np.log(2))
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 6, 50).astype(float), rng.random(50) < 0.3
    expected = average_precision_score(labels, scores)
    assert metrics.auc_pr(scores, labels) == pytest.approx(expected)


def test_linear_motion_finds_the_shift():
    rng = np.random.default_rng(0)
    frame = rng.random((16, 20)).astype(np.float32)
    for down, right in ((0, 0), (3, -2), (-5, 7)):
        moved = np.roll(frame, (down, right), (0, 1))
        assert baselines.shift_between(frame, moved) == (down, right)
    clip = shifting(1, 6)[0].astype(np.float32) / 255
    ours = baselines.motion(clip[:4], 2)
    assert np.abs(ours - clip[4:])[:, :, 4:].max() < 1e-6  # but for what comes into view


def test_ridge_is_the_regularised_regression_of_numpy():
    clips = shifting(3, 6, seed=2).astype(np.float32) / 255
    fitted = baselines.fit_ridge(list(clips), reach=1)
    rows, target = [], []
    for clip in clips:
        padded = np.pad(clip, ((0, 0), (1, 1), (1, 1)), "edge")
        for t in range(1, 5):
            for r in range(12):
                for c in range(14):
                    windows = [padded[t - k, r : r + 3, c : c + 3].ravel() for k in (0, 1)]
                    rows.append(np.concatenate([*windows, [1]]))
                    target.append(clip[t + 1, r, c])
    x, y = np.array(rows), np.array(target)
    penalty = np.full(19, 1e-3 * (x[:, :-1] ** 2).sum(0).mean())
    penalty[-1] = 1e-9
    weights = np.linalg.solve(x.T @ x + np.diag(penalty), x.T @ y)
    ours = np.append(fitted.weight.numpy().ravel(), fitted.bias.numpy())
    np.testing.assert_allclose(ours, weights, atol=2e-4)
