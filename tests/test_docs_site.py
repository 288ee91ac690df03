"""The documentation site lists every page and documents every public name.

`make docs` builds it and fails on a broken link.
"""

import importlib.util
import re
from pathlib import Path

import pytest

import memorycell

ROOT = Path(__file__).parent.parent


def test_the_navigation_lists_every_page():
    listed = re.findall(r"^ +- [^:]+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = [page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").rglob("*.md")]
    outside = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"]
    assert sorted(listed) == sorted(pages + outside)


def test_the_reference_has_every_public_name():
    reference = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    documented = re.findall(r"^::: memorycell\.(\w+)$", reference, re.MULTILINE)
    assert set(documented) == {*memorycell.__all__, "errors"}


def test_docstring_blocks_become_markdown():
    pytest.importorskip("griffe")
    spec = importlib.util.spec_from_file_location("docstrings", ROOT / "docs/site/docstrings.py")
    docstrings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(docstrings)
    parameters = "x, y   inputs\n       of a step\nzone   a probability"
    assert docstrings.to_markdown(parameters) == (
        "`x, y`\n:   inputs\n    of a step\n\n`zone`\n:   a probability"
    )
    equations = "c_t = f ⊙ c_{t-1} + i ⊙ g\nh_t = o ⊙ tanh(c_t)"
    assert docstrings.to_markdown(equations) == (
        "    c_t = f ⊙ c_{t-1} + i ⊙ g\n    h_t = o ⊙ tanh(c_t)"
    )
    prose = "Names and shapes\nare torch's.  See `Recurrent`."
    assert docstrings.to_markdown(prose) == prose
