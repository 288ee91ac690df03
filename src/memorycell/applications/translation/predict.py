"""Translate the lines of a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from memorycell.application.contract import ModelFile, Record
from memorycell.applications.translation.codec import PairCodec
from memorycell.applications.translation.memory import Memory
from memorycell.applications.translation.model import Translator
from memorycell.applications.translation.search import check_search
from memorycell.applications.translation.translate import (
    MAX_SOURCE_TOKENS,
    Translation,
)
from memorycell.errors import DataError, UserError
from memorycell.language.files import check_encoding, input_text


@dataclass(frozen=True)
class PredictOptions:
    """Options of `predict`.

    beam    beam width
    alpha   length penalty: higher values favour longer translations
    coverage   weight of the source's parts that no token attended to
    memory  use the translation memory, where the model has one: yes or no
    encoding   of a text file, such as cp1252; by default UTF-8, or UTF-16 with a byte order mark
    """

    beam: int = 5
    alpha: float = 1.0
    coverage: float = 0.0
    memory: bool = True
    encoding: str | None = None

    def __post_init__(self) -> None:
        check_search(self.beam, self.alpha, self.coverage)
        check_encoding(self.encoding)


def predict(
    file: ModelFile[Translator, PairCodec], source: str | None, options: PredictOptions
) -> Record:
    """`{"translations": [{"source", "text", "p", "tokens", "sources", "attention"}]}`, one per
    line.
    """
    if not (isinstance(file.codec, PairCodec) and isinstance(file.model, Translator)):
        raise UserError("predict: not a translator")
    lines = input_text(source).split("\n")
    if not any(line.strip() for line in lines):
        raise DataError("predict: no text; give one, or a file of lines")
    while lines and not lines[-1].strip():
        lines.pop()
    memory = Memory.of(file.arrays if options.memory else {})
    translations = memory.translate(
        file.model, file.codec, lines, (options.beam, options.alpha, options.coverage)
    )
    return {"translations": [_record(t, memory.is_unsure(t)) for t in translations]}


def _record(translation: Translation, unsure: bool) -> dict[str, Any]:
    record = {
        "source": translation.source,
        "text": translation.text,
        "p": round(translation.p, 4),
        "tokens": translation.tokens,
        "sources": translation.source_tokens,
        "attention": [[round(float(v), 4) for v in row] for row in translation.attention],
    }
    if unsure:
        record["unsure"] = True
    if translation.similarity is not None:
        record["similarity"] = round(translation.similarity, 4)
    if translation.truncated:
        record["note"] = f"only the first {MAX_SOURCE_TOKENS} tokens were read; give shorter lines"
    return record


def render(record: dict[str, Any]) -> str:
    """See `Application`: one line per line of the source."""
    lines = []
    for translation in record["translations"]:
        note = f"   [{translation['note']}]" if "note" in translation else ""
        note += "   (unsure)" if translation.get("unsure") else ""
        lines.append(translation["text"] + note)
    return "\n".join(lines)
