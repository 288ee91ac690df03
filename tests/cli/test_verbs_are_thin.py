"""The verbs of the command line call the Python face: none has more than 25 lines of its own."""

import ast
from pathlib import Path

import pytest

import memorycell.cli

MAX_LINES = 25
FILES = sorted(Path(memorycell.cli.__file__).parent.glob("*.py"))


def verbs(path):
    """(name, lines of the body without the docstring) of the functions behind verbs in a file."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and any(
            isinstance(one, ast.Call) and getattr(one.func, "attr", "") == "command"
            for one in node.decorator_list
        ):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            yield node.name, node.end_lineno - body[0].lineno + 1


@pytest.mark.parametrize("path", [f for f in FILES if any(verbs(f))], ids=lambda p: p.stem)
def test_a_verb_is_short(path):
    longest = {name: lines for name, lines in verbs(path) if lines > MAX_LINES}
    assert not longest


def test_there_are_verbs():
    found = {name for path in FILES for name, _ in verbs(path)}
    assert {"train", "evaluate", "predict", "stream", "export", "prove", "inspect"} <= found
