"""Inspect the gates of a language model on a dialogue."""

from __future__ import annotations

from memorycell.application.contract import ModelFile
from memorycell.applications.chat.dataset import reopen
from memorycell.inspection.inspect import Inspection
from memorycell.language.codec import TextCodec
from memorycell.language.inspection import inspect_text
from memorycell.language.model import LanguageModel


def inspect(file: ModelFile[LanguageModel, TextCodec], source: str | None) -> Inspection:
    """See `Application`; the source is the text of a dialogue."""
    if source is None:
        return inspect_text(file, reopen(None, file).inspection_input(), where=file.data)
    return inspect_text(file, source, where="the input")
