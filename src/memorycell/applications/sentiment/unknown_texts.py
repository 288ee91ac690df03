"""Texts of none of the labels: other labels of the data, or files of texts, such as of another
language. See `memorycell.signals.unknown`.
"""

from __future__ import annotations

from pathlib import Path

from memorycell.applications.sentiment.examples import Examples
from memorycell.applications.sentiment.reading import MAX_TEXT_CHARS
from memorycell.language.files import read_lines
from memorycell.signals import examples as signals
from memorycell.signals.unknown import describe_unknown, separate_unknown

MAX_TEXTS = 10_000
"""Of each class without a label, evenly chosen."""


def separate_texts(
    examples: dict[str, Examples], unknown: str | None, where: str, encoding: str | None
) -> tuple[dict[str, Examples], dict[str, list[str]], list[str]]:
    """(the examples of other labels, the texts without a label by split, notes).

    unknown   names or patterns of labels, and text files with a text per line, separated by commas

    Raises `DataError` as `separate_unknown` does.
    """
    if unknown is None:
        return examples, {}, []
    parts = [part.strip() for part in unknown.split(",") if part.strip()]
    files = {part: Path(part) for part in parts if Path(part).is_file()}
    notes: list[str] = []
    found = [
        signals.Example(example.text, example.label, example.text)
        for part in examples.values()
        for example in part
        if example.is_certain
    ]
    for part, path in files.items():
        lines = [line for line in read_lines(path, encoding, notes) if line.strip()]
        found += [signals.Example(line[:MAX_TEXT_CHARS], part, line) for line in lines]
    data = signals.LabelledData(where, found, False, [])
    _, apart = separate_unknown(data, ",".join(parts))
    limited = {
        split: [e for own in _by_label(members).values() for e in own[:: -(-len(own) // MAX_TEXTS)]]
        for split, members in apart.items()
    }
    names = {example.label for members in limited.values() for example in members}
    kept = {split: [e for e in part if e.label not in names] for split, part in examples.items()}
    texts = {split: [e.raw for e in members] for split, members in limited.items()}
    return kept, texts, [*notes, describe_unknown(limited)]


def _by_label(members: list[signals.Example[str]]) -> dict[str, list[signals.Example[str]]]:
    found: dict[str, list[signals.Example[str]]] = {}
    for example in members:
        found.setdefault(example.label, []).append(example)
    return found
