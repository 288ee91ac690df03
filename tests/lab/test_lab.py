"""The memory lab: its problems as documented, its gradients against autograd, its reports."""

import json

import numpy as np
import pytest
import torch

from memorycell.cli.verbs import app
from memorycell.errors import UserError
from memorycell.lab.classics import carousel_change, run_trials
from memorycell.lab.problems import PROBLEMS, adding, associative, copy, order, parity, recall
from memorycell.lab.reader import Reader, answer_probabilities, question_after
from memorycell.lab.stories import (
    ANIMALS,
    ARTICLE_STORY,
    HELD_OUT_PAIRS,
    TOKEN_IDS,
    encode,
    sample_story,
)
from memorycell.lab.story import run_story
from memorycell.lab.story_report import story_page
from memorycell.lab.trained_readers import shipped_readers, train_readers
from memorycell.lab.trial import (
    CELLS,
    CLASSIC_CELLS,
    RECENT_CELLS,
    TrialModel,
    build_layer,
    gradient_by_distance,
    hidden_with_offsets,
    run_trial,
)


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
    assert (x[:, 1:-1, :8].sum(2) == 1).all()  # distractors are symbols too
    later = (x[:, 1:-1, :8].argmax(2) == target).mean()
    assert later == pytest.approx(1 / 8, abs=0.01)  # and carry no information


def test_adding_order_and_copy_have_the_documented_targets():
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


def test_parity_and_associative_recall_have_the_documented_targets():
    x, target = draw(parity(9))
    bits = x.argmax(2)
    for row in range(50):
        assert [sum(bits[row, : k + 1]) % 2 for k in range(9)] == target[row].tolist()
    assert target.mean() == pytest.approx(1 / 2, abs=0.02)
    x, target = draw(associative(12))
    assert x.shape == (2000, 12 + 8, 12 + 8 + 1)
    assert (x[:, :12, :12].sum(1) == 1).all()  # every key once
    assert not x[:, :12, -1].any()
    assert (x[:, 12:, -1] == 1).all()
    assert not x[:, 12:, 12:-1].any()  # no value where it is asked for
    for row in range(50):
        value_of = {int(step[:12].argmax()): int(step[12:20].argmax()) for step in x[row, :12]}
        asked = x[row, 12:, :12].argmax(1)
        assert [value_of[int(key)] for key in asked] == target[row].tolist()
    assert associative(3).num_answers == 3


def test_a_cell_whose_gates_read_the_state_learns_parity_and_another_does_not():
    assert run_trial("parity", 6, "slstm", 400).accuracy > 0.95
    assert run_trial("parity", 6, "minlstm", 400).accuracy < 0.9


def test_a_matrix_memory_learns_associations():
    assert run_trial("associative", 12, "mlstm", 300).accuracy > 0.95
    assert run_trial("associative", 12, "lstm", 300).accuracy < 0.7


def test_gates_of_the_recent_cells_are_initialised_to_remember():
    """Time constants of 1 to T - 1 steps, as in the classic cells."""
    for cell in ("minlstm", "mingru"):
        layer = build_layer(cell, 3, 4000, 100)
        with torch.no_grad():
            layer.weight_ih_l0.zero_()
            _, _, (trace,) = layer(torch.zeros(1, 1, 3), trace=True)
        keep = trace["f"] if cell == "minlstm" else 1 - trace["z"]
        spans = 1 / (1 - keep) - 1
        assert float(spans.mean()) == pytest.approx(50, abs=2)
    assert set(CELLS) == {*CLASSIC_CELLS, *RECENT_CELLS}


@pytest.mark.parametrize("cell", CELLS)
def test_gradient_by_distance_matches_autograd(cell):
    """And a central difference of the loss in float64, with one hidden state offset."""
    torch.manual_seed(0)
    problem = recall(6)
    model = TrialModel(cell, problem, hidden_size=5).double()
    x, target = problem.draw(np.random.default_rng(0), 16)
    x = x.double()
    norms = gradient_by_distance(model, problem, (x, target))
    assert len(norms) == problem.seq_len
    hidden = model.recurrent(x)[0]
    hidden.retain_grad()
    (problem.loss(model.out(hidden[:, -1:]), target) * 16).backward()
    assert norms[0] == pytest.approx(
        float(hidden.grad[:, -1].norm(dim=-1).mean())
    )  # the last step has only this path
    offsets = torch.zeros(16, problem.seq_len, 5, dtype=torch.float64)
    plain = hidden_with_offsets(model.recurrent, x, offsets)
    torch.testing.assert_close(plain, model.recurrent(x)[0], rtol=0, atol=1e-12)
    distance, row, size = 3, 4, 1e-6
    gradient = []
    for unit in range(5):
        losses = []
        for sign in (1, -1):
            moved = offsets.clone()
            moved[row, problem.seq_len - 1 - distance, unit] = sign * size
            losses.append(
                problem.loss(
                    model.out(hidden_with_offsets(model.recurrent, x, moved)[:, -1:]), target
                )
            )
        gradient.append((losses[0] - losses[1]).item() / (2 * size) * 16)
    offsets.requires_grad_()
    loss = (
        problem.loss(model.out(hidden_with_offsets(model.recurrent, x, offsets)[:, -1:]), target)
        * 16
    )
    (grad,) = torch.autograd.grad(loss, offsets)
    assert grad[row, problem.seq_len - 1 - distance].tolist() == pytest.approx(
        gradient, rel=1e-5, abs=1e-9
    )
    assert norms[distance] == pytest.approx(
        float(grad[:, problem.seq_len - 1 - distance].norm(dim=-1).mean())
    )


def test_gate_biases_are_initialised_to_remember():
    plain = build_layer("rnn", 3, 50, 100)  # torch's initialisation
    assert float(plain.bias_ih_l0.detach().abs().max()) <= 50**-0.5
    for cell in CLASSIC_CELLS[1:]:
        layer = build_layer(cell, 3, 4000, 100)
        block = {"gru": 1, "coupled": 0}.get(cell, 1)
        bias = (layer.bias_ih_l0 + layer.bias_hh_l0).detach()[4000 * block : 4000 * (block + 1)]
        spans = bias.exp()  # 1 - σ(b) = 1 / (1 + e^b): the time constant is e^b + 1 steps
        assert float(spans.min()) >= 1
        assert float(spans.max()) <= 99
        assert float(spans.mean()) == pytest.approx(50, abs=2)


def test_the_carousel_keeps_c_unchanged():
    assert carousel_change(100_000) == 0.0


def test_an_lstm_learns_and_an_untrained_gru_is_at_chance():
    result = run_trial("recall", 8, "lstm", 1000)
    assert result.accuracy > 0.98
    assert result.updates < 1000  # solved
    assert result.history[0][1] < 0.3
    assert len(result.gradient_after) == len(result.cell_state) == 10
    assert run_trial("order", 8, "gru", 1).accuracy < 0.6


def test_the_lab_command_reports_its_results(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        app(
            [
                "lab",
                "--updates",
                "5",
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
    output = json.loads(capsys.readouterr().out)
    assert {(r["problem"], r["gap"], r["cell"]) for r in output["results"]} == {
        *(("recall", g, c) for g in (10, 12) for c in ("lstm", "rnn")),
        ("order", 100, "lstm"),
        ("order", 100, "rnn"),
    }
    assert output["carousel"] == {"steps": 100_000, "max_change": 0.0}
    page = (tmp_path / "lab.html").read_text()
    assert "Over a gap of 12 steps the LSTM recalls" in page
    assert "constant error carousel" in page


def test_errors_are_one_line(capsys, tmp_path):
    for words, message in (
        (["--cell", "elm"], "--cell elm"),
        (["--problem", "chess"], "--problem chess"),
        (["--gap", "1"], "'--gap': 1: expected a whole number 2 to"),
        (["poem"], "lab poem"),
        (["--out", str(tmp_path / "no" / "x.html")], "no folder"),
    ):
        with pytest.raises(SystemExit) as end:
            app(["lab", *words])
        assert end.value.code == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.err.count("\n") == 1
    with pytest.raises(UserError):
        run_trials(1, cells=["none"])


# ---- the article's example -----------------------------------------------------------------------


def test_stories_ask_for_the_last_country_and_hold_pairs_out():
    rng = np.random.default_rng(0)
    country_of = {animal: c for c, pair in ANIMALS.items() for animal in pair}
    for held_out in (False, True):
        for _ in range(300):
            words, country = sample_story(rng, held_out=held_out)
            assert words[-4:] == ["so", "this", "country", "is"]
            countries = list(dict.fromkeys(country_of[w] for w in words if w in country_of))
            assert countries[-1] == country
            pairs = set(zip(countries, countries[1:], strict=False))
            if held_out:
                assert (countries[-2], country) in HELD_OUT_PAIRS
            else:
                assert not pairs & HELD_OUT_PAIRS
    assert ("india", "china") in HELD_OUT_PAIRS
    assert all(word in TOKEN_IDS for word in ARTICLE_STORY.split())


def test_the_answer_after_a_word_is_that_of_the_story_cut_there():
    torch.manual_seed(0)
    model = Reader("lstm").eval()
    words = ARTICLE_STORY.split()
    assert question_after(words, 0) == [".", "so", "this", "country", "is"]
    assert question_after(words, 6) == ["so", "this", "country", "is"]
    assert question_after(words, len(words) - 3) == ["country", "is"]
    assert question_after(words, len(words) - 1) == []
    probabilities = answer_probabilities(model, words)
    for k in range(len(words)):
        asked, _ = encode([[*words[: k + 1], *question_after(words, k)]])
        expected = model(asked)[0, -1].softmax(-1).detach().numpy()
        assert np.abs(probabilities[k] - expected).max() < 1e-6


def test_the_articles_story_ends_in_china():
    """With the readers of the package."""
    story = run_story(*shipped_readers())
    result = story.to_json()
    json.dumps(result)
    assert result["completion"] == "China"
    assert result["held_out_accuracy"]["lstm"] > 0.99
    assert result["held_out_accuracy"]["lstm"] > result["held_out_accuracy"]["rnn"] + 0.1
    answers = {s["word"]: s["believes"] for s in result["steps"]}
    assert (answers["peacock"], answers["panda"], answers["red-crowned-crane"]) == (
        "india",
        "china",
        "china",
    )
    page = story_page(story)
    assert "China" in page
    assert "The peacock is forgotten" in page


@pytest.mark.slow
def test_training_ends_when_the_lstm_reads_stories():
    readers, updates = train_readers(1, lambda *event: None)
    assert updates["lstm"] == updates["rnn"] < 2000
    story = run_story(readers, updates, seed=1)
    assert story.answer == "china"
    assert story.held_out_accuracy["lstm"] > story.held_out_accuracy["rnn"] + 0.1


def test_the_story_can_be_trained_again(tmp_path, memorycell):
    words = ("--retrain", "--updates", "3", "--out", tmp_path / "story.html", "--json")
    status, out, _ = memorycell("lab", "story", *words)
    assert not status
    assert json.loads(out.splitlines()[-1])["updates"] == {"lstm": 3, "rnn": 3}
    status, _, err = memorycell("lab", "story", "--seed", "3")
    assert (status, "--retrain" in err) == (2, True)


def test_every_problem_is_in_the_lab():
    assert set(PROBLEMS) == {"recall", "adding", "order", "copy", "parity", "associative"}
