"""Read dialogues from tab-separated text, JSON, or chatterbot YAML files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from memorycell.applications.chat.layouts import parse_dialogue
from memorycell.applications.chat.masking import mask_dialogue
from memorycell.applications.chat.records import read_records
from memorycell.errors import DataError, ModelFileError, quote
from memorycell.language.codec import END_ID, TextCodec
from memorycell.language.files import read_file, unpacked_name
from memorycell.language.tsv import read_tsv
from memorycell.reading import Losses, normalise

USER_TOKEN, REPLY_TOKEN = "<you>", "<me>"
"""The special tokens before the turns of the user and before the replies."""
USER_ID, REPLY_ID = END_ID + 1, END_ID + 2
"""Their token ids."""
MAX_TURN_CHARS = 300

Dialogue = list[str]
"""Alternating turns, the user's first; it is "" where the other side speaks first."""


def check_codec(codec: TextCodec) -> None:
    """Raises `ModelFileError` for a vocabulary without the special tokens of dialogues."""
    if codec.surfaces[USER_ID : REPLY_ID + 1] != (USER_TOKEN, REPLY_TOKEN) or (
        codec.num_special <= REPLY_ID
    ):
        raise ModelFileError(
            f"its vocabulary has no {USER_TOKEN} and {REPLY_TOKEN}: not a model of dialogues; train"
            " a new one"
        )


def first_message(turns: Dialogue) -> int:
    """The index of the user's first turn."""
    return 0 if turns[0] else 2


def read_dialogues(
    path: Path, where: str, encoding: str | None = None, *, lossy: bool = False
) -> tuple[list[Dialogue], list[str]]:
    """(distinct dialogues, notes) of a file or of the files in a folder, also gzipped (.gz).

    .tsv, .txt     one dialogue per line, tabs between the turns
    .jsonl, .ndjson, .json   dialogues in one of the layouts of `parse_dialogue`, one per line or in
                   an array
    .yml, .yaml    of chatterbot: {"conversations": [[turn, turn, …], …]}

    where      names the data in messages
    encoding   of the files; by default UTF-8
    lossy      accept that more than 5% of the dialogues are left out

    Raises `DataError` with the line.
    """
    is_folder = path.is_dir()
    paths = sorted(p for p in path.rglob("*") if _suffix(p) in READERS) if is_folder else [path]
    if not paths or _suffix(paths[0]) not in READERS:
        raise DataError(f"{where}: dialogues are read from {', '.join(READERS)} files")
    notes: list[str] = []
    turns = Losses("turns")
    found = [d for p in paths for d in READERS[_suffix(p)](p, encoding, turns, notes)]
    losses = Losses("dialogues")
    dialogues = [_clean(dialogue, turns) for dialogue in found]
    complete = [dialogue for dialogue in dialogues if _has_reply(dialogue)]
    losses.skip("without a reply", len(found) - len(complete))
    losses.check(len(found), where, lossy)
    masked = [mask_dialogue(dialogue) for dialogue in complete]
    complete = [dialogue for dialogue, _ in masked]
    count = sum(number for _, number in masked)
    if count:
        notes.append(f"masked: {count:,} names that people give, addresses, numbers and links")
    distinct = [list(dialogue) for dialogue in dict.fromkeys(map(tuple, complete))]
    losses.repair("repeated, used once", len(complete) - len(distinct))
    return distinct, [*notes, *losses.notes(len(found)), *turns.notes(0)]


def _clean(dialogue: Dialogue, losses: Losses) -> Dialogue:
    """Its normalised turns before the first one without text, but for the user's first."""
    turns: Dialogue = []
    for turn in dialogue:
        text = normalise(turn).strip()
        if not text and turns:
            break
        if len(text) > MAX_TURN_CHARS:
            losses.repair(f"cut to {MAX_TURN_CHARS} characters")
        turns.append(text[:MAX_TURN_CHARS].strip())
    return turns


def _has_reply(turns: Dialogue) -> bool:
    """Whether the other side replies to the user."""
    return len(turns) > 1 and len(turns) > first_message(turns) + 1


def _tsv(path: Path, encoding: str | None, losses: Losses, notes: list[str]) -> Iterator[Dialogue]:
    rows = read_tsv(path, encoding, notes)
    if all(len(row) < 2 for row in rows):
        raise DataError(f"{path}: line 1: no tab; expected MESSAGE TAB REPLY")
    return (row for row in rows if any(cell.strip() for cell in row))


def _json(path: Path, encoding: str | None, losses: Losses, notes: list[str]) -> Iterator[Dialogue]:
    for place, value in read_records(path, encoding, notes):
        try:
            yield parse_dialogue(value, losses)
        except ValueError as error:
            raise DataError(f"{path}: {place}: {error}") from None


def _yaml(path: Path, encoding: str | None, losses: Losses, notes: list[str]) -> Iterator[Dialogue]:
    """Scalars stay text as they are written: yes is no truth value."""
    import yaml

    try:
        value = yaml.load(read_file(path, encoding, notes), yaml.BaseLoader)
        dialogues = value["conversations"]
        if not isinstance(dialogues, list):
            raise TypeError("conversations is not a list")
    except DataError:
        raise
    except (yaml.YAMLError, RecursionError, KeyError, TypeError, ValueError) as error:
        first = quote(str(error).split("\n", 1)[0])
        raise DataError(
            f"{path}: not a chatterbot YAML file with `conversations` ({first})"
        ) from None
    for turns in dialogues:
        yield [_scalar(turn) for turn in (turns if isinstance(turns, list) else [turns])]


def _scalar(turn: object) -> str:
    """A turn with a colon, which YAML reads as a mapping, is text; a list is none."""
    if isinstance(turn, dict) and all(isinstance(value, str) for value in turn.values()):
        return ", ".join(f"{name}: {value}" for name, value in turn.items())
    return turn if isinstance(turn, str) else ""


def _suffix(path: Path) -> str:
    return Path(unpacked_name(path)).suffix


READERS = {
    ".tsv": _tsv,
    ".txt": _tsv,
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json,
    ".yml": _yaml,
    ".yaml": _yaml,
}
"""Suffix -> reader: (path, encoding, losses of turns, notes) -> dialogues."""
