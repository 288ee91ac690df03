"""Many text files as token ids in a memory-mapped array: for texts larger than memory.

Every file is split as one text. What decides needs only a part: the vocabulary comes from up to
`MAX_VOCABULARY_CHARS` of the training parts, the n-gram model from `MAX_NGRAM_TOKENS` of their
tokens, and validation and test use up to `MAX_VALID_CHARS` and `MAX_TEST_CHARS`: of every file's
part the beginning, in proportion to its length. With fewer everything is as in memory. At no time
is more than one file in memory.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from memorycell.application.array_folder import (
    ArrayFolder,
    ArrayWriter,
    array_folder,
    file_states,
)
from memorycell.application.contract import Record
from memorycell.applications.text.dataset import (
    MIN_CHARS,
    TEXT_SUFFIXES,
    TextDataset,
    split_ends,
    token_sequence,
)
from memorycell.applications.text.settings import TextSettings
from memorycell.errors import DataError
from memorycell.language.codec import END_ID, UNKNOWN_ID, TextCodec, fit_text_codec
from memorycell.language.files import is_blank, read_file, unpacked_name
from memorycell.language.ngram import KneserNey, fit_kneser_ney
from memorycell.models.batches import LaneBatch, lanes
from memorycell.training.splits import SPLITS

MIN_MAPPED_BYTES = 200_000_000
"""Of the files of a folder, from which on they are mapped; those of a pattern always are."""
MAX_VOCABULARY_CHARS, MAX_NGRAM_TOKENS = 20_000_000, 2_000_000
MAX_VALID_CHARS, MAX_TEST_CHARS = 2_000_000, 4_000_000
PIECE_CHARS = 1_000_000
"""Of a text that are encoded at once, up to the next end of a line."""


def mapped_files(data: str) -> list[Path] | None:
    """The files of a pattern such as "shards/*.txt", or of a folder with much text, in the order of
    their names; None for other data. Raises `DataError` where no file matches a pattern.
    """
    path = Path(data)
    try:
        if path.is_dir():
            found = [p for p in sorted(path.rglob("*")) if p.is_file() and _is_text(p)]
            large = sum(p.stat().st_size for p in found) >= MIN_MAPPED_BYTES
            return found if large else None
        if path.exists() or not glob.has_magic(data) or not _is_text(path):
            return None
    except (OSError, ValueError):  # a name that is too long or has a NUL
        return None
    found = sorted(p for p in map(Path, glob.glob(data, recursive=True)) if p.is_file())
    if not found:
        raise DataError(f"{data}: no file matches")
    return found


def _is_text(path: Path) -> bool:
    return unpacked_name(path).endswith(TEXT_SUFFIXES)


class MappedTextDataset(TextDataset):
    """See `TextDataset`; `texts` has no training text."""

    def __init__(
        self,
        name: str,
        parts: ArrayFolder,
        tokens: ArrayFolder,
        codec: TextCodec,
        settings: TextSettings,
    ) -> None:
        self.name, self.codec, self.settings = name, codec, settings
        self.notes, self.limits = [], {}
        self.facts: Mapping[str, Any] = parts.notes
        self.fingerprint = str(self.facts["fingerprint"])
        self.texts = {split: _texts(parts, split) for split in ("valid", "test")}
        self.tokens = {split: token_sequence(codec, own) for split, own in self.texts.items()}
        self._train, self._reset = tokens["tokens"], tokens["reset"]

    @cached_property
    def ngram(self) -> KneserNey | None:
        """See `TextDataset`: of the first `MAX_NGRAM_TOKENS`."""
        train = np.array(self._train[:MAX_NGRAM_TOKENS], np.int64)
        return fit_kneser_ney(train, self.tokens["valid"], len(self.codec))

    def batches(self, seed: int) -> Iterator[LaneBatch]:
        """See `TextDataset`: the same batches."""
        return self.own_batches(seed, slice(None))

    def own_batches(self, seed: int, rows: slice) -> Iterator[LaneBatch]:
        """See `Dataset`."""
        x, y, s = self._train[:-1], self._train[1:], self.settings
        shift = int(np.random.default_rng(seed).integers(len(x)))
        count = max(1, min(s.lanes, len(x) // s.bptt))
        for batch in lanes(x, y, self._reset, count=count, bptt=s.bptt, shift=shift, rows=rows):
            yield batch._replace(x=batch.x.long(), target=batch.target.long())

    def info(self) -> Record:
        """See `Dataset`."""
        return {
            "data": self.name,
            "fingerprint": self.fingerprint,
            "split": self.facts["chars"],
            "settings": asdict(self.settings),
            "unit": f"nats per {self.settings.unit}",
        }

    def size_notes(self) -> list[str]:
        """The sizes, for people."""
        chars, used = self.facts["chars"], {k: sum(map(len, v)) for k, v in self.texts.items()}
        notes = [
            f"{self.facts['files']:,} texts, {sum(chars.values()):,} characters, read from disk;"
            f" {self.settings.unit}s: {len(self._train) - 1:,} train,"
            f" {len(self.tokens['valid']) - 1:,} valid, {len(self.tokens['test']) - 1:,} test"
        ]
        notes += [
            f"{split}: the first {size / max(chars[split], 1):.2%} of every text's part"
            for split, size in used.items()
            if size < chars[split]
        ]
        if len(self._train) > MAX_NGRAM_TOKENS:
            notes.append(f"the n-gram model is of the first {MAX_NGRAM_TOKENS:,} tokens")
        return notes


def prepare_files(files: list[Path], data: str, settings: TextSettings) -> MappedTextDataset:
    """See `Application.prepare`."""
    files, notes = _with_text(files)
    parts = _parts(files, data, settings)
    codec = _fitted_codec(parts, settings)
    tokens = _tokens(files, parts, codec, settings)
    dataset = MappedTextDataset(data, parts, tokens, codec, settings)
    unknown = float((dataset.tokens["valid"] == UNKNOWN_ID).mean())
    share = min(MAX_VOCABULARY_CHARS / max(parts.notes["chars"]["train"], 1), 1)
    dataset.notes = [
        *notes,
        *dataset.size_notes(),
        f"vocabulary, of {share:.2%} of the training text: {len(codec) - codec.num_special:,};"
        f" unknown in the validation split: {unknown:.2%}",
    ]
    return dataset


def reopen_files(
    files: list[Path], data: str, codec: TextCodec, settings: TextSettings, fingerprint: str
) -> MappedTextDataset:
    """The dataset of a model's own files. Raises `DataError` for others."""
    files, notes = _with_text(files)
    parts = _parts(files, data, settings)
    if parts.notes["fingerprint"] != fingerprint:
        raise DataError(
            f"{data}: other texts than in training; evaluate them one by one, with --input"
        )
    tokens = _tokens(files, parts, codec, settings)
    dataset = MappedTextDataset(data, parts, tokens, codec, settings)
    dataset.notes = [*notes, "evaluated on the held-out test split", *dataset.size_notes()]
    return dataset


def _with_text(files: list[Path]) -> tuple[list[Path], list[str]]:
    """(the files that are not blank, a note on the others)"""
    kept = [path for path in files if not is_blank(path)]
    blank = len(files) - len(kept)
    return kept, [f"{blank:,} of {len(files):,} files left out: without text"] if blank else []


def _parts(files: list[Path], data: str, settings: TextSettings) -> ArrayFolder:
    """The texts that are needed in memory, as "vocabulary", "valid" and "test"."""
    made_from = [file_states(files), settings.encoding, settings.valid]
    made_from += [MAX_VOCABULARY_CHARS, MAX_VALID_CHARS, MAX_TEST_CHARS]

    def write(writer: ArrayWriter) -> dict[str, Any]:
        digest, sizes = hashlib.sha256(), []
        for path in files:
            text = read_file(path, settings.encoding)
            digest.update(text.encode(errors="surrogatepass") + b"\0")
            sizes.append(np.diff(split_ends(len(text), settings.valid)).tolist())
        totals = np.sum(sizes, 0).tolist() if sizes else [0] * len(SPLITS)
        if sum(totals) < MIN_CHARS:
            raise DataError(
                f"{data}: {sum(totals):,} characters; a language model needs at least {MIN_CHARS:,}"
            )
        limits = (MAX_VOCABULARY_CHARS, MAX_VALID_CHARS, MAX_TEST_CHARS)
        names = ("vocabulary", "valid", "test")
        shares = [min(limit / max(k, 1), 1) for limit, k in zip(limits, totals, strict=True)]
        for path in files:
            text = read_file(path, settings.encoding)
            ends = split_ends(len(text), settings.valid)
            for k, (name, share) in enumerate(zip(names, shares, strict=True)):
                part = text[ends[k] : ends[k] + int(share * (ends[k + 1] - ends[k]))]
                content = part.encode(errors="surrogatepass") + b"\0"
                writer.append(name, np.frombuffer(content, np.uint8))
        return {
            "files": len(files),
            "chars": dict(zip(SPLITS, totals, strict=True)),
            "fingerprint": digest.hexdigest()[:16],
        }

    return array_folder("text-parts", made_from, write)


def _texts(parts: ArrayFolder, name: str) -> list[str]:
    content = parts[name].tobytes().decode(errors="surrogatepass")
    return content.removesuffix("\0").split("\0")


def _fitted_codec(parts: ArrayFolder, settings: TextSettings) -> TextCodec:
    made_from = [parts.folder.name, settings.unit, settings.vocabulary]

    def write(writer: ArrayWriter) -> dict[str, Any]:
        texts = _texts(parts, "vocabulary")
        return fit_text_codec(texts, settings.unit, vocabulary=settings.vocabulary).to_json()

    return TextCodec.from_json(array_folder("text-vocabulary", made_from, write).notes)


def _tokens(
    files: list[Path], parts: ArrayFolder, codec: TextCodec, settings: TextSettings
) -> ArrayFolder:
    """The training tokens [N] int32, and "reset" [N - 1] bool: whether a text begins."""

    def write(writer: ArrayWriter) -> dict[str, Any]:
        end = np.array([END_ID], np.int32)
        _append(writer, end)
        for path in files:
            text = read_file(path, settings.encoding)
            for piece in pieces(text[: split_ends(len(text), settings.valid)[1]]):
                _append(writer, np.array(codec.encode(piece), np.int32))
            _append(writer, end)
        return {}

    return array_folder("text-tokens", [parts.folder.name, codec.to_json()], write)


def _append(writer: ArrayWriter, tokens: np.ndarray) -> None:
    writer.append("tokens", tokens)
    writer.append("reset", tokens == END_ID)


def pieces(text: str) -> Iterator[str]:
    """A text in pieces of lines, which are encoded as they are in the text."""
    begin = 0
    while begin < len(text):
        end = text.find("\n", begin + PIECE_CHARS) + 1 or len(text)
        yield text[begin:end]
        begin = end
