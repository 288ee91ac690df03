"""Inspect the gates of a language model on a text."""

from __future__ import annotations

from memorycell.application.contract import ModelFile
from memorycell.applications.text.prepare import reopen
from memorycell.applications.text.settings import TextSettings
from memorycell.inspection.inspect import Inspection
from memorycell.language.codec import TextCodec
from memorycell.language.inspection import inspect_text
from memorycell.language.model import LanguageModel


def inspect(file: ModelFile[LanguageModel, TextCodec], source: str | None) -> Inspection:
    """See `Application`; the source is a text."""
    bptt = file.typed_settings(TextSettings).bptt
    if source is None:
        text = reopen(None, file).inspection_input()
        return inspect_text(file, text, where=file.data, trained_on=bptt)
    return inspect_text(file, source, where="the input", trained_on=bptt)
