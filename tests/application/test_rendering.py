"""Results on a terminal: foreign control characters are shown, never sent."""

import pytest

from memorycell.application.rendering import (
    comparison_html,
    comparison_text,
    table_text,
    without_controls,
)

RESULT = {
    "task": "forecast",
    "primary": "crps",
    "higher": False,
    "metrics": {"mae": 2.0, "crps": 1.0},
    "baselines": {"good": {"mae": 3.0, "crps": 1.25}, "<bad>": {"mae": 9.0, "crps": 4.0}},
    "skill": 0.2,
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b]0;title\x07b", "a<U+001B>]0;title<U+0007>b"),
        ("a\x1b[2Jb", "a<U+001B>[2Jb"),
        ("a\rb\x9bc", "a<U+000D>b<U+009B>c"),
        ("\x1b[1mbold\x1b[0m\n\tक्षि 👩‍👩‍👧", "\x1b[1mbold\x1b[0m\n\tक्षि 👩‍👩‍👧"),
    ],
)
def test_control_characters(text, shown):
    assert without_controls(text) == shown


def test_the_best_baseline_is_named():
    text = comparison_text(RESULT)
    assert text.splitlines()[-1] == "crps ↓: 20.0% better than the best baseline (good)"
    order = [text.index(name) for name in ("<bad>", "good", "memorycell")]
    assert order == sorted(order)
    assert "best baseline" not in comparison_text({**RESULT, "skill": None, "baselines": {}})


def test_foreign_names_are_escaped_in_html():
    page = comparison_html(RESULT)
    assert "<td>&lt;bad&gt;</td>" in page
    assert "<bad>" not in page


def test_no_number_is_cut_where_there_is_no_terminal():
    numbers = [f"0.{k:06d}" for k in range(12)]
    text = table_text("scores", ["method", *(f"metric {k}" for k in range(12))], [["x", *numbers]])
    assert all(number in text for number in numbers)
