"""The memory lab: its problems are what they say, its gradients are autograd's, and what it tells
is what came out.
"""

import json

import numpy as np
import pytest
import torch

from memorycell.cli.verbs import app
from memorycell.errors import UserError
from memorycell.lab import lab, story
from memorycell.lab.problems import PROBLEMS, adding, copy, order, recall
from memorycell.lab.trial import CELLS, Answerer, _with_nudges, build, gradient_by_distance, run


def draw(problem, count: int = 2000):
    x, target = problem.draw(np.random.default_rng(0), count)
    return x.numpy(), target.numpy()


def test_recall_asks_for_the_marked_symbol():
    x, target = draw(recall(30))
    assert x.shape == (2000, 32, 10)
    assert (x[:, 0, :8].argmax(1) == target[:, 0]).all()
    assert (x[:, 0, 8] == 1).all()
    assert not x[:, 1:, 8].any()
    assert (x[:, -1, 9] == 1).all()
    assert (x[:, 1:-1, :8].sum(2) == 1).all()  # the others are symbols too
    later = (x[:, 1:-1, :8].argmax(2) == target).mean()
    assert later == pytest.approx(1 / 8, abs=0.01)  # and say nothing of the answer


def test_adding_order_and_copy_ask_what_they_say():
    x, target = draw(adding(50))
    assert (x[:, :, 1].sum(1) == 2).all()
    assert (x[:, :5, 1].sum(1) == 1).all()
    assert (x[:, 25:, 1].sum(1) == 1).all()
    assert np.allclose(((x[:, :, 0] + 0.5) * x[:, :, 1]).sum(1) / 2, target[:, 0], atol=1e-6)
    guess = np.abs(target[:, 0] - 0.5) < 0.04
    assert guess.mean() == pytest.approx(adding(50).chance, abs=0.02)
    x, target = draw(order(40))
    places = x[:, :, :2].sum(2)
    assert (places.sum(1) == 2).all()
    for row in range(200):
        first, second = np.flatnonzero(places[row])
        assert second - first > 30
        assert target[row, 0] == 2 * x[row, first, 1] + x[row, second, 1]
    x, target = draw(copy(12))
    assert (x[:, :5, :8].argmax(2) == target).all()
    assert not x[:, 5:, :8].any()
    assert (x[:, -5:, 9] == 1).all()


@pytest.mark.parametrize("cell", CELLS)
def test_the_gradient_against_distance_is_autograds(cell):
    """Against a central difference in float64 of the loss, with one hidden state nudged."""
    torch.manual_seed(0)
    problem = recall(6)
    model = Answerer(cell, problem, hidden=5).double()
    x, target = problem.draw(np.random.default_rng(0), 16)
    x = x.double()
    found = gradient_by_distance(model, problem, (x, target))
    assert len(found) == problem.steps
    hidden = model.recurrent(x)[0]
    hidden.retain_grad()
    (problem.loss(model.out(hidden[:, -1:]), target) * 16).backward()
    assert found[0] == pytest.approx(
        float(hidden.grad[:, -1].norm(dim=-1).mean())
    )  # the last step has no other way
    nudge = torch.zeros(16, problem.steps, 5, dtype=torch.float64)
    plain = _with_nudges(model.recurrent, x, nudge)
    torch.testing.assert_close(plain, model.recurrent(x)[0], rtol=0, atol=1e-12)
    distance, row, size = 3, 4, 1e-6
    gradient = []
    for unit in range(5):
        losses = []
        for sign in (1, -1):
            moved = nudge.clone()
            moved[row, problem.steps - 1 - distance, unit] = sign * size
            losses.append(
                problem.loss(model.out(_with_nudges(model.recurrent, x, moved)[:, -1:]), target)
            )
        gradient.append((losses[0] - losses[1]).item() / (2 * size) * 16)
    nudge.requires_grad_()
    loss = problem.loss(model.out(_with_nudges(model.recurrent, x, nudge)[:, -1:]), target) * 16
    (grad,) = torch.autograd.grad(loss, nudge)
    assert grad[row, problem.steps - 1 - distance].tolist() == pytest.approx(
        gradient, rel=1e-5, abs=1e-9
    )
    assert found[distance] == pytest.approx(
        float(grad[:, problem.steps - 1 - distance].norm(dim=-1).mean())
    )


def test_gates_start_ready_to_remember():
    plain = build("rnn", 3, 50, 100)  # as torch starts it
    assert float(plain.bias_ih_l0.detach().abs().max()) <= 50**-0.5
    for cell in CELLS[1:]:
        layer = build(cell, 3, 4000, 100)
        at = {"gru": 1, "coupled": 0}.get(cell, 1)
        keep = (layer.bias_ih_l0 + layer.bias_hh_l0).detach()[4000 * at : 4000 * (at + 1)]
        spans = keep.exp()  # 1 - σ(b) is 1 / (1 + e^b): kept e^b + 1 steps
        assert float(spans.min()) >= 1
        assert float(spans.max()) <= 99
        assert float(spans.mean()) == pytest.approx(50, abs=2)


def test_the_carousel_carries_its_cell_unchanged():
    assert lab.carousel(100_000) == 0.0


def test_an_lstm_learns_and_untrained_ones_are_at_chance():
    outcome = run("recall", 8, "lstm", 20.0)
    assert outcome.accuracy > 0.98
    assert outcome.seconds < 20
    assert outcome.history[0][1] < 0.3
    assert len(outcome.gradient_after) == len(outcome.cell_state) == 10
    assert run("order", 8, "gru", 0.01).accuracy < 0.6


def test_the_lab_tells_what_came_out(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        app(
            [
                "lab",
                "--minutes",
                "0.05",
                "--gap",
                "12",
                "--cell",
                "lstm",
                "--cell",
                "rnn",
                "--problem",
                "recall",
                "--problem",
                "order",
                "--out",
                str(tmp_path / "lab.html"),
                "--json",
            ]
        )
    assert not end.value.code
    told = json.loads(capsys.readouterr().out)
    assert {(r["problem"], r["gap"], r["cell"]) for r in told["results"]} == {
        *(("recall", g, c) for g in (10, 12) for c in ("lstm", "rnn")),
        ("order", 100, "lstm"),
        ("order", 100, "rnn"),
    }
    assert told["carousel"] == {"steps": 100_000, "max_change": 0.0}
    page = (tmp_path / "lab.html").read_text()
    assert "Over a gap of 12 steps the LSTM recalls" in page
    assert "constant error carousel" in page


def test_mistakes_are_one_line(capsys, tmp_path):
    for words, told in (
        (["--cell", "elm"], "--cell elm"),
        (["--problem", "chess"], "--problem chess"),
        (["--gap", "1"], "--gap 1"),
        (["poem"], "lab poem"),
        (["--out", str(tmp_path / "no" / "x.html")], "no folder"),
    ):
        with pytest.raises(SystemExit) as end:
            app(["lab", *words])
        assert end.value.code == 2
        captured = capsys.readouterr()
        assert told in captured.err
        assert captured.err.count("\n") == 1
    with pytest.raises(UserError):
        lab.trials(1.0, cells=["none"])


# ---- the article's example -----------------------------------------------------------------------


def test_stories_ask_for_the_last_country_and_hold_pairs_out():
    rng = np.random.default_rng(0)
    country_of = {animal: c for c, pair in story.ANIMALS.items() for animal in pair}
    for held_out in (False, True):
        for _ in range(300):
            words, country = story.story(rng, held_out=held_out)
            assert words[-4:] == ["so", "this", "country", "is"]
            order_told = list(dict.fromkeys(country_of[w] for w in words if w in country_of))
            assert order_told[-1] == country
            pairs = set(zip(order_told, order_told[1:], strict=False))
            if held_out:
                assert (order_told[-2], country) in story.HELD_OUT
            else:
                assert not pairs & story.HELD_OUT
    assert ("india", "china") in story.HELD_OUT
    assert all(word in story.INDEX for word in story.ARTICLE.split())


def test_asking_at_every_word_is_asking_the_story_that_ends_there():
    torch.manual_seed(0)
    model = story.Reader("lstm").eval()
    words = story.ARTICLE.split()
    assert story.rest_after(words, 0) == [".", "so", "this", "country", "is"]
    assert story.rest_after(words, 6) == ["so", "this", "country", "is"]
    assert story.rest_after(words, len(words) - 3) == ["country", "is"]
    assert story.rest_after(words, len(words) - 1) == []
    found = story.beliefs(model, words)
    for k in range(len(words)):
        asked, _ = story.encode([[*words[: k + 1], *story.rest_after(words, k)]])
        expected = model(asked)[0, -1].softmax(-1).detach().numpy()
        assert np.abs(found[k] - expected).max() < 1e-6


def test_the_articles_story_ends_in_china(tmp_path):
    told = story.tell(updates=600)
    result = told.to_json()
    json.dumps(result)
    assert result["completion"] == "China"
    assert result["held_out_accuracy"]["lstm"] > 0.9
    assert result["held_out_accuracy"]["lstm"] > result["held_out_accuracy"]["rnn"] + 0.1
    believed = {s["word"]: s["believes"] for s in result["steps"]}
    assert (believed["peacock"], believed["panda"], believed["red-crowned-crane"]) == (
        "india",
        "china",
        "china",
    )
    page = story.report(told)
    assert "China" in page
    assert "The peacock is forgotten" in page


def test_every_problem_is_in_the_lab():
    assert set(PROBLEMS) == {"recall", "adding", "order", "copy"}
