"""Read dialogues from tab-separated text, JSON lines, or chatterbot YAML files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from memorycell.errors import DataError
from memorycell.language.codec import END_ID
from memorycell.reading import normalise, read_text

USER_TOKEN, REPLY_TOKEN = "<you>", "<me>"
"""The special tokens before the turns of the user and before the replies."""
USER_ID, REPLY_ID = END_ID + 1, END_ID + 2
"""Their token ids."""
MAX_TURN_CHARS = 300

Dialogue = list[str]
"""Alternating turns, the user's first."""


def read_dialogues(path: Path, where: str) -> tuple[list[Dialogue], list[str]]:
    """(distinct dialogues, notes) of a file or of the files in a folder.

    .tsv, .txt     one dialogue per line, tabs between the turns
    .jsonl         one dialogue per line: a list of turns, {"turns": […]}, {"prompt": …, "reply":
                   …}, or {"messages": [{"role": "user" | "assistant", "content": …}, …]}
    .yml, .yaml    of chatterbot: {"conversations": [[turn, turn, …], …]}

    where   names the data in messages

    Raises `DataError` with the line.
    """
    readers = {
        ".tsv": _tsv,
        ".txt": _tsv,
        ".jsonl": _jsonl,
        ".ndjson": _jsonl,
        ".yml": _yaml,
        ".yaml": _yaml,
    }
    paths = sorted(p for p in path.rglob("*") if p.suffix in readers) if path.is_dir() else [path]
    if not paths or paths[0].suffix not in readers:
        raise DataError(f"{where}: dialogues are read from {', '.join(readers)} files")
    dialogues: list[Dialogue] = []
    incomplete = truncated = 0
    for file in paths:
        for turns in readers[file.suffix](file):
            clean = [normalise(str(turn)).strip() for turn in turns]
            clean = clean[: clean.index("")] if "" in clean else clean
            if len(clean) < 2:
                incomplete += 1
                continue
            truncated += sum(len(turn) > MAX_TURN_CHARS for turn in clean)
            dialogues.append([turn[:MAX_TURN_CHARS] for turn in clean])
    distinct = [list(turns) for turns in dict.fromkeys(map(tuple, dialogues))]
    notes = [f"left out: {incomplete:,} dialogues without a reply"] if incomplete else []
    if len(distinct) < len(dialogues):
        notes.append(f"left out: {len(dialogues) - len(distinct):,} duplicate dialogues")
    if truncated:
        notes.append(f"{truncated:,} turns truncated to {MAX_TURN_CHARS} characters")
    return distinct, notes


def _tsv(path: Path) -> list[list[Any]]:
    rows = [line.split("\t") for line in read_text(path).split("\n") if line.strip()]
    if all(len(row) < 2 for row in rows):
        raise DataError(f"{path}: line 1: no tab; expected MESSAGE TAB REPLY")
    return list(rows)


def _jsonl(path: Path) -> list[list[Any]]:
    dialogues = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            dialogues.append(_turns(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(
                f'{path}: line {number}: expected a list of turns, {{"prompt": …, "reply": …}} or'
                ' {"messages": […]}'
            ) from None
    return dialogues


def _turns(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if "messages" in value:
        turns: list[Any] = []
        for message in value["messages"]:
            if message["role"] == "system":
                continue
            last_is_user = len(turns) % 2 == 1
            if turns and last_is_user == (message["role"] == "user"):
                turns[-1] = f"{turns[-1]} {message['content']}"  # the same speaker: one turn
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
            f"{path}: not a chatterbot YAML file with `conversations` ({first})"
        ) from None
