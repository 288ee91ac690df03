"""Drawing: the codec, the likelihood, the model, the dataset and the commands."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from signal_data import shape
from torch.distributions import MultivariateNormal

from memorycell.application import catalogue, modelfile
from memorycell.application.train_settings import TrainSettings
from memorycell.applications.drawing.baselines import LinearMoves
from memorycell.applications.drawing.codec import PEN_END, PEN_UP, PenCodec, join_in_row
from memorycell.applications.drawing.dataset import prepare, reopen
from memorycell.applications.drawing.figures import drawing_svg, rows_svg
from memorycell.applications.drawing.head import Mixture
from memorycell.applications.drawing.model import DrawingBatch, Writer, WriterConfig
from memorycell.applications.drawing.page import drawing_page
from memorycell.applications.drawing.predict import PredictOptions, predict
from memorycell.applications.drawing.settings import DrawingSettings
from memorycell.errors import DataError
from memorycell.models.batches import padded
from memorycell.signals.stroke_files import read_strokes
from memorycell.signals.strokes import check_strokes
from memorycell.training import loop as training

DRAWING = catalogue.load("drawing")
CODEC = PenCodec(("circle", "cross"), spacing=0.05, scale=0.05)
SMALL = {"hidden": 24, "mixtures": 3, "budget": 600, "dropout": 0.0}


@pytest.fixture(scope="module")
def drawn(shapes, tmp_path_factory):
    """(result, path) of a model that draws shapes."""
    out = tmp_path_factory.mktemp("drawn") / "d.safetensors"
    settings = DrawingSettings(**SMALL, warp=0.3, held_out="writer>4", checked="writer=4")
    return (
        training.train(
            DRAWING, str(shapes), settings, TrainSettings(epochs=12, lr=0.02, average=0.9), out
        ),
        out,
    )


def test_moves_round_trip():
    drawing = CODEC.normalise(check_strokes(shape("cross", np.random.default_rng(0)), "x"))
    moves = CODEC.to_moves(drawing)
    assert moves[-1, 2] == PEN_END
    assert (moves[:-1, 2] == PEN_UP).sum() == 1
    back = CODEC.to_strokes(moves)
    assert len(back) == 2
    for stroke, was in zip(back, drawing, strict=True):
        np.testing.assert_allclose(stroke[[0, -1]], was[[0, -1]], atol=1e-5)
    points = np.concatenate(back)
    assert 0.6 < np.ptp(points, axis=0).max() <= 1.01
    two = join_in_row([drawing, drawing])
    assert len(two) == 4
    np.testing.assert_allclose(
        two[2][0] - drawing[0][0], [max(s[:, 0].max() for s in drawing) + 0.35, 0], atol=1e-9
    )


def test_signs():
    assert CODEC.sign_ids(" cross  circle") == [1, 0]
    letters = PenCodec(("a", "b"), height=10.0)
    assert letters.sign_ids("abba") == [0, 1, 1, 0]
    for codec, text in ((CODEC, "bar"), (letters, "abc"), (CODEC, "")):
        with pytest.raises(DataError, match="this model draws"):
            codec.sign_ids(text)
    assert PenCodec.from_json(CODEC.to_json()) == CODEC
    with pytest.raises(ValueError, match="signs: none"):
        PenCodec.from_json({**CODEC.to_json(), "signs": []})


def test_likelihood_equals_torch_distributions():
    torch.manual_seed(0)
    head = Mixture(7, 4, 3).double()
    hidden = torch.randn(5, 7, dtype=torch.float64)
    move, pen = torch.randn(5, 2, dtype=torch.float64), torch.tensor([0, 2, 1, 1, 0])
    log_weight, mean, log_std, correlation, log_pen = (x.double() for x in head(hidden))
    total = 0
    for m in range(4):
        std = log_std[:, m].exp()
        covariance = torch.diag_embed(std**2)
        covariance[:, 0, 1] = covariance[:, 1, 0] = correlation[:, m] * std.prod(-1)
        gaussian = MultivariateNormal(mean[:, m], covariance)
        total = total + log_weight[:, m].exp() * gaussian.log_prob(move).exp()
    moves, pens = head.log_likelihood(hidden, move, pen)
    torch.testing.assert_close(moves.double(), total.log(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pens, log_pen.gather(1, pen[:, None])[:, 0].to(pens))
    torch.testing.assert_close(
        log_weight.exp().sum(-1), torch.ones(5, dtype=torch.float64), rtol=1e-5, atol=1e-6
    )
    assert (head(hidden, 2.0).log_std < head(hidden).log_std).all()


def test_chunks_equal_full_sequence_and_padding_has_no_effect():
    torch.manual_seed(1)
    model = Writer(WriterConfig(signs=5, hidden_size=9, mixtures=3)).eval()
    moves = torch.randn(2, 17, 3)
    moves[..., 2] = torch.randint(0, 2, (2, 17)).float()
    signs = torch.tensor([[0, 4, 2], [3, -1, -1]])
    whole, last = model(moves, signs)
    state, parts = None, []
    for piece in moves.split([1, 7, 1, 8], 1):
        out, state = model(piece, signs, state)
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)
    for name, value in last.asdict().items():
        torch.testing.assert_close(state.asdict()[name], value, rtol=1e-4, atol=1e-5)
    alone, _ = model(moves[1:], torch.tensor([[3]]))
    torch.testing.assert_close(alone[0], whole[1], rtol=1e-4, atol=1e-5)
    short = DrawingBatch(moves, torch.tensor([17, 6]), signs)
    cut = DrawingBatch(moves[1:, :6], torch.tensor([6]), signs[1:, :1])
    for a, b in zip(model.nats(short), model.nats(cut), strict=True):
        torch.testing.assert_close(a[1, :6], b[0], rtol=1e-4, atol=1e-5)
        assert not a[1, 6:].any()


def test_every_parameter_has_a_gradient():
    model = Writer(WriterConfig(signs=5, hidden_size=9, mixtures=3))
    moves, lengths = padded(
        [np.random.default_rng(k).normal(size=(6 + k, 3)).astype(np.float32) for k in range(3)]
    )
    moves[..., 2] = 0
    loss, _ = model.loss(
        DrawingBatch(moves, lengths, torch.tensor([[0, 1], [2, 3], [4, -1]])), None
    )
    loss.backward()
    for name, parameter in model.named_parameters():
        assert bool(parameter.grad.abs().sum() > 0), name


def test_baseline_is_a_gaussian_regression():
    rng = np.random.default_rng(0)
    drawings = []
    for _ in range(200):
        moves = np.zeros((40, 3))
        for t in range(40):
            before = moves[t - 1, :2] if t else np.zeros(2)
            moves[t, :2] = 0.8 * before + rng.normal(0, [0.5, 0.2])
        moves[-1, 2] = 2
        drawings.append(moves)
    move, pen = LinearMoves(drawings).nats(drawings)
    entropy = sum(0.5 * np.log(2 * np.pi * np.e * s**2) for s in (0.5, 0.2))
    assert move == pytest.approx(entropy, abs=0.02)
    assert 0 < pen < 0.2


def test_beats_the_baseline_and_draws(drawn, shapes, tmp_path):
    result, path = drawn
    assert result["metrics"]["nats"] < result["baselines"]["straight on"]["nats"]
    assert result["metrics"]["nats"] == pytest.approx(
        result["metrics"]["nats_move"] + result["metrics"]["nats_pen"]
    )
    file = modelfile.load(path)
    again = training.evaluate(DRAWING, file, path, None, lambda line: None)
    assert again["metrics"] == pytest.approx(result["metrics"])
    a, b = (predict(file, "bar", PredictOptions(count=2, seed=5)) for _ in range(2))
    assert a == b
    assert a != predict(file, "bar", PredictOptions(count=2, seed=6))
    assert len(a["drawings"]) == 2
    root = ElementTree.fromstring(drawing_svg(file, a))
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == sum(
        len(d["strokes"]) for d in a["drawings"]
    )
    styled = predict(file, "bar cross", PredictOptions(count=1, style=str(shapes), only="line 3"))
    assert styled["drawings"][0]["strokes"]
    (tmp_path / "again.jsonl").write_text(
        json.dumps({"label": "bar", "strokes": a["drawings"][0]["strokes"]})
    )
    assert read_strokes(tmp_path / "again.jsonl", "x")[0][0].label == "bar"
    with pytest.raises(DataError, match="contains no drawing of a sign"):
        predict(file, "bar", PredictOptions(style=str(shapes), only="zzz"))


def test_text_by_letters(shapes, tmp_path):
    drawn_, _ = read_strokes(shapes, "s")
    rng = np.random.default_rng(0)
    rows = []
    for k in range(80):
        picked = rng.integers(0, len(drawn_), 3)
        placed = join_in_row([CODEC.normalise(drawn_[j].drawing) for j in picked])
        text = "".join(drawn_[j].label[1] for j in picked)
        rows.append(
            json.dumps({"text": text + str(k), "strokes": [(20 * s).tolist() for s in placed]})
        )
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    dataset = prepare(str(tmp_path / "t.jsonl"), DrawingSettings(**SMALL))
    assert set(dataset.codec.signs) <= set("iraq0123456789")
    assert dataset.codec.height > 5
    batch = next(iter(dataset.batches(0)))
    assert batch.signs.shape[1] >= 4
    assert dataset._chain(3, rng) == [3]


def test_chains_are_by_one_writer(shapes):
    dataset = prepare(
        str(shapes), DrawingSettings(**SMALL, held_out="writer>4", checked="writer=4", chain=3)
    )
    part = dataset.examples["train"]
    rng = np.random.default_rng(0)
    lengths = set()
    for k in range(60):
        chain = dataset._chain(k, rng)
        lengths.add(len(chain))
        assert chain[0] == k
        assert len({part[j].fields["writer"] for j in chain}) == 1
    assert lengths == {1, 2, 3}


def test_the_command_line(drawn, shapes, memorycell, tmp_path):
    status, out, _ = memorycell(
        "predict", drawn[1], "circle", "--set", "count=3", "--out", tmp_path / "c.svg", "--json"
    )
    assert status == 0
    assert len(json.loads(out)["drawings"]) == 3
    assert ElementTree.parse(tmp_path / "c.svg").getroot().tag.endswith("svg")
    assert memorycell("evaluate", drawn[1], shapes)[0] == 0
    assert memorycell("evaluate", drawn[1], "--report", tmp_path / "e.html")[0] == 0
    assert memorycell("inspect", drawn[1], shapes, "--out", tmp_path / "i.html")[0] == 0
    assert memorycell("inspect", drawn[1], "--out", tmp_path / "i.html")[0] == 0
    wrong = (
        ("predict", drawn[1], "house"),
        ("predict", drawn[1], "bar", "--out", tmp_path / "x.csv"),
        ("stream", drawn[1]),
    )
    for words in (
        *wrong,
        ("prove", drawn[1]),
        ("export", drawn[1], "--to", "onnx"),
        ("inspect", drawn[1], "gone.jsonl"),
    ):
        status, _, err = memorycell(*words)
        assert (status, err.count("\n")) == (2, 1), words
    assert reopen(None, modelfile.load(drawn[1])).notes == ["evaluated: the test split"]


def test_svg_of_a_dot_and_an_escaped_name():
    drawn = rows_svg({"a & b": [[np.zeros((1, 2))], [np.ones((3, 2))]]})
    assert drawn.count("<polyline") == 2
    assert "a &amp; b" in drawn


def test_changed_descriptions_and_options_are_refused():
    values = PenCodec(("a", "b"), scale=0.5).to_json()
    assert PenCodec.from_json(values) == PenCodec(("a", "b"), scale=0.5)
    wrong = [{k: v for k, v in values.items() if k != name} for name in values]
    wrong += [
        {**values, **change}
        for change in (
            {"signs": ["a", "a"]},
            {"signs": ["a", ""]},
            {"signs": "ab"},
            {"spacing": True},
            {"spacing": "0.1"},
            {"height": -1.0},
            {"height": 1e-9},
            {"scale": 0.0},
            {"scale": float("nan")},
            {"more": 1},
        )
    ]
    for changed in wrong:
        with pytest.raises(ValueError):
            PenCodec.from_json(changed)
    for options in ({"count": 0}, {"longest": 1}, {"seed": -1}, {"bias": float("nan")}):
        with pytest.raises(ValueError, match=f"^{next(iter(options))}="):
            PredictOptions(**options)


def test_page_has_a_figure_per_text():
    dot, line = [[[0.5, 0.5]]], [[[0.0, 0.0], [1.0, 0.5]], [[1.0, 1.0]]]
    drawings = [{"text": t, "strokes": s, "finished": True} for t, s in (("a", dot), ("b", line))]
    figures = drawing_page(None, {"drawings": [*drawings, drawings[0]]}).figures()
    assert list(figures) == ["drawing", "drawing 2"]
    assert [len(figures[name].data) for name in figures] == [2, 2]
    first, second = figures["drawing"].data
    assert second.x[0] > first.x[0]  # side by side, not on each other
