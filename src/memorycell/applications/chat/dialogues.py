"""Dialogues: who says what, turn by turn; from tables, JSON lines, or the YAML files of chatterbot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from memorycell.errors import DataError
from memorycell.language.codec import normalise, read_text

YOU, ME = "<you>", "<me>"
"""The marks before a turn: of the person, and of the one who answers."""
LONGEST = 300
"""Characters of a turn that are read."""

Dialogue = list[str]
"""Turns, the person's first; the two alternate."""


def read_dialogues(path: Path, where: str) -> tuple[list[Dialogue], list[str]]:
    """The dialogues of a file or of a folder's files, each once, and notes.

    .tsv, .txt     a dialogue a line, its turns between tabs
    .jsonl         a line a dialogue: a list of turns, or {"turns": […]}, or {"prompt": …, "reply":
                   …}, or {"messages": [{"role": "user" | "assistant", "content": …}, …]}
    .yml, .yaml    chatterbot's: {"conversations": [[turn, turn, …], …]}

    Raises `DataError` with the line and the mend.
    """
    readers = {
        ".tsv": _tsv,
        ".txt": _tsv,
        ".jsonl": _jsonl,
        ".ndjson": _jsonl,
        ".yml": _yaml,
        ".yaml": _yaml,
    }
    files = sorted(p for p in path.rglob("*") if p.suffix in readers) if path.is_dir() else [path]
    if not files or files[0].suffix not in readers:
        raise DataError(f"{where}: dialogues are read from {', '.join(readers)} files")
    dialogues: list[Dialogue] = []
    short = long = 0
    for file in files:
        for turns in readers[file.suffix](file):
            clean = [normalise(str(turn)).strip() for turn in turns]
            clean = clean[: clean.index("")] if "" in clean else clean
            if len(clean) < 2:
                short += 1
                continue
            long += sum(len(turn) > LONGEST for turn in clean)
            dialogues.append([turn[:LONGEST] for turn in clean])
    each_once = [list(turns) for turns in dict.fromkeys(map(tuple, dialogues))]
    notes = [f"{short:,} dialogues without an answer left out"] if short else []
    if len(each_once) < len(dialogues):
        notes.append(
            f"{len(dialogues) - len(each_once):,} dialogues left out that stand there again"
        )
    if long:
        notes.append(f"of {long:,} turns only the first {LONGEST} characters are read")
    return each_once, notes


def _tsv(path: Path) -> list[list[Any]]:
    rows = [line.split("\t") for line in read_text(path).split("\n") if line.strip()]
    if all(len(row) < 2 for row in rows):
        raise DataError(f"{path}: line 1: no tab; what is said TAB the answer was expected")
    return list(rows)


def _jsonl(path: Path) -> list[list[Any]]:
    found = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            found.append(_turns(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(
                f'{path}: line {number}: expected a list of turns, {{"prompt": …, "reply": …}} or'
                ' {"messages": […]}'
            ) from None
    return found


def _turns(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if "messages" in value:
        turns: list[Any] = []
        roles = [m["role"] for m in value["messages"] if m["role"] != "system"]
        for role, message in zip(
            roles, [m for m in value["messages"] if m["role"] != "system"], strict=True
        ):
            if turns and (len(turns) % 2 == 1) == (
                role == "user"
            ):  # two in a row by the same: one turn
                turns[-1] = f"{turns[-1]} {message['content']}"
            else:
                turns.append(message["content"])
        return turns
    return list(value["turns"]) if "turns" in value else [value["prompt"], value["reply"]]


def _yaml(path: Path) -> list[list[Any]]:
    import yaml

    try:
        value = yaml.safe_load(read_text(path))
        return [
            [turn for turn in turns if not isinstance(turn, (dict, list))]
            for turns in value["conversations"]
        ]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        first = str(error).splitlines()[0]
        raise DataError(
            f"{path}: not chatterbot's YAML with its `conversations` ({first})"
        ) from None
