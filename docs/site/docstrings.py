"""Griffe extension: docstrings as Markdown.

A block of parameters becomes a definition list, and a block of equations a code block:

    hidden_size   units of the layer          i = σ(pre_i)
    cell          a row of the table          c_t = f ⊙ c_{t-1} + i ⊙ g
"""

import re
from typing import Any

from griffe import Extension, Object

PARAMETER = re.compile(r"(\S+(?:, \S+)*) {2,}(?=\S)")
EQUATION = re.compile(r"\S+ = \S")


class Docstrings(Extension):
    """Rewrite the docstring of every object."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite one docstring in place."""
        if obj.docstring:
            blocks = obj.docstring.value.split("\n\n")
            obj.docstring.value = "\n\n".join(to_markdown(block) for block in blocks)


def to_markdown(block: str) -> str:
    """The Markdown of a block of lines between empty lines."""
    lines = block.split("\n")
    first = PARAMETER.match(block)
    if first and all(starts_at(line, first.end()) for line in lines):
        return definition_list(lines, first.end())
    if len(lines) > 1 and all(EQUATION.match(line) for line in lines):
        return "\n".join("    " + line for line in lines)
    return block


def starts_at(line: str, column: int) -> bool:
    """Whether the line's description starts at `column`, after a name or on a further line."""
    match = PARAMETER.match(line)
    return match.end() == column if match else line.startswith(" " * column)


def definition_list(lines: list[str], column: int) -> str:
    """Each name as a term, its description as the definition."""
    markdown: list[str] = []
    for line in lines:
        name, description = line[:column].strip(), line[column:]
        if name:
            markdown += ["", f"`{name}`", f":   {description}"]
        else:
            markdown.append(f"    {description}")
    return "\n".join(markdown[1:])
