"""Reply to the lines of a text."""

from __future__ import annotations

from typing import Any

from memorycell.application.contract import ModelFile, Record
from memorycell.applications.chat.replies import PredictOptions
from memorycell.applications.chat.session import ChatSession
from memorycell.errors import DataError
from memorycell.language.codec import TextCodec
from memorycell.language.files import input_text
from memorycell.language.model import LanguageModel


def predict(
    file: ModelFile[LanguageModel, TextCodec], source: str | None, options: PredictOptions
) -> Record:
    """`{"turns": [{"said", "reply", "p", "unsure"}]}`: replies to the lines of one conversation."""
    lines = [line for line in input_text(source).split("\n") if line.strip()]
    if not lines:
        raise DataError("predict: no message; give a line, or a file of lines")
    session = ChatSession(file)
    return {"turns": [session.say(line, options) for line in lines]}


def render(record: dict[str, Any]) -> str:
    """See `Application`."""
    lines = []
    for turn in record["turns"]:
        unsure = "   (unsure)" if turn["unsure"] else ""
        note = f"   [{turn['note']}]" if "note" in turn else ""
        lines.append(f"> {turn['said']}\n{turn['reply'] or '…'}{unsure}{note}")
    return "\n".join(lines)
