"""The story as a live session, compared with the laboratory's own measurements."""

from __future__ import annotations

import numpy as np
import pytest

from memorycell.errors import DataError, StateError
from memorycell.lab.reader import answer_probabilities
from memorycell.lab.stories import ARTICLE_STORY, COUNTRIES, sample_story
from memorycell.lab.story import _gate_steps
from memorycell.lab.trained_readers import shipped_readers
from memorycell.server.story import about, open_story


def test_word_by_word_gives_the_answers_and_gates_of_the_lab() -> None:
    readers, _ = shipped_readers()
    words = ARTICLE_STORY.split()
    session = open_story()
    records = [session.feed(word)[0] for word in words]
    for name, reader in readers.items():
        expected = answer_probabilities(reader, words)
        ours = np.array([r["belief"][name] for r in records])
        np.testing.assert_allclose(ours, expected, atol=1e-4)
    steps = _gate_steps(readers["lstm"], words, answer_probabilities(readers["lstm"], words))
    for ours, step in zip(records, steps, strict=True):
        for key in ("dropped", "written", "let_out"):
            assert ours[key] == pytest.approx(step[key], abs=1e-4)
        assert ours["answer"] == step["believes"]
    assert records[-1]["answer"] == "china"
    assert records[-1]["p"] == pytest.approx(0.961, abs=5e-4)


def test_any_story_and_lines_of_several_words() -> None:
    readers, _ = shipped_readers()
    words, _ = sample_story(np.random.default_rng(3), num_fillers=2)
    ours = [r["belief"]["rnn"] for r in open_story().feed(" ".join(words))]
    np.testing.assert_allclose(ours, answer_probabilities(readers["rnn"], words), atol=1e-4)


def test_a_snapshot_continues_and_others_are_refused() -> None:
    session, other = open_story(), open_story()
    session.feed("the peacock dances in the rain . so this")
    data = session.snapshot()
    other.restore(data)
    assert other.feed("country is") == session.feed("country is")
    for wrong in (b"", b"{}", data[:-20], data.replace(b'"words": 9', b'"words": 8')):
        with pytest.raises(StateError, match="not the state of a story"):
            other.restore(wrong)
    assert other.snapshot() == session.snapshot()


def test_an_unknown_word_is_named_and_changes_nothing() -> None:
    session = open_story()
    before = session.snapshot()
    with pytest.raises(DataError, match=r"do not know 'pandas'; did you mean panda\?"):
        session.feed("the pandas")
    with pytest.raises(DataError, match="expected words"):
        session.feed({"word": "the"})
    assert session.snapshot() == before


def test_about_has_the_language_of_the_stories() -> None:
    facts = about()
    assert facts["countries"] == list(COUNTRIES)
    assert [r["name"] for r in facts["readers"]] == ["lstm", "rnn", "rnn_long"]
