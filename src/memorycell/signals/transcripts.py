"""Read lists of transcripts: tables, text files, and the lists of well-known speech corpora."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memorycell.errors import DataError, quote
from memorycell.reading import Losses, read_text
from memorycell.signals.splitting import SPEAKER_FIELD
from memorycell.tables.table import read_table

FILE_COLUMNS = ("file", "path", "filename", "file_name", "name", "audio", "wav", "image", "id")
LABEL_COLUMNS = (
    "text",
    "transcript",
    "transcription",
    "sentence",
    "label",
    "class",
    "said",
    "word",
    "words",
)
SPEAKER_COLUMNS = ("speaker", "speaker_id", "client_id", "spk", "speakerid", "spk_id")
LIST_NAMES = ("transcripts", "transcript", "transcription", "metadata", "labels", "index")
"""Names, without suffix, of a table or list of transcripts in a folder."""
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
COMMON_VOICE_LISTS = ("validated.tsv", "train.tsv", "other.tsv")
"""The first of these is read."""
LIBRI_SUFFIX = ".trans.txt"
_COMMENT = re.compile(r"\s*($|[;#])")

Part = tuple[float, float]
"""Start and end in seconds; the end is infinite for the rest of a recording."""


@dataclass(frozen=True)
class Row:
    """A file name and its label, as a list gives them; `fields` are further values of the row.

    part   (start, end) in seconds of a part of the file; None: all of it
    """

    name: str
    label: str
    fields: Mapping[str, str] = field(default_factory=dict)
    part: Part | None = None


@dataclass
class Transcripts:
    """A list of transcripts.

    layout   where it is from, in words
    rows     with a file name and a label
    losses   rows without them
    """

    layout: str
    rows: list[Row]
    losses: Losses = field(default_factory=lambda: Losses("transcripts"))


def find_transcripts(folder: Path, where: str, encoding: str | None) -> Transcripts | None:
    """The transcripts in a folder; None where it has no list of them. Raises `DataError`."""
    if (folder / "wav.scp").is_file():
        return _read_kaldi(folder, encoding)
    if (folder / "clips").is_dir():
        found = [folder / n for n in COMMON_VOICE_LISTS if (folder / n).is_file()]
        if found:
            return read_transcripts(found[0], encoding)
    lists = [
        p
        for p in sorted(folder.iterdir())
        if p.stem.lower() in LIST_NAMES and p.suffix.lower() in (*TABLE_SUFFIXES, ".txt")
    ]
    if len(lists) > 1:
        raise DataError(
            f"{where}: contains several lists of transcripts, {lists[0].name} and {lists[1].name};"
            " give the path of one"
        )
    if lists:
        return read_transcripts(lists[0], encoding)
    libri = sorted(folder.rglob(f"*{LIBRI_SUFFIX}"))
    return _read_libri(libri, encoding) if libri else None


def read_transcripts(path: Path, encoding: str | None) -> Transcripts:
    """The transcripts in a file. Raises `DataError`."""
    if path.name.endswith(LIBRI_SUFFIX):
        return _read_libri([path], encoding)
    if path.name == "wav.scp":
        return _read_kaldi(path.parent, encoding)
    suffix = path.suffix.lower()
    if suffix in (".csv", ".txt") and _has_bars(path, encoding):
        return _read_bars(path, encoding)
    return _read_lines(path, encoding) if suffix == ".txt" else _read_table(path, encoding)


# ---- tables and lines ----------------------------------------------------------------------------


def _read_table(path: Path, encoding: str | None) -> Transcripts:
    notes: list[str] = []
    frame = read_table(path, encoding=encoding, notes=notes)
    columns = {column.lower().strip(): column for column in frame.columns}
    file, label, speaker = (
        next((columns[name] for name in names if name in columns), None)
        for names in (FILE_COLUMNS, LABEL_COLUMNS, SPEAKER_COLUMNS)
    )
    if file is None or label is None:
        raise DataError(
            f"{path}: needs a column of file names ({FILE_COLUMNS[0]}) and one of transcripts or"
            f" classes ({LABEL_COLUMNS[0]}); it has {quote(', '.join(frame.columns))}"
        )
    is_common_voice = {"client_id", "path", "sentence"} <= columns.keys()
    title = f"Common Voice ({path.name}, clips)" if is_common_voice else path.name
    found = Transcripts(title, [])
    for values in frame.iter_rows(named=True):
        fields = {k: str(v) for k, v in values.items() if k not in (file, label) and v is not None}
        if speaker is not None and values[speaker]:
            fields[SPEAKER_FIELD] = str(values[speaker])
        _add(found, _cell(values[file]), _cell(values[label]), fields)
    for note in notes:
        found.losses.repair(note, 1)
    return found


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _add(
    found: Transcripts,
    name: str,
    label: str,
    fields: Mapping[str, str],
    part: Part | None = None,
) -> None:
    if not name.strip():
        found.losses.skip("no file name")
    elif not label.strip():
        found.losses.skip("no text")
    else:
        found.rows.append(Row(name.strip(), label.strip(), fields, part))


def _read_lines(path: Path, encoding: str | None) -> Transcripts:
    """Lines `name: text` or `name TAB text`; empty lines and comments (; or #) are skipped."""
    found = Transcripts(path.name, [])
    for number, line in enumerate(read_text(path, encoding).split("\n"), 1):
        if _COMMENT.match(line):
            continue
        match = re.match(r"\s*((?:[A-Za-z]:[\\/])?\S[^:\t]*?)\s*[:\t]\s*(.*)", line)
        if match is None:
            raise DataError(f"{path}: line {number}: expected name: text, got {quote(line)}")
        _add(found, match[1], match[2], {})
    return found


# ---- LJSpeech ------------------------------------------------------------------------------------


def _has_bars(path: Path, encoding: str | None) -> bool:
    """Whether it is a list without a header whose fields are separated by |."""
    first = read_text(path, encoding).lstrip().split("\n", 1)[0].split("|")
    names = {cell.lower().strip().strip('"') for cell in first}
    return len(first) > 1 and not (names & set(FILE_COLUMNS) and names & set(LABEL_COLUMNS))


def _read_bars(path: Path, encoding: str | None) -> Transcripts:
    """Lines `id|text|normalised text` (LJSpeech, Ito & Johnson 2017), `id|text`, or
    `file|speaker|text`, where all speakers are numbers. Quotation marks are text.
    """
    lines = [line.split("|") for line in read_text(path, encoding).split("\n") if line.strip()]
    with_speaker = all(len(cells) == 3 and cells[1].strip().isdigit() for cells in lines)
    found = Transcripts(f"LJSpeech ({path.name})", [])
    for cells in lines:
        if with_speaker:
            _add(found, cells[0], cells[2], {SPEAKER_FIELD: cells[1].strip()})
        elif len(cells) == 1:
            found.losses.skip("no text")
        else:
            normalised = cells[2] if len(cells) > 2 and cells[2].strip() else cells[1]
            _add(found, cells[0], normalised, {})
    return found


# ---- LibriSpeech ---------------------------------------------------------------------------------


def _read_libri(paths: Sequence[Path], encoding: str | None) -> Transcripts:
    """Lines `84-121123-0000 TEXT` in files such as 84-121123.trans.txt beside the recordings
    (LibriSpeech, Panayotov et al. 2015); the first number is the speaker.
    """
    found = Transcripts(f"LibriSpeech ({len(paths):,} lists *{LIBRI_SUFFIX})", [])
    for path in paths:
        for line in read_text(path, encoding).split("\n"):
            if line.strip():
                name, _, text = line.strip().partition(" ")
                speaker, *chapter = name.split("-")[:-1] or [""]
                fields = {SPEAKER_FIELD: speaker} if speaker else {}
                fields |= {"chapter": chapter[0]} if chapter else {}
                _add(found, str(path.parent / name), text, fields)
    return found


# ---- Kaldi ---------------------------------------------------------------------------------------


def _read_kaldi(folder: Path, encoding: str | None) -> Transcripts:
    """wav.scp (`recording path`), text (`utterance words`) and, where they are there, segments
    (`utterance recording start end`, in seconds) and utt2spk (`utterance speaker`), as in Kaldi
    (Povey et al. 2011). Without segments an utterance is a recording. Commands in wav.scp are not
    run.
    """
    if not (folder / "text").is_file():
        raise DataError(f"{folder}: has wav.scp, but no list of transcripts named text beside it")
    paths, texts = (_keyed_lines(folder / name, encoding) for name in ("wav.scp", "text"))
    optional = [name for name in ("segments", "utt2spk") if (folder / name).is_file()]
    segments = _read_segments(folder / "segments", encoding) if "segments" in optional else None
    has_speakers = "utt2spk" in optional
    speakers = _keyed_lines(folder / "utt2spk", encoding) if has_speakers else {}
    found = Transcripts(f"Kaldi ({', '.join(['wav.scp', 'text', *optional])})", [])
    for utterance, text in texts.items():
        recording, part = utterance, None
        if segments is not None:
            if utterance not in segments:
                found.losses.skip("not in segments")
                continue
            recording, part = segments[utterance]
        path = paths.get(recording, "")
        if path.endswith("|"):
            found.losses.skip("a command in wav.scp, which is not run; write the sounds to files")
            continue
        speaker = speakers.get(utterance, "")
        fields = {"utterance": utterance} | ({SPEAKER_FIELD: speaker} if speaker else {})
        if segments is not None:
            fields["recording"] = recording
        if path:
            _add(found, path, text, fields, part)
        else:
            found.losses.skip("not in wav.scp")
    return found


def _read_segments(path: Path, encoding: str | None) -> dict[str, tuple[str, Part]]:
    """Utterance -> (recording, part). An end of -1 is that of the recording. Raises `DataError`."""
    result: dict[str, tuple[str, Part]] = {}
    for number, (utterance, line) in enumerate(_keyed_lines(path, encoding).items(), 1):
        cells = line.split()
        try:
            recording, start, end = cells[0], float(cells[1]), float(cells[2])
            end = math.inf if end == -1 else end
        except (IndexError, ValueError):
            start, end = math.nan, math.nan
        if not 0 <= start < end or len(cells) > 4:  # a fourth cell is the channel
            raise DataError(
                f"{path}: segment {number} ({quote(utterance)}): expected UTTERANCE RECORDING START"
                f" END, in seconds, got {quote(line)}"
            )
        result[utterance] = recording, (start, end)
    return result


def _keyed_lines(path: Path, encoding: str | None) -> dict[str, str]:
    """Key -> the rest of its line. Raises `DataError` for a repeated key."""
    result: dict[str, str] = {}
    for number, line in enumerate(read_text(path, encoding).split("\n"), 1):
        key, _, rest = line.strip().partition(" ") if "\t" not in line else line.partition("\t")
        if key.strip() in result:
            raise DataError(f"{path}: line {number}: {quote(key.strip())} is repeated")
        if key.strip():
            result[key.strip()] = rest.strip()
    return result
