"""What a drawing model draws: its samples, against the distribution and against a reader."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from signal_data import shape

from memorycell.application import catalogue, modelfile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.drawing.choosing import _log_posteriors, best_candidate
from memorycell.applications.drawing.codec import PEN_END
from memorycell.applications.drawing.dataset import prepare
from memorycell.applications.drawing.head import Mixture
from memorycell.applications.drawing.model import DrawingBatch, Writer, WriterConfig
from memorycell.applications.drawing.predict import PredictOptions, predict
from memorycell.applications.drawing.settings import DrawingSettings
from memorycell.signals.dtw import DtwClassifier
from memorycell.signals.strokes import StrokeCodec, check_strokes
from memorycell.training import loop as training

SPLIT = {"held_out": "writer>4", "checked": "writer=4"}


def test_samples_have_the_moments_of_the_mixture():
    torch.manual_seed(0)
    with torch.no_grad():
        params = Mixture(5, 3, 3)(2 * torch.randn(5))
    count = 200_000
    repeated = type(params)(*(value.expand(count, *value.shape) for value in params))
    drawn = repeated.sample(torch.rand(count, 4)).double()
    weight, mean, std = params.log_weight.exp(), params.mean, params.log_std.exp()
    expected = (weight[:, None] * mean).sum(0)
    covariance = torch.diag_embed(std**2)
    covariance[:, 0, 1] = covariance[:, 1, 0] = params.correlation * std.prod(-1)
    apart = mean - expected
    covariance = (weight[:, None, None] * (covariance + apart[:, :, None] * apart[:, None])).sum(0)
    tolerance = 5 * covariance.diagonal().max().sqrt().item() / count**0.5
    np.testing.assert_allclose(drawn[:, :2].mean(0), expected, atol=tolerance)
    np.testing.assert_allclose(np.cov(drawn[:, :2].T), covariance, rtol=0.03, atol=0.01)
    pens = np.bincount(drawn[:, 2].long(), minlength=3) / count
    np.testing.assert_allclose(pens, params.log_pen.exp(), atol=0.006)
    edges = params.sample(torch.tensor([1 - 2**-24] * 4))
    assert torch.isfinite(edges).all()


def test_a_drawing_depends_on_its_own_random_numbers_alone():
    torch.manual_seed(3)
    model = Writer(WriterConfig(signs=3, hidden_size=8, mixtures=2))
    with torch.no_grad():
        model.head.linear.bias[-1] -= 2.0  # drawings of different lengths
    signs, u = torch.tensor([2, 0]), torch.rand(5, 30, 4)
    prompt = torch.rand(4, 3).round()
    for more in (None, prompt):
        together = model.draw(signs, u, bias=0.5, prompt=more)
        assert len({len(one) for one in together}) > 1
        for k, one in enumerate(together):
            (alone,) = model.draw(signs, u[k : k + 1], bias=0.5, prompt=more)
            torch.testing.assert_close(alone, one, rtol=1e-4, atol=1e-5)
            assert (one[:-1, 2] != PEN_END).all()
            assert len(one) == 30 or one[-1, 2] == PEN_END


def test_posteriors_are_bayes_rule_over_signs_that_differ_in_one_place():
    torch.manual_seed(5)
    model = Writer(WriterConfig(signs=4, hidden_size=8, mixtures=2)).eval()
    drawings = model.draw(torch.tensor([1, 3]), torch.rand(5, 12, 4), bias=0.0)
    texts = [(1, 3), *((k, 3) for k in (0, 2, 3)), *((1, k) for k in (0, 1, 2))]
    log_p = np.empty((5, len(texts)))
    for k, moves in enumerate(drawings):
        for n, text in enumerate(texts):
            batch = DrawingBatch(moves[None], torch.tensor([len(moves)]), torch.tensor([text]))
            with torch.no_grad():
                log_p[k, n] = -sum(part.sum() for part in model.nats(batch))
    expected = np.log(softmax(log_p, axis=1)[:, 0])
    np.testing.assert_allclose(_log_posteriors(model, drawings, [1, 3]), expected, atol=1e-3)
    per_move = log_p[:, 0] / [len(moves) for moves in drawings]
    likely = np.argsort(-per_move)[:3]
    best = best_candidate(model, drawings, [1, 3])
    assert best is drawings[likely[expected[likely].argmax()]]
    assert best_candidate(model, drawings[:1], [1, 3]) is drawings[0]


def test_jitter_displaces_points_and_does_not_add_up(shapes):
    dataset = prepare(str(shapes), DrawingSettings(**SPLIT, jitter=0.03, warp=0, spacing=0.02))
    moves = max(dataset.moves["train"], key=len)
    rng = np.random.default_rng(0)
    shifts = []
    for _ in range(400):
        jittered = dataset._with_jitter(moves, rng)
        np.testing.assert_array_equal(jittered[:, 2], moves[:, 2])
        shifts.append(np.cumsum((jittered - moves)[:, :2], 0) * dataset.codec.scale)
    deviation = np.array(shifts).std((0, 2))
    np.testing.assert_allclose(deviation, 0.03, rtol=0.15)  # of the first point as of the last
    calm = prepare(str(shapes), DrawingSettings(**SPLIT, jitter=0, chain=1, warp=0, budget=10**6))
    (batch,) = calm.batches(0)
    total = np.concatenate(calm.moves["train"]).sum(0)
    np.testing.assert_allclose(batch.moves.sum((0, 1)), total, rtol=1e-3, atol=1e-2)
    with pytest.raises(ValueError, match=r"jitter=0.5: expected 0 to 0.2"):
        DrawingSettings(jitter=0.5)


def test_drawn_shapes_are_read_as_what_was_asked(shapes, tmp_path):
    """The smallest form of benchmarks/legibility.py, with time warping as the reader."""
    out = tmp_path / "d.safetensors"
    settings = DrawingSettings(
        hidden=48, mixtures=4, budget=250, dropout=0.0, chain=1, spacing=0.2, **SPLIT
    )
    train_settings = TrainSettings(epochs=60, lr=0.01, average=0.95)
    training.train(catalogue.load("drawing"), str(shapes), settings, train_settings, out)
    model = modelfile.load(out)
    codec = StrokeCodec(labels=model.codec.signs, spacing=0.1)

    def features(strokes):
        return codec.encode(check_strokes(strokes, "x"))[:, [6, 7, 4]]

    rng, labels = np.random.default_rng(5), model.codec.signs
    real = [(features(shape(label, rng)), k) for k, label in enumerate(labels) for _ in range(6)]
    reader = DtwClassifier([x for x, _ in real], np.array([k for _, k in real]))
    drawings = predict(model, "\n".join(labels), PredictOptions(count=6, candidates=4, longest=60))[
        "drawings"
    ]
    read = reader.classify([features(one["strokes"]) for one in drawings])
    asked = np.repeat(np.arange(len(labels)), 6)
    assert (read == asked).mean() >= 0.8  # 0.4 with jitter=0
    assert all(one["finished"] for one in drawings)
